//! Arrays of samples: in memory, or in one of many files, which is read again when its runs come. So memory holds the samples of the runs
//! under way, however many there are.

use crate::arrays::{self, Named, batch_of};
use crate::failure::{Failure, Outcome};
use crate::pictures::ArraySet;
use qc_ir::HostTensor;
use qc_runtime::IoInfo;
use std::sync::{Arc, Mutex, PoisonError};

/// One tensor per input; items of the leading dimension are samples.
pub struct Held {
    runs: usize,
    files: Option<Files>,
    /// The tensors, as long as they are needed.
    tensors: Mutex<Option<Arc<Vec<HostTensor>>>>,
}

/// Where the tensors are read from.
struct Files {
    set: ArraySet,
    /// Arrays that are no inputs of the program any more.
    constant: Vec<String>,
    inputs: Vec<IoInfo>,
}

/// Arrays as tensors of inputs.
fn assigned(mut arrays: Vec<Named>, constant: &[String], inputs: &[IoInfo]) -> Outcome<Vec<HostTensor>> {
    arrays.retain(|(name, _)| name.as_ref().is_none_or(|name| !constant.contains(name)));
    arrays::assign(inputs, vec![(None, arrays)])
}

impl Held {
    /// Arrays for `inputs`. With files that they were read from, and the names of those that are constants, they are forgotten.
    ///
    /// # Errors
    /// Arrays that do not fit the inputs, or each other.
    pub fn of(arrays: Vec<Named>, files: Option<(ArraySet, Vec<String>)>, inputs: &[IoInfo]) -> Outcome<Held> {
        let files = files.map(|(set, constant)| Files { set, constant, inputs: inputs.to_vec() });
        let constant = files.as_ref().map_or(&[][..], |files| &files.constant);
        let tensors = assigned(arrays, constant, inputs)?;
        let runs = runs(inputs, &tensors)?;
        let kept = files.is_none().then(|| Arc::new(tensors));
        Ok(Held { runs, files, tensors: Mutex::new(kept) })
    }

    /// Runs that the arrays give.
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// The tensors, for one of the runs; behind the last one they are forgotten.
    ///
    /// # Errors
    /// I/O, and a file that has changed.
    pub fn read(&self, run: usize) -> Outcome<Arc<Vec<HostTensor>>> {
        let mut now = self.tensors.lock().unwrap_or_else(PoisonError::into_inner);
        let tensors = match (&*now, &self.files) {
            (Some(tensors), _) => tensors.clone(),
            (None, Some(files)) => {
                let tensors = assigned(arrays::read_set(&files.set)?, &files.constant, &files.inputs)?;
                if runs(&files.inputs, &tensors)? != self.runs {
                    let text = "holds another number of samples than a moment ago; leave it alone meanwhile";
                    let path = files.set.files.first().cloned().unwrap_or_default();
                    return Err(Failure::content(&path, text));
                }
                Arc::new(tensors)
            }
            (None, None) => Arc::default(),
        };
        let goes_on = self.files.is_none() || run + 1 < self.runs;
        *now = goes_on.then(|| tensors.clone());
        Ok(tensors)
    }
}

/// Runs that tensors give: the same for every input.
fn runs(inputs: &[IoInfo], tensors: &[HostTensor]) -> Outcome<usize> {
    let mut all: Option<usize> = None;
    for (io, tensor) in inputs.iter().zip(tensors) {
        let n = batch_of(io, tensor)?;
        if io.batched && *all.get_or_insert(n) != n {
            return Err(Failure::usage("the arrays of the inputs hold different numbers of samples"));
        }
    }
    Ok(all.unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use qc_runtime::Elem;

    /// A set of one file with these samples of two numbers.
    fn write(path: &std::path::Path, samples: usize) -> Vec<Named> {
        let values: Vec<f32> = (0..samples * 2).map(|i| i as f32).collect();
        let x = HostTensor::f32(vec![samples, 2], values);
        arrays::write_npz(path, &[("x".to_string(), x.clone())]).unwrap();
        vec![(Some("x".into()), x)]
    }

    #[test]
    fn files_are_read_again_and_forgotten_behind_the_last_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        let x = IoInfo {
            name: "x".into(),
            elem: Elem::F32,
            shape: vec![1, 2],
            batched: true,
            shapes: Vec::new(),
            choices: Vec::new(),
            counted: None,
        };
        let inputs = [x];
        let set = || ArraySet { name: "a".into(), files: vec![path.clone()] };
        let held = Held::of(write(&path, 3), Some((set(), Vec::new())), &inputs).unwrap();
        let is_held = || held.tensors.lock().unwrap().is_some();
        assert_eq!((held.runs(), is_held()), (3, false));
        for run in 0..3 {
            assert_eq!(held.read(run).unwrap()[0].dims(), [3, 2]);
            assert_eq!(is_held(), run < 2);
        }
        write(&path, 2);
        assert!(format!("{:?}", held.read(0).unwrap_err()).contains("another number of samples than a moment ago"));
    }
}
