//! Static shapes for the model's inputs: the batch, overrides by the user, and what stays open.

use crate::elements::{MAX_RANK, checked_dims};
use crate::emit::cast_known;
use crate::error::{INVALID, ImportError, ImportErrors};
use crate::options::Options;
use qc_ir::{Elem, HostTensor};

/// An input as the model declares it; an open dim is `None`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Declared {
    pub name: String,
    /// `None` when the model states no shape at all.
    pub dims: Option<Vec<Option<i64>>>,
    /// The model's own names for open dims; shorter than `dims` where it has none.
    pub names: Vec<Option<String>>,
    /// Whether its first dim counts rows or offsets of ragged sequences, so that it is no batch and has to be stated.
    pub counts: bool,
}

/// The shapes that the model is compiled for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Shapes {
    /// Per input: dims, and whether dim 0 is the batch.
    pub inputs: Vec<(Vec<usize>, bool)>,
    /// The batch of the inputs.
    pub batch: i64,
    /// The batch, when the model fixes it.
    pub fixed_batch: Option<i64>,
    /// Whether `--shape` opened a batch, whatever the model says of its outputs.
    pub opened: bool,
}

/// The largest batch.
const MAX_BATCH: i64 = 1 << 16;

/// Decides the shape of every input.
///
/// # Errors
/// One entry per input whose shape stays open, per override that does not fit, and for a batch that the model rules out.
pub(crate) fn resolve(declared: &[Declared], options: &Options) -> Result<Shapes, Vec<ImportError>> {
    let mut errors = Vec::new();
    if let Some(batch) = options.batch.filter(|b| !(1..=MAX_BATCH).contains(b)) {
        errors.push(port("batch", format!("{batch} is not a batch"), "choose one from 1 to 65536"));
    }
    for name in options.shapes.keys().filter(|n| declared.iter().all(|d| d.name != **n)) {
        let names: Vec<&str> = declared.iter().map(|d| d.name.as_str()).collect();
        errors.push(port(name, "the model has no such input", format!("its inputs are {}", names.join(", "))));
    }
    for name in options.values.keys().filter(|n| declared.iter().all(|d| d.name != **n)) {
        let names: Vec<&str> = declared.iter().map(|d| d.name.as_str()).collect();
        errors.push(port(name, "the model has no such input", format!("its inputs are {}", names.join(", "))));
    }
    let all = declared;
    let declared: Vec<&Declared> = all.iter().filter(|d| !options.values.contains_key(&d.name)).collect();
    let given = |d: &Declared| options.shapes.get(&d.name);
    let opened = |d: &Declared| !d.counts && given(d).is_some_and(|s| s.first().is_some_and(|&n| n <= 0));
    let open_batch =
        |d: &Declared| opened(d) || given(d).is_none() && d.dims.as_ref().is_some_and(|s| s.first() == Some(&None));
    let open_batch = |d: &Declared| !d.counts && open_batch(d);
    let fixed_batch = match declared.iter().any(|d| open_batch(d)) {
        true => None,
        // Sequences of one call are run together.
        false if declared.iter().any(|d| d.counts) => declared.first().map(|d| (d, 1)),
        false => declared.iter().find_map(|d| {
            let first = given(d).and_then(|s| s.first().copied().filter(|&n| n > 0));
            Some((d, first.or(*d.dims.as_ref()?.first()?)?))
        }),
    };
    if let (Some((input, fixed)), Some(asked)) = (fixed_batch, options.batch)
        && fixed != asked
    {
        errors.push(ImportError::FixedBatch { input: input.name.clone(), fixed, asked });
    }
    let fixed_batch = fixed_batch.map(|(_, n)| n);
    let batch = fixed_batch.or(options.batch).unwrap_or(1);
    let mut inputs = Vec::new();
    for d in all {
        if let Some(t) = options.values.get(&d.name) {
            inputs.push((dims_of_constant(d, t), false));
            continue;
        }
        match resolve_one(d, given(d), batch) {
            Ok(dims) => inputs.push((dims, open_batch(d))),
            Err(e) => errors.push(e),
        }
    }
    let opened = declared.iter().any(|d| opened(d));
    if errors.is_empty() { Ok(Shapes { inputs, batch, fixed_batch, opened }) } else { Err(errors) }
}

/// The dims of an input that is this constant: those that the model fixes, and for open ones those of the constant.
fn dims_of_constant(d: &Declared, t: &HostTensor) -> Vec<usize> {
    let Some(declared) = &d.dims else { return t.dims().to_vec() };
    let own = |i: usize| if declared.len() == t.dims().len() { t.dims()[i] } else { t.len() };
    let one = |(i, n): (usize, &Option<i64>)| n.and_then(|n| usize::try_from(n).ok()).unwrap_or_else(|| own(i));
    declared.iter().enumerate().map(one).collect()
}

/// An input as a constant.
///
/// # Errors
/// When its numbers are not as many as the input has elements, or do not fit its type.
pub(crate) fn constant(name: &str, t: &HostTensor, elem: Elem, dims: &[usize]) -> Result<HostTensor, ImportError> {
    let wrong = |reason: String| port(name, reason, "give it as many numbers as it has elements, of its type");
    let shaped =
        t.reshaped(dims).ok_or_else(|| wrong(format!("{} numbers are no constant of shape {dims:?}", t.len())))?;
    let made = cast_known(&shaped, elem);
    // What the type cannot hold would become another number.
    let back = made.as_ref().and_then(|made| cast_known(made, t.data().elem()));
    match (made, back) {
        (Some(made), Some(back)) if back.data().to_bytes() == shaped.data().to_bytes() || elem == Elem::F32 => Ok(made),
        _ => Err(wrong(format!("its numbers are no {}", elem.word().unwrap_or("such elements")))),
    }
}

fn resolve_one(d: &Declared, given: Option<&Vec<i64>>, batch: i64) -> Result<Vec<usize>, ImportError> {
    let open = |dims: &str| {
        let remedy = match dims {
            "" => format!("state it with `--shape {}=` and its dims, such as 1,3,224,224", d.name),
            _ => {
                let text = format!("state it with `--shape {}={}`, a number for each `?`", d.name, option_text(dims));
                let open = d.names.iter().zip(d.dims.iter().flatten()).skip(1).filter(|(_, dim)| dim.is_none());
                match open.filter_map(|(name, _)| name.as_deref()).next() {
                    Some(name) => format!("{text}, or its named dims: `--shape {name}=128`"),
                    None => text,
                }
            }
        };
        port(&d.name, format!("the shape {dims} is not fixed in the model"), remedy)
    };
    let dims: Vec<i64> = match (given, &d.dims) {
        (None, None) => return Err(open("")),
        (None, Some(dims)) => {
            let fill = |(i, n): (usize, &Option<i64>)| n.or((i == 0 && !d.counts).then_some(batch));
            let filled: Option<Vec<i64>> = dims.iter().enumerate().map(fill).collect();
            filled.ok_or_else(|| open(&describe(dims)))?
        }
        (Some(given), declared) => {
            if let Some(declared) = declared.as_ref().filter(|s| s.len() != given.len()) {
                let text = format!("the model says {}, `--shape` has {} numbers", describe(declared), given.len());
                return Err(port(&d.name, text, "give one number per dim"));
            }
            given.iter().enumerate().map(|(i, &n)| if i == 0 && n <= 0 && !d.counts { batch } else { n }).collect()
        }
    };
    let checked = checked_dims(&dims).filter(|(sizes, _)| !sizes.contains(&0));
    checked.map(|(sizes, _)| sizes).ok_or_else(|| {
        port(&d.name, format!("the shape {dims:?} is impossible"), format!("use up to {MAX_RANK} positive dims"))
    })
}

/// `[?, 3]` as the option is written: `?,3`.
fn option_text(dims: &str) -> String {
    dims.trim_matches(['[', ']']).replace(' ', "")
}

/// Node errors that call the model invalid, though dims that are not its own may be what does not fit.
pub(crate) fn blame_options(errors: ImportErrors, declared: &[Declared], options: &Options) -> ImportErrors {
    let open = declared.iter().find(|d| d.dims.as_ref().is_some_and(|s| s.first() == Some(&None)));
    let instead = if let Some(name) = options.shapes.keys().min() {
        let own = declared.iter().find(|d| d.name == *name).and_then(|d| d.dims.as_ref());
        let own = own.map_or("no dims".into(), |dims| describe(dims));
        format!("the dims that `--shape` states may not fit; the model says {own} for \"{name}\"")
    } else if let Some(d) = open {
        let dims = option_text(&describe(d.dims.as_deref().unwrap_or_default()));
        let batch = options.batch.unwrap_or(1);
        format!("the model may not be made for the batch {batch}: state another with `--shape {}={dims}`", d.name)
    } else {
        return errors;
    };
    let one = |e| match e {
        ImportError::Node { node, op_type, reason, remedy, needs } if remedy == INVALID => {
            ImportError::Node { node, op_type, reason, remedy: instead.clone(), needs }
        }
        other => other,
    };
    ImportErrors { list: errors.list.into_iter().map(one).collect() }
}

pub(crate) fn port(name: &str, reason: impl Into<String>, remedy: impl Into<String>) -> ImportError {
    ImportError::Port { name: name.into(), reason: reason.into(), remedy: remedy.into() }
}

pub(crate) fn describe(dims: &[Option<i64>]) -> String {
    let words: Vec<String> = dims.iter().map(|d| d.map_or("?".into(), |n| n.to_string())).collect();
    format!("[{}]", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, dims: &[i64]) -> Declared {
        let dims = dims.iter().map(|&d| (d > 0).then_some(d)).collect();
        Declared { name: name.into(), dims: Some(dims), names: Vec::new(), counts: false }
    }

    #[test]
    fn an_open_leading_dim_is_the_batch() {
        let options = Options { batch: Some(4), ..Options::default() };
        let shapes = resolve(&[input("x", &[-1, 3, 8, 8])], &options).unwrap();
        let expected = Shapes { inputs: vec![(vec![4, 3, 8, 8], true)], batch: 4, fixed_batch: None, opened: false };
        assert_eq!(shapes, expected);
        assert_eq!(resolve(&[input("x", &[-1, 3])], &Options::default()).unwrap().inputs[0].0, [1, 3]);
    }

    #[test]
    fn a_fixed_batch_stays_and_is_told() {
        let declared = [input("x", &[6, 3])];
        assert_eq!(resolve(&declared, &Options::default()).unwrap().fixed_batch, Some(6));
        let errors = resolve(&declared, &Options { batch: Some(1), ..Options::default() }).unwrap_err();
        assert_eq!(errors, [ImportError::FixedBatch { input: "x".into(), fixed: 6, asked: 1 }]);
    }

    #[test]
    fn an_override_opens_a_fixed_batch() {
        let shapes = [("x".to_string(), vec![-1, 3])].into();
        let options = Options { batch: Some(4), shapes, ..Options::default() };
        let expected = Shapes { inputs: vec![(vec![4, 3], true)], batch: 4, fixed_batch: None, opened: true };
        assert_eq!(resolve(&[input("x", &[1, 3])], &options).unwrap(), expected);
    }

    #[test]
    fn open_dims_need_an_override() {
        let declared = [input("x", &[-1, 3, -1, -1])];
        let text = resolve(&declared, &Options::default()).unwrap_err()[0].to_string();
        assert!(text.contains("\"x\"") && text.contains("[?, 3, ?, ?]"), "{text}");
        assert!(text.contains("`--shape x=?,3,?,?`, a number for each `?`"), "{text}");
        let mut options = Options::default();
        options.shapes.insert("x".into(), vec![-1, 3, 32, 64]);
        assert_eq!(resolve(&declared, &options).unwrap().inputs[0].0, [1, 3, 32, 64]);
        options.shapes.insert("y".into(), vec![1]);
        options.shapes.insert("x".into(), vec![1, 3]);
        assert_eq!(resolve(&declared, &options).unwrap_err().len(), 2);
    }
}
