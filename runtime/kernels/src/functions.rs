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
        }
    };
}
pub(crate) use functions;
