//! Edits of NumPy arrays: what the header says about type, order and shape.

use super::{edge, raw};
use qc_ladder::random::Numbers;

/// One to four edits.
pub(super) fn edit(bytes: &[u8], n: &mut Numbers) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=n.below(4) {
        once(&mut out, n);
    }
    out
}

/// Where the text of a header is: in an archive without compression, arrays lie as they are.
fn headers(bytes: &[u8]) -> Vec<(usize, usize)> {
    let starts = bytes.windows(6).enumerate().filter(|(_, w)| *w == b"\x93NUMPY").map(|(i, _)| i);
    let text = |start: usize| {
        let len = bytes.get(start + 8..start + 10)?;
        let len = usize::from(len[0]) | usize::from(len[1]) << 8;
        (start + 10 + len <= bytes.len()).then_some((start + 10, len))
    };
    starts.filter_map(text).collect()
}

fn once(out: &mut Vec<u8>, n: &mut Numbers) {
    let headers = headers(out);
    let Some(&(start, len)) = headers.get(n.below(headers.len())) else {
        *out = raw::edit(out, n);
        return;
    };
    let text = String::from_utf8_lossy(&out[start..start + len]).into_owned();
    let changed = match n.below(8) {
        0 => {
            let types =
                ["'<f8'", "'|u1'", "'|i1'", "'>f4'", "'<i8'", "'|b1'", "'<c16'", "'|O'", "[('a', '<f4')]", "'<f0'"];
            text.replacen("'<f4'", types[n.below(types.len())], 1)
        }
        1 => text.replacen("False", ["True", "None", "(", "'x'"][n.below(4)], 1),
        2 => text.replacen('(', &"(".repeat([2, 30, 60][n.below(3)]), 1),
        3 => {
            out[start - 4] = n.below(5) as u8;
            return;
        }
        4 => {
            let at = start - 2 + n.below(2);
            out[at] = n.draw() as u8;
            return;
        }
        5 => {
            *out = raw::edit(out, n);
            return;
        }
        _ => {
            let digits: Vec<usize> = text.match_indices(|c: char| c.is_ascii_digit()).map(|(i, _)| i).collect();
            let Some(&at) = digits.get(n.below(digits.len())) else { return };
            let mut text = text.clone();
            text.replace_range(at..=at, &edge(n).to_string());
            text
        }
    };
    // The length of the header stays: blanks before the end of the line make up for what was added.
    let mut line = changed.trim_end().as_bytes().to_vec();
    line.resize(len.saturating_sub(1), b' ');
    line.push(b'\n');
    out[start..start + len].copy_from_slice(&line[..len]);
}
