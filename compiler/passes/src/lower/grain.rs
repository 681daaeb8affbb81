//! How much work is worth a join of threads, and into which pieces work is cut.
//!
//! A step whose tasks run on several threads ends with a join. With two threads one costs 0.7 us (60 steps of 32,768 elements:
//! 475 us on one thread, 280 us on two); with more threads, or one that sleeps, it costs several times that. So a step is one
//! task if a single thread computes it in a few times 0.7 us at most. Programs are the same for all tiers, so the bounds are
//! too; the rates below are those of one core with AVX512-VNNI. AVX2 does about a third of that in matrix kernels.

/// Elements of an element-wise step or a copy: 4 to 5 us at the 3 to 4 * 10^9 elements per second of `quantize`. The kernels
/// that do little per element are several times as fast.
pub const ELEMENTS: usize = 1 << 14;

/// Multiply-accumulates of a step of matrix kernels: 1.2 to 2.2 us at 1.2 to 2.2 * 10^11 per second.
pub const MACS: usize = 1 << 18;

/// Multiply-accumulates of a depthwise convolution, whose every product loads its own operand: 0.4 to 0.7 us at 5 to
/// 8 * 10^10 per second.
pub const DEPTHWISE_MACS: usize = 1 << 15;

/// Elements that all windows of a pool hold together: 0.8 us at the 8 * 10^10 per second of maxima of bytes, more for
/// averages and floats.
pub const POOLED: usize = 1 << 16;

/// Fewest output rows that are split over threads: fewer are too few for the threads of most hosts to share evenly, and
/// columns or groups, of which there are many where planes are that small, are split instead.
pub const ROWS: usize = 8;

/// Elements of a piece of one long run that is cut for threads: at least this many, so that calls cost nothing beside them.
pub const PIECE: usize = 1024;

/// Elements of a piece that a row of element-wise kernels passes over one after the other: with three operands of floats it fills
/// the first-level cache of 48 kB, and calls cost nothing beside it.
pub const CACHED: usize = 4096;

/// Pixels of a row block: small enough that a block's input stays in L1/L2 while all panels pass over it.
pub const BLOCK_PIXELS: usize = 800;

/// Whether a row of pixels fills the tiles of matrix kernels badly, so that rows are joined if they can be.
///
/// Tiles have up to 6 rows of pixels (8 where columns are few) and cut a row into nearly equal parts. Rows of 12 or more are
/// cut into parts of 4 or more, so a join wins little, and rows stay apart for threads to share. Rows of 7, which are
/// parts of 4 and 3, could win; but the 7x7 planes of ResNet-50 take the same time both ways, within the 8 % that equal
/// steps differ by, so such rows stay as they are.
pub const fn is_short_row(pixels: usize) -> bool {
    pixels < 12 && !pixels.is_multiple_of(7)
}
