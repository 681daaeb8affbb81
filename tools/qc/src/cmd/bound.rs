//! What binds a step: arithmetic, a level of memory, or neither.
//!
//! For every step there are lower bounds on its time: its multiply-accumulates at the measured peak, and its bytes at the
//! measured bandwidth of where they come from. Weights come from the level that holds the whole model, since between two
//! uses everything else passes by; activations come from the level that holds the step. The largest bound names the step,
//! if it explains at least half of the time; what is left over otherwise is rounding, storing and calling.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

/// Share of a step's time that a bound must explain to be named.
const EXPLAINS: f64 = 0.5;
/// Multiply-accumulates per byte of output data below which what is unexplained is put down to the epilogue.
const LONG_SUMS: f64 = 128.0;
/// Where the system does not tell: bytes of L2 per core and of L3.
const USUAL_CACHES: [usize; 2] = [1 << 20, 32 << 20];
/// Bytes that are taken for memory at most, however large the L3.
const MOST: usize = 256 << 20;
/// Time spent on each level.
const PATIENCE: Duration = Duration::from_millis(60);

/// Bandwidths of this machine, for the number of threads in use.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// L2 of all threads together and L3, in bytes.
    pub caches: [usize; 2],
    /// Bytes per nanosecond of reading from L2, L3 and DRAM.
    pub speeds: [f64; 3],
}

/// Names of what can bind a step, for tables and JSON.
const LEVELS: [&str; 3] = ["L2", "L3", "DRAM"];

/// What a step does, for [`Memory::bound`].
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Time of one call in nanoseconds.
    pub ns: f64,
    /// Least time of its multiply-accumulates in nanoseconds; 0 if it has none.
    pub compute_ns: f64,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Bytes of constants.
    pub weights_bytes: u64,
    /// Bytes of other buffers.
    pub data_bytes: u64,
}

impl Memory {
    /// Measures what `threads` threads read together.
    pub fn measure(threads: u32) -> Memory {
        let [l2, l3] = caches();
        let threads = threads as usize;
        let sizes = [l2 / 2, (l3 / 2 / threads).max(2 * l2), (4 * l3).clamp(8 * l2, MOST) / threads];
        Memory { caches: [l2 * threads, l3], speeds: sizes.map(|bytes| read_speed(threads, bytes)) }
    }

    /// The level that holds so many bytes.
    fn level(&self, bytes: u64) -> usize {
        self.caches.iter().position(|&size| bytes <= size as u64).unwrap_or(2)
    }

    /// What binds a step of a model whose weights and arena take `model_bytes` together.
    pub fn bound(&self, work: Work, model_bytes: u64) -> &'static str {
        let weights = self.level(model_bytes);
        let data = self.level(work.weights_bytes + work.data_bytes);
        let weights_ns = work.weights_bytes as f64 / self.speeds[weights];
        let data_ns = work.data_bytes as f64 / self.speeds[data];
        let bounds = [(work.compute_ns, "compute"), (weights_ns, LEVELS[weights]), (data_ns, LEVELS[data])];
        let most = bounds.into_iter().fold((0.0, ""), |a, b| if b.0 > a.0 { b } else { a });
        match most.0 >= EXPLAINS * work.ns {
            true => most.1,
            false if work.macs > 0 && (work.macs as f64) < LONG_SUMS * work.data_bytes as f64 => "epilogue",
            false => "overhead",
        }
    }
}

/// Bytes of L2 and L3 that the system tells of the first CPU.
fn caches() -> [usize; 2] {
    let mut found = USUAL_CACHES;
    for index in 0..8 {
        let dir = Path::new("/sys/devices/system/cpu/cpu0/cache").join(format!("index{index}"));
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default().trim().to_string();
        let size = read("size").strip_suffix('K').and_then(|k| k.parse::<usize>().ok());
        match (read("level").as_str(), size) {
            ("2", Some(k)) => found[0] = k << 10,
            ("3", Some(k)) => found[1] = k << 10,
            _ => {}
        }
    }
    found
}

/// Bytes per nanosecond that `threads` threads read together, each over `bytes` of its own again and again.
fn read_speed(threads: usize, bytes: usize) -> f64 {
    let one = || {
        let buffer = vec![1u64; bytes / 8];
        let (mut best, start) = (f64::INFINITY, Instant::now());
        while start.elapsed() < PATIENCE {
            let round = Instant::now();
            black_box(sum(black_box(&buffer)));
            best = best.min(round.elapsed().as_nanos() as f64);
        }
        bytes as f64 / best.max(1.0)
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|t| t.join().unwrap_or(0.0)).sum()
    })
}

/// A sum in enough chains that reading, not adding, takes the time.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; 64];
    for chunk in words.chunks_exact(64) {
        for (s, w) in sums.iter_mut().zip(chunk) {
            *s = s.wrapping_add(*w);
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Memory = Memory { caches: [1 << 20, 32 << 20], speeds: [64.0, 32.0, 8.0] };

    fn bound(ns: f64, compute_ns: f64, macs: u64, weights_bytes: u64, data_bytes: u64) -> &'static str {
        MACHINE.bound(Work { ns, compute_ns, macs, weights_bytes, data_bytes }, 20 << 20)
    }

    #[test]
    fn the_largest_bound_names_the_step() {
        assert_eq!(bound(100e3, 90e3, 1 << 27, 64 << 10, 400 << 10), "compute");
        assert_eq!(bound(100e3, 20e3, 1 << 22, 2 << 20, 4 << 10), "L3", "weights from where the model is");
        assert_eq!(bound(10e3, 0.0, 0, 0, 512 << 10), "L2");
        assert_eq!(bound(6e6, 0.0, 0, 0, 40 << 20), "DRAM");
        assert_eq!(bound(100e3, 20e3, 1 << 22, 1 << 10, 800 << 10), "epilogue");
        assert_eq!(bound(100e3, 0.0, 0, 0, 4 << 10), "overhead");
    }

    #[test]
    fn bandwidths_are_measured() {
        let memory = Memory::measure(1);
        assert!(memory.speeds.iter().all(|s| s.is_finite() && *s > 0.0), "{memory:?}");
    }
}
