//! What a tier offers to the generic bodies: vectors of 16 lanes (floats, integers) and of 64 bytes.
//!
//! A value of a type that implements [`Simd`] is a witness that the host has the tier's instructions, so arithmetic
//! through it is safe; loads and stores are not. The number of lanes is the same in every tier, whatever registers they
//! occupy: this makes "sum by index mod 16" and the like the same computation everywhere.

use crate::numbers::MAGIC_BITS;

/// Vectors of one tier. All methods are inlined into functions that enable the tier's features.
pub trait Simd: Copy {
    /// 16 floats.
    type F: Copy;
    /// 16 integers of 32 bits.
    type I: Copy;
    /// 64 bytes.
    type B: Copy;
    /// 16 floats of double precision.
    type D: Copy;

    /// Number of `F` that the vector registers hold.
    const REGISTERS: usize;

    /// Whether code is to be small rather than fast: 16 lanes are many instructions here.
    const COMPACT: bool = false;

    /// All lanes `v`.
    fn splat(self, v: f32) -> Self::F;
    /// `a + b`.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The square root, rounded once.
    fn sqrt(self, a: Self::F) -> Self::F;
    /// `if a > b { a } else { b }`: `b` where one of them is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `if a < b { a } else { b }`: `b` where one of them is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// [`Simd::max`], but NaN where one of them is NaN.
    fn maximum(self, a: Self::F, b: Self::F) -> Self::F;
    /// [`Simd::min`], but NaN where one of them is NaN.
    fn minimum(self, a: Self::F, b: Self::F) -> Self::F;
    /// `if a < b { yes } else { no }`: `no` where one of them is NaN.
    fn if_less(self, a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F;
    /// The lanes as an array.
    fn lanes(self, a: Self::F) -> [f32; 16];

    /// All lanes `v`.
    fn splat_d(self, v: f64) -> Self::D;
    /// `sum + v` in double precision.
    fn add_wide(self, sum: Self::D, v: Self::F) -> Self::D;
    /// `a / b` in double precision, then rounded to `F`.
    fn div_wide(self, a: Self::D, b: Self::D) -> Self::F;
    /// The lanes as an array.
    fn lanes_wide(self, a: Self::D) -> [f64; 16];

    /// The sum of all lanes: `j` with `j + 8`, then `+ 4`, `+ 2`, `+ 1`.
    #[inline(always)]
    fn sum_wide(self, a: Self::D) -> f64 {
        super::math::tree_sum(self.lanes_wide(a))
    }
    /// The largest of all lanes, if none is NaN.
    #[inline(always)]
    fn largest(self, a: Self::F) -> f32 {
        self.lanes(a).into_iter().fold(f32::NEG_INFINITY, |m, v| if v > m { v } else { m })
    }
    /// The first `n` lanes of `a`, and those of `b` behind them.
    #[inline(always)]
    fn first(self, a: Self::F, n: usize, b: Self::F) -> Self::F {
        let index: [f32; 16] = core::array::from_fn(|i| i as f32);
        // SAFETY: the array has 64 bytes.
        let index = unsafe { self.load(index.as_ptr()) };
        self.if_less(index, self.splat(n as f32), a, b)
    }

    /// All lanes `v`.
    fn splat_i(self, v: i32) -> Self::I;
    /// Wrapping sum.
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// Wrapping difference.
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// Signed maximum.
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// Bitwise and.
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a * b` for `0 <= a <= 255` and `-128 <= b <= 127`.
    fn mul_small(self, a: Self::I, b: Self::I) -> Self::I;
    /// Wrapping product.
    fn mul_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// Arithmetic shift right.
    fn shift_right<const N: u32>(self, a: Self::I) -> Self::I;
    /// Shift left.
    fn shift_left<const N: u32>(self, a: Self::I) -> Self::I;
    /// Nearest floats, half to even.
    fn to_float(self, a: Self::I) -> Self::F;
    /// Bits of floats.
    fn bits(self, a: Self::F) -> Self::I;
    /// Floats of bits.
    fn as_float(self, a: Self::I) -> Self::F;

    /// `p * 2^n`, rounded once, for `n = shifted - MAGIC` from -150 to 129 and a normal `p` near 1.
    #[inline(always)]
    fn times_power(self, p: Self::F, shifted: Self::F) -> Self::F {
        // In two factors, so that every power has its exponent; the first product is exact.
        let n = self.sub_i(self.bits(shifted), self.splat_i(MAGIC_BITS));
        let half = self.shift_right::<1>(n);
        let power = |n| self.as_float(self.shift_left::<23>(self.add_i(n, self.splat_i(127))));
        self.mul(self.mul(p, power(half)), power(self.sub_i(n, half)))
    }

    /// All lanes `v`.
    fn splat_b(self, v: u8) -> Self::B;
    /// Unsigned maximum.
    fn max_b(self, a: Self::B, b: Self::B) -> Self::B;
    /// Unsigned minimum.
    fn min_b(self, a: Self::B, b: Self::B) -> Self::B;
    /// Lanes of `q[0]` as bytes, then of `q[1]`, …; what a missing vector gives is arbitrary. Saturates to `0 ..= 255`.
    fn pack<const N: usize>(self, q: [Self::I; N]) -> Self::B;
    /// The low 3 bytes of every lane, one after the other (48 bytes).
    fn pack_three(self, q: Self::I) -> Self::B;
    /// Exchanges rows and columns.
    #[inline(always)]
    fn transpose(self, block: &mut [[f32; 16]; 16]) {
        for i in 1..16 {
            for j in 0..i {
                (block[i][j], block[j][i]) = (block[j][i], block[i][j]);
            }
        }
    }
    /// Every byte replaced by its entry in the table.
    ///
    /// # Safety
    /// `table` is readable for 256 bytes.
    unsafe fn lookup(self, a: Self::B, table: *const u8) -> Self::B;

    /// Loads 16 floats from any address.
    ///
    /// # Safety
    /// `p` is readable for 64 bytes.
    unsafe fn load(self, p: *const f32) -> Self::F;
    /// Loads 16 integers.
    ///
    /// # Safety
    /// `p` is readable for 64 bytes.
    unsafe fn load_i(self, p: *const i32) -> Self::I;
    /// Loads 16 unsigned bytes as integers.
    ///
    /// # Safety
    /// `p` is readable for 16 bytes.
    unsafe fn load_u8(self, p: *const u8) -> Self::I;
    /// Loads 16 signed bytes as integers.
    ///
    /// # Safety
    /// `p` is readable for 16 bytes.
    unsafe fn load_i8(self, p: *const i8) -> Self::I;
    /// Loads 64 bytes.
    ///
    /// # Safety
    /// `p` is readable for 64 bytes.
    unsafe fn load_b(self, p: *const u8) -> Self::B;
    /// Stores the first `n` lanes, `n <= 16`.
    ///
    /// # Safety
    /// `p` is writable for `4 * n` bytes.
    unsafe fn store(self, a: Self::F, p: *mut f32, n: usize);
    /// Stores the first `n` lanes, `n <= 16`.
    ///
    /// # Safety
    /// `p` is writable for `4 * n` bytes.
    unsafe fn store_i(self, a: Self::I, p: *mut i32, n: usize);
    /// Stores the first `n` bytes, `n <= 64`.
    ///
    /// # Safety
    /// `p` is writable for `n` bytes.
    unsafe fn store_b(self, a: Self::B, p: *mut u8, n: usize);

    /// Hints that the line at `p`, which need not be readable, will be read.
    fn prefetch(self, p: *const u8);

    /// The clamp of float results: NaN stays NaN.
    #[inline(always)]
    fn clamp(self, v: Self::F, lo: Self::F, hi: Self::F) -> Self::F {
        self.min(hi, self.max(lo, v))
    }

    /// The clamp of what becomes an integer: NaN becomes `lo`.
    #[inline(always)]
    fn clamp_to_number(self, v: Self::F, lo: Self::F, hi: Self::F) -> Self::F {
        self.min(self.max(v, lo), hi)
    }
}

/// Repeats a block for `$i` in `0..$n` (or from 1), at most 8 times, in the source: arrays are then indexed by constants from the start,
/// which keeps them in registers whatever the optimizer's limits on loops are.
macro_rules! unroll {
    ($i:ident in 0..$n:expr => $body:block) => {
        unroll!(@ $i $n, $body, 0 1 2 3 4 5 6 7)
    };
    ($i:ident in 1..$n:expr => $body:block) => {
        unroll!(@ $i $n, $body, 1 2 3 4 5 6 7)
    };
    (@ $i:ident $n:expr, $body:block, $($c:literal)*) => {
        $(
            if $c < $n {
                let $i: usize = $c;
                $body
            }
        )*
    };
}
pub(crate) use unroll;

/// How rounded sums become u8 results: zero point, clamp and table.
#[derive(Clone, Copy)]
pub struct Finish<S: Simd> {
    base: S::I,
    lo: S::I,
    hi: S::B,
    lut: *const u8,
}

impl<S: Simd> Finish<S> {
    /// Integers plus `zero`, clamped to `lo ..= hi`, then through `lut` unless it is null.
    #[inline(always)]
    pub fn new(s: S, zero: i32, lo: i32, hi: i32, lut: *const u8) -> Self {
        let base = MAGIC_BITS - zero;
        Finish { base: s.splat_i(base), lo: s.splat_i(base + lo), hi: s.splat_b(hi as u8), lut }
    }

    /// Clamps `w`, rounded sums with `MAGIC` (not NaN), and stores the first `n` results.
    ///
    /// # Safety
    /// `out` is writable for `n <= 16 * N` bytes; `lut` is null or readable for 256 bytes.
    #[inline(always)]
    pub unsafe fn store<const N: usize>(&self, s: S, w: [S::F; N], out: *mut u8, n: usize) {
        // SAFETY: the caller's guarantees. A full store has a constant size.
        unsafe {
            let q = self.bytes(s, s.pack(self.integers(s, w)));
            if n == 16 * N {
                s.store_b(q, out, 16 * N);
            } else {
                s.store_b(q, out, n);
            }
        }
    }

    /// The integers of `w`, with the zero point and clamped from below.
    ///
    /// The clamp compares bits as integers: they order positive floats, and negative ones are negative. The upper clamp is
    /// the saturation of packing, then a minimum of bytes: monotone conversions and clamps commute.
    #[inline(always)]
    pub fn integers<const N: usize>(&self, s: S, w: [S::F; N]) -> [S::I; N] {
        let mut q = [self.lo; N];
        unroll!(v in 0..N => {
            q[v] = s.sub_i(s.max_i(s.bits(w[v]), self.lo), self.base);
        });
        q
    }

    /// Packed integers, clamped from above and mapped by the table.
    ///
    /// # Safety
    /// `lut` is null or readable for 256 bytes.
    #[inline(always)]
    pub unsafe fn bytes(&self, s: S, packed: S::B) -> S::B {
        let q = s.min_b(packed, self.hi);
        // SAFETY: the caller's guarantee.
        if self.lut.is_null() { q } else { unsafe { s.lookup(q, self.lut) } }
    }
}

/// `ceil(n / d)`, 0 if `d` is 0; never panics.
#[inline(always)]
pub fn div_ceil(n: usize, d: usize) -> usize {
    (n + d.wrapping_sub(1)).checked_div(d).unwrap_or(0)
}
