//! Recognising a model from its bytes, whatever its file is called.

use crate::wire::Reader;
use std::fmt;

/// What the bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// An ONNX `ModelProto`.
    Onnx,
    /// A Paddle `ProgramDesc` (`__model__`, `model`, `.pdmodel`).
    PaddleProgram,
    /// A Paddle 3 program in JSON.
    PaddlePir,
    /// A Paddle parameter file: tensors without a program.
    PaddleParams,
    /// A Python pickle, such as `.pdparams` or a PyTorch checkpoint.
    Pickle,
    /// A zip archive, such as a TorchScript file.
    Zip,
    /// None of these.
    Unknown,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Onnx => "ONNX",
            Format::PaddleProgram => "Paddle program",
            Format::PaddlePir => "Paddle 3 program (PIR JSON)",
            Format::PaddleParams => "Paddle parameter file",
            Format::Pickle => "Python pickle",
            Format::Zip => "zip archive",
            Format::Unknown => "unknown format",
        })
    }
}

/// Recognises a model. Only the structure of the outermost level is looked at; the contents may still be broken.
pub fn sniff(bytes: &[u8]) -> Format {
    // Text first: its leading white space may happen to read as a protobuf tag and length.
    let text = bytes.trim_ascii_start();
    if text.starts_with(b"{") && text[..text.len().min(4096)].windows(5).any(|w| w == b"\"pir\"") {
        return Format::PaddlePir;
    }
    // A tensor stream: version 0, no levels, version 0, a description that begins with its element type.
    if bytes.len() > 20 && bytes[..16] == [0; 16] && bytes[20] == 8 {
        return Format::PaddleParams;
    }
    if let Some(format) = sniff_protobuf(bytes) {
        return format;
    }
    match bytes {
        [0x80, 2..=5, ..] => Format::Pickle,
        [b'P', b'K', 3, 4, ..] => Format::Zip,
        // Damaged protobuf: the first tag still tells which reader can say where it breaks.
        [0x0a, ..] => Format::PaddleProgram,
        [0x08, 1..=30, ..] => Format::Onnx,
        _ => Format::Unknown,
    }
}

/// Both formats are protobuf messages without a magic number. In a `ProgramDesc` field 1 is the list of blocks, in a
/// `ModelProto` it is an integer; fields 7 and 8 of the latter are messages.
fn sniff_protobuf(bytes: &[u8]) -> Option<Format> {
    let mut reader = Reader::new(bytes);
    let mut found = None;
    while let Some(raw) = reader.next("model").ok()? {
        match (raw.number, raw.wire) {
            (1, 2) => found = found.or(Some(Format::PaddleProgram)),
            (1, 0) | (7, 2) => found = found.or(Some(Format::Onnx)),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_decide() {
        assert_eq!(sniff(&[0x08, 7, 0x3a, 0]), Format::Onnx);
        assert_eq!(sniff(&[0x42, 0, 0x3a, 0, 0x08, 7]), Format::Onnx);
        assert_eq!(sniff(&[0x0a, 0]), Format::PaddleProgram);
        assert_eq!(sniff(b"\n  {\"base_code\": {\"magic\": \"pir\"}}"), Format::PaddlePir);
        assert_eq!(sniff(b"{\"a\": 1}"), Format::Unknown);
        assert_eq!(sniff(&[0x80, 2, b'}']), Format::Pickle);
        assert_eq!(sniff(b"PK\x03\x04...."), Format::Zip);
        assert_eq!(sniff(&[&[0; 16][..], &[4, 0, 0, 0, 8, 5, 16, 1], &[0; 4]].concat()), Format::PaddleParams);
        assert_eq!(sniff(b""), Format::Unknown);
        assert_eq!(sniff(b"\x7fELF"), Format::Unknown);
        assert_eq!(sniff(&[0x08, 7, 0x3a, 50, 1]), Format::Onnx);
    }
}
