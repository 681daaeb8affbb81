//! Runs a compiled model in every way there is, and compares bits.

use crate::ladder::{BATCHES, Failure, fail};
use qc_compiler::{Compiled, ContextOptions, Predictor};
use qc_ir::{Data, HostTensor};
use qc_runtime::{Check, TrustOfUser};

/// Compares a predictor whose items stay apart with the results of each item.
///
/// # Errors
/// As [`everywhere`].
pub fn items(p: &Predictor, end: &str, whole: &[HostTensor], expected: &[Vec<HostTensor>]) -> Result<(), Failure> {
    let batches = BATCHES.map(|batch| {
        let inputs = whole.iter().map(|t| first(t, expected.len(), batch)).collect();
        Case { batch, inputs, expected: &expected[..batch] }
    });
    everywhere(p, end, &batches)
}

/// Inputs of a batch and what comes out: of the batch as a whole, or of its items one after the other.
#[derive(Debug)]
pub struct Case<'a> {
    /// Items in the batch.
    pub batch: usize,
    /// All of them.
    pub inputs: Vec<HostTensor>,
    /// Results of equal parts of the batch.
    pub expected: &'a [Vec<HostTensor>],
}

/// Runs a predictor on every tier of this machine, with 1 and 2 threads.
///
/// # Errors
/// The first results that differ by a bit.
pub fn everywhere(p: &Predictor, end: &str, cases: &[Case<'_>]) -> Result<(), Failure> {
    for tier in tiers() {
        for threads in [1, 2] {
            let rung = format!("{end} on {tier}, {threads} threads");
            let options = ContextOptions { threads: Some(threads), cpu: Some(tier.into()) };
            let mut cx = p.context(&options).map_err(|e| fail(rung.as_str(), e))?;
            for case in cases {
                let rung = format!("{rung}, batch {}", case.batch);
                let out = run(&mut cx, &case.inputs).map_err(|e| fail(rung.as_str(), e))?;
                for (i, out) in out.iter().enumerate() {
                    for (n, e) in case.expected.iter().enumerate() {
                        let part = item(out, case.expected.len(), n);
                        same(&e[i], &part).map_err(|e| fail(rung.as_str(), format!("item {n}: {e}")))?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// The tiers of this machine, highest first.
pub fn tiers() -> Vec<&'static str> {
    qc_compiler::options::here().into_iter().rev().map(|t| t.name()).collect()
}

/// Writes, loads and hands back a shared object; the folder must live as long as it is in use.
///
/// # Errors
/// A sentence.
pub fn shared_object(compiled: &Compiled) -> Result<(tempfile::TempDir, Predictor), String> {
    let bytes = compiled.shared_object("model.so").map_err(|e| e.to_string())?;
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let path = dir.path().join("model.so");
    std::fs::write(&path, bytes).map_err(|e| e.to_string())?;
    // The file was just written by our own linker into a folder of our own, and is not changed afterwards.
    let predictor = Predictor::load_named_by_user(&path, Check::All, TrustOfUser).map_err(|e| e.to_string())?;
    Ok((dir, predictor))
}

/// Item `i` of a tensor that holds `batch` of them.
pub fn item(t: &HostTensor, batch: usize, i: usize) -> HostTensor {
    rows(t, batch, i, 1)
}

/// The first `count` items of a tensor that holds `batch`.
pub fn first(t: &HostTensor, batch: usize, count: usize) -> HostTensor {
    rows(t, batch, 0, count)
}

fn rows(t: &HostTensor, batch: usize, start: usize, count: usize) -> HostTensor {
    let mut dims = t.dims().to_vec();
    dims[0] = dims[0] / batch * count;
    let n = t.len() / batch;
    let range = start * n..(start + count) * n;
    let data = match t.data() {
        Data::F32(v) => Data::F32(v[range].to_vec()),
        Data::I8(v) => Data::I8(v[range].to_vec()),
        Data::U8(v) => Data::U8(v[range].to_vec()),
        Data::I32(v) => Data::I32(v[range].to_vec()),
        Data::I64(v) => Data::I64(v[range].to_vec()),
        Data::Bool(v) => Data::Bool(v[range].to_vec()),
    };
    HostTensor::new(dims, data).expect("invariant: whole rows")
}

/// Runs a context on inputs; their shapes say shape and batch.
///
/// # Errors
/// A sentence.
pub fn run(cx: &mut qc_compiler::Context, inputs: &[HostTensor]) -> Result<Vec<HostTensor>, String> {
    for (i, input) in inputs.iter().enumerate() {
        match input.data() {
            Data::F32(v) => cx.input_shaped::<f32>(i, input.dims()).map(|b| b.copy_from_slice(v)),
            Data::I64(v) => cx.input_shaped::<i64>(i, input.dims()).map(|b| b.copy_from_slice(v)),
            Data::I32(v) => cx.input_shaped::<i32>(i, input.dims()).map(|b| b.copy_from_slice(v)),
            Data::U8(v) => cx.input_shaped::<u8>(i, input.dims()).map(|b| b.copy_from_slice(v)),
            Data::I8(v) => cx.input_shaped::<i8>(i, input.dims()).map(|b| b.copy_from_slice(v)),
            Data::Bool(_) => return Err("inputs of truth values are not supported".into()),
        }
        .map_err(|e| e.to_string())?;
    }
    cx.run().map_err(|e| e.to_string())?;
    let outputs = cx.outputs().to_vec();
    let one = |(i, info): (usize, &qc_runtime::IoInfo)| {
        let data = match info.elem {
            qc_runtime::Elem::F32 => cx.output::<f32>(i).map(|v| Data::F32(v.to_vec())),
            qc_runtime::Elem::U8 => cx.output::<u8>(i).map(|v| Data::U8(v.to_vec())),
            qc_runtime::Elem::I8 => cx.output::<i8>(i).map(|v| Data::I8(v.to_vec())),
            qc_runtime::Elem::I32 => cx.output::<i32>(i).map(|v| Data::I32(v.to_vec())),
            qc_runtime::Elem::I64 => cx.output::<i64>(i).map(|v| Data::I64(v.to_vec())),
        };
        let dims = cx.output_shape(i).map_err(|e| e.to_string())?;
        HostTensor::new(dims, data.map_err(|e| e.to_string())?).ok_or("an output has a wrong size".into())
    };
    outputs.iter().enumerate().map(one).collect()
}

/// Whether two tensors have the same bits; any NaN equals any other.
///
/// # Errors
/// The first element that differs, and how many do.
pub fn same(a: &HostTensor, b: &HostTensor) -> Result<(), String> {
    let differ: Vec<usize> = match (a.as_f32(), b.as_f32()) {
        (Some(x), Some(y)) if x.len() == y.len() => {
            let equal = |i: &usize| x[*i].to_bits() == y[*i].to_bits() || (x[*i].is_nan() && y[*i].is_nan());
            (0..x.len()).filter(|i| !equal(i)).collect()
        }
        (None, None) if a.len() == b.len() => (0..a.len()).filter(|&i| a.int(i) != b.int(i)).collect(),
        _ => return Err(format!("{:?} {:?} against {:?} {:?}", a.data().elem(), a.dims(), b.data().elem(), b.dims())),
    };
    let Some(&i) = differ.first() else { return Ok(()) };
    let show = |t: &HostTensor| t.as_f32().map_or_else(|| format!("{:?}", t.int(i)), |v| format!("{:?}", v[i]));
    Err(format!("{} of {} elements differ, first {i}: {} against {}", differ.len(), a.len(), show(a), show(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_compared() {
        let t = |v: &[f32]| HostTensor::f32([v.len()], v.to_vec());
        same(&t(&[1.0, f32::NAN]), &t(&[1.0, f32::NAN])).unwrap();
        same(&t(&[0.0]), &t(&[-0.0])).unwrap_err();
        same(&t(&[1.0]), &t(&[1.0, 2.0])).unwrap_err();
        let i = |v: Vec<u8>| HostTensor::u8([v.len()], v);
        assert!(same(&i(vec![1, 2]), &i(vec![1, 3])).unwrap_err().contains("1 of 2 elements differ, first 1"));
    }

    #[test]
    fn items_are_rows() {
        let t = HostTensor::f32([6, 2], (0..12).map(|x| x as f32).collect());
        assert_eq!(item(&t, 3, 1), HostTensor::f32([2, 2], vec![4.0, 5.0, 6.0, 7.0]));
        assert_eq!(first(&t, 3, 2).dims(), [4, 2]);
    }
}
