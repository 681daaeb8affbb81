//! Packs weights into the layouts that the kernels of all tiers share. Runs in the compiler only; right sides that a
//! model computes are packed by the kernels of [`PackArgs`](crate::args::PackArgs), into the same places.
//!
//! **Matrix panels.** Output columns are cut into panels of 64; the last one has the rest. A panel is
//! `[seg_y][seg_x][k4][cols16][4]` bytes (u8 × s8) or `[seg_y][seg_x][k][cols16]` floats, or bytes that become floats as they
//! are read, `cols16` being its columns rounded up to 16. Missing columns and the bytes after the end of a segment are zero. Panels follow one another, and
//! each starts at a multiple of 64 bytes.
//!
//! **Depthwise u8 × s8.** Two sections; channels are rounded up to `c64`, a multiple of 64.
//! 1. Natural: `[kh][kw][c64]`.
//! 2. Quads, for dot products over four rows of one pixel column: `[c64/64][shift][kw][quad][4][64]`, where quad `q` at
//!    shift `s` holds for window rows `4q-s .. 4q-s+4` the weights of a column `x` (zero outside the window). The four
//!    vectors hold dwords (one channel, four rows) in the order in which byte interleaving within 128-bit lanes brings up
//!    64 channels: vector `j`, dword `4g + i` is channel `16g + 4j + i`. Shift `s` serves the `s`th output row below, from the
//!    same input; there are as many shifts as fit into the quads of a window.
//!
//! **Depthwise f32.** `[kh][kw][c16]`.

extern crate alloc;
use crate::numbers::UNCUT_BYTES;
use alloc::{vec, vec::Vec};
use core::ops::Range;

/// Columns of a full panel.
pub const PANEL: usize = 64;

/// `n` rounded up to a multiple of 16.
pub const fn round16(n: usize) -> usize {
    n.div_ceil(16) * 16
}

/// `n` rounded up to a multiple of 64.
pub const fn round64(n: usize) -> usize {
    n.div_ceil(64) * 64
}

/// Offset in bytes of element `k` of column `n` in a u8 × s8 segment of a panel of `cols` columns.
pub const fn place_u8(cols: usize, k: usize, n: usize) -> usize {
    (k / 4 * round16(cols) + n) * 4 + k % 4
}

/// Offset in bytes of element `k` of column `n` in an f32 segment of a panel of `cols` columns.
pub const fn place_f32(cols: usize, k: usize, n: usize) -> usize {
    (k * round16(cols) + n) * 4
}

/// A source slice whose length does not fit its shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongLength {
    /// Elements that the shape needs.
    pub expected: usize,
    /// Elements given.
    pub found: usize,
}

impl core::fmt::Display for WrongLength {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "weights have {} elements where their shape needs {}", self.found, self.expected)
    }
}

impl core::error::Error for WrongLength {}

fn check_len(expected: usize, found: usize) -> Result<(), WrongLength> {
    if expected == found { Ok(()) } else { Err(WrongLength { expected, found }) }
}

/// Geometry of the weights of a convolution or matrix product (one group), source order `[cols][channels][kh][kw]`.
///
/// A fully connected layer `[cols][channels]` has `kh = kw = 1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GemmShape {
    /// Output columns (output channels).
    pub cols: usize,
    /// Input channels.
    pub channels: usize,
    /// Window height.
    pub kh: usize,
    /// Window width.
    pub kw: usize,
    /// How the taps of one window row lie in the input.
    pub taps: Taps,
}

/// How the `kw` taps of one window row become segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taps {
    /// One segment per window row: taps are neighbouring pixels, `pitch >= channels` elements apart.
    Joined {
        /// Elements from one pixel to the next.
        pitch: usize,
    },
    /// One segment per tap, at any distance (dilation, views of few channels of wide pixels).
    Split,
}

impl GemmShape {
    /// Segments in y.
    pub const fn seg_y(&self) -> usize {
        self.kh
    }

    /// Segments in x.
    pub const fn seg_x(&self) -> usize {
        match self.taps {
            Taps::Joined { .. } => 1,
            Taps::Split => self.kw,
        }
    }

    /// Elements of a segment.
    pub const fn k(&self) -> usize {
        match self.taps {
            Taps::Joined { pitch } => (self.kw - 1) * pitch + self.channels,
            Taps::Split => self.channels,
        }
    }

    /// Length of a u8 × s8 segment in groups of 4 bytes.
    pub const fn k4(&self) -> usize {
        self.k().div_ceil(4)
    }

    /// Number of panels.
    pub const fn panels(&self) -> usize {
        self.cols.div_ceil(PANEL)
    }

    /// Output columns of panel `panel`.
    pub fn panel_cols(&self, panel: usize) -> Range<usize> {
        panel * PANEL..self.cols.min((panel + 1) * PANEL)
    }

    /// Bytes of u8 × s8 panel `panel`.
    pub fn panel_bytes(&self, panel: usize) -> usize {
        self.seg_y() * self.seg_x() * self.k4() * 4 * round16(self.panel_cols(panel).len())
    }

    /// Offset in bytes of u8 × s8 panel `panel`.
    pub fn panel_offset(&self, panel: usize) -> usize {
        self.seg_y() * self.seg_x() * self.k4() * 4 * PANEL * panel
    }

    /// Bytes of all u8 × s8 panels.
    pub fn bytes(&self) -> usize {
        self.seg_y() * self.seg_x() * self.k4() * 4 * round16(self.cols)
    }

    /// Bytes of f32 panel `panel`.
    pub fn panel_bytes_f32(&self, panel: usize) -> usize {
        self.seg_y() * self.seg_x() * self.k() * 4 * round16(self.panel_cols(panel).len())
    }

    /// Whether f32 sums of many pixels spill to the output between blocks of K, for which it must hold floats: the kernel
    /// that stores u8 passes over the whole panel for every tile instead, and is slower.
    pub fn f32_sums_spill(&self) -> bool {
        self.panel_bytes_f32(0) > UNCUT_BYTES
    }

    /// Offset in bytes of f32 panel `panel`.
    pub fn panel_offset_f32(&self, panel: usize) -> usize {
        self.seg_y() * self.seg_x() * self.k() * 4 * PANEL * panel
    }

    /// Bytes of all f32 panels.
    pub fn bytes_f32(&self) -> usize {
        self.seg_y() * self.seg_x() * self.k() * 4 * round16(self.cols)
    }

    /// Calls `put(column, y, x segment, element of the segment, source index)` for every weight.
    fn for_each(&self, mut put: impl FnMut(usize, usize, usize, usize, usize)) {
        let mut source = 0;
        for o in 0..self.cols {
            for c in 0..self.channels {
                for y in 0..self.kh {
                    for x in 0..self.kw {
                        match self.taps {
                            Taps::Joined { pitch } => put(o, y, 0, x * pitch + c, source),
                            Taps::Split => put(o, y, x, c, source),
                        }
                        source += 1;
                    }
                }
            }
        }
    }
}

/// Packs `[cols][channels][kh][kw]` weights into u8 × s8 panels.
///
/// # Errors
/// [`WrongLength`] if `w` does not have the elements of `shape`.
pub fn pack_gemm(shape: &GemmShape, w: &[i8]) -> Result<Vec<u8>, WrongLength> {
    check_len(shape.cols * shape.channels * shape.kh * shape.kw, w.len())?;
    let mut packed = vec![0u8; shape.bytes()];
    shape.for_each(|o, y, x, k, source| {
        let panel = o / PANEL;
        let cols = shape.panel_cols(panel).len();
        let segment = (y * shape.seg_x() + x) * shape.k4() * 4 * round16(cols);
        packed[shape.panel_offset(panel) + segment + place_u8(cols, k, o % PANEL)] = w[source] as u8;
    });
    Ok(packed)
}

/// Packs `[cols][channels][kh][kw]` weights into f32 panels, as little-endian bytes.
///
/// # Errors
/// [`WrongLength`] if `w` does not have the elements of `shape`.
pub fn pack_gemm_f32(shape: &GemmShape, w: &[f32]) -> Result<Vec<u8>, WrongLength> {
    check_len(shape.cols * shape.channels * shape.kh * shape.kw, w.len())?;
    let mut packed = vec![0u8; shape.bytes_f32()];
    shape.for_each(|o, y, x, k, source| {
        let panel = o / PANEL;
        let cols = shape.panel_cols(panel).len();
        let segment = (y * shape.seg_x() + x) * shape.k() * 4 * round16(cols);
        let at = shape.panel_offset_f32(panel) + segment + place_f32(cols, k, o % PANEL);
        packed[at..at + 4].copy_from_slice(&w[source].to_le_bytes());
    });
    Ok(packed)
}

/// Packs `[cols][channels][kh][kw]` weights of s8 into panels of the f32 kernel that reads bytes.
///
/// # Errors
/// [`WrongLength`] if `w` does not have the elements of `shape`.
pub fn pack_gemm_bytes(shape: &GemmShape, w: &[i8]) -> Result<Vec<u8>, WrongLength> {
    check_len(shape.cols * shape.channels * shape.kh * shape.kw, w.len())?;
    let mut packed = vec![0u8; shape.bytes_f32() / 4];
    shape.for_each(|o, y, x, k, source| {
        let panel = o / PANEL;
        let cols = shape.panel_cols(panel).len();
        let segment = (y * shape.seg_x() + x) * shape.k() * round16(cols);
        let at = shape.panel_offset_f32(panel) / 4 + segment + place_f32(cols, k, o % PANEL) / 4;
        packed[at] = w[source] as u8;
    });
    Ok(packed)
}

/// Number of quads that cover a window column of `kh` rows.
pub const fn dw_quads(kh: usize) -> usize {
    kh.div_ceil(4)
}

/// Number of shifts in the quad section: 1 and the rows that the quads have to spare.
pub const fn dw_shifts(kh: usize) -> usize {
    4 * dw_quads(kh) - kh + 1
}

/// Bytes of packed u8 × s8 depthwise weights.
pub const fn dw_bytes(channels: usize, kh: usize, kw: usize) -> usize {
    round64(channels) * kw * (kh + dw_shifts(kh) * dw_quads(kh) * 4)
}

/// Packs `[channels][kh][kw]` weights for the u8 × s8 depthwise kernels.
///
/// # Errors
/// [`WrongLength`] if `w` does not have the elements of the shape.
pub fn pack_dw(channels: usize, kh: usize, kw: usize, w: &[i8]) -> Result<Vec<u8>, WrongLength> {
    check_len(channels * kh * kw, w.len())?;
    let c64 = round64(channels);
    let mut packed = vec![0u8; dw_bytes(channels, kh, kw)];
    let (natural, quad_section) = packed.split_at_mut(c64 * kh * kw);
    for (source, &weight) in w.iter().enumerate() {
        let (c, y, x) = (source / (kh * kw), source / kw % kh, source % kw);
        natural[(y * kw + x) * c64 + c] = weight as u8;
        let (block, vector, dword) = (c / 64, c % 16 / 4, c % 64 / 16 * 4 + c % 4);
        for shift in 0..dw_shifts(kh) {
            let row = y + shift;
            let quad = ((block * dw_shifts(kh) + shift) * kw + x) * dw_quads(kh) + row / 4;
            quad_section[(quad * 4 + vector) * 64 + dword * 4 + row % 4] = weight as u8;
        }
    }
    Ok(packed)
}

/// Packs `[channels][kh][kw]` weights for the f32 depthwise kernels, as little-endian bytes.
///
/// # Errors
/// [`WrongLength`] if `w` does not have the elements of the shape.
pub fn pack_dw_f32(channels: usize, kh: usize, kw: usize, w: &[f32]) -> Result<Vec<u8>, WrongLength> {
    check_len(channels * kh * kw, w.len())?;
    let c16 = round16(channels);
    let mut packed = vec![0u8; c16 * kh * kw * 4];
    for (source, weight) in w.iter().enumerate() {
        let at = (source % (kh * kw) * c16 + source / (kh * kw)) * 4;
        packed[at..at + 4].copy_from_slice(&weight.to_le_bytes());
    }
    Ok(packed)
}

/// `values` with zeros up to a multiple of 16 elements, as `bias` and `scale` are stored.
pub fn pad16<T: Copy + Default>(values: &[T]) -> Vec<T> {
    let mut padded = values.to_vec();
    padded.resize(round16(values.len()), T::default());
    padded
}
