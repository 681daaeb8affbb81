//! JPEG files, decoded to the same bytes as by libjpeg-turbo with its default settings: the accurate integer transform,
//! chroma interpolated by triangles, and colours from 16 fraction bits.
//!
//! Sequential and progressive files of 8 bits with Huffman codes can be read. A damaged file is refused, since what other
//! decoders make of one differs.

mod entropy;
mod samples;
mod transform;

use super::pixels::Pixels;
use entropy::{Bits, Huffman, Scan};
use image::metadata::Orientation;

/// Most coefficients that are kept of a progressive file.
const MAX_COEFFICIENTS: usize = 1 << 28;
/// Most scans of a file: a small one could ask for the whole picture any number of times.
const MAX_SCANS: usize = 256;

/// Places of coefficients in the order in which files have them.
const ZIGZAG: [usize; 64] = zigzag();

const fn zigzag() -> [usize; 64] {
    let mut order = [0; 64];
    let (mut row, mut column, mut i) = (0usize, 0usize, 0);
    while i < 64 {
        order[i] = row * 8 + column;
        let up = (row + column).is_multiple_of(2);
        match (up, row, column) {
            (true, _, 7) => row += 1,
            (true, 0, _) => column += 1,
            (true, ..) => (row, column) = (row - 1, column + 1),
            (false, 7, _) => column += 1,
            (false, _, 0) => row += 1,
            (false, ..) => (row, column) = (row + 1, column - 1),
        }
        i += 1;
    }
    order
}

/// A decoded file: its channels as they are stored, and what its markers say.
pub(super) struct Decoded {
    /// One channel of luma, three of red, green and blue, or four of inks, of which 255 is none.
    pub(super) pixels: Pixels,
    /// EXIF orientation, 1 to 8.
    pub(super) orientation: u8,
}

/// One colour channel as it is coded.
struct Component {
    id: u8,
    /// Samples of this channel per unit, across and down.
    h: usize,
    v: usize,
    /// Number of its quantization table, and the table once a scan has begun.
    table: usize,
    steps: Option<[u16; 64]>,
    /// Columns and rows of samples that the picture has.
    width: usize,
    height: usize,
    /// Columns and rows of blocks, whole units.
    across: usize,
    down: usize,
    /// Coefficients by block; of progressive files only.
    coefficients: Vec<i16>,
    /// Lowest bit that is still missing of each coefficient, 255 for those of which nothing is known.
    missing: [u8; 64],
    /// Samples, rows of whole blocks.
    samples: Vec<u8>,
}

impl Component {
    /// Puts the samples of a block into their place.
    fn store(&mut self, block: usize, coefficients: &[i16; 64]) {
        let steps = self.steps.unwrap_or([1; 64]);
        let samples = transform::inverse(coefficients, &steps);
        let stride = self.across * 8;
        let at = block / self.across * 8 * stride + block % self.across * 8;
        for (y, row) in samples.chunks_exact(8).enumerate() {
            self.samples[at + y * stride..at + y * stride + 8].copy_from_slice(row);
        }
    }

    /// One row of the samples that the picture has; the last one for what is below.
    fn row(&self, y: usize) -> &[u8] {
        let at = y.min(self.height - 1) * self.across * 8;
        &self.samples[at..at + self.width]
    }
}

/// What the markers have said so far.
struct File<'a> {
    bytes: &'a [u8],
    at: usize,
    width: usize,
    height: usize,
    progressive: bool,
    components: Vec<Component>,
    steps: [Option<[u16; 64]>; 4],
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    restart: usize,
    /// Adobe's marker: the transform of colours.
    adobe: Option<u8>,
    jfif: bool,
    orientation: u8,
    scans: usize,
}

const CUT: &str = "it ends too early";

/// Width and height that a file says it has.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), String> {
    let mut file = File::new(bytes);
    loop {
        match file.next_marker()? {
            marker @ (0xc0..=0xcf) if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let (height, width) = match file.segment()? {
                    [_, h1, h2, w1, w2, ..] => (u16::from_be_bytes([*h1, *h2]), u16::from_be_bytes([*w1, *w2])),
                    _ => return Err(CUT.into()),
                };
                return Ok((width.into(), height.into()));
            }
            0xd9 | 0xda => return Err("it has no frame".into()),
            0x01 | 0xd0..=0xd8 => {}
            _ => drop(file.segment()?),
        }
    }
}

/// Decodes a file.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, String> {
    let mut file = File::new(bytes);
    loop {
        match file.next_marker() {
            Ok(0xd9) => break,
            // What follows the last scan may be missing.
            Err(_) if file.scans > 0 => break,
            Ok(marker) => file.marker(marker)?,
            Err(e) => return Err(e),
        }
    }
    file.finish()
}

impl<'a> File<'a> {
    fn new(bytes: &'a [u8]) -> File<'a> {
        File {
            bytes,
            at: 2,
            width: 0,
            height: 0,
            progressive: false,
            components: Vec::new(),
            steps: [None; 4],
            dc: [const { None }; 4],
            ac: [const { None }; 4],
            restart: 0,
            adobe: None,
            jfif: false,
            orientation: 1,
            scans: 0,
        }
    }

    /// Goes behind the next marker; what stands before it is left out.
    fn next_marker(&mut self) -> Result<u8, String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let found = rest.windows(2).position(|w| w[0] == 0xff && w[1] != 0 && w[1] != 0xff).ok_or(CUT)?;
        self.at += found + 2;
        Ok(self.bytes[self.at - 1])
    }

    /// The bytes of the segment that begins here.
    fn segment(&mut self) -> Result<&'a [u8], String> {
        let length = self.bytes.get(self.at..self.at + 2).ok_or(CUT)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let bytes = self.bytes.get(self.at + 2..self.at + length.max(2)).ok_or(CUT)?;
        self.at += length.max(2);
        Ok(bytes)
    }

    fn marker(&mut self, marker: u8) -> Result<(), String> {
        match marker {
            0xc0..=0xc2 => {
                let segment = self.segment()?;
                self.frame(segment, marker == 0xc2)
            }
            0xc4 => {
                let segment = self.segment()?;
                self.codes(segment)
            }
            0xc3 | 0xc5..=0xcf => Err("it is lossless, hierarchical or coded arithmetically".into()),
            0xda => {
                let segment = self.segment()?;
                self.scan(segment)
            }
            0xdb => {
                let segment = self.segment()?;
                self.tables(segment)
            }
            0xdd => match self.segment()? {
                [a, b, ..] => {
                    self.restart = usize::from(u16::from_be_bytes([*a, *b]));
                    Ok(())
                }
                _ => Err(CUT.into()),
            },
            0xe0 => {
                self.jfif |= self.segment()?.starts_with(b"JFIF\0");
                Ok(())
            }
            0xe1 => {
                let found = self.segment()?.strip_prefix(b"Exif\0\0").and_then(Orientation::from_exif_chunk);
                // A damaged orientation does not make a picture unreadable.
                self.orientation = found.map_or(self.orientation, Orientation::to_exif);
                Ok(())
            }
            0xee => {
                if let [b'A', b'd', b'o', b'b', b'e', rest @ ..] = self.segment()? {
                    self.adobe = rest.get(6).copied().or(self.adobe);
                }
                Ok(())
            }
            0x01 | 0xd0..=0xd8 => Ok(()),
            _ => self.segment().map(drop),
        }
    }

    fn frame(&mut self, segment: &[u8], progressive: bool) -> Result<(), String> {
        let [precision, h1, h2, w1, w2, count, rest @ ..] = segment else { return Err(CUT.into()) };
        if *precision != 8 {
            return Err(format!("its samples have {precision} bits, not 8"));
        }
        if !self.components.is_empty() {
            return Err("it has two frames".into());
        }
        self.progressive = progressive;
        self.height = usize::from(u16::from_be_bytes([*h1, *h2]));
        self.width = usize::from(u16::from_be_bytes([*w1, *w2]));
        let described: Vec<[u8; 3]> = rest.chunks_exact(3).map(|c| [c[0], c[1], c[2]]).collect();
        let wanted = usize::from(*count);
        if self.width == 0 || self.height == 0 || !matches!(wanted, 1 | 3 | 4) || described.len() < wanted {
            return Err(format!("its frame has {} x {} pixels of {wanted} channels", self.width, self.height));
        }
        let factors = |c: &[u8; 3]| (usize::from(c[1] >> 4), usize::from(c[1] & 15));
        let described = &described[..wanted];
        let (most_h, most_v) = described.iter().map(factors).fold((1, 1), |m, f| (m.0.max(f.0), m.1.max(f.1)));
        for c in described {
            let (h, v) = factors(c);
            if !(1..=4).contains(&h) || !(1..=4).contains(&v) || most_h % h != 0 || most_v % v != 0 || c[2] > 3 {
                return Err(format!("its channels are sampled {h} x {v} in {most_h} x {most_v}"));
            }
            let width = (self.width * h).div_ceil(most_h);
            let height = (self.height * v).div_ceil(most_v);
            let (across, down) = (self.width.div_ceil(8 * most_h) * h, self.height.div_ceil(8 * most_v) * v);
            let coefficients = if progressive { across * down * 64 } else { 0 };
            let kept: usize = self.components.iter().map(|c| c.coefficients.len()).sum();
            if kept + coefficients > MAX_COEFFICIENTS {
                return Err(format!("{} x {} pixels of a progressive file are too many", self.width, self.height));
            }
            self.components.push(Component {
                id: c[0],
                h,
                v,
                table: usize::from(c[2]),
                steps: None,
                width,
                height,
                across,
                down,
                coefficients: vec![0; coefficients],
                missing: [255; 64],
                samples: vec![0; across * down * 64],
            });
        }
        Ok(())
    }

    /// Quantization tables.
    fn tables(&mut self, mut segment: &[u8]) -> Result<(), String> {
        while let [head, rest @ ..] = segment {
            let (wide, number) = (head >> 4 != 0, usize::from(head & 15));
            let length = if wide { 128 } else { 64 };
            let values = rest.get(..length).ok_or(CUT)?;
            let table = self.steps.get_mut(number).ok_or("it has more than four quantization tables")?;
            let mut steps = [0; 64];
            for (i, place) in ZIGZAG.iter().enumerate() {
                steps[*place] = match wide {
                    true => u16::from_be_bytes([values[2 * i], values[2 * i + 1]]),
                    false => values[i].into(),
                };
            }
            *table = Some(steps);
            segment = &rest[length..];
        }
        Ok(())
    }

    /// Huffman codes.
    fn codes(&mut self, mut segment: &[u8]) -> Result<(), String> {
        while let [head, rest @ ..] = segment {
            let counts = rest.get(..16).ok_or(CUT)?;
            let n: usize = counts.iter().map(|n| usize::from(*n)).sum();
            let symbols = rest.get(16..16 + n).ok_or(CUT)?;
            let group = if head >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            let code = group.get_mut(usize::from(head & 15)).ok_or("it has more than four Huffman codes")?;
            *code = Some(Huffman::new(counts, symbols)?);
            segment = &rest[16 + n..];
        }
        Ok(())
    }

    fn scan(&mut self, segment: &[u8]) -> Result<(), String> {
        self.scans += 1;
        if self.scans > MAX_SCANS {
            return Err(format!("it has more than {MAX_SCANS} scans"));
        }
        let (count, rest) = segment.split_first().ok_or(CUT)?;
        let count = usize::from(*count);
        let (Some(chosen), Some([first, last, bits])) = (rest.get(..2 * count), rest.get(2 * count..2 * count + 3))
        else {
            return Err(CUT.into());
        };
        let mut parts: Vec<(usize, usize, usize)> = Vec::new();
        for pair in chosen.chunks_exact(2) {
            let at = self.components.iter().position(|c| c.id == pair[0]);
            let at = at.ok_or("a scan is of a channel that is not there")?;
            if parts.iter().any(|(other, ..)| *other == at) {
                return Err("a scan has a channel twice".into());
            }
            let component = &mut self.components[at];
            if component.steps.is_none() {
                component.steps = Some(self.steps[component.table].ok_or("a quantization table is missing")?);
            }
            parts.push((at, usize::from(pair[1] >> 4), usize::from(pair[1] & 15)));
        }
        let range = match self.progressive {
            true => (usize::from(*first), usize::from(*last), bits >> 4, bits & 15),
            false => (0, 63, 0, 0),
        };
        let bytes = self.bytes.get(self.at..).unwrap_or_default();
        let scan = Scan::new(parts, range, self.progressive)?;
        let units = (self.components.iter().map(|c| c.across / c.h).max().unwrap_or(0), self.restart);
        let mut bits = Bits::new(bytes);
        scan.run(&mut self.components, (&self.dc, &self.ac), units, &mut bits)?;
        self.at += bits.consumed();
        Ok(())
    }

    /// The samples of all channels as pixels.
    fn finish(mut self) -> Result<Decoded, String> {
        if self.components.is_empty() || self.scans == 0 {
            return Err("it has no picture".into());
        }
        for component in &mut self.components {
            // Where the first coefficients are not known to the last bit, decoders guess them, each in its own way.
            if component.missing[..10].iter().any(|bits| *bits != 0) {
                return Err("scans are missing".into());
            }
            let coefficients = std::mem::take(&mut component.coefficients);
            let (blocks, _) = coefficients.as_chunks::<64>();
            for (i, block) in blocks.iter().enumerate() {
                component.store(i, block);
            }
        }
        let data = samples::join(&self.components, (self.width, self.height), self.is_ycc());
        let channels = self.components.len();
        let pixels = Pixels { width: self.width, height: self.height, channels, data };
        Ok(Decoded { pixels, orientation: self.orientation })
    }

    /// Whether the first three channels are luma and chroma.
    fn is_ycc(&self) -> bool {
        let ids: Vec<u8> = self.components.iter().map(|c| c.id).collect();
        match (ids.len(), self.jfif, self.adobe) {
            (3, true, _) => true,
            (3, false, Some(transform)) => transform != 0,
            (3, false, None) => ids != *b"RGB",
            (4, _, Some(transform)) => transform != 0,
            _ => false,
        }
    }
}
