//! Pooling: windows are clipped first, then vectors of channels are combined over what is left.

use super::simd::{Finish, Simd, div_ceil, unroll};
use crate::args::PoolArgs;
use crate::numbers::MAGIC;

/// The real elements of a window, and its divisor.
#[derive(Clone, Copy)]
struct Window {
    /// First real element, channel 0.
    a: *const u8,
    height: usize,
    width: usize,
    /// Divisor of the average, at least 1.
    count: usize,
    out: *mut u8,
}

/// One dimension of the window of output `o`: first real index, number of real indices, length inside the padded input.
#[inline(always)]
fn span_of(o: usize, p: Dim) -> (usize, usize, usize) {
    if p.out == 0 {
        return span((o * p.stride) as isize - p.before as isize, p.k, p.input, p.after);
    }
    let first = (o * p.input).checked_div(p.out).unwrap_or(0);
    let length = div_ceil((o + 1) * p.input, p.out) - first;
    (first, length, length)
}

/// The fields of one dimension.
#[derive(Clone, Copy)]
struct Dim {
    input: usize,
    k: usize,
    stride: usize,
    before: usize,
    after: usize,
    /// Size of the output whose windows cover the input; 0: windows follow from the other fields.
    out: usize,
}

/// The dimension's window by stride and padding.
#[inline(always)]
fn span(start: isize, k: usize, input: usize, pad_after: usize) -> (usize, usize, usize) {
    let end = start + k as isize;
    let (first, last) = (start.max(0), end.min(input as isize));
    let padded = end.min((input + pad_after) as isize) - start;
    (first as usize, (last - first).max(0) as usize, padded.max(0) as usize)
}

/// Calls `visit` for every window.
#[inline(always)]
fn for_each_window(p: &PoolArgs, mut visit: impl FnMut(Window)) {
    let ys = Dim { input: p.in_h, k: p.kh, stride: p.stride_y, before: p.pad_top, after: p.pad_bottom, out: p.cover_h };
    let xs = Dim { input: p.in_w, k: p.kw, stride: p.stride_x, before: p.pad_left, after: p.pad_right, out: p.cover_w };
    for r in 0..p.rows {
        let (first_y, height, padded_y) = span_of(p.oy_begin + r, ys);
        for ox in 0..p.cols {
            let (first_x, width, padded_x) = span_of(ox, xs);
            let count = match p.count_mode {
                0 => height * width,
                1 => p.kh * p.kw,
                _ => padded_y * padded_x,
            };
            // An empty window has no height, so that nothing is read.
            visit(Window {
                a: p.a.wrapping_add(first_y * p.a_row + first_x * p.a_px),
                height: if width == 0 { 0 } else { height },
                width,
                count: count.max(1),
                out: p.out.wrapping_add(r * p.out_row + ox * p.out_px),
            });
        }
    }
}

/// Folds `combine` over the elements of a window, `offset` bytes into each pixel.
#[inline(always)]
fn fold<T>(p: &PoolArgs, w: &Window, offset: usize, init: T, mut combine: impl FnMut(T, *const u8) -> T) -> T {
    let mut value = init;
    let mut row = w.a.wrapping_add(offset);
    for _ in 0..w.height {
        let mut a = row;
        for _ in 0..w.width {
            value = combine(value, a);
            a = a.wrapping_add(p.a_px);
        }
        row = row.wrapping_add(p.a_row);
    }
    value
}

/// Elements of which the largest is taken, a vector of channels at a time.
trait Largest<S: Simd>: Copy {
    /// The vector.
    type V: Copy;
    /// Channels of a vector, and bytes of each.
    const LANES: usize;
    const BYTES: usize;

    /// What an element is compared with first.
    fn start(&self, s: S) -> Self::V;
    /// The larger elements.
    fn max(s: S, a: Self::V, b: Self::V) -> Self::V;
    /// Loads a vector.
    ///
    /// # Safety
    /// `p` is readable for 64 bytes.
    unsafe fn load(s: S, p: *const u8) -> Self::V;
    /// Stores the first `n` channels of a result.
    ///
    /// # Safety
    /// `p` is writable for them.
    unsafe fn store(&self, s: S, v: Self::V, p: *mut u8, n: usize);
}

/// Bytes, clamped.
#[derive(Clone, Copy)]
struct Bytes<S: Simd> {
    lo: S::B,
    hi: S::B,
}

impl<S: Simd> Largest<S> for Bytes<S> {
    type V = S::B;
    const LANES: usize = 64;
    const BYTES: usize = 1;

    #[inline(always)]
    fn start(&self, _: S) -> S::B {
        self.lo
    }
    #[inline(always)]
    fn max(s: S, a: S::B, b: S::B) -> S::B {
        s.max_b(a, b)
    }
    #[inline(always)]
    unsafe fn load(s: S, p: *const u8) -> S::B {
        // SAFETY: the caller's guarantee.
        unsafe { s.load_b(p) }
    }
    #[inline(always)]
    unsafe fn store(&self, s: S, v: S::B, p: *mut u8, n: usize) {
        // SAFETY: the caller's guarantee.
        unsafe { s.store_b(s.min_b(v, self.hi), p, n) }
    }
}

/// Floats: NaN in a window gives NaN.
#[derive(Clone, Copy)]
struct Floats;

impl<S: Simd> Largest<S> for Floats {
    type V = S::F;
    const LANES: usize = 16;
    const BYTES: usize = 4;

    #[inline(always)]
    fn start(&self, s: S) -> S::F {
        s.splat(f32::NEG_INFINITY)
    }
    #[inline(always)]
    fn max(s: S, a: S::F, b: S::F) -> S::F {
        s.maximum(a, b)
    }
    #[inline(always)]
    unsafe fn load(s: S, p: *const u8) -> S::F {
        // SAFETY: the caller's guarantee.
        unsafe { s.load(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store(&self, s: S, v: S::F, p: *mut u8, n: usize) {
        // Of two zeros, which one is found depends on the order; adding 0 makes both positive.
        // SAFETY: the caller's guarantee.
        unsafe { s.store(s.add(v, s.splat(0.0)), p.cast(), n) }
    }
}

/// Maximum of bytes.
///
/// # Safety
/// `args` points to a [`PoolArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn max_u8<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    unsafe {
        let p = *args.cast::<PoolArgs>();
        largest(s, &p, Bytes { lo: s.splat_b(p.lo as u8), hi: s.splat_b(p.hi as u8) });
    }
}

/// Maximum of floats.
///
/// # Safety
/// `args` points to a [`PoolArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn max_f32<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    unsafe { largest(s, &*args.cast::<PoolArgs>(), Floats) }
}

#[inline(always)]
unsafe fn largest<S: Simd, L: Largest<S>>(s: S, p: &PoolArgs, of: L) {
    // A sweep visits a row once per vector of channels, which pays where windows share columns, or where one vector holds
    // most pixels.
    let shares = p.stride_x < p.kw || L::BYTES == 1;
    if p.cover_w == 0 && shares && (p.kw == 2 || p.kw == 3) {
        for r in 0..p.rows {
            let y = ((p.oy_begin + r) * p.stride_y) as isize - p.pad_top as isize;
            let (first, height, _) = span(y, p.kh, p.in_h, 0);
            let a = p.a.wrapping_add(if height == 0 { 0 } else { first * p.a_row });
            let out = p.out.wrapping_add(r * p.out_row);
            let mut c = 0;
            while c < p.channels {
                let columns = Columns { a: a.wrapping_add(L::BYTES * c), height, of };
                let n = (p.channels - c).min(L::LANES);
                // SAFETY: the rows of the window and the row of the output exist; `n` channels are left.
                unsafe { columns.sweep(s, p, out.wrapping_add(L::BYTES * c), n) };
                c += L::LANES;
            }
        }
        return;
    }
    for_each_window(p, |w| {
        let mut c = 0;
        while c < p.channels {
            let (offset, n) = (L::BYTES * c, (p.channels - c).min(L::LANES));
            // SAFETY: the input may be read 64 bytes past its end; only the channels left are stored.
            unsafe {
                let max = fold(p, &w, offset, of.start(s), |m, a| L::max(s, m, L::load(s, a)));
                of.store(s, max, w.out.wrapping_add(offset), n);
            }
            c += L::LANES;
        }
    });
}

/// One row of windows 2 or 3 wide, for one vector of channels: maxima of columns first, each of which serves several windows.
#[derive(Clone, Copy)]
struct Columns<L> {
    /// Column 0 of the first real row, first channel.
    a: *const u8,
    /// Real rows.
    height: usize,
    of: L,
}

impl<L> Columns<L> {
    /// Maximum of column `x` and what comparisons start with.
    #[inline(always)]
    unsafe fn max<S: Simd>(&self, s: S, p: &PoolArgs, x: isize) -> L::V
    where
        L: Largest<S>,
    {
        if x < 0 || x >= p.in_w as isize {
            return self.of.start(s);
        }
        let row = |y: usize| self.a.wrapping_add(x as usize * p.a_px + y * p.a_row);
        // SAFETY: real elements; the input may be read 64 bytes past its end.
        unsafe {
            if self.height == 3 {
                let max = L::max(s, L::load(s, row(0)), L::load(s, row(1)));
                return L::max(s, L::max(s, max, L::load(s, row(2))), self.of.start(s));
            }
            let mut max = self.of.start(s);
            for y in 0..self.height {
                max = L::max(s, max, L::load(s, row(y)));
            }
            max
        }
    }

    /// All windows of the row; `n` channels are stored.
    #[inline(always)]
    unsafe fn sweep<S: Simd>(&self, s: S, p: &PoolArgs, out: *mut u8, n: usize)
    where
        L: Largest<S>,
    {
        // SAFETY: the caller's row.
        unsafe {
            let mut x = -(p.pad_left as isize);
            let (mut left, mut middle) = (self.max(s, p, x), self.max(s, p, x + 1));
            for ox in 0..p.cols {
                let mut max = L::max(s, left, middle);
                let mut right = middle;
                if p.kw == 3 {
                    right = self.max(s, p, x + 2);
                    max = L::max(s, max, right);
                }
                self.of.store(s, max, out.wrapping_add(ox * p.out_px), n);
                x += p.stride_x as isize;
                (left, middle) = match (p.kw, p.stride_x) {
                    (3, 1) => (middle, right),
                    (3, 2) => (right, self.max(s, p, x + 1)),
                    (2, 1) => (middle, self.max(s, p, x + 1)),
                    _ => (self.max(s, p, x), self.max(s, p, x + 1)),
                };
            }
        }
    }
}

/// Average of bytes.
///
/// # Safety
/// `args` points to a [`PoolArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn avg_u8<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let p = unsafe { *args.cast::<PoolArgs>() };
    let magic = s.splat(MAGIC);
    let finish = Finish::new(s, p.zero as i32, p.lo, p.hi, core::ptr::null());
    for_each_window(&p, |w| {
        let scale = s.splat(p.a_scale / (p.scale * w.count as f32));
        let zeros = s.splat_i(-p.a_zero * (w.height * w.width) as i32);
        let mut c = 0;
        while c < p.channels {
            // SAFETY: the input may be read 64 bytes past its end; only the channels left are stored.
            unsafe {
                let sum = fold(&p, &w, c, [zeros; 4], |mut sum, a| {
                    unroll!(v in 0..4 => {
                        sum[v] = s.add_i(sum[v], s.load_u8(a.wrapping_add(16 * v)));
                    });
                    sum
                });
                let mut value = [magic; 4];
                unroll!(v in 0..4 => {
                    value[v] = s.add(s.mul(s.to_float(sum[v]), scale), magic);
                });
                finish.store(s, value, w.out.wrapping_add(c), (p.channels - c).min(64));
            }
            c += 64;
        }
    });
}

/// Average of floats.
///
/// # Safety
/// `args` points to a [`PoolArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn avg_f32<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let p = unsafe { *args.cast::<PoolArgs>() };
    for_each_window(&p, |w| {
        let count = s.splat_d(w.count as f64);
        let mut c = 0;
        while c < p.channels {
            // SAFETY: the input may be read 64 bytes past its end; only the channels left are stored.
            unsafe {
                let sum = fold(&p, &w, 4 * c, s.splat_d(0.0), |sum, a| s.add_wide(sum, s.load(a.cast())));
                s.store(s.div_wide(sum, count), w.out.wrapping_add(4 * c).cast(), (p.channels - c).min(16));
            }
            c += 16;
        }
    });
}
