//! Damaged files: a seeded generator of structured mutants for every reader of untrusted bytes, and the readers
//! themselves behind one door, which the fuzz targets use, too.
//!
//! A mutant is a seed file with one to four edits. Edits know the format: fields of a protobuf message, values of a JSON
//! document, tokens of a text, words of an ELF header, chunks of a PNG. They keep lengths and checksums right, so that
//! they reach what lies behind the first check; a quarter of the mutants is damaged blindly.

mod elf;
mod json;
mod numpy;
mod picture;
mod proto;
mod raw;
mod readers;
mod seeds;
mod text;

pub use readers::{Reader, read};
pub use seeds::{Seed, join, seeds, split};

use qc_ladder::random::Numbers;

/// Numbers at which sizes, axes, counts and offsets go wrong.
const EDGES: [i64; 20] = [
    0,
    1,
    2,
    3,
    7,
    8,
    9,
    64,
    255,
    65_536,
    1 << 20,
    1 << 24,
    i32::MAX as i64,
    1 << 32,
    1 << 48,
    i64::MAX,
    -1,
    -2,
    i32::MIN as i64,
    i64::MIN,
];

fn edge(n: &mut Numbers) -> i64 {
    EDGES[n.below(EDGES.len())]
}

/// The damaged copy of a seed that belongs to this number.
pub fn mutate(seed: &Seed, number: u64) -> Vec<u8> {
    let mut n = Numbers::new(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed.name.len() as u64);
    let n = &mut n;
    if n.below(4) == 0 {
        return raw::edit(&seed.bytes, n);
    }
    match seed.reader {
        Reader::Onnx => proto::edit(&seed.bytes, n),
        Reader::Paddle | Reader::Pir => {
            let (model, params) = split(&seed.bytes);
            if n.below(5) == 0 {
                return join(model, &raw::edit(params, n));
            }
            match seed.reader {
                Reader::Paddle => join(&proto::edit(model, n), params),
                _ => join(&json::edit(model, n), params),
            }
        }
        Reader::Note => elf::edit(&seed.bytes, n),
        Reader::Qir => text::edit(&seed.bytes, n),
        Reader::Ranges => json::edit(&seed.bytes, n),
        Reader::Arrays => numpy::edit(&seed.bytes, n),
        Reader::Picture => picture::edit(&seed.bytes, n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn mutants_depend_on_their_number_alone_and_differ() {
        let seeds = seeds();
        for reader in Reader::ALL {
            let seed = seeds.iter().find(|s| s.reader == reader).unwrap_or_else(|| panic!("{}", reader.name()));
            let made: Vec<Vec<u8>> = (0..40).map(|i| mutate(seed, i)).collect();
            assert_eq!(made, (0..40).map(|i| mutate(seed, i)).collect::<Vec<_>>());
            assert!(made.iter().collect::<HashSet<_>>().len() > 30, "{}", seed.name);
        }
    }

    #[test]
    fn the_seeds_themselves_are_read() {
        for seed in seeds() {
            assert_eq!(read(seed.reader, &seed.bytes), Ok(()), "{}", seed.name);
        }
    }
}
