//! Pooling: windows are clipped first, then vectors of channels are combined over what is left.

use super::simd::{Finish, Simd, unroll};
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

/// One dimension: first real index, number of real indices, length inside the padded input.
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
    for r in 0..p.rows {
        let y = ((p.oy_begin + r) * p.stride_y) as isize - p.pad_top as isize;
        let (first_y, height, padded_y) = span(y, p.kh, p.in_h, p.pad_bottom);
        for ox in 0..p.cols {
            let x = (ox * p.stride_x) as isize - p.pad_left as isize;
            let (first_x, width, padded_x) = span(x, p.kw, p.in_w, p.pad_right);
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

/// Maximum of bytes.
///
/// # Safety
/// `args` points to a [`PoolArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn max_u8<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let p = unsafe { *args.cast::<PoolArgs>() };
    let (lo, hi) = (s.splat_b(p.lo as u8), s.splat_b(p.hi as u8));
    if p.kw == 2 || p.kw == 3 {
        for r in 0..p.rows {
            let y = ((p.oy_begin + r) * p.stride_y) as isize - p.pad_top as isize;
            let (first, height, _) = span(y, p.kh, p.in_h, 0);
            let a = p.a.wrapping_add(if height == 0 { 0 } else { first * p.a_row });
            let out = p.out.wrapping_add(r * p.out_row);
            let mut c = 0;
            while c < p.channels {
                let columns = Columns { a: a.wrapping_add(c), height, lo, hi };
                let n = (p.channels - c).min(64);
                // SAFETY: the rows of the window and the row of the output exist; `n` channels are left.
                unsafe { columns.sweep(s, &p, out.wrapping_add(c), n) };
                c += 64;
            }
        }
        return;
    }
    for_each_window(&p, |w| {
        let mut c = 0;
        while c < p.channels {
            // SAFETY: the input may be read 64 bytes past its end; only the channels left are stored.
            unsafe {
                let max = fold(&p, &w, c, lo, |m, a| s.max_b(m, s.load_b(a)));
                s.store_b(s.min_b(max, hi), w.out.wrapping_add(c), (p.channels - c).min(64));
            }
            c += 64;
        }
    });
}

/// One row of windows 2 or 3 wide, for 64 channels: maxima of columns first, each of which serves several windows.
#[derive(Clone, Copy)]
struct Columns<S: Simd> {
    /// Column 0 of the first real row, first channel.
    a: *const u8,
    /// Real rows.
    height: usize,
    lo: S::B,
    hi: S::B,
}

impl<S: Simd> Columns<S> {
    /// Maximum of column `x` and `lo`.
    #[inline(always)]
    unsafe fn max(&self, s: S, p: &PoolArgs, x: isize) -> S::B {
        if x < 0 || x >= p.in_w as isize {
            return self.lo;
        }
        let row = |y: usize| self.a.wrapping_add(x as usize * p.a_px + y * p.a_row);
        // SAFETY: real elements; the input may be read 64 bytes past its end.
        unsafe {
            if self.height == 3 {
                let max = s.max_b(s.load_b(row(0)), s.load_b(row(1)));
                return s.max_b(s.max_b(max, s.load_b(row(2))), self.lo);
            }
            let mut max = self.lo;
            for y in 0..self.height {
                max = s.max_b(max, s.load_b(row(y)));
            }
            max
        }
    }

    /// All windows of the row; `n` channels are stored.
    #[inline(always)]
    unsafe fn sweep(&self, s: S, p: &PoolArgs, out: *mut u8, n: usize) {
        // SAFETY: the caller's row.
        unsafe {
            let mut x = -(p.pad_left as isize);
            let (mut left, mut middle) = (self.max(s, p, x), self.max(s, p, x + 1));
            for ox in 0..p.cols {
                let mut max = s.max_b(left, middle);
                let mut right = middle;
                if p.kw == 3 {
                    right = self.max(s, p, x + 2);
                    max = s.max_b(max, right);
                }
                s.store_b(s.min_b(max, self.hi), out.wrapping_add(ox * p.out_px), n);
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

/// Maximum of floats.
///
/// # Safety
/// `args` points to a [`PoolArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn max_f32<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let p = unsafe { *args.cast::<PoolArgs>() };
    for_each_window(&p, |w| {
        let mut c = 0;
        while c < p.channels {
            // SAFETY: the input may be read 64 bytes past its end; only the channels left are stored.
            unsafe {
                let max = fold(&p, &w, 4 * c, s.splat(f32::MIN), |m, a| s.max(s.load(a.cast()), m));
                s.store(max, w.out.wrapping_add(4 * c).cast(), (p.channels - c).min(16));
            }
            c += 16;
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
        let count = s.splat(w.count as f32);
        let mut c = 0;
        while c < p.channels {
            // SAFETY: the input may be read 64 bytes past its end; only the channels left are stored.
            unsafe {
                let sum = fold(&p, &w, 4 * c, s.splat(0.0), |sum, a| s.add(sum, s.load(a.cast())));
                s.store(s.div(sum, count), w.out.wrapping_add(4 * c).cast(), (p.channels - c).min(16));
            }
            c += 16;
        }
    });
}
