//! Edits of protobuf messages that keep all lengths right. No schema is needed: what parses as a message is one.

use super::{edge, raw};
use qc_ladder::random::Numbers;

/// A message taken apart.
#[derive(Clone)]
enum Tree {
    Message(Vec<(u32, Tree)>),
    Bytes(Vec<u8>),
    Int(u64),
    /// Four or eight bytes.
    Fixed(Vec<u8>),
}

type Fields = Vec<(u32, Tree)>;

/// How deep bytes are taken for messages.
const MAX_DEPTH: usize = 10;

/// One to four edits.
pub(super) fn edit(bytes: &[u8], n: &mut Numbers) -> Vec<u8> {
    let Some(mut fields) = take_apart(bytes, 0) else { return raw::edit(bytes, n) };
    let mut words = Vec::new();
    collect(&fields, &mut words);
    for _ in 0..=n.below(4) {
        once(&mut fields, &words, n);
    }
    let mut out = Vec::new();
    put_together(&fields, &mut out);
    out
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], len: u64) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
    *bytes = rest;
    Some(head)
}

/// The fields, if the bytes are a message from beginning to end.
fn take_apart(mut bytes: &[u8], depth: usize) -> Option<Fields> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| (1..1 << 16).contains(n))?;
        let tree = match tag & 7 {
            0 => Tree::Int(varint(&mut bytes)?),
            1 => Tree::Fixed(take(&mut bytes, 8)?.to_vec()),
            5 => Tree::Fixed(take(&mut bytes, 4)?.to_vec()),
            2 => {
                let len = varint(&mut bytes)?;
                let payload = take(&mut bytes, len)?;
                // Long payloads are weights; what reads as text is a name.
                let plain = payload.len() > 1 << 14 && depth > 2 || payload.iter().all(|b| (32..127).contains(b));
                match take_apart(payload, depth + 1).filter(|_| !plain && depth < MAX_DEPTH) {
                    Some(inner) => Tree::Message(inner),
                    None => Tree::Bytes(payload.to_vec()),
                }
            }
            _ => return None,
        };
        fields.push((number, tree));
    }
    Some(fields)
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_together(fields: &Fields, out: &mut Vec<u8>) {
    for (number, tree) in fields {
        let tag = |wire: u64| u64::from(*number) << 3 | wire;
        let mut put_bytes = |bytes: &[u8]| {
            put_varint(tag(2), out);
            put_varint(bytes.len() as u64, out);
            out.extend(bytes);
        };
        match tree {
            Tree::Bytes(bytes) => put_bytes(bytes),
            Tree::Message(inner) => {
                let mut bytes = Vec::new();
                put_together(inner, &mut bytes);
                put_bytes(&bytes);
            }
            Tree::Int(value) => {
                put_varint(tag(0), out);
                put_varint(*value, out);
            }
            Tree::Fixed(bytes) => {
                put_varint(tag(if bytes.len() == 8 { 1 } else { 5 }), out);
                out.extend(bytes);
            }
        }
    }
}

/// Names and op types, for swapping: duplicate names, cycles and ops with another's operands come from that.
fn collect(fields: &Fields, words: &mut Vec<Vec<u8>>) {
    for (_, tree) in fields {
        match tree {
            Tree::Message(inner) => collect(inner, words),
            Tree::Bytes(bytes) if (1..40).contains(&bytes.len()) => words.push(bytes.clone()),
            _ => {}
        }
    }
}

fn once(fields: &mut Fields, words: &[Vec<u8>], n: &mut Numbers) {
    if fields.is_empty() {
        return;
    }
    let at = n.below(fields.len());
    if let Tree::Message(inner) = &mut fields[at].1
        && n.below(8) != 0
    {
        return once(inner, words, n);
    }
    match (n.below(9), &mut fields[at].1) {
        (0, _) => drop(fields.remove(at)),
        (1, _) => {
            let copy = fields[at].clone();
            fields.insert(at, copy);
        }
        (2, _) => {
            let other = n.below(fields.len());
            fields.swap(at, other);
        }
        // A type that does not belong there.
        (3, tree) => {
            *tree =
                [Tree::Int(edge(n) as u64), Tree::Bytes(b"x".to_vec()), Tree::Fixed(vec![0xff; 4])][n.below(3)].clone()
        }
        (4, _) => fields[at].0 = 1 + n.below(24) as u32,
        (_, Tree::Int(value)) => *value = edge(n) as u64,
        (_, Tree::Fixed(bytes)) => fixed(bytes, n),
        (5, Tree::Bytes(bytes)) => *bytes = raw::edit(bytes, n),
        // Scales, zero points and weights of special values.
        (6, Tree::Bytes(bytes)) if bytes.len() >= 4 && bytes.len() % 4 == 0 => {
            let at = n.below(bytes.len() / 4) * 4;
            fixed_at(&mut bytes[at..at + 4], n);
        }
        (_, Tree::Bytes(bytes)) if bytes.len() < 40 && !words.is_empty() => {
            *bytes = words[n.below(words.len())].clone()
        }
        (_, Tree::Bytes(bytes)) => bytes.truncate(n.below(bytes.len().max(1))),
        (_, Tree::Message(inner)) => inner.truncate(n.below(inner.len().max(1))),
    }
}

fn fixed(bytes: &mut [u8], n: &mut Numbers) {
    let len = bytes.len().min(4);
    fixed_at(&mut bytes[..len], n);
}

/// A float at which arithmetic goes wrong.
fn fixed_at(bytes: &mut [u8], n: &mut Numbers) {
    let floats = [0.0, -0.0, 1.0, -1.0, 1e-38, 1e-45, 1e38, -1e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let value = floats[n.below(floats.len())].to_le_bytes();
    let len = bytes.len();
    bytes.copy_from_slice(&value[..len]);
}
