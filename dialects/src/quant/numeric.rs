//! The arithmetic of quantized ops, fixed once: see "Numbers" in ARCHITECTURE.md.
//!
//! Interpreters, packers and generated code take their constants from here; kernels compute the same functions with
//! vector instructions.

/// `1.5 * 2^23`: added to a float below `2^22` in magnitude, it leaves the number, rounded half to even, in the low bits.
pub const MAGIC: f32 = 12_582_912.0;

/// `v` within `lo..=hi`; no operand is NaN.
fn clamp(v: f32, lo: f32, hi: f32) -> f32 {
    let v = if v > lo { v } else { lo };
    if v < hi { v } else { hi }
}

/// Clamps `w = value + MAGIC` to `lo..=hi` and takes the integer.
fn from_magic(w: f32, lo: i32, hi: i32) -> i32 {
    let w = clamp(w, MAGIC + lo as f32, MAGIC + hi as f32);
    w.to_bits() as i32 - MAGIC.to_bits() as i32
}

/// The factor from an accumulator to its result, rounded to f32 after each operation, as ONNX Runtime has it.
///
/// `x` and `weight` are the scales of the operands, `out` that of the result.
pub fn accumulator_scale(x: f32, weight: f32, out: f32) -> f32 {
    x * weight / out
}

/// Requantizes an accumulator: `acc * scale` in f32, rounded half to even, plus `zero`, within `lo..=hi`.
pub fn requantize(acc: i32, scale: f32, zero: i32, lo: i32, hi: i32) -> i32 {
    from_magic(acc as f32 * scale + MAGIC, lo - zero, hi - zero) + zero
}

/// How a second quantized operand enters a sum: `res * scale + offset` in units of the result, added to a product that
/// lies within `min..=max`.
#[derive(Clone, Copy, Debug)]
pub struct Residual {
    /// Factor of the stored integer.
    pub scale: f32,
    /// What remains of both zero points.
    pub offset: f32,
    /// Lower bound of what it is added to, in units of the result; `-inf` for none.
    pub min: f32,
    /// Upper bound.
    pub max: f32,
}

impl Residual {
    /// For an operand and a result given as `(scale, zero)`, and real bounds of what it is added to.
    pub fn new(res: (f32, i32), out: (f32, i32), (min, max): (f32, f32)) -> Residual {
        let scale = ratio(res.0, 1.0, out.0);
        let offset = (f64::from(out.1) - f64::from(res.1) * f64::from(scale)) as f32;
        Residual { scale, offset, min: min / out.0, max: max / out.0 }
    }
}

/// Requantizes an accumulator, within its bounds, plus a residual.
pub fn requantize_residual(acc: i32, scale: f32, res: i32, r: Residual, lo: i32, hi: i32) -> i32 {
    let product = clamp(acc as f32 * scale, r.min, r.max);
    from_magic(product + (res as f32).mul_add(r.scale, r.offset) + MAGIC, lo, hi)
}

/// Factors of a quantized sum.
#[derive(Clone, Copy, Debug)]
pub struct Sum {
    /// Factor of the first operand.
    pub a_scale: f32,
    /// Factor of the second operand.
    pub b_scale: f32,
    /// What remains of the zero points.
    pub offset: f32,
}

impl Sum {
    /// For operands and result given as `(scale, zero)`.
    pub fn new(a: (f32, i32), b: (f32, i32), out: (f32, i32)) -> Sum {
        let (a_scale, b_scale) = (ratio(a.0, 1.0, out.0), ratio(b.0, 1.0, out.0));
        let zeros = f64::from(a.1) * f64::from(a_scale) + f64::from(b.1) * f64::from(b_scale);
        Sum { a_scale, b_scale, offset: (f64::from(out.1) - zeros) as f32 }
    }

    /// The sum of two stored integers.
    pub fn apply(&self, a: i32, b: i32, lo: i32, hi: i32) -> i32 {
        let v = (a as f32).mul_add(self.a_scale, (b as f32).mul_add(self.b_scale, self.offset));
        from_magic(v + MAGIC, lo, hi)
    }
}

/// The product of two stored integers, requantized by `scale`.
pub fn multiply(a: i32, b: i32, scale: f32, zero: i32, lo: i32, hi: i32) -> i32 {
    requantize(a * b, scale, zero, lo, hi)
}

/// Requantizes an average: `sum / count` of integers without their zero point, in units of `x_scale`, for a result given
/// as `(scale, zero)`. A window of padding only (`count` 0) has the sum 0.
pub fn average(sum: i32, count: usize, x_scale: f32, out: (f32, i32), lo: i32, hi: i32) -> i32 {
    requantize(sum, x_scale / (out.0 * count.max(1) as f32), out.1, lo, hi)
}

/// `a * b / c`, computed in f64 and rounded once.
pub fn ratio(a: f32, b: f32, c: f32) -> f32 {
    (f64::from(a) * f64::from(b) / f64::from(c)) as f32
}
