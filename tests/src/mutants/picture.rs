//! Edits of pictures: chunks of a PNG with their checksums made right again; markers of a JPEG.

use super::{edge, raw};
use qc_ladder::random::Numbers;

const SIGNATURE: usize = 8;

/// One to four edits.
pub(super) fn edit(bytes: &[u8], n: &mut Numbers) -> Vec<u8> {
    let Some(mut chunks) = chunks(bytes) else { return jpeg(bytes, n) };
    for _ in 0..=n.below(4) {
        if chunks.is_empty() {
            break;
        }
        let at = n.below(chunks.len());
        match n.below(6) {
            0 => drop(chunks.remove(at)),
            1 => {
                let copy = chunks[at].clone();
                chunks.insert(at, copy);
            }
            2 => {
                let other = n.below(chunks.len());
                chunks.swap(at, other);
            }
            // Width, height, depth, colour and interlace of the first chunk.
            3 | 4 if chunks[0].len() > 16 => {
                let field = 4 + n.below(13);
                let word = (edge(n) as u32).to_be_bytes();
                let len = if field <= 8 { 4 } else { 1 };
                chunks[0][field..field + len].copy_from_slice(&word[4 - len..]);
            }
            _ => chunks[at] = raw::edit(&chunks[at], n),
        }
    }
    let mut out = bytes[..SIGNATURE].to_vec();
    for chunk in chunks {
        out.extend((chunk.len().saturating_sub(4) as u32).to_be_bytes());
        out.extend(&chunk);
        out.extend(crc(&chunk).to_be_bytes());
    }
    out
}

/// The chunks of a PNG, each its type and data.
fn chunks(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    let mut chunks = Vec::new();
    while let Some((len, after)) = rest.split_at_checked(4) {
        let len = u32::from_be_bytes(len.try_into().ok()?) as usize;
        chunks.push(after.get(..len + 4)?.to_vec());
        rest = after.get(len + 8..)?;
    }
    Some(chunks)
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// Changes what follows a marker: lengths, sizes, tables.
fn jpeg(bytes: &[u8], n: &mut Numbers) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=n.below(4) {
        let is_marker = |w: &[u8]| w[0] == 0xff && w[1] >= 0xc0;
        let markers: Vec<usize> = out.windows(2).enumerate().filter(|(_, w)| is_marker(w)).map(|(i, _)| i).collect();
        let Some(&at) = markers.get(n.below(markers.len())) else { break };
        let at = at + 1 + n.below(12);
        match out.get_mut(at) {
            Some(byte) if n.below(2) == 0 => *byte = [0, 1, 2, 0x11, 0x44, 0xff, 0xc2, 0xda][n.below(8)],
            Some(byte) => *byte = n.draw() as u8,
            None => out = raw::edit(&out, n),
        }
    }
    out
}
