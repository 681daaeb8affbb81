//! The second digest of a seal: that of the weights and what follows them.
//!
//! It is XXH3 of 128 bits over the XXH3 of 128 bits of pieces of 8 MiB, little-endian and in order. One XXH3 runs at the
//! speed of one core's memory, 60 ms for the 400 MB of an encoder in f32; pieces are checked by all cores.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use twox_hash::xxhash3_128::Hasher;

/// Bytes of a piece; the last one is what is left.
const PIECE: u64 = 8 << 20;

/// Threads that check at once. More do not help: a few read as fast as memory can give.
const THREADS: usize = 4;

/// Bytes that can be read at any place by several threads.
pub trait Bytes: Sync {
    /// Some of the `wanted` bytes at `at`, where they are or read into `buffer`; none at the end.
    ///
    /// # Errors
    /// When they cannot be read.
    fn read_at<'a>(&'a self, at: u64, wanted: u64, buffer: &'a mut [u8]) -> io::Result<&'a [u8]>;
}

impl Bytes for File {
    fn read_at<'a>(&'a self, at: u64, wanted: u64, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let wanted = wanted.min(buffer.len() as u64) as usize;
        let n = FileExt::read_at(self, &mut buffer[..wanted], at)?;
        Ok(&buffer[..n])
    }
}

impl Bytes for [u8] {
    fn read_at<'a>(&'a self, at: u64, wanted: u64, _: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let rest = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        Ok(&rest[..rest.len().min(usize::try_from(wanted).unwrap_or(usize::MAX))])
    }
}

/// The digest of the bytes from `begin` to `end`; `None` if there are fewer.
///
/// # Errors
/// When they cannot be read.
pub fn digest<B: Bytes + ?Sized>(bytes: &B, begin: u64, end: u64) -> io::Result<Option<u128>> {
    let count = end.saturating_sub(begin).div_ceil(PIECE);
    let next = AtomicU64::new(0);
    // The pieces that a thread took, with their digests.
    let take = || -> io::Result<Option<Vec<(u64, u128)>>> {
        // Large enough for the widest vectors, small enough to stay in the second-level cache.
        let (mut buffer, mut taken) = (vec![0u8; 256 << 10], Vec::new());
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return Ok(Some(taken));
            }
            let at = begin + i * PIECE;
            match piece(bytes, at, end.min(at + PIECE), &mut buffer)? {
                Some(digest) => taken.push((i, digest)),
                None => return Ok(None),
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS).min(count as usize);
    let parts = thread::scope(|scope| {
        let others: Vec<_> =
            (1..threads).filter_map(|_| thread::Builder::new().spawn_scoped(scope, take).ok()).collect();
        let mut parts = vec![take()];
        parts.extend(
            others.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(io::Error::other("a thread has ended")))),
        );
        parts
    });
    let mut pieces = Vec::new();
    for part in parts {
        match part? {
            Some(taken) => pieces.extend(taken),
            None => return Ok(None),
        }
    }
    pieces.sort_unstable();
    let mut all = Hasher::new();
    pieces.iter().for_each(|(_, digest)| all.write(&digest.to_le_bytes()));
    Ok(Some(all.finish_128()))
}

/// The digest of a piece; `None` if it ends early.
fn piece<B: Bytes + ?Sized>(bytes: &B, mut at: u64, end: u64, buffer: &mut [u8]) -> io::Result<Option<u128>> {
    let mut hash = Hasher::new();
    while at < end {
        let read = bytes.read_at(at, end - at, buffer)?;
        if read.is_empty() {
            return Ok(None);
        }
        hash.write(read);
        at += read.len() as u64;
    }
    Ok(Some(hash.finish_128()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{PIECE, digest};
    use twox_hash::XxHash3_128;

    #[test]
    fn a_digest_is_that_of_the_digests_of_pieces() {
        let bytes: Vec<u8> = (0..2 * PIECE as usize + 100).map(|i| (i % 251) as u8).collect();
        let one = |range: std::ops::Range<usize>| XxHash3_128::oneshot(&bytes[range]).to_le_bytes();
        let piece = PIECE as usize;
        let begin = 7;
        let pieces =
            [one(begin..begin + piece), one(begin + piece..begin + 2 * piece), one(begin + 2 * piece..bytes.len())];
        let whole = digest(&bytes[..], begin as u64, bytes.len() as u64).unwrap();
        assert_eq!(whole, Some(XxHash3_128::oneshot(&pieces.concat())));
    }

    #[test]
    fn missing_bytes_have_no_digest() {
        assert_eq!(digest(&[1u8, 2, 3][..], 1, 4).unwrap(), None);
        assert!(digest(&[1u8, 2, 3][..], 1, 3).unwrap().is_some());
        assert!(digest(&[1u8, 2, 3][..], 3, 3).unwrap().is_some());
    }
}
