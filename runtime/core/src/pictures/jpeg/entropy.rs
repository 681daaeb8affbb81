//! Huffman codes and the scans made of them, sequential and progressive.

use super::{CUT, Component, ZIGZAG};

/// Bits that are looked up at once.
const LOOKED_UP: u32 = 9;

/// A Huffman code.
pub(super) struct Huffman {
    /// Length and symbol by the next `LOOKED_UP` bits; length 0 for longer codes.
    short: Vec<(u8, u8)>,
    /// By length, the first code that is longer, in 16 bits.
    ends: [u32; 17],
    /// By length, what makes the index of a symbol of a code.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// The code with `counts` symbols of each length.
    pub(super) fn new(counts: &[u8], symbols: &[u8]) -> Result<Huffman, String> {
        let mut short = vec![(0, 0); 1 << LOOKED_UP];
        let (mut ends, mut offsets) = ([0; 17], [0; 17]);
        let (mut code, mut at) = (0u32, 0usize);
        for (length, count) in (1u32..=16).zip(counts) {
            offsets[length as usize] = at as i32 - code as i32;
            for _ in 0..*count {
                if code >= 1 << length {
                    return Err("a Huffman code has more symbols than bits".into());
                }
                if length <= LOOKED_UP {
                    let first = (code << (LOOKED_UP - length)) as usize;
                    short[first..first + (1 << (LOOKED_UP - length))].fill((length as u8, symbols[at]));
                }
                (code, at) = (code + 1, at + 1);
            }
            ends[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Ok(Huffman { short, ends, offsets, symbols: symbols.to_vec() })
    }

    fn next(&self, bits: &mut Bits<'_>) -> Result<u8, String> {
        let next = bits.peek(16);
        let (length, symbol) = self.short[(next >> (16 - LOOKED_UP)) as usize];
        if length > 0 {
            bits.drop(length.into());
            return Ok(symbol);
        }
        let length = (LOOKED_UP as usize + 1..17).find(|length| next < self.ends[*length]);
        let length = length.ok_or("a Huffman code is not one of its table")?;
        let index = (next >> (16 - length)) as i32 + self.offsets[length];
        bits.drop(length as u32);
        Ok(self.symbols[index as usize])
    }
}

/// The bits of a scan up to the next marker; behind them are zeros.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    held: u32,
    /// Zeros behind the end that are held.
    invented: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits { bytes, at: 0, buffer: 0, held: 0, invented: 0 }
    }

    fn fill(&mut self) {
        while self.held <= 48 {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xff), Some(0)) => {
                    self.at += 2;
                    0xff
                }
                (Some(0xff), _) | (None, _) => {
                    self.invented += 8;
                    0
                }
                (Some(byte), _) => {
                    self.at += 1;
                    *byte
                }
            };
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.held += 8;
        }
    }

    /// The next `n` bits, 16 at most.
    fn peek(&mut self, n: u32) -> u32 {
        if self.held < n {
            self.fill();
        }
        (self.buffer >> (self.held - n)) as u32 & ((1 << n) - 1)
    }

    fn drop(&mut self, n: u32) {
        self.held -= n;
    }

    fn take(&mut self, n: u32) -> u32 {
        let bits = self.peek(n);
        self.drop(n);
        bits
    }

    /// A number of `n` bits whose first says that it is positive.
    fn signed(&mut self, n: u32) -> i32 {
        let bits = self.take(n) as i32;
        if n > 0 && bits < 1 << (n - 1) { bits - (1 << n) + 1 } else { bits }
    }

    /// Refuses to have read behind the end.
    fn check(&self) -> Result<(), String> {
        if self.held < self.invented { Err(CUT.into()) } else { Ok(()) }
    }

    /// Goes behind the next marker, which must be that of a restart.
    fn restart(&mut self) -> Result<(), String> {
        self.check()?;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let found = rest.windows(2).position(|w| w[0] == 0xff && w[1] != 0 && w[1] != 0xff).ok_or(CUT)?;
        if !(0xd0..=0xd7).contains(&rest[found + 1]) {
            return Err("a restart is missing".into());
        }
        *self = Bits { bytes: self.bytes, at: self.at + found + 2, buffer: 0, held: 0, invented: 0 };
        Ok(())
    }

    /// Bytes that were read.
    pub(super) fn consumed(&self) -> usize {
        self.at
    }
}

/// A scan: which channels, each with the numbers of its codes, which coefficients, which of their bits.
pub(super) struct Scan {
    parts: Vec<(usize, usize, usize)>,
    first: usize,
    last: usize,
    /// Whether earlier scans had higher bits.
    refines: bool,
    low: u32,
    progressive: bool,
}

/// The codes of first and of other coefficients by number.
type Codes<'a> = (&'a [Option<Huffman>; 4], &'a [Option<Huffman>; 4]);

/// What is carried from block to block.
#[derive(Default)]
struct Carried {
    /// The last first coefficient by channel.
    dc: [i32; 4],
    /// Blocks that have no more coefficients.
    empty: u32,
}

impl Scan {
    pub(super) fn new(
        parts: Vec<(usize, usize, usize)>,
        (first, last, high, low): (usize, usize, u8, u8),
        progressive: bool,
    ) -> Result<Scan, String> {
        let dc_alone = first == 0 && last == 0;
        let ac_alone = first > 0 && first <= last && last < 64 && parts.len() == 1;
        let bits = low <= 13 && (high == 0 || high == low + 1);
        if parts.is_empty() || parts.len() > 4 || progressive && !(bits && (dc_alone || ac_alone)) {
            return Err(format!("a scan is of coefficients {first} to {last}, bits {high} to {low}"));
        }
        Ok(Scan { parts, first, last, refines: high > 0, low: low.into(), progressive })
    }

    /// Decodes the scan. `units` are units per row of the picture, and units between restarts.
    pub(super) fn run(
        &self,
        components: &mut [Component],
        codes: Codes<'_>,
        (across, restart): (usize, usize),
        bits: &mut Bits<'_>,
    ) -> Result<(), String> {
        self.note_bits(components)?;
        let mut carried = Carried::default();
        // A single channel has its own blocks, without those that only fill a unit.
        let (across, down) = match self.parts[..] {
            [(only, ..)] => (components[only].width.div_ceil(8), components[only].height.div_ceil(8)),
            _ => (across, components.iter().map(|c| c.down / c.v).max().unwrap_or(0)),
        };
        for unit in 0..across * down {
            if restart > 0 && unit > 0 && unit % restart == 0 {
                bits.restart()?;
                carried = Carried::default();
            }
            let (x, y) = (unit % across, unit / across);
            if let [(only, ..)] = self.parts[..] {
                let block = y * components[only].across + x;
                self.block(components, codes, 0, block, &mut carried, bits)?;
            } else {
                for part in 0..self.parts.len() {
                    let c = &components[self.parts[part].0];
                    let (h, v, row) = (c.h, c.v, c.across);
                    for inner in 0..h * v {
                        let block = (y * v + inner / h) * row + x * h + inner % h;
                        self.block(components, codes, part, block, &mut carried, bits)?;
                    }
                }
            }
            bits.check()?;
        }
        Ok(())
    }

    /// Notes which bits of coefficients are known after this scan.
    fn note_bits(&self, components: &mut [Component]) -> Result<(), String> {
        for (at, ..) in &self.parts {
            for missing in &mut components[*at].missing[self.first..=self.last] {
                // Bits come one after the other, from the highest: so a coefficient is in as many scans at most.
                let before = if self.refines { self.low as u8 + 1 } else { 255 };
                if *missing != before {
                    return Err("a scan is of coefficients that others have had, or of none".into());
                }
                *missing = self.low as u8;
            }
        }
        Ok(())
    }

    fn block(
        &self,
        components: &mut [Component],
        (dc, ac): Codes<'_>,
        part: usize,
        block: usize,
        carried: &mut Carried,
        bits: &mut Bits<'_>,
    ) -> Result<(), String> {
        let (at, dc_number, ac_number) = self.parts[part];
        let component = &mut components[at];
        if !self.progressive {
            let mut coefficients = [0i16; 64];
            coefficients[0] = first_of(code(dc, dc_number)?, &mut carried.dc[part], bits)? as i16;
            self.rest(code(ac, ac_number)?, &mut coefficients, &mut carried.empty, bits)?;
            component.store(block, &coefficients);
            return Ok(());
        }
        let coefficients = component.coefficients[block * 64..].first_chunk_mut::<64>().ok_or(CUT)?;
        match (self.first, self.refines) {
            (0, true) => coefficients[0] |= (bits.take(1) << self.low) as i16,
            (0, false) => {
                let value = first_of(code(dc, dc_number)?, &mut carried.dc[part], bits)?;
                coefficients[0] = (value << self.low) as i16;
            }
            (_, refines) => {
                let step = if refines { Scan::refined } else { Scan::rest };
                step(self, code(ac, ac_number)?, coefficients, &mut carried.empty, bits)?;
            }
        }
        Ok(())
    }

    /// Coefficients behind the first, of which nothing was known.
    fn rest(
        &self,
        code: &Huffman,
        coefficients: &mut [i16; 64],
        empty: &mut u32,
        bits: &mut Bits<'_>,
    ) -> Result<(), String> {
        if *empty > 0 {
            *empty -= 1;
            return Ok(());
        }
        let mut k = self.first.max(1);
        while k <= self.last {
            let symbol = code.next(bits)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            match (run, size) {
                (15, 0) => k += 16,
                (_, 0) if self.progressive => {
                    *empty = (1 << run) - 1 + bits.take(run as u32);
                    return Ok(());
                }
                (_, 0) => return Ok(()),
                _ => {
                    let value = bits.signed(size) << self.low;
                    let place = ZIGZAG.get(k + run).filter(|_| k + run <= self.last);
                    *coefficients.get_mut(*place.ok_or("a block has too many coefficients")?).ok_or(CUT)? =
                        value as i16;
                    k += run + 1;
                }
            }
        }
        Ok(())
    }

    /// One more bit of coefficients behind the first.
    fn refined(
        &self,
        code: &Huffman,
        coefficients: &mut [i16; 64],
        empty: &mut u32,
        bits: &mut Bits<'_>,
    ) -> Result<(), String> {
        let bit = 1i16 << self.low;
        let correct = |value: &mut i16, bits: &mut Bits<'_>| {
            if bits.take(1) == 1 && *value & bit == 0 {
                *value = value.wrapping_add(if *value >= 0 { bit } else { -bit });
            }
        };
        let mut k = self.first;
        while k <= self.last && *empty == 0 {
            let symbol = code.next(bits)?;
            let (mut run, size) = (usize::from(symbol >> 4), symbol & 15);
            let new = match (run, size) {
                (_, 0) if run < 15 => {
                    *empty = (1 << run) + bits.take(run as u32);
                    break;
                }
                (_, 0) => 0,
                _ if bits.take(1) == 1 => bit,
                _ => -bit,
            };
            // Goes past `run` zeros, and past all that are known.
            while k <= self.last {
                let value = &mut coefficients[ZIGZAG[k]];
                k += 1;
                if *value != 0 {
                    correct(value, bits);
                } else if run == 0 {
                    *value = new;
                    break;
                } else {
                    run -= 1;
                }
            }
        }
        if *empty > 0 {
            for place in &ZIGZAG[k..=self.last] {
                let value = &mut coefficients[*place];
                if *value != 0 {
                    correct(value, bits);
                }
            }
            *empty -= 1;
        }
        Ok(())
    }
}

/// The code of this number.
fn code(group: &[Option<Huffman>; 4], number: usize) -> Result<&Huffman, String> {
    group.get(number).and_then(Option::as_ref).ok_or_else(|| "a Huffman code is missing".into())
}

/// The first coefficient: the last one and a difference.
fn first_of(code: &Huffman, last: &mut i32, bits: &mut Bits<'_>) -> Result<i32, String> {
    let size = code.next(bits)?;
    if size > 15 {
        return Err("a first coefficient has more than 15 bits".into());
    }
    *last = last.wrapping_add(bits.signed(size.into()));
    Ok(*last)
}
