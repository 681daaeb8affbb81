//! Blind edits of bytes: flips, cuts, copies, inflated numbers.

use qc_ladder::random::Numbers;

/// One to four edits; positions are as often in the first and last 4 KiB, where headers are, as anywhere.
pub(super) fn edit(bytes: &[u8], n: &mut Numbers) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=n.below(4) {
        if out.is_empty() {
            break;
        }
        once(&mut out, n);
    }
    out
}

fn once(out: &mut Vec<u8>, n: &mut Numbers) {
    let near = out.len().min(4096);
    let at = match n.below(3) {
        0 => n.below(near),
        1 => out.len() - 1 - n.below(near),
        _ => n.below(out.len()),
    };
    let end = (at + 1 + n.below(24)).min(out.len());
    match n.below(11) {
        0 | 1 => out[at] ^= 1 << n.below(8),
        2 => out[at] = n.draw() as u8,
        3 => out[at] = [0, 1, 0x7f, 0x80, 0xff][n.below(5)],
        4 => out.truncate(at),
        // A download that stopped at a block of the file system.
        5 => out.truncate(at / 4096 * 4096),
        6 => {
            let copy = out[at..end].to_vec();
            out.splice(at..at, copy);
        }
        7 => {
            out.drain(at..end);
        }
        8 => drop(out.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0x0f])),
        9 => {
            let word = super::edge(n).to_le_bytes();
            let len = [4, 8][n.below(2)].min(out.len() - at);
            out[at..at + len].copy_from_slice(&word[..len]);
        }
        _ => {
            let from = n.below(out.len() - (end - at) + 1);
            out.copy_within(from..from + (end - at), at);
        }
    }
}
