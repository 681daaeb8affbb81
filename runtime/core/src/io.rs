//! Descriptions of inputs and outputs, and how callers name them.

use crate::{Elem, RunError};
use core::fmt;
use qc_embed::abi::Io;

/// One input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoInfo {
    /// Name in the source model.
    pub name: String,
    /// Element type.
    pub elem: Elem,
    /// Shape of one batch item; the first dimension counts the rows an item has, usually 1.
    pub shape: Vec<usize>,
    /// Whether the first dimension grows with the batch.
    pub batched: bool,
}

impl IoInfo {
    /// Reads an entry of a checked model.
    pub(crate) fn new(io: &Io) -> Option<IoInfo> {
        let dims = io.dims.get(..io.rank as usize)?;
        Some(IoInfo {
            name: String::from_utf8_lossy(io.name_bytes()).into_owned(),
            elem: Elem::from_code(io.elem)?,
            shape: dims.iter().map(|&dim| usize::try_from(dim).ok()).collect::<Option<_>>()?,
            batched: io.batched != 0,
        })
    }

    /// Elements of one batch item.
    pub fn item_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Elements at a batch; saturates when they exceed the address space.
    pub fn len_at(&self, batch: usize) -> usize {
        self.item_len().saturating_mul(if self.batched { batch } else { 1 })
    }

    /// Shape at a batch.
    pub fn shape_at(&self, batch: usize) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if let Some(first) = shape.first_mut().filter(|_| self.batched) {
            *first = first.saturating_mul(batch);
        }
        shape
    }

    /// The batch that `len` elements make up; 1 for tensors without a batch.
    pub(crate) fn batch_of(&self, len: usize) -> Option<usize> {
        let item = self.item_len();
        match self.batched {
            true if item > 0 && len > 0 && len.is_multiple_of(item) => Some(len / item),
            false if len == item => Some(1),
            _ => None,
        }
    }
}

impl fmt::Display for IoInfo {
    /// `f32 [n, 3, 224, 224]`.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} [", self.elem)?;
        for (i, dim) in self.shape.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            match (i, self.batched, dim) {
                (0, true, 1) => write!(f, "n")?,
                (0, true, rows) => write!(f, "{rows}n")?,
                _ => write!(f, "{separator}{dim}")?,
            }
        }
        write!(f, "]")
    }
}

/// Names an input or output: by index or by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// Position in model order.
    Index(usize),
    /// Name in the source model.
    Name(&'a str),
}

impl From<usize> for Key<'_> {
    fn from(index: usize) -> Self {
        Key::Index(index)
    }
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(name: &'a str) -> Self {
        Key::Name(name)
    }
}

impl Key<'_> {
    /// The position this key names among `all`, which are called `kind` in the error.
    pub(crate) fn find(self, kind: &'static str, all: &[IoInfo]) -> Result<usize, RunError> {
        let found = match self {
            Key::Index(index) => (index < all.len()).then_some(index),
            Key::Name(name) => all.iter().position(|io| io.name == name),
        };
        found.ok_or_else(|| RunError::UnknownTensor {
            kind,
            wanted: match self {
                Key::Index(index) => index.to_string(),
                Key::Name(name) => format!("'{name}'"),
            },
            known: match all {
                [] => "none".into(),
                all => all.iter().map(|io| format!("'{}'", io.name)).collect::<Vec<_>>().join(", "),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(shape: &[usize], batched: bool) -> IoInfo {
        IoInfo { name: "x".into(), elem: Elem::F32, shape: shape.to_vec(), batched }
    }

    #[test]
    fn shapes_at_a_batch() {
        let image = io(&[1, 3, 4], true);
        assert_eq!(
            (image.shape_at(5), image.len_at(5), image.to_string()),
            (vec![5, 3, 4], 60, "f32 [n, 3, 4]".into())
        );
        let rows = io(&[2, 3], true);
        assert_eq!((rows.shape_at(5), rows.to_string()), (vec![10, 3], "f32 [2n, 3]".into()));
        let fixed = io(&[7], false);
        assert_eq!((fixed.shape_at(5), fixed.len_at(5), fixed.to_string()), (vec![7], 7, "f32 [7]".into()));
    }

    #[test]
    fn batches_of_lengths() {
        let image = io(&[1, 3, 4], true);
        assert_eq!([0, 11, 12, 36].map(|len| image.batch_of(len)), [None, None, Some(1), Some(3)]);
        let fixed = io(&[7], false);
        assert_eq!([0, 7, 14].map(|len| fixed.batch_of(len)), [None, Some(1), None]);
        assert_eq!(io(&[1, 0], true).batch_of(0), None);
    }
}
