//! Paddle's text form of tensors, as its testers of language models read it: a line for each sample, fields separated by `;`.
//!
//! ```text
//! 2 1 128:101 2003 0 ...;2 1 128:0 1 2 ...
//! ```
//!
//! In front of a colon stands how many dims there are, then the dims; behind it the numbers.

use crate::arrays::Named;
use crate::failure::{Failure, Outcome};
use crate::pictures::read_text;
use qc_ir::HostTensor;
use std::path::Path;

/// Bytes of a file that are looked at to tell what it is.
const LOOKED_AT: usize = 256;

/// Whether a file begins like such a text.
///
/// # Errors
/// I/O.
pub fn is_text(path: &Path) -> Outcome<bool> {
    use std::io::Read;
    if crate::model::is_folder(path)? {
        return Ok(false);
    }
    let mut head = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| Failure::io(path, &e))?;
    file.take(LOOKED_AT as u64).read_to_end(&mut head).map_err(|e| Failure::io(path, &e))?;
    let dims = head.split(|&b| b == b':').next().unwrap_or_default();
    let plain = dims.iter().all(|b| b.is_ascii_digit() || *b == b' ');
    Ok(plain && dims.len() < head.len() && dims.iter().any(u8::is_ascii_digit))
}

/// A field of one line.
struct Field {
    dims: Vec<usize>,
    values: Values,
}

enum Values {
    Ints(Vec<i64>),
    Floats(Vec<f32>),
}

impl Values {
    /// Adds the numbers of another sample. One that is no integer makes floats of all.
    fn add(&mut self, more: Values) {
        let floats = |ints: &[i64]| ints.iter().map(|&i| i as f32).collect::<Vec<f32>>();
        match (&mut *self, more) {
            (Values::Ints(to), Values::Ints(v)) => to.extend(v),
            (Values::Floats(to), Values::Floats(v)) => to.extend(v),
            (Values::Floats(to), Values::Ints(v)) => to.extend(floats(&v)),
            (Values::Ints(ints), Values::Floats(v)) => *self = Values::Floats([floats(ints), v].concat()),
        }
    }
}

/// Reads all samples: a tensor for each field, without a name.
///
/// # Errors
/// I/O, and lines that are damaged or do not have the shapes of the first.
pub fn read(path: &Path) -> Outcome<Vec<Named>> {
    let text = read_text(path)?;
    let mut fields: Vec<Field> = Vec::new();
    let mut n = 0;
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad = |reason: String| Failure::content(path, format!("line {}: {reason}", number + 1));
        let parts = line.trim().trim_end_matches(';').split(';').map(Field::parse);
        let parts = parts.collect::<Result<Vec<Field>, String>>().map_err(bad)?;
        if n == 0 {
            fields = parts;
        } else {
            add(&mut fields, parts).map_err(bad)?;
        }
        n += 1;
    }
    if n == 0 {
        return Err(Failure::content(path, "holds no samples"));
    }
    let tensor = |field: Field| {
        let rest = if field.dims.first() == Some(&1) && field.dims.len() > 1 { &field.dims[1..] } else { &field.dims };
        let dims: Vec<usize> = std::iter::once(n).chain(rest.iter().copied()).collect();
        (
            None,
            match field.values {
                Values::Ints(v) => HostTensor::i64(dims, v),
                Values::Floats(v) => HostTensor::f32(dims, v),
            },
        )
    };
    Ok(fields.into_iter().map(tensor).collect())
}

/// Adds the fields of another sample.
fn add(all: &mut [Field], parts: Vec<Field>) -> Result<(), String> {
    if parts.len() != all.len() {
        return Err(format!("{} fields, where the first line has {}", parts.len(), all.len()));
    }
    for (field, part) in all.iter_mut().zip(parts) {
        if part.dims != field.dims {
            let remedy = "pad all lines to one shape, since a model is compiled for it";
            return Err(format!("the shape is {:?}, that of the first line {:?}; {remedy}", part.dims, field.dims));
        }
        field.values.add(part.values);
    }
    Ok(())
}

impl Field {
    fn parse(text: &str) -> Result<Field, String> {
        let what = || "fields are `<how many dims> <dims>:<numbers>`, separated by `;`".to_string();
        let (head, values) = text.split_once(':').ok_or_else(what)?;
        let dims: Result<Vec<usize>, _> = head.split_whitespace().map(str::parse).collect();
        let dims = dims.map_err(|_| what())?;
        let (&rank, dims) = dims.split_first().ok_or_else(what)?;
        let words: Vec<&str> = values.split_whitespace().collect();
        let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n > 0);
        if rank != dims.len() || count != Some(words.len()) {
            return Err(format!("`{head}` is no shape of the {} numbers behind it", words.len()));
        }
        let ints: Result<Vec<i64>, _> = words.iter().map(|w| w.parse()).collect();
        let values = match ints {
            Ok(ints) => Values::Ints(ints),
            Err(_) => {
                let floats: Result<Vec<f32>, _> = words.iter().map(|w| w.parse()).collect();
                Values::Floats(floats.map_err(|e| format!("a field holds something else than numbers: {e}"))?)
            }
        };
        Ok(Field { dims: dims.to_vec(), values })
    }
}
