//! Descriptions of inputs and outputs, and how callers name them.

use crate::note::Counted;
use crate::{Elem, RunError};
use core::fmt;
use qc_embed::abi::{Io, Variant};
use qc_embed::view::ModelView;

/// One input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoInfo {
    /// Name in the source model.
    pub name: String,
    /// Element type.
    pub elem: Elem,
    /// Shape of one batch item; the first dimension counts the rows an item has, usually 1. Of a model of several shapes,
    /// the first.
    pub shape: Vec<usize>,
    /// Whether the shape depends on the batch.
    pub batched: bool,
    /// Shapes by batch, where the first dimension is not all that depends on it: outputs of models whose items are not
    /// independent.
    pub shapes: Vec<(usize, Vec<usize>)>,
    /// Of a model of several shapes, what `shape` is in each of them, in one order for all inputs and outputs; else empty.
    pub choices: Vec<Vec<usize>>,
    /// Of an output, how much of it a run fills, if that differs from run to run; see [`crate::Context::filled_shape`].
    pub counted: Option<Counted>,
}

/// What an entry of the table says of the part of an output that a run fills; `None` for what no model has.
fn counted_of(model: &ModelView<'_>, io: &Io) -> Option<Option<Counted>> {
    if io.counted == 0 {
        return Some(None);
    }
    let counted = Counted { axis: (io.counted >> 16) as usize, by: ((io.counted & 0xffff) as usize).checked_sub(1)? };
    let by = model.outputs().get(counted.by)?;
    (counted.axis < io.rank as usize && by.elem == qc_embed::abi::ELEM_I32).then_some(Some(counted))
}

impl IoInfo {
    /// Reads entry `index`, inputs first, of a checked model.
    pub(crate) fn new(model: &ModelView<'_>, index: usize, io: &Io) -> Option<IoInfo> {
        let dims = |all: &[i64]| all.iter().map(|&dim| usize::try_from(dim).ok()).collect::<Option<Vec<usize>>>();
        let mut leads: Vec<&Variant> = Vec::new();
        for v in model.variants() {
            if !leads.iter().any(|lead| model.same_shape(lead, v)) {
                leads.push(v);
            }
        }
        let first = *leads.first()?;
        let item = |v: &Variant| dims(model.item(v, index)?.get(..io.rank as usize)?);
        let mut choices = leads.iter().map(|v| item(v)).collect::<Option<Vec<_>>>()?;
        let mut info = IoInfo {
            name: String::from_utf8_lossy(io.name_bytes()).into_owned(),
            elem: Elem::from_code(io.elem)?,
            shape: choices.first()?.clone(),
            batched: io.batched != 0,
            shapes: Vec::new(),
            choices: if choices.len() > 1 { std::mem::take(&mut choices) } else { Vec::new() },
            counted: counted_of(model, io)?,
        };
        let mut shapes: Vec<(usize, Vec<usize>)> = Vec::new();
        for v in model.variants().iter().filter(|v| model.same_shape(first, v)) {
            let batch = v.batch as usize;
            if shapes.iter().all(|(known, _)| *known != batch) {
                shapes.push((batch, dims(model.shape(v, index))?));
            }
        }
        if shapes.iter().any(|(batch, shape)| *shape != info.shape_at(*batch)) {
            shapes.sort_unstable();
            info.shapes = shapes;
        }
        Some(info)
    }

    /// Whether its shape differs between the shapes of the model by more than the batch.
    pub fn is_open(&self) -> bool {
        self.choices.iter().any(|shape| *shape != self.shape)
    }

    /// The batch that `dims` make of it, at any shape of the model; none when they fit none.
    pub fn batch_at(&self, dims: &[usize]) -> Option<usize> {
        let one = |item: &Vec<usize>| {
            if !self.batched || item.is_empty() {
                return (item[..] == *dims).then_some(1);
            }
            let fits = item.len() == dims.len() && item[1..] == dims[1..] && item[0] > 0 && dims[0] > 0;
            (fits && dims[0].is_multiple_of(item[0])).then(|| dims[0] / item[0])
        };
        std::iter::once(&self.shape).chain(&self.choices).find_map(one)
    }

    /// Elements of one batch item.
    pub fn item_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Elements at a batch; saturates when they exceed the address space.
    pub fn len_at(&self, batch: usize) -> usize {
        match self.shapes.iter().find(|(known, _)| *known == batch) {
            Some((_, shape)) => shape.iter().product(),
            None => self.item_len().saturating_mul(if self.batched { batch } else { 1 }),
        }
    }

    /// Shape at a batch.
    pub fn shape_at(&self, batch: usize) -> Vec<usize> {
        if let Some((_, shape)) = self.shapes.iter().find(|(known, _)| *known == batch) {
            return shape.clone();
        }
        let mut shape = self.shape.clone();
        if let Some(first) = shape.first_mut().filter(|_| self.batched) {
            *first = first.saturating_mul(batch);
        }
        shape
    }

    /// The batch that `len` elements make up; 1 for tensors without a batch.
    pub(crate) fn batch_of(&self, len: usize) -> Option<usize> {
        if !self.shapes.is_empty() {
            return self.shapes.iter().map(|(batch, _)| *batch).find(|&batch| self.len_at(batch) == len);
        }
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
        let shapes: Vec<(usize, &[usize])> = self.shapes.iter().map(|(batch, shape)| (*batch, &shape[..])).collect();
        write!(f, "{} {}", self.elem, shape_text(&self.shape, self.batched, &shapes, &self.choices))
    }
}

/// A shape as people write it, `n` being the batch: `[n, 3, 224, 224]`. With shapes by batch, a dim that depends on it
/// otherwise than as a multiple is `?`. A dim that differs between `choices` is `{16,128}`.
pub(crate) fn shape_text<T>(item: &[T], batched: bool, shapes: &[(usize, &[T])], choices: &[Vec<T>]) -> String
where
    T: Copy + PartialEq + Ord + fmt::Display + TryInto<usize>,
{
    let number = |x: T| x.try_into().unwrap_or(0);
    let grown = |rows: usize| if rows == 1 { "n".to_string() } else { format!("{rows}n") };
    let several = |i: usize| {
        let mut all: Vec<T> = choices.iter().filter_map(|shape| shape.get(i).copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let one = |(i, &dim): (usize, &T)| {
        let at = || shapes.iter().map(|(batch, shape)| (*batch, shape.get(i).map_or(0, |&x| number(x))));
        let rows = at().next().map_or(0, |(batch, n)| n / batch.max(1));
        match shapes {
            [] if i == 0 && batched => grown(number(dim)),
            [] => dim.to_string(),
            _ if at().all(|(_, n)| n == number(dim)) => dim.to_string(),
            _ if rows > 0 && at().all(|(batch, n)| n == rows * batch) => grown(rows),
            _ => "?".to_string(),
        }
    };
    let dim = |(i, dim): (usize, &T)| match &several(i)[..] {
        [] | [_] => one((i, dim)),
        all => format!("{}{}", alternatives(all), if i == 0 && batched { "n" } else { "" }),
    };
    format!("[{}]", item.iter().enumerate().map(dim).collect::<Vec<_>>().join(", "))
}

/// `{16,32,..,512}`.
fn alternatives<T: fmt::Display>(all: &[T]) -> String {
    const LISTED: usize = 6;
    let text = |some: &[T]| some.iter().map(T::to_string).collect::<Vec<_>>().join(",");
    match all {
        [first, second, .., last] if all.len() > LISTED => format!("{{{first},{second},..,{last}}}"),
        all => format!("{{{}}}", text(all)),
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
        IoInfo {
            name: "x".into(),
            elem: Elem::F32,
            shape: shape.to_vec(),
            batched,
            shapes: Vec::new(),
            choices: Vec::new(),
            counted: None,
        }
    }

    #[test]
    fn shapes_that_do_not_grow_by_the_first_dim() {
        let square = |n: usize| (n, vec![n, n, 2 * n, 7]);
        let gram = IoInfo { shapes: [1, 2, 3].map(square).to_vec(), ..io(&[1, 1, 2, 7], true) };
        assert_eq!(
            (gram.shape_at(3), gram.len_at(2), gram.to_string()),
            (vec![3, 3, 6, 7], 112, "f32 [n, n, 2n, 7]".into())
        );
        assert_eq!([14, 112, 113].map(|len| gram.batch_of(len)), [Some(1), Some(2), None]);
        let odd = IoInfo { shapes: vec![(1, vec![3]), (2, vec![4])], ..io(&[3], true) };
        assert_eq!(odd.to_string(), "f32 [?]");
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
    fn several_shapes() {
        let choices = |all: &[usize]| all.iter().map(|&n| vec![1, n]).collect::<Vec<_>>();
        let ids = IoInfo { choices: choices(&[16, 128]), ..io(&[1, 16], true) };
        assert_eq!((ids.is_open(), ids.to_string()), (true, "f32 [n, {16,128}]".into()));
        assert_eq!(
            [[2, 16], [3, 128], [0, 16], [1, 17]].map(|dims| ids.batch_at(&dims)),
            [Some(2), Some(3), None, None]
        );
        let many = IoInfo { choices: (1..9).map(|n| vec![2 * n, 16]).collect(), ..io(&[2, 16], true) };
        assert_eq!(many.to_string(), "f32 [{2,4,..,16}n, 16]");
        assert!(!io(&[1, 16], true).is_open());
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
