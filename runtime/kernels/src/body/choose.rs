//! Places of the largest elements, and rows that are stored where indices say.

use super::binary::FloatOp;
use super::simd::Simd;
use crate::args::{ScatterArgs, TopKArgs};
use crate::wide::order;
use core::ptr::copy_nonoverlapping;

/// The number at place `i` of a heap.
#[inline(always)]
pub(super) unsafe fn at(heap: *mut u64, i: usize) -> u64 {
    // SAFETY: the caller's guarantee.
    unsafe { heap.wrapping_add(i).read_unaligned() }
}

/// Lets the number at place `i` of a heap of `len` sink until none below it is less.
#[inline(always)]
pub(super) unsafe fn sink(heap: *mut u64, mut i: usize, len: usize, value: u64) {
    // SAFETY: the heap has `len` numbers; places are below that.
    unsafe {
        loop {
            let mut below = 2 * i + 1;
            if below >= len {
                break;
            }
            if below + 1 < len && at(heap, below + 1) < at(heap, below) {
                below += 1;
            }
            if at(heap, below) >= value {
                break;
            }
            heap.wrapping_add(i).write_unaligned(at(heap, below));
            i = below;
        }
        heap.wrapping_add(i).write_unaligned(value);
    }
}

/// Makes a heap of `len`, the least at its top, a list with the largest first: the least goes to the end, again and again.
#[inline(always)]
unsafe fn unheap(heap: *mut u64, len: usize) {
    let mut left = len;
    while left > 1 {
        left -= 1;
        // SAFETY: places are below `len`.
        unsafe {
            let (least, last) = (at(heap, 0), at(heap, left));
            heap.wrapping_add(left).write_unaligned(least);
            sink(heap, 0, left, last);
        }
    }
}

/// Puts `len` numbers in order, the largest first.
///
/// # Safety
/// There are as many.
#[inline(always)]
pub(super) unsafe fn sort(numbers: *mut u64, len: usize) {
    // SAFETY: the caller's guarantee.
    unsafe {
        for i in (0..len / 2).rev() {
            sink(numbers, i, len, at(numbers, i));
        }
        unheap(numbers, len);
    }
}

/// The first of each row in order: a heap keeps those that were best so far, the worst of them at its top.
///
/// # Safety
/// `args` points to a [`TopKArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn top_k<S: Simd>(_: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<TopKArgs>() };
    for r in 0..g.rows {
        let row = g.a.wrapping_byte_add(r * g.a_row);
        let out = g.out.wrapping_byte_add(r * g.out_row);
        let heap = g.heap.wrapping_add(r * g.heap_row).cast::<u64>();
        // SAFETY: rows have `n` elements, `k` results and a heap of `k` numbers, and `k` is at most `n`.
        unsafe {
            for i in 0..g.k {
                heap.wrapping_add(i).write_unaligned(order(row.wrapping_add(i).read_unaligned(), i, g.least != 0));
            }
            for i in (0..g.k / 2).rev() {
                sink(heap, i, g.k, at(heap, i));
            }
            for i in g.k..g.n {
                let value = order(row.wrapping_add(i).read_unaligned(), i, g.least != 0);
                if value > at(heap, 0) {
                    sink(heap, 0, g.k, value);
                }
            }
            unheap(heap, g.k);
            for i in 0..g.k {
                out.wrapping_add(i).write_unaligned(!(at(heap, i) as u32) as i32);
            }
        }
    }
}

/// The row that an index names.
#[inline(always)]
unsafe fn row_of(g: &ScatterArgs, r: usize) -> *mut u8 {
    // A negative index is a large one without sign.
    // SAFETY: there are `rows` indices.
    let i = (unsafe { g.indices.wrapping_add(r).read_unaligned() } as u32 as usize).min(g.size - 1);
    g.out.wrapping_add(i * g.out_row)
}

/// Rows stored where indices say.
///
/// # Safety
/// `args` points to a [`ScatterArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn scatter<S: Simd>(_: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<ScatterArgs>() };
    for r in 0..g.rows {
        // SAFETY: both rows exist.
        unsafe { copy_nonoverlapping(g.src.wrapping_add(r * g.src_row), row_of(&g, r), g.n) };
    }
}

/// Rows of floats joined to those that indices name.
///
/// # Safety
/// `args` points to a [`ScatterArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn scatter_real<S: Simd, O: FloatOp>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<ScatterArgs>() };
    for r in 0..g.rows {
        // SAFETY: both rows exist; they may be read 64 bytes past their end, and only the elements left are stored.
        unsafe {
            let (src, out) = (g.src.wrapping_add(r * g.src_row).cast::<f32>(), row_of(&g, r).cast::<f32>());
            let mut i = 0;
            while i < g.n {
                let value = O::apply(s, s.load(out.wrapping_add(i)), s.load(src.wrapping_add(i)));
                s.store(value, out.wrapping_add(i), (g.n - i).min(16));
                i += 16;
            }
        }
    }
}
