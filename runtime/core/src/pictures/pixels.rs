//! Rows of interleaved 8-bit channels, and what only moves or mixes channels.

/// A picture of 8-bit channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Channels of a pixel, 1 to 4.
    pub channels: usize,
    /// `height * width * channels` values.
    pub data: Vec<u8>,
}

/// What the channels of a decoded picture are: the modes of Pillow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One channel of one bit, stored as 0 and 255. It is never filtered.
    Bilevel,
    /// One channel.
    Gray,
    /// Gray of 16 bits, of which the upper 8 are kept.
    Gray16,
    /// Gray and alpha.
    GrayAlpha,
    /// Three channels.
    Rgb,
    /// Three channels that were looked up in a palette. They are never filtered.
    Palette,
    /// Three channels and alpha.
    Rgba,
    /// Cyan, magenta, yellow, black; 0 is no ink.
    Cmyk,
}

/// `a * b / 255`, rounded.
pub(super) fn mul_div_255(a: u8, b: u8) -> u8 {
    let t = u32::from(a) * u32::from(b) + 128;
    (((t >> 8) + t) >> 8) as u8
}

impl Pixels {
    /// A picture whose values are all `value`.
    pub fn filled(width: usize, height: usize, channels: usize, value: u8) -> Pixels {
        Pixels { width, height, channels, data: vec![value; width * height * channels] }
    }

    /// The values of one row.
    pub fn row(&self, y: usize) -> &[u8] {
        let n = self.width * self.channels;
        &self.data[y * n..(y + 1) * n]
    }

    /// The rows, one after the other.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.height).map(|y| self.row(y))
    }

    /// Another picture of the same size, each pixel made of the one here.
    pub fn map<const N: usize>(&self, pixel: impl Fn(&[u8]) -> [u8; N]) -> Pixels {
        let data = self.data.chunks_exact(self.channels).flat_map(pixel).collect();
        Pixels { width: self.width, height: self.height, channels: N, data }
    }

    /// `width x height` pixels whose first is at `(left, top)`; what lies outside of the picture is `value`.
    pub fn cut(&self, (left, top): (isize, isize), width: usize, height: usize, value: u8) -> Pixels {
        let mut out = Pixels::filled(width, height, self.channels, value);
        let (from_x, to_x) = ((-left).max(0) as usize, left.max(0) as usize);
        let n = width.saturating_sub(from_x).min(self.width.saturating_sub(to_x)) * self.channels;
        for y in 0..height {
            let Ok(source) = usize::try_from(y as isize + top) else { continue };
            if source < self.height && n > 0 {
                let at = (y * width + from_x) * self.channels;
                let from = to_x * self.channels;
                out.data[at..at + n].copy_from_slice(&self.row(source)[from..from + n]);
            }
        }
        out
    }

    /// The pixels whose columns and rows are these.
    pub fn picked(&self, columns: &[usize], rows: &[usize]) -> Pixels {
        let n = self.channels;
        let row = |y: &usize| {
            let row = self.row(*y);
            columns.iter().flat_map(move |x| row[x * n..(x + 1) * n].iter().copied())
        };
        let data = rows.iter().flat_map(row).collect();
        Pixels { width: columns.len(), height: rows.len(), channels: n, data }
    }

    /// The picture as an EXIF orientation of 1 to 8 shows it; other numbers change nothing.
    pub fn oriented(self, orientation: u8) -> Pixels {
        let (w, h, n) = (self.width, self.height, self.channels);
        let (width, height) = if orientation >= 5 { (h, w) } else { (w, h) };
        let source: fn(usize, usize, usize, usize) -> (usize, usize) = match orientation {
            2 => |x, y, w, _| (w - 1 - x, y),
            3 => |x, y, w, h| (w - 1 - x, h - 1 - y),
            4 => |x, y, _, h| (x, h - 1 - y),
            5 => |x, y, _, _| (y, x),
            6 => |x, y, _, h| (y, h - 1 - x),
            7 => |x, y, w, h| (w - 1 - y, h - 1 - x),
            8 => |x, y, w, _| (w - 1 - y, x),
            _ => return self,
        };
        let mut data = Vec::with_capacity(self.data.len());
        for y in 0..height {
            for x in 0..width {
                let (sx, sy) = source(x, y, w, h);
                data.extend_from_slice(&self.row(sy)[sx * n..(sx + 1) * n]);
            }
        }
        Pixels { width, height, channels: n, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(width: usize, height: usize) -> Pixels {
        Pixels { width, height, channels: 1, data: (0..(width * height) as u8).collect() }
    }

    #[test]
    fn what_lies_outside_is_filled() {
        let cut = counted(3, 2).cut((-1, 1), 5, 2, 9);
        assert_eq!(cut.data, [9, 3, 4, 5, 9, 9, 9, 9, 9, 9]);
        assert_eq!(counted(3, 2).cut((2, 0), 1, 2, 9).data, [2, 5]);
        assert_eq!(counted(3, 2).cut((7, -7), 2, 1, 9).data, [9, 9]);
    }

    #[test]
    fn orientations_turn_and_mirror() {
        let turned = |o| counted(3, 2).oriented(o).data;
        assert_eq!(turned(1), [0, 1, 2, 3, 4, 5]);
        assert_eq!(turned(2), [2, 1, 0, 5, 4, 3]);
        assert_eq!(turned(3), [5, 4, 3, 2, 1, 0]);
        assert_eq!(turned(4), [3, 4, 5, 0, 1, 2]);
        assert_eq!(turned(5), [0, 3, 1, 4, 2, 5]);
        assert_eq!(turned(6), [3, 0, 4, 1, 5, 2]);
        assert_eq!(turned(7), [5, 2, 4, 1, 3, 0]);
        assert_eq!(turned(8), [2, 5, 1, 4, 0, 3]);
        assert_eq!(turned(77), [0, 1, 2, 3, 4, 5]);
    }
}
