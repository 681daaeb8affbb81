//! A first walk over protobuf bytes, before anything is allocated.
//!
//! `prost` is safe on hostile bytes but generous: a two-byte empty message becomes a struct of a few hundred bytes.
//! This walk knows which fields the importer reads, adds up what decoding them costs, and refuses a file whose decoded
//! form is out of proportion to its size. It also names the byte where a broken file breaks. How deep messages nest is
//! bounded, too. Nodes and tensors are counted on the way.

use crate::error::{ImportError, ImportErrors};
use qc_ir::Limits;
use thiserror::Error;

/// What decoding may cost, in bytes, besides a multiple of the file's own size.
const BASE_COST_BYTES: u64 = 64 << 20;
/// The multiple.
const COST_PER_BYTE: u64 = 16;

/// The deepest nesting of messages: graphs in attributes of nodes of graphs, eight of them, with what they hold. The decoder
/// itself gives up at 100.
const MAX_DEPTH: usize = 32;

/// A message of the schema: the fields that the importer decodes.
pub(crate) struct Message {
    /// Name, for errors.
    pub name: &'static str,
    /// Size of the decoded struct.
    pub bytes: usize,
    /// Decoded fields by number; all others are skipped.
    pub fields: &'static [(u32, Field)],
}

/// How a decoded field costs memory.
pub(crate) enum Field {
    /// A nested message.
    Message(&'static Message),
    /// A string or byte string: the bytes plus a header.
    Text,
    /// A number, or a list of numbers; a packed one decodes to this many times its bytes.
    Number(usize),
}

/// Why the bytes are refused.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum WireError {
    #[error("byte {at}: a varint is longer than ten bytes or ends with the file")]
    Varint { at: usize },
    #[error("byte {at}: field {field} of {message} says {len} bytes, {left} are left")]
    Length { at: usize, message: &'static str, field: u32, len: u64, left: usize },
    #[error("byte {at}: {message} has a field {field} of wire type {wire}, which this format does not use")]
    WireType { at: usize, message: &'static str, field: u64, wire: u8 },
    #[error("byte {at}: messages are nested more than {MAX_DEPTH} deep")]
    Depth { at: usize },
    #[error("decoding needs more than {limit} bytes for a file of {len}; no real model is like that")]
    OutOfProportion { limit: u64, len: usize },
}

/// A bounded reader over `bytes`.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Position of `bytes[0]` in the file.
    base: usize,
}

/// One field as it stands on the wire.
pub(crate) struct Raw<'a> {
    /// Field number.
    pub number: u32,
    /// Wire type: 0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes.
    pub wire: u8,
    /// The value of a varint; 0 otherwise.
    pub int: u64,
    /// The bytes of a field that is no varint.
    pub payload: &'a [u8],
    /// Position of the payload in the file.
    pub at: usize,
}

impl<'a> Reader<'a> {
    /// A reader of a whole file.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0, base: 0 }
    }

    /// The next field, or `None` at the end.
    pub fn next(&mut self, message: &'static str) -> Result<Option<Raw<'a>>, WireError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let start = self.base + self.at;
        let tag = self.varint()?;
        let (field, wire) = (tag >> 3, (tag & 7) as u8);
        let bad = WireError::WireType { at: start, message, field, wire };
        let Some(number) = u32::try_from(field).ok().filter(|&n| n > 0 && n < 1 << 29) else { return Err(bad) };
        let mut raw = Raw { number, wire, int: 0, payload: &[], at: self.base + self.at };
        let len = match wire {
            0 => {
                raw.int = self.varint()?;
                0
            }
            1 => 8,
            2 => self.varint()?,
            5 => 4,
            _ => return Err(bad),
        };
        let left = self.bytes.len() - self.at;
        if len > left as u64 {
            return Err(WireError::Length { at: start, message, field: number, len, left });
        }
        let payload = &self.bytes[self.at..self.at + len as usize];
        raw.payload = payload;
        raw.at = self.base + self.at;
        self.at += payload.len();
        Ok(Some(raw))
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let at = self.base + self.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let Some(&byte) = self.bytes.get(self.at) else { return Err(WireError::Varint { at }) };
            self.at += 1;
            // The tenth byte holds bit 63 only.
            if shift == 63 && byte > 1 {
                return Err(WireError::Varint { at });
            }
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        Err(WireError::Varint { at })
    }
}

/// Walks `bytes` as a `root` message.
///
/// # Errors
/// [`WireError`] when a tag, a length or a varint is broken, or when decoding would cost out of proportion.
pub(crate) fn check(bytes: &[u8], root: &'static Message) -> Result<(), WireError> {
    check_and_count(bytes, root).map(|_| ())
}

/// As [`check`], for a whole model, whose nodes and tensors must stay within the limits.
///
/// # Errors
/// A broken file, or the limit that it exceeds.
pub(crate) fn check_model(bytes: &[u8], root: &'static Message, limits: &Limits) -> Result<(), ImportErrors> {
    let broken = |e: WireError| ImportErrors::from(ImportError::Broken { reason: e.to_string() });
    let counts = check_and_count(bytes, root).map_err(broken)?;
    limits.check(qc_ir::Limit::Nodes, counts.nodes, || "the number of nodes is".into())?;
    limits.check(qc_ir::Limit::Tensors, counts.tensors, || "the number of tensors is".into())?;
    Ok(())
}

/// How many messages of some kinds there are.
#[derive(Clone, Copy, Default)]
struct Counts {
    nodes: u64,
    tensors: u64,
}

fn check_and_count(bytes: &[u8], root: &'static Message) -> Result<Counts, WireError> {
    let limit = BASE_COST_BYTES + COST_PER_BYTE * bytes.len() as u64;
    let refusal = WireError::OutOfProportion { limit, len: bytes.len() };
    let mut cost = Cost { left: limit, refusal, counts: Counts::default() };
    walk(Reader::new(bytes), root, &mut cost, 0)?;
    Ok(cost.counts)
}

struct Cost {
    left: u64,
    refusal: WireError,
    counts: Counts,
}

impl Cost {
    fn take(&mut self, bytes: usize) -> Result<(), WireError> {
        // A growing vector holds up to twice what it needs.
        self.left = self.left.checked_sub(2 * bytes as u64).ok_or_else(|| self.refusal.clone())?;
        Ok(())
    }
}

fn walk(mut reader: Reader<'_>, message: &'static Message, cost: &mut Cost, depth: usize) -> Result<(), WireError> {
    if depth > MAX_DEPTH {
        return Err(WireError::Depth { at: reader.base });
    }
    cost.take(message.bytes)?;
    match message.name {
        "NodeProto" | "OpDesc" => cost.counts.nodes += 1,
        "TensorProto" | "VarDesc" => cost.counts.tensors += 1,
        _ => {}
    }
    while let Some(raw) = reader.next(message.name)? {
        let Some((_, field)) = message.fields.iter().find(|(n, _)| *n == raw.number) else { continue };
        match field {
            Field::Message(inner) if raw.wire == 2 => {
                walk(Reader { bytes: raw.payload, at: 0, base: raw.at }, inner, cost, depth + 1)?;
            }
            Field::Text => cost.take(size_of::<String>() + raw.payload.len())?,
            Field::Number(factor) => cost.take((factor * raw.payload.len()).max(8))?,
            Field::Message(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    static LEAF: Message = Message { name: "Leaf", bytes: 400, fields: &[(1, Field::Text)] };
    static ROOT: Message =
        Message { name: "Root", bytes: 8, fields: &[(1, Field::Message(&LEAF)), (2, Field::Number(1))] };

    #[test]
    fn accepts_fields_it_does_not_know() {
        assert_eq!(check(&[0x0a, 2, 0x0a, 0, 0x10, 5, 0x7a, 1, 9], &ROOT), Ok(()));
    }

    #[test]
    fn names_the_byte_that_breaks() {
        assert_eq!(check(&[0x10, 0xff], &ROOT), Err(WireError::Varint { at: 1 }));
        let long = [0x0a, 3, 0x0a, 9, 1];
        let want = WireError::Length { at: 2, message: "Leaf", field: 1, len: 9, left: 1 };
        assert_eq!(check(&long, &ROOT), Err(want));
        assert_eq!(check(&[0x10; 1], &ROOT), Err(WireError::Varint { at: 1 }));
        assert_eq!(
            check(&[0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], &ROOT),
            Err(WireError::Varint { at: 1 })
        );
        assert!(matches!(check(&[0x0b, 0x0c], &ROOT), Err(WireError::WireType { wire: 3, .. })));
        assert!(matches!(check(&[0x00, 0x01], &ROOT), Err(WireError::WireType { field: 0, .. })));
    }

    #[test]
    fn refuses_messages_that_nest_for_ever() {
        static NEST: Message = Message { name: "Nest", bytes: 1, fields: &[(1, Field::Message(&NEST))] };
        let nested = |depth: u8| (0..depth).rev().flat_map(|d| [0x0a, 2 * d]).collect::<Vec<u8>>();
        assert_eq!(check(&nested(MAX_DEPTH as u8), &NEST), Ok(()));
        assert_eq!(check(&nested(MAX_DEPTH as u8 + 1), &NEST), Err(WireError::Depth { at: 66 }));
    }

    #[test]
    fn refuses_a_bomb_of_empty_messages() {
        let bomb = [0x0a, 0].repeat(200_000);
        assert!(matches!(check(&bomb, &ROOT), Err(WireError::OutOfProportion { .. })));
        assert_eq!(check(&bomb[..20_000], &ROOT), Ok(()));
    }
}
