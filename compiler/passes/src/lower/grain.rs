//! How much work is worth a join of threads, and into which pieces work is cut.
//!
//! A step whose tasks run on several threads ends with a join, which costs a few microseconds. So a step is one task if
//! a single thread computes it in about that time. Each bound is that time in units of the kernels that it is for, which
//! differ in how much they do per second (in the fastest tier, on one core): matrix kernels some 10^11
//! multiply-accumulates, the depthwise kernels and pools about a tenth of that, element-wise kernels a few 10^9 elements.

/// Elements of an element-wise step or a copy: they are bound by memory, at some bytes per cycle.
pub const ELEMENTS: usize = 1 << 14;

/// Multiply-accumulates of a step of matrix kernels.
pub const MACS: usize = 1 << 18;

/// Multiply-accumulates of a depthwise convolution, whose every product loads its own operand.
pub const DEPTHWISE_MACS: usize = 1 << 15;

/// Elements that all windows of a pool hold together.
pub const POOLED: usize = 1 << 16;

/// Fewest output rows that are split over threads: fewer are too few for the threads of most hosts to share evenly, and
/// columns or groups, of which there are many where planes are that small, are split instead.
pub const ROWS: usize = 8;

/// Elements of a piece of one long run that is cut for threads: at least this many, so that calls cost nothing beside them.
pub const PIECE: usize = 1024;

/// Pixels of a row block: small enough that a block's input stays in L1/L2 while all panels pass over it.
pub const BLOCK_PIXELS: usize = 800;

/// Whether a row of pixels fills the tiles of matrix kernels badly, so that rows are joined if they can be.
///
/// Tiles have up to 6 rows of pixels (8 where columns are few) and cut a row into nearly equal parts: 12 or more are
/// parts of at least 5, 7 are one tile of 7 or tiles of 4 and 3.
pub const fn is_short_row(pixels: usize) -> bool {
    pixels < 12 && !pixels.is_multiple_of(7)
}
