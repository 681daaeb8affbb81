//! Strided copies and fills: runs go to `memcpy` and `memset`, two exchanged levels to transposed blocks.

use super::simd::{Simd, unroll};
use crate::args::{FillArgs, GatherArgs, MoveArgs};
use core::ptr::copy_nonoverlapping;

/// One level of a copy: count, and strides in bytes.
#[derive(Clone, Copy)]
pub(super) struct Level {
    pub n: usize,
    pub src: usize,
    pub dst: usize,
}

/// Edge of the blocks in which two levels are exchanged: a block of 4-byte elements touches 16 lines on either side.
const BLOCK: usize = 16;

/// Strided copy of elements of type `T`.
///
/// # Safety
/// `args` points to a [`MoveArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn copy<S: Simd, T: Copy>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<MoveArgs>() };
    let mut levels = [
        Level { n: g.n0, src: g.src_s0, dst: g.dst_s0 },
        Level { n: g.n1, src: g.src_s1, dst: g.dst_s1 },
        Level { n: g.n2, src: g.src_s2, dst: g.dst_s2 },
        Level { n: g.n3, src: g.src_s3, dst: g.dst_s3 },
    ];
    arrange(&mut levels, size_of::<T>());
    let [inner, second, third, outer] = levels;
    for i3 in 0..outer.n {
        for i2 in 0..third.n {
            let src = g.src.wrapping_add(i3 * outer.src + i2 * third.src);
            let dst = g.dst.wrapping_add(i3 * outer.dst + i2 * third.dst);
            // SAFETY: the two inner levels of existing outer indices.
            unsafe {
                if inner.src == size_of::<T>() && inner.dst == size_of::<T>() {
                    for i in 0..second.n {
                        let (src, dst) = (src.wrapping_add(i * second.src), dst.wrapping_add(i * second.dst));
                        copy_run(src, dst, inner.n * size_of::<T>());
                    }
                } else {
                    exchange::<S, T>(s, inner, second, src, dst);
                }
            }
        }
    }
}

/// Rows of a table that indices choose.
///
/// # Safety
/// `args` points to a [`GatherArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn gather<S: Simd>(_: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<GatherArgs>() };
    for o in 0..g.outer {
        let (table, out) = (g.table.wrapping_add(o * g.table_outer), g.out.wrapping_add(o * g.out_outer));
        for r in 0..g.rows {
            // A negative index is a large one without sign.
            // SAFETY: there are `rows` indices.
            let i = (unsafe { g.indices.add(r).read_unaligned() } as u32 as usize).min(g.size - 1);
            // SAFETY: row `i` of the table and row `r` of the result exist.
            unsafe { copy_run(table.wrapping_add(i * g.table_row), out.wrapping_add(r * g.out_row), g.n) };
        }
    }
}

/// How a table holds real numbers.
pub trait Table {
    /// The factor of row `i`.
    ///
    /// # Safety
    /// The table has such a row.
    unsafe fn factor<S: Simd>(s: S, scale: *const f32, i: usize) -> S::F;

    /// 16 numbers from element `k` of a row.
    ///
    /// # Safety
    /// The row begins at `row`; 64 bytes behind it may be read.
    unsafe fn load<S: Simd>(s: S, row: *const u8, k: usize, factor: S::F) -> S::F;
}

/// As floats.
pub struct Floats;

impl Table for Floats {
    #[inline(always)]
    unsafe fn factor<S: Simd>(s: S, _: *const f32, _: usize) -> S::F {
        s.splat(1.0)
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, row: *const u8, k: usize, _: S::F) -> S::F {
        // SAFETY: the caller's guarantee.
        unsafe { s.load(row.cast::<f32>().wrapping_add(k)) }
    }
}

/// As s8 with a scale per row.
pub struct Scaled;

impl Table for Scaled {
    #[inline(always)]
    unsafe fn factor<S: Simd>(s: S, scale: *const f32, i: usize) -> S::F {
        // SAFETY: there is a factor for each row.
        s.splat(unsafe { scale.add(i).read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, row: *const u8, k: usize, factor: S::F) -> S::F {
        // SAFETY: the caller's guarantee.
        s.mul(s.to_float(unsafe { s.load_i8(row.wrapping_add(k).cast()) }), factor)
    }
}

/// Rows of a table of real numbers that indices choose, added to what is there.
///
/// # Safety
/// `args` points to a [`GatherArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn gather_real<S: Simd, T: Table>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<GatherArgs>() };
    for o in 0..g.outer {
        for r in 0..g.rows {
            // A negative index is a large one without sign.
            // SAFETY: there are `rows` indices.
            let i = (unsafe { g.indices.add(r).read_unaligned() } as u32 as usize).min(g.size - 1);
            let row = g.table.wrapping_add(o * g.table_outer + i * g.table_row);
            let place = o * g.out_outer + r * g.out_row;
            // SAFETY: row `i` of the table and row `r` of the result exist; rows may be read 64 bytes past their end.
            unsafe {
                let factor = T::factor(s, g.scale, i);
                let mut k = 0;
                while k < g.n {
                    let mut v = T::load(s, row, k, factor);
                    if !g.res.is_null() {
                        v = s.add(s.load(g.res.wrapping_byte_add(place).wrapping_add(k)), v);
                    }
                    s.store(v, g.out.wrapping_add(place).cast::<f32>().wrapping_add(k), (g.n - k).min(16));
                    k += 16;
                }
            }
        }
    }
}

/// Reorders levels so that the innermost one writes neighbours, the second reads neighbours if the innermost does not, and
/// joins levels that continue one another.
#[inline(always)]
fn arrange(levels: &mut [Level; 4], bytes: usize) {
    // Levels of one element have no order; they go outside.
    for _ in 0..3 {
        for i in 0..3 {
            if levels[i].n == 1 && levels[i + 1].n != 1 {
                levels.swap(i, i + 1);
            }
        }
    }
    bring(levels, 0, |l| l.dst == bytes && l.src == bytes);
    bring(levels, 0, |l| l.dst == bytes);
    if levels[0].src != bytes {
        bring(levels, 1, |l| l.src == bytes);
    }
    for i in 1..4 {
        let (low, high) = (levels[0], levels[i]);
        if high.n > 1 && high.src == low.src * low.n && high.dst == low.dst * low.n {
            levels[0].n *= high.n;
            levels[i].n = 1;
        }
    }
    if levels[1].n == 1 {
        bring(levels, 1, |_| true);
    }
}

/// Exchanges level `to` with the first one from `to` on that has more than one element and fits; nothing if none does or
/// if level `to` itself does.
#[inline(always)]
fn bring(levels: &mut [Level; 4], to: usize, fits: impl Fn(&Level) -> bool) {
    for i in to..4 {
        if levels[i].n > 1 && fits(&levels[i]) {
            levels.swap(to, i);
            return;
        }
    }
}

/// Copies a run; short ones without a call.
#[inline(always)]
pub(super) unsafe fn copy_run(src: *const u8, dst: *mut u8, bytes: usize) {
    // SAFETY: the caller's run; the two halves of a short one overlap instead of leaving it.
    unsafe {
        match bytes {
            16..=32 => {
                let last = bytes - 16;
                let (a, b) = (src.cast::<u128>().read_unaligned(), src.add(last).cast::<u128>().read_unaligned());
                dst.cast::<u128>().write_unaligned(a);
                dst.add(last).cast::<u128>().write_unaligned(b);
            }
            8..=15 => {
                let last = bytes - 8;
                let (a, b) = (src.cast::<u64>().read_unaligned(), src.add(last).cast::<u64>().read_unaligned());
                dst.cast::<u64>().write_unaligned(a);
                dst.add(last).cast::<u64>().write_unaligned(b);
            }
            4..=7 => {
                let last = bytes - 4;
                let (a, b) = (src.cast::<u32>().read_unaligned(), src.add(last).cast::<u32>().read_unaligned());
                dst.cast::<u32>().write_unaligned(a);
                dst.add(last).cast::<u32>().write_unaligned(b);
            }
            _ => copy_nonoverlapping(src, dst, bytes),
        }
    }
}

/// Copies two levels, of which the inner one writes neighbours or neither does.
#[inline(always)]
unsafe fn exchange<S: Simd, T: Copy>(s: S, inner: Level, second: Level, src: *const u8, dst: *mut u8) {
    let bytes = size_of::<T>();
    let writes = inner.dst == bytes;
    // SAFETY: the caller's two levels; the strides are those that the cases name.
    unsafe {
        if writes && second.src == bytes && second.dst == inner.n * bytes && second.n >= 8 {
            // Several runs become one: neighbours of the result come from different runs.
            match inner.n {
                2 => return interleave::<T, 2>(src, inner.src, dst, second.n),
                3 => return interleave::<T, 3>(src, inner.src, dst, second.n),
                4 => return interleave::<T, 4>(src, inner.src, dst, second.n),
                _ => {}
            }
        }
        if writes && second.src == bytes && inner.src == second.n * bytes && inner.n >= 8 {
            match second.n {
                2 => return separate::<T, 2>(src, dst, second.dst, inner.n),
                3 => return separate::<T, 3>(src, dst, second.dst, inner.n),
                4 => return separate::<T, 4>(src, dst, second.dst, inner.n),
                _ => {}
            }
        }
        if bytes == 4 && writes && second.src == 4 && inner.n >= 8 && second.n >= 8 {
            return transpose_words(s, inner, second, src, dst);
        }
        exchange_elements::<T>(inner, second, src, dst);
    }
}

/// `dst[G * i + g] = run g of src [i]` for `i < n`; runs are `run` bytes apart.
#[inline(always)]
unsafe fn interleave<T: Copy, const G: usize>(src: *const u8, run: usize, dst: *mut u8, n: usize) {
    for i in 0..n {
        unroll!(g in 0..G => {
            // SAFETY: element `i` of run `g`.
            unsafe {
                let value = src.wrapping_add(g * run).cast::<T>().wrapping_add(i).read_unaligned();
                dst.cast::<T>().wrapping_add(G * i + g).write_unaligned(value);
            }
        });
    }
}

/// `run g of dst [i] = src[G * i + g]` for `i < n`; runs are `run` bytes apart.
#[inline(always)]
unsafe fn separate<T: Copy, const G: usize>(src: *const u8, dst: *mut u8, run: usize, n: usize) {
    for i in 0..n {
        unroll!(g in 0..G => {
            // SAFETY: element `i` of run `g`.
            unsafe {
                let value = src.cast::<T>().wrapping_add(G * i + g).read_unaligned();
                dst.wrapping_add(g * run).cast::<T>().wrapping_add(i).write_unaligned(value);
            }
        });
    }
}

/// Exchanges two levels of 4-byte elements, `inner` contiguous in the destination and `second` in the source.
#[inline(always)]
pub(super) unsafe fn transpose_words<S: Simd>(s: S, inner: Level, second: Level, src: *const u8, dst: *mut u8) {
    let mut j = 0;
    while j < second.n {
        let columns = (second.n - j).min(BLOCK);
        let mut i = 0;
        while i < inner.n {
            let rows = (inner.n - i).min(BLOCK);
            let mut block = [[0.0f32; BLOCK]; BLOCK];
            // SAFETY: the rows and columns of this block, loaded with at most 60 bytes past the last of them.
            unsafe {
                for (r, row) in block.iter_mut().enumerate().take(rows) {
                    let p = src.wrapping_add((i + r) * inner.src + 4 * j);
                    s.store(s.load(p.cast()), row.as_mut_ptr(), BLOCK);
                }
                s.transpose(&mut block);
                for (c, row) in block.iter().enumerate().take(columns) {
                    let p = dst.wrapping_add((j + c) * second.dst + 4 * i);
                    s.store(s.load(row.as_ptr()), p.cast(), rows);
                }
            }
            i += BLOCK;
        }
        j += BLOCK;
    }
}

/// Copies two levels of single elements, block by block.
#[inline(always)]
unsafe fn exchange_elements<T: Copy>(inner: Level, second: Level, src: *const u8, dst: *mut u8) {
    let mut j0 = 0;
    while j0 < second.n {
        let j1 = (j0 + BLOCK).min(second.n);
        let mut i0 = 0;
        while i0 < inner.n {
            let i1 = (i0 + BLOCK).min(inner.n);
            for j in j0..j1 {
                let (src, dst) = (src.wrapping_add(j * second.src), dst.wrapping_add(j * second.dst));
                for i in i0..i1 {
                    // SAFETY: an element of the two levels.
                    unsafe {
                        let value = src.wrapping_add(i * inner.src).cast::<T>().read_unaligned();
                        dst.wrapping_add(i * inner.dst).cast::<T>().write_unaligned(value);
                    }
                }
            }
            i0 = i1;
        }
        j0 = j1;
    }
}

/// Fills runs of bytes.
///
/// # Safety
/// `args` points to a [`FillArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn fill_b1<S: Simd>(_: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<FillArgs>() };
    // SAFETY: a pointer that is not null points to a byte.
    let value = if g.from.is_null() { g.value as u8 } else { unsafe { g.from.read() } };
    for o in 0..g.outer {
        for r in 0..g.rows {
            // SAFETY: run `r` of outer index `o` exists.
            unsafe { g.dst.wrapping_add(o * g.outer_stride + r * g.row_stride).write_bytes(value, g.n) };
        }
    }
}

/// Fills runs of 4-byte elements.
///
/// # Safety
/// `args` points to a [`FillArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn fill_b4<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<FillArgs>() };
    for o in 0..g.outer {
        for r in 0..g.rows {
            let run = g.dst.wrapping_add(o * g.outer_stride + r * g.row_stride);
            let mut i = 0;
            while i < g.n {
                // SAFETY: run `r` of outer index `o` exists; only the elements left are stored.
                unsafe { s.store_i(s.splat_i(g.value), run.wrapping_add(4 * i).cast(), (g.n - i).min(16)) };
                i += 16;
            }
        }
    }
}
