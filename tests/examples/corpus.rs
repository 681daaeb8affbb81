//! Writes the seeds of the mutants to a directory, one folder per reader: the first corpus of the fuzz targets.

use qc_tests::mutants::{mutate, seeds};
use std::path::PathBuf;

/// Mutants of each seed that are added, so that coverage begins with damage of every kind.
const MUTANTS: u64 = 20;

/// Seeds larger than this are left out: a fuzzer works best on small files.
const MAX_BYTES: usize = 64 << 10;

fn main() -> std::io::Result<()> {
    let dir = PathBuf::from(std::env::args().nth(1).unwrap_or("fuzz/corpus".into()));
    let mut count = 0;
    for (n, seed) in seeds().iter().enumerate().filter(|(_, seed)| seed.bytes.len() <= MAX_BYTES) {
        let folder = dir.join(seed.reader.name());
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("seed-{n}")), &seed.bytes)?;
        for m in 0..MUTANTS {
            std::fs::write(folder.join(format!("seed-{n}-mutant-{m}")), mutate(seed, m))?;
        }
        count += 1;
    }
    println!("{count} seeds and {} mutants in {}", count * MUTANTS, dir.display());
    Ok(())
}
