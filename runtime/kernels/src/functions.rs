//! The functions of single elements. One row is all that the kernels know of one: its name, its meaning and its vectors.
//!
//! From a row follow the variant, the kernel of every tier, and the arm of the reference. What a row says of its two bodies
//! stays apart all the same: `reference` is compiled among the plain loops and `vectors` among the kernels, each with the
//! helpers of its own side, and neither side sees the other.

/// Gives the rows to another macro: `functions! { callback, { tokens } }` is `callback! { { tokens } rows }`.
///
/// The documentation of a row is the contract: the formula, in the terms of [`UnaryArgs`](crate::args::UnaryArgs), and the
/// largest error in units in the last place (u). Names are those of the kernel, the variant, and the type with the vectors;
/// `p` are the parameters.
macro_rules! functions {
    ($callback:path, $given:tt) => {
        $callback! { $given
            /// The clamp to `p0 ..= p1`.
            clamp_f32 ClampF32 Clamp {
                reference(x, [lo, hi, _]) => clamp_f32(x, lo, hi);
                vectors(s, x, [lo, hi, _]) => s.clamp(x, lo, hi);
            }
            /// The logistic function, `1 / (1 + E(0 - x))`, 4 u.
            sigmoid_f32 SigmoidF32 Sigmoid {
                reference(x, _) => 1.0 / (exp(0.0 - x) + 1.0);
                vectors(s, x, _) => s.div(s.splat(1.0), one_and_exp(s, negated(s, x)));
            }
            /// The hyperbolic tangent, `M(2x) / (M(2x) + 2)`, 5 u.
            tanh_f32 TanhF32 Tanh {
                reference(x, _) => {
                    let e = expm1(x + x);
                    e / (e + 2.0)
                };
                vectors(s, x, _) => {
                    let e = expm1(s, s.add(x, x));
                    s.div(e, s.add(e, s.splat(2.0)))
                };
            }
            /// The exponential, `E(x)`, 1.1 u.
            exp_f32 ExpF32 Exp {
                reference(x, _) => exp(x);
                vectors(s, x, _) => exp(s, x);
            }
            /// The square root, 0.5 u.
            sqrt_f32 SqrtF32 Sqrt {
                reference(x, _) => sqrt(x);
                vectors(s, x, _) => s.sqrt(x);
            }
            /// `x` without its sign, exact.
            abs_f32 AbsF32 Abs {
                reference(x, _) => size(x);
                vectors(s, x, _) => size(s, x);
            }
            /// The error function: for `|x| < 1` `x` times a polynomial in `x²`, else `1 - T(|x|)` with the sign of `x`; 3 u.
            erf_f32 ErfF32 Erf {
                reference(x, _) => {
                    if size(x) < 1.0 {
                        erf_near_zero(x)
                    } else {
                        let far = 1.0 - erfc(size(x));
                        f32::from_bits(far.to_bits().wrapping_add(x.to_bits() & 0x8000_0000))
                    }
                };
                vectors(s, x, _) => {
                    let size = size(s, x);
                    let far = s.sub(s.splat(1.0), erfc(s, size));
                    let far = s.as_float(s.add_i(s.bits(far), s.and_i(s.bits(x), s.splat_i(i32::MIN))));
                    s.if_less(size, s.splat(1.0), erf_near_zero(s, x), far)
                };
            }
            /// The sine of an angle in radians, 2 u: `x = n π/2 + r` (see `reference::angle`), and a polynomial of `r`.
            sin_f32 SinF32 Sin {
                reference(x, _) => {
                    let (r, n) = angle(x);
                    sine(r, n)
                };
                vectors(s, x, _) => {
                    let (r, n) = angle(s, x);
                    sine(s, r, n)
                };
            }
            /// The cosine likewise, 2 u.
            cos_f32 CosF32 Cos {
                reference(x, _) => {
                    let (r, n) = angle(x);
                    sine(r, n.wrapping_add(1))
                };
                vectors(s, x, _) => {
                    let (r, n) = angle(s, x);
                    sine(s, r, s.add_i(n, s.splat_i(1)))
                };
            }
            /// A line between 0 and 1: `fma(x, p0, p1)` clamped to `0 ..= 1`, 0.5 u.
            hard_sigmoid_f32 HardSigmoidF32 HardSigmoid {
                reference(x, [slope, offset, _]) => clamp_f32(fma_exact(x, slope, offset), 0.0, 1.0);
                vectors(s, x, [slope, offset, _]) => s.clamp(s.fma(x, slope, offset), s.splat(0.0), s.splat(1.0));
            }
            /// `x * (x + p0 clamped to 0 ..= p1) * p2`, the last two first; the sum rounded to f32, then 1.5 u.
            hard_swish_f32 HardSwishF32 HardSwish {
                reference(x, [offset, bound, factor]) => x * (clamp_f32(x + offset, 0.0, bound) * factor);
                vectors(s, x, [offset, bound, factor]) => {
                    let gate = s.clamp(s.add(x, offset), s.splat(0.0), bound);
                    s.mul(x, s.mul(gate, factor))
                };
            }
            /// `x * p0` below 0, else `x`, 0.5 u.
            leaky_relu_f32 LeakyReluF32 LeakyRelu {
                reference(x, [slope, ..]) => if x < 0.0 { x * slope } else { x };
                vectors(s, x, [slope, ..]) => s.if_less(x, s.splat(0.0), s.mul(x, slope), x);
            }
            /// `M(x) * p0` below 0, else `x`, 4 u.
            elu_f32 EluF32 Elu {
                reference(x, [depth, ..]) => if x < 0.0 { expm1(x) * depth } else { x };
                vectors(s, x, [depth, ..]) => {
                    let below = expm1(s, s.min(s.splat(0.0), x));
                    s.if_less(x, s.splat(0.0), s.mul(below, depth), x)
                };
            }
            /// `x / (1 + E(0 - x * p0))`, `4 + |x * p0|` u.
            swish_f32 SwishF32 Swish {
                reference(x, [beta, ..]) => x / (exp(0.0 - x * beta) + 1.0);
                vectors(s, x, [beta, ..]) => s.div(x, one_and_exp(s, negated(s, s.mul(x, beta))));
            }
            /// `x / (1 + |x|)`, 1.5 u.
            softsign_f32 SoftsignF32 Softsign {
                reference(x, _) => x / (1.0 + size(x));
                vectors(s, x, _) => s.div(x, s.add(s.splat(1.0), size(s, x)));
            }
            /// `max(0, x) - b g` with the two factors of `reference::normal_tail` at `x`, or at 15 above; `8 + 2x²` u.
            gelu_f32 GeluF32 Gelu {
                reference(x, _) => {
                    let (b, g) = normal_tail(if NORMAL_END < x { NORMAL_END } else { x });
                    fma_exact(0.0 - b, g, if 0.0 > x { 0.0 } else { x })
                };
                vectors(s, x, _) => {
                    let (b, g) = normal_tail(s, s.min(s.splat(NORMAL_END), x));
                    s.fma(negated(s, b), g, s.max(s.splat(0.0), x))
                };
            }
            /// `x / (1 + E(0 - y))` with `y = fma(x * x, p1, p0) * x`; `5 + 2 |y|` u.
            gelu_tanh_f32 GeluTanhF32 GeluTanh {
                reference(x, [linear, cubic, _]) => {
                    let y = fma_exact(x * x, cubic, linear) * x;
                    x / (exp(0.0 - y) + 1.0)
                };
                vectors(s, x, [linear, cubic, _]) => {
                    let inner = s.mul(s.fma(s.mul(x, x), cubic, linear), x);
                    s.div(x, one_and_exp(s, negated(s, inner)))
                };
            }
            /// The largest whole number that is not above `x`, exact.
            floor_f32 FloorF32 Floor {
                reference(x, _) => {
                    let near = nearest(x);
                    if x < near { near - 1.0 } else { near }
                };
                vectors(s, x, _) => {
                    let near = nearest(s, x);
                    s.if_less(x, near, s.sub(near, s.splat(1.0)), near)
                };
            }
            /// The smallest whole number that is not below `x`, exact.
            ceil_f32 CeilF32 Ceil {
                reference(x, _) => {
                    let near = nearest(x);
                    if near < x { near + 1.0 } else { near }
                };
                vectors(s, x, _) => {
                    let near = nearest(s, x);
                    s.if_less(near, x, s.add(near, s.splat(1.0)), near)
                };
            }
            /// The nearest whole number; of two, the even one, or with `p0` of 1 the one that is further from 0.
            round_f32 RoundF32 Round {
                reference(x, [away, ..]) => {
                    let near = nearest(x);
                    let half = if size(x - near) < 0.5 { 0.0 } else { away };
                    if size(near) < size(x) { near + with_sign(half, x) } else { near }
                };
                vectors(s, x, [away, ..]) => {
                    let near = nearest(s, x);
                    let half = s.if_less(size(s, s.sub(x, near)), s.splat(0.5), s.splat(0.0), away);
                    s.if_less(size(s, near), size(s, x), s.add(near, with_sign(s, half, x)), near)
                };
            }
            /// -1, 0 or 1, by the sign of `x`; 0 and NaN stay.
            sign_f32 SignF32 Sign {
                reference(x, _) => if x < 0.0 { -1.0 } else if 0.0 < x { 1.0 } else { x };
                vectors(s, x, _) => {
                    let rest = s.if_less(s.splat(0.0), x, s.splat(1.0), x);
                    s.if_less(x, s.splat(0.0), s.splat(-1.0), rest)
                };
            }
            /// `x + p1` below `-p0`, `x - p1` above `p0`, else 0, 0.5 u.
            shrink_f32 ShrinkF32 Shrink {
                reference(x, [bound, bias, _]) => {
                    if x < 0.0 - bound { x + bias } else if bound < x { x - bias } else { 0.0 }
                };
                vectors(s, x, [bound, bias, _]) => {
                    let rest = s.if_less(bound, x, s.sub(x, bias), s.splat(0.0));
                    s.if_less(x, negated(s, bound), s.add(x, bias), rest)
                };
            }
            /// `x` above `p0`, else 0, exact.
            threshold_f32 ThresholdF32 Threshold {
                reference(x, [bound, ..]) => if bound < x { x } else { 0.0 };
                vectors(s, x, [bound, ..]) => s.if_less(bound, x, x, s.splat(0.0));
            }
            /// The logarithm `L(x)` to one of the bases that `numbers` has the parameters of, 2.5 u.
            log_f32 LogF32 Log {
                reference(x, base) => log(x, base);
                vectors(s, x, base) => log(s, x, base);
            }
            /// `P(x)`, the natural logarithm of `1 + x`, 3 u.
            log1p_f32 Log1pF32 Log1p {
                reference(x, _) => log1p(x);
                vectors(s, x, _) => log1p(s, x);
            }
            /// `(max(0, y) + P(E(0 - |y|))) / p0` with `y = x * p0`, or `x` where `y` is above `p1`; `5 + |y|` u.
            softplus_f32 SoftplusF32 Softplus {
                reference(x, [beta, bound, _]) => {
                    let y = x * beta;
                    let sum = (if 0.0 > y { 0.0 } else { y }) + log1p(exp(0.0 - size(y)));
                    if bound < y { x } else { sum / beta }
                };
                vectors(s, x, [beta, bound, _]) => {
                    let y = s.mul(x, beta);
                    let rest = log1p(s, exp(s, negated(s, size(s, y))));
                    let sum = s.add(s.max(s.splat(0.0), y), rest);
                    s.if_less(bound, y, x, s.div(sum, beta))
                };
            }
            /// `x * (n / (n + 2))` with `n = e * (e + 2)`, `e = E(x)`, or at 20 above, 5 u.
            mish_f32 MishF32 Mish {
                reference(x, _) => {
                    let e = exp(if 20.0 < x { 20.0 } else { x });
                    let n = e * (e + 2.0);
                    x * (n / (n + 2.0))
                };
                vectors(s, x, _) => {
                    let e = exp(s, s.min(s.splat(20.0), x));
                    let n = s.mul(e, s.add(e, s.splat(2.0)));
                    s.mul(x, s.div(n, s.add(n, s.splat(2.0))))
                };
            }
            /// The sine by the cosine, 5 u.
            tan_f32 TanF32 Tan {
                reference(x, _) => {
                    let (r, n) = angle(x);
                    sine(r, n) / sine(r, n.wrapping_add(1))
                };
                vectors(s, x, _) => {
                    let (r, n) = angle(s, x);
                    s.div(sine(s, r, n), sine(s, r, s.add_i(n, s.splat_i(1))))
                };
            }
            /// The angle whose sine is `x`, 3 u; see `reference::arcsine`.
            asin_f32 AsinF32 Asin {
                reference(x, _) => {
                    let (r, beyond) = arcsine(x);
                    with_sign(if beyond { HALF_PI[0] - (r + r - HALF_PI[1]) } else { r }, x)
                };
                vectors(s, x, _) => {
                    let r = arcsine(s, x);
                    let beyond = s.sub(s.splat(HALF_PI[0]), s.sub(s.add(r, r), s.splat(HALF_PI[1])));
                    with_sign(s, s.if_less(s.splat(0.5), size(s, x), beyond, r), x)
                };
            }
            /// The angle whose cosine is `x`, 3 u.
            acos_f32 AcosF32 Acos {
                reference(x, _) => {
                    let (r, beyond) = arcsine(x);
                    match beyond {
                        false => HALF_PI[0] - (with_sign(r, x) - HALF_PI[1]),
                        true if x < 0.0 => {
                            let half = HALF_PI[0] - (r - HALF_PI[1]);
                            half + half
                        }
                        true => r + r,
                    }
                };
                vectors(s, x, _) => {
                    let r = arcsine(s, x);
                    let (first, second) = (s.splat(HALF_PI[0]), s.splat(HALF_PI[1]));
                    let half = s.sub(first, s.sub(r, second));
                    let beyond = s.if_less(x, s.splat(0.0), s.add(half, half), s.add(r, r));
                    let near = s.sub(first, s.sub(with_sign(s, r, x), second));
                    s.if_less(s.splat(0.5), size(s, x), beyond, near)
                };
            }
            /// The angle whose tangent is `x`: a polynomial of `x`, or beyond 1 a right angle less one of `1 / x`; 3 u.
            atan_f32 AtanF32 Atan {
                reference(x, _) => {
                    let beyond = 1.0 < size(x);
                    let t = if beyond { 1.0 / size(x) } else { size(x) };
                    let r = fma_exact(t * (t * t), horner(ATAN_POLY, t * t), t);
                    with_sign(if beyond { HALF_PI[0] - (r - HALF_PI[1]) } else { r }, x)
                };
                vectors(s, x, _) => {
                    let (size, one) = (size(s, x), s.splat(1.0));
                    let t = s.if_less(one, size, s.div(one, size), size);
                    let u = s.mul(t, t);
                    let r = s.fma(s.mul(t, u), horner(s, ATAN_POLY, u), t);
                    let beyond = s.sub(s.splat(HALF_PI[0]), s.sub(r, s.splat(HALF_PI[1])));
                    with_sign(s, s.if_less(one, size, beyond, r), x)
                };
            }
            /// The hyperbolic sine: below 1 `(m + m / (m + 1)) / 2` with `m = M(|x|)`, else `e - 1 / 4e` with `e = E(|x| / 2)² / 2`;
            /// the sign of `x`; 5 u.
            sinh_f32 SinhF32 Sinh {
                reference(x, _) => {
                    let (m, e) = (expm1(size(x)), half_exp(size(x)));
                    with_sign(if size(x) < 1.0 { (m + m / (m + 1.0)) * 0.5 } else { e - 0.25 / e }, x)
                };
                vectors(s, x, _) => {
                    let (size, one) = (size(s, x), s.splat(1.0));
                    let (m, e) = (expm1(s, s.min(one, size)), half_exp(s, size));
                    let near = s.mul(s.add(m, s.div(m, s.add(m, one))), s.splat(0.5));
                    with_sign(s, s.if_less(size, one, near, s.sub(e, s.div(s.splat(0.25), e))), x)
                };
            }
            /// The hyperbolic cosine, `e + 1 / 4e` with the `e` of the sine, 4 u.
            cosh_f32 CoshF32 Cosh {
                reference(x, _) => {
                    let e = half_exp(size(x));
                    e + 0.25 / e
                };
                vectors(s, x, _) => {
                    let e = half_exp(s, size(s, x));
                    s.add(e, s.div(s.splat(0.25), e))
                };
            }
            /// The inverse of the hyperbolic sine: `P(|x| + x² / (1 + sqrt(x² + 1)))`, from `FAR_AREA` on `L(|x|) + ln 2`, with the
            /// sign of `x`; 5 u.
            asinh_f32 AsinhF32 Asinh {
                reference(x, _) => {
                    let (size, q) = (size(x), x * x);
                    let value = match size < FAR_AREA {
                        true => log1p(size + q / (sqrt(q + 1.0) + 1.0)),
                        false => log(size, LOG_NATURAL) + core::f32::consts::LN_2,
                    };
                    with_sign(value, x)
                };
                vectors(s, x, _) => {
                    let (size, q, one) = (size(s, x), s.mul(x, x), s.splat(1.0));
                    let near = log1p(s, s.add(size, s.div(q, s.add(s.sqrt(s.add(q, one)), one))));
                    with_sign(s, s.if_less(size, s.splat(FAR_AREA), near, log_of_twice(s, size)), x)
                };
            }
            /// The inverse of the hyperbolic cosine: `P(t + sqrt(t * (t + 2)))` with `t = x - 1`, from `FAR_AREA` on `L(x) + ln 2`;
            /// NaN below 1; 5 u.
            acosh_f32 AcoshF32 Acosh {
                reference(x, _) => {
                    let t = x - 1.0;
                    match x < FAR_AREA {
                        true if t < 0.0 => sqrt(t),
                        true => log1p(t + sqrt(t * (t + 2.0))),
                        false => log(x, LOG_NATURAL) + core::f32::consts::LN_2,
                    }
                };
                vectors(s, x, _) => {
                    let t = s.sub(x, s.splat(1.0));
                    let near = log1p(s, s.add(t, s.sqrt(s.mul(t, s.add(t, s.splat(2.0))))));
                    let near = s.if_less(t, s.splat(0.0), s.sqrt(t), near);
                    s.if_less(x, s.splat(FAR_AREA), near, log_of_twice(s, x))
                };
            }
            /// The inverse of the hyperbolic tangent: half of `P(2 |x| / (1 - |x|))` with the sign of `x`; 5 u.
            atanh_f32 AtanhF32 Atanh {
                reference(x, _) => {
                    let size = size(x);
                    with_sign(log1p((size + size) / (1.0 - size)) * 0.5, x)
                };
                vectors(s, x, _) => {
                    let size = size(s, x);
                    let ratio = s.div(s.add(size, size), s.sub(s.splat(1.0), size));
                    with_sign(s, s.mul(log1p(s, ratio), s.splat(0.5)), x)
                };
            }
        }
    };
}
pub(crate) use functions;
