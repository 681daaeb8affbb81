//! `calibration.flatbuffers` of ONNX Runtime: `TrtTable { dict: [KeyValue { key: string, value: string }] }`, without an identifier.
//!
//! Layout: <https://flatbuffers.dev/internals/>. Offsets are unsigned and count from where they stand; a table begins with the signed
//! distance back to its vtable, which holds its length, that of the table, and the places of fields in the table.

/// The entries; nothing if the bytes are no such table.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let root = follow(bytes, 0)?;
    let dict = follow(bytes, field(bytes, root, 0)?)?;
    let n = usize::try_from(u32_at(bytes, dict)?).ok()?;
    // An entry takes 4 bytes at least, so a count that fits is no larger than the file.
    let entries = (0..n.min(bytes.len())).map(|i| {
        let entry = follow(bytes, dict + 4 + 4 * i)?;
        let text = |index: usize| string(bytes, follow(bytes, field(bytes, entry, index)?)?);
        Some((text(0)?, text(1)?))
    });
    let entries: Vec<(String, String)> = entries.collect::<Option<_>>()?;
    (!entries.is_empty() && entries.len() == n).then_some(entries)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?).into())
}

/// Where the offset at `at` leads.
fn follow(bytes: &[u8], at: usize) -> Option<usize> {
    at.checked_add(usize::try_from(u32_at(bytes, at)?).ok()?).filter(|to| *to > at && *to < bytes.len())
}

/// Where a field of a table stands.
fn field(bytes: &[u8], table: usize, index: usize) -> Option<usize> {
    let back = i64::from(u32_at(bytes, table)? as i32);
    let vtable = usize::try_from(i64::try_from(table).ok()? - back).ok()?;
    let place = 4 + 2 * index;
    let within = u16_at(bytes, vtable)? >= place + 2;
    let at = u16_at(bytes, vtable + place).filter(|at| within && *at > 0)?;
    Some(table + at)
}

fn string(bytes: &[u8], at: usize) -> Option<String> {
    let n = usize::try_from(u32_at(bytes, at)?).ok()?;
    let text = bytes.get(at + 4..)?.get(..n)?;
    String::from_utf8(text.to_vec()).ok()
}

/// A table of entries, by name from the last one, as ONNX Runtime orders them.
pub(super) fn write(entries: &[(&str, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    let put =
        |out: &mut Vec<u8>, at: usize, to: usize| out[at..at + 4].copy_from_slice(&((to - at) as u32).to_le_bytes());
    let words = |out: &mut Vec<u8>, all: &[u32]| all.iter().for_each(|x| out.extend(x.to_le_bytes()));
    let halves = |out: &mut Vec<u8>, all: &[u16]| all.iter().for_each(|x| out.extend(x.to_le_bytes()));
    // Root offset, vtable of the root and of entries, root.
    words(&mut out, &[0]);
    halves(&mut out, &[6, 8, 4, 0]);
    let of_entries = out.len();
    halves(&mut out, &[8, 12, 4, 8]);
    let root = out.len();
    put(&mut out, 0, root);
    words(&mut out, &[(root - 4) as u32, 4, entries.len() as u32]);
    let dict = out.len();
    out.resize(dict + 4 * entries.len(), 0);
    for (i, (key, value)) in entries.iter().rev().enumerate() {
        let entry = out.len();
        put(&mut out, dict + 4 * i, entry);
        words(&mut out, &[(entry - of_entries) as u32, 0, 0]);
        for (field, text) in [(entry + 4, *key), (entry + 8, value)] {
            let at = out.len();
            put(&mut out, field, at);
            words(&mut out, &[text.len() as u32]);
            out.extend(text.bytes());
            // A string ends with 0, and what follows begins at a multiple of 4.
            out.resize((out.len() + 1).next_multiple_of(4), 0);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What ONNX Runtime writes of three tensors.
    const OF_ORT: &[u8] = &[
        12, 0, 0, 0, 0, 0, 6, 0, 8, 0, 4, 0, 6, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 12, 0, 0, 0, 52, 0, 0, 0, 104, 0, 0,
        0, 164, 255, 255, 255, 8, 0, 0, 0, 28, 0, 0, 0, 18, 0, 0, 0, 54, 46, 49, 53, 53, 55, 52, 56, 56, 52, 52, 49,
        52, 54, 55, 50, 56, 53, 0, 0, 3, 0, 0, 0, 115, 121, 109, 0, 208, 255, 255, 255, 8, 0, 0, 0, 28, 0, 0, 0, 17, 0,
        0, 0, 54, 46, 52, 50, 49, 49, 54, 49, 54, 53, 49, 54, 49, 49, 51, 50, 56, 0, 0, 0, 4, 0, 0, 0, 114, 101, 108,
        117, 0, 0, 0, 0, 8, 0, 12, 0, 8, 0, 4, 0, 8, 0, 0, 0, 8, 0, 0, 0, 32, 0, 0, 0, 21, 0, 0, 0, 45, 48, 46, 48, 49,
        48, 50, 50, 56, 57, 51, 50, 56, 51, 53, 49, 54, 49, 54, 56, 54, 0, 0, 0, 3, 0, 0, 0, 110, 101, 103, 0,
    ];

    #[test]
    fn any_bytes_are_a_table_or_none() {
        let whole = write(&[("a", "1.5".into()), ("long name", "-2".into())]);
        assert_eq!(read(&whole).unwrap(), [("long name".into(), "-2".into()), ("a".into(), "1.5".into())]);
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_none_or(|found| found.len() == 2), "{end}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 127, 128, 255] {
                let mut other = whole.clone();
                other[at] = value;
                let _ = read(&other);
            }
        }
        let ort = read(OF_ORT).unwrap();
        let values = ["6.1557488441467285", "6.421161651611328", "-0.010228932835161686"].map(String::from);
        assert_eq!(ort, ["sym", "relu", "neg"].map(String::from).into_iter().zip(values).collect::<Vec<_>>());
        assert_eq!(read(&[255; 40]), None);
    }
}
