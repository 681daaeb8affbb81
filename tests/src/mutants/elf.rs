//! Edits of compiled models: words of the headers, the notes, and the JSON inside; mostly sealed again, so that what
//! lies behind the digests is reached.

use super::{edge, json, raw};
use qc_ladder::random::Numbers;
use qc_runtime::note::{SEAL_BYTES, Seal};

/// One to four edits.
pub(super) fn edit(bytes: &[u8], n: &mut Numbers) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let Some((seal, covered)) = seal(&out) else { return raw::edit(bytes, n) };
    for _ in 0..=n.below(4) {
        once(&mut out, n);
    }
    if n.below(4) != 0 && out.len() >= covered && covered >= seal + SEAL_BYTES {
        Seal::write(&mut out, seal, covered);
    }
    out
}

/// Where the seal is, and how much it covers: it is the first note, and the first word of it says so.
fn seal(bytes: &[u8]) -> Option<(usize, usize)> {
    let at = bytes.windows(4).take(4096).position(|w| w == b"qc\0\0")? + 4;
    let seal = Seal::from_bytes(bytes.get(at..at + SEAL_BYTES)?)?;
    Some((at, usize::try_from(seal.covered_bytes).ok()?))
}

fn once(out: &mut Vec<u8>, n: &mut Numbers) {
    if out.len() < 2048 {
        return;
    }
    match n.below(6) {
        // The file header, 64 bytes, and the program headers behind it, 56 bytes each.
        0 => put(out, n.below(64), n),
        1 | 2 => {
            let field = [0, 4, 8, 16, 32, 40, 48][n.below(7)];
            put(out, 64 + 56 * n.below(9) + field, n);
        }
        // Lengths and types of the notes.
        3 => {
            let notes: Vec<usize> =
                out.windows(4).take(64 << 10).enumerate().filter(|(_, w)| *w == b"qc\0\0").map(|(i, _)| i).collect();
            if let Some(at) = notes.get(n.below(notes.len())).and_then(|at| at.checked_sub(12)) {
                put(out, at + 4 * n.below(3), n);
            }
        }
        4 => note_json(out, n),
        _ => *out = raw::edit(out, n),
    }
}

fn put(out: &mut [u8], at: usize, n: &mut Numbers) {
    let word = if n.below(3) == 0 { (out.len() as i64) + n.below(3) as i64 - 1 } else { edge(n) }.to_le_bytes();
    let len = [2, 4, 8][n.below(3)];
    if let Some(to) = out.get_mut(at..at + len) {
        to.copy_from_slice(&word[..len]);
    }
}

/// Changes the JSON; what is longer than it was is cut off, what is shorter is filled up with blanks.
fn note_json(out: &mut [u8], n: &mut Numbers) {
    let Some(start) = out.windows(10).position(|w| w == b"{\"format\":") else { return };
    let Some(end) = out[start..].iter().position(|&b| b == 0).map(|len| start + len) else { return };
    let mut text = json::edit(&out[start..end], n);
    text.resize(end - start, b' ');
    out[start..end].copy_from_slice(&text);
}
