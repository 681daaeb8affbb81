//! Real numbers in memory: floats, or bytes with a scale and a zero point.

use super::math::store_lanes;
use super::simd::{Simd, unroll};
use super::unary::{Function, HardSwish};
use crate::numbers::{MAGIC, MAGIC_BITS};

/// Constants of a quantization.
#[derive(Clone, Copy)]
pub struct Rounding<S: Simd> {
    scale: S::F,
    lo: S::F,
    hi: S::F,
    magic: S::F,
    /// `MAGIC` as an integer, less the zero point.
    magic_bits: S::I,
}

impl<S: Simd> Rounding<S> {
    /// To u8 with `scale` and `zero`, within `lo ..= hi`.
    #[inline(always)]
    pub fn new(s: S, scale: f32, zero: f32, lo: i32, hi: i32) -> Self {
        Rounding {
            scale: s.splat(scale),
            lo: s.splat(lo as f32 - zero),
            hi: s.splat(hi as f32 - zero),
            magic: s.splat(MAGIC),
            magic_bits: s.splat_i(MAGIC_BITS - zero as i32),
        }
    }

    /// The results: the sum with `MAGIC` is rounded and has the integer in its low bits.
    #[inline(always)]
    pub fn apply(self, s: S, x: S::F) -> S::I {
        let v = s.clamp_to_number(s.div(x, self.scale), self.lo, self.hi);
        s.sub_i(s.bits(s.add(v, self.magic)), self.magic_bits)
    }
}

/// What a convolution or product does behind its clamp: `hard_swish`, a factor and an addend.
#[derive(Clone, Copy)]
pub struct Gate<S: Simd> {
    swish: [S::F; 3],
    factor: S::F,
    addend: S::F,
}

impl<S: Simd> Gate<S> {
    /// By the offset, bound and factor of the gate, and what follows it.
    #[inline(always)]
    pub fn new(s: S, swish: [f32; 3], factor: f32, addend: f32) -> Self {
        Gate { swish: swish.map(|x| s.splat(x)), factor: s.splat(factor), addend: s.splat(addend) }
    }

    /// The result for `x`.
    #[inline(always)]
    pub fn apply(self, s: S, x: S::F) -> S::F {
        s.add(s.mul(HardSwish::apply(s, x, self.swish), self.factor), self.addend)
    }
}

/// How the rows of an operand are read: as floats if the scale is 0, else as bytes.
#[derive(Clone, Copy)]
pub struct Source<S: Simd> {
    quantized: bool,
    scale: S::F,
    zero: S::F,
}

impl<S: Simd> Source<S> {
    /// By the fields of an operand.
    #[inline(always)]
    pub fn new(s: S, scale: f32, zero: f32) -> Self {
        Source { quantized: scale.to_bits() != 0, scale: s.splat(scale), zero: s.splat(zero) }
    }

    /// Elements `i ..` of a row, 16 of them.
    ///
    /// # Safety
    /// Element `i` exists; the row may be read 64 bytes past its end.
    #[inline(always)]
    pub unsafe fn load(&self, s: S, row: *const u8, i: usize) -> S::F {
        // SAFETY: the caller's guarantee.
        unsafe {
            match self.quantized {
                false => s.load(row.wrapping_add(4 * i).cast()),
                true => s.mul(s.sub(s.to_float(s.load_u8(row.wrapping_add(i))), self.zero), self.scale),
            }
        }
    }

    /// The first element of a row in all lanes.
    ///
    /// # Safety
    /// It exists.
    #[inline(always)]
    pub unsafe fn load_one(&self, s: S, row: *const u8) -> S::F {
        // SAFETY: the caller's guarantee.
        unsafe {
            match self.quantized {
                false => s.splat(row.cast::<f32>().read_unaligned()),
                true => s.mul(s.sub(s.splat(f32::from(*row)), self.zero), self.scale),
            }
        }
    }
}

/// How the rows of a result are written: as floats if the scale is 0, else as bytes.
#[derive(Clone, Copy)]
pub struct Sink<S: Simd> {
    quantized: bool,
    rounding: Rounding<S>,
}

impl<S: Simd> Sink<S> {
    /// By the fields of a result.
    #[inline(always)]
    pub fn new(s: S, scale: f32, zero: f32, lo: i32, hi: i32) -> Self {
        Sink { quantized: scale.to_bits() != 0, rounding: Rounding::new(s, scale, zero, lo, hi) }
    }

    /// Stores elements `i .. i + n` of a row.
    ///
    /// # Safety
    /// They are writable; `n <= 16`.
    #[inline(always)]
    pub unsafe fn store(&self, s: S, v: S::F, row: *mut u8, i: usize, n: usize) {
        // SAFETY: the caller's guarantee.
        unsafe {
            match self.quantized {
                false => s.store(v, row.wrapping_add(4 * i).cast(), n),
                true => s.store_b(s.pack([self.rounding.apply(s, v)]), row.wrapping_add(i), n),
            }
        }
    }
}

impl<S: Simd> Sink<S> {
    /// Stores elements `i .. i + n` of a row whose elements are `step` bytes apart.
    ///
    /// # Safety
    /// They are writable; `n <= 16`.
    #[inline(always)]
    pub unsafe fn store_apart(&self, s: S, v: S::F, row: *mut u8, i: usize, step: usize, n: usize) {
        let out = row.wrapping_add(i * step);
        // SAFETY: the caller's guarantee; the array has 64 bytes.
        unsafe {
            match self.quantized {
                false => store_lanes(s, v, out.cast(), step, n),
                true if step == 1 => s.store_b(s.pack([self.rounding.apply(s, v)]), out, n),
                true => {
                    let mut lanes = [0; 16];
                    s.store_i(self.rounding.apply(s, v), lanes.as_mut_ptr(), 16);
                    for (j, lane) in lanes.into_iter().enumerate().take(n) {
                        out.wrapping_add(j * step).write(lane as u8);
                    }
                }
            }
        }
    }
}

/// How a convolution or matrix product stores its results: as floats, or quantized.
pub trait Stored<S: Simd>: Copy {
    /// Bytes of a result.
    const BYTES: usize;

    /// By the fields of a result.
    fn new(s: S, scale: f32, zero: f32, lo: i32, hi: i32) -> Self;

    /// Bytes of a result, where they are known at run time only.
    #[inline(always)]
    fn bytes(&self) -> usize {
        Self::BYTES
    }

    /// Stores the first `n` results.
    ///
    /// # Safety
    /// They are writable; `n <= 16 * NV`.
    unsafe fn store<const NV: usize>(&self, s: S, v: [S::F; NV], out: *mut u8, n: usize);
}

/// Results stay floats.
#[derive(Clone, Copy)]
pub struct AsF32;

impl<S: Simd> Stored<S> for AsF32 {
    const BYTES: usize = 4;

    #[inline(always)]
    fn new(_: S, _: f32, _: f32, _: i32, _: i32) -> Self {
        AsF32
    }

    #[inline(always)]
    unsafe fn store<const NV: usize>(&self, s: S, v: [S::F; NV], out: *mut u8, n: usize) {
        unroll!(i in 0..NV => {
            // SAFETY: the caller's guarantee.
            unsafe { s.store(v[i], out.wrapping_add(64 * i).cast(), n.saturating_sub(16 * i).min(16)) };
        });
    }
}

/// Results become u8.
#[derive(Clone, Copy)]
pub struct AsU8<S: Simd>(Rounding<S>);

impl<S: Simd> Stored<S> for AsU8<S> {
    const BYTES: usize = 1;

    #[inline(always)]
    fn new(s: S, scale: f32, zero: f32, lo: i32, hi: i32) -> Self {
        AsU8(Rounding::new(s, scale, zero, lo, hi))
    }

    #[inline(always)]
    unsafe fn store<const NV: usize>(&self, s: S, v: [S::F; NV], out: *mut u8, n: usize) {
        let mut q = [s.splat_i(0); NV];
        unroll!(i in 0..NV => {
            q[i] = self.0.apply(s, v[i]);
        });
        // SAFETY: the caller's guarantee. A full store has a constant size.
        unsafe {
            match n == 16 * NV {
                true => s.store_b(s.pack(q), out, 16 * NV),
                false => s.store_b(s.pack(q), out, n),
            }
        }
    }
}

/// Results are what the fields say when the kernel runs.
impl<S: Simd> Stored<S> for Sink<S> {
    const BYTES: usize = 4;

    #[inline(always)]
    fn new(s: S, scale: f32, zero: f32, lo: i32, hi: i32) -> Self {
        Sink::new(s, scale, zero, lo, hi)
    }

    #[inline(always)]
    fn bytes(&self) -> usize {
        if self.quantized { 1 } else { 4 }
    }

    #[inline(always)]
    unsafe fn store<const NV: usize>(&self, s: S, v: [S::F; NV], out: *mut u8, n: usize) {
        unroll!(i in 0..NV => {
            if 16 * i < n {
                // SAFETY: the caller's guarantee.
                unsafe { Sink::store(self, s, v[i], out, 16 * i, (n - 16 * i).min(16)) };
            }
        });
    }
}
