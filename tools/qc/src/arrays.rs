//! NumPy files as inputs and outputs.

use crate::failure::{Failure, Outcome};
use crate::pictures::ArraySet;
use qc_ir::{Data, HostTensor};
use qc_runtime::{Context, Elem, IoInfo};
use std::path::Path;

pub use qc_arrays::Named;

/// Reads all arrays of a `.npy` or `.npz` file, whichever its bytes are, or the tensor of a `.pb` file.
///
/// # Errors
/// I/O, a file of another kind, or an element type that no model has.
pub fn read(path: &Path) -> Outcome<Vec<Named>> {
    let bytes = std::fs::read(path).map_err(|e| Failure::io(path, &e))?;
    if path.extension().is_some_and(|e| e == "pb") {
        let tensor = qc_frontend::onnx_tensor(bytes.into());
        let text = |reason| Failure::content(path, format!("no tensor of ONNX: {reason}"));
        return tensor.map(|tensor| vec![tensor]).map_err(text);
    }
    qc_arrays::parse(&bytes).map_err(|reason| Failure::content(path, reason))
}

/// Reads the arrays of files that belong together.
///
/// # Errors
/// As [`read`].
pub fn read_set(set: &ArraySet) -> Outcome<Vec<Named>> {
    let all: Vec<Vec<Named>> = set.files.iter().map(|path| read(path)).collect::<Outcome<_>>()?;
    Ok(all.into_iter().flatten().collect())
}

/// Writes arrays as an uncompressed `.npz` file, whole or not at all.
///
/// # Errors
/// I/O.
pub fn write_npz(path: &Path, arrays: &[(String, HostTensor)]) -> Outcome {
    let bytes = qc_arrays::write(arrays).map_err(|reason| Failure::content(path, reason))?;
    Ok(qc_compiler::write_whole(path, &bytes)?)
}

/// Assigns arrays to the inputs of a model: by name, or to the only one left. Arrays of an archive that name no input
/// are left out.
///
/// # Errors
/// Inputs without an array, and arrays that were named on the command line but fit no input.
pub fn assign(inputs: &[IoInfo], given: Vec<(Option<String>, Vec<Named>)>) -> Outcome<Vec<HostTensor>> {
    let known = || inputs.iter().map(|io| format!("'{}'", io.name)).collect::<Vec<_>>().join(", ");
    let mut slots: Vec<Option<HostTensor>> = vec![None; inputs.len()];
    let mut nameless = Vec::new();
    for (asked, mut arrays) in given {
        if let Some(name) = asked {
            let slot = inputs.iter().position(|io| io.name == name);
            let slot =
                slot.ok_or_else(|| Failure::usage(format!("there is no input '{name}'; inputs are {}", known())))?;
            let own = arrays.iter().position(|(n, _)| n.as_deref() == Some(&name));
            let at = own.or((arrays.len() == 1).then_some(0));
            let at = at.ok_or_else(|| Failure::usage(format!("the .npz file for '{name}' holds several arrays")))?;
            slots[slot] = Some(arrays.swap_remove(at).1);
            continue;
        }
        let is_single = arrays.len() == 1;
        for (name, tensor) in arrays {
            match inputs.iter().position(|io| name.as_ref() == Some(&io.name)) {
                Some(slot) => slots[slot] = Some(tensor),
                None if is_single => nameless.push(tensor),
                None => {}
            }
        }
    }
    for tensor in nameless {
        let free: Vec<usize> = (0..slots.len()).filter(|&i| slots[i].is_none()).collect();
        let [slot] = free[..] else {
            let text = format!(
                "an array without a name fits {} inputs; write -i NAME:FILE, inputs are {}",
                free.len(),
                known()
            );
            return Err(Failure::usage(text));
        };
        slots[slot] = Some(tensor);
    }
    if let Some(missing) = slots.iter().position(Option::is_none) {
        let io = &inputs[missing];
        return Err(Failure::usage(format!("input '{0}' {io} has no data; give it with -i {0}:FILE.npy", io.name)));
    }
    Ok(slots.into_iter().flatten().collect())
}

/// The batch that a tensor makes of an input.
///
/// # Errors
/// A shape that does not fit, with what would.
pub fn batch_of(io: &IoInfo, tensor: &HostTensor) -> Outcome<usize> {
    let dims = tensor.dims();
    io.batch_at(dims).ok_or_else(|| {
        let text = format!("input '{}' is {io}; the array has shape {dims:?}", io.name);
        let remedy = match advice(&io.shape, dims) {
            _ if io.is_open() && dims.len() == io.shape.len() => "there is code for those shapes only".to_string(),
            Some(advice) => advice.to_string(),
            None if io.batched || dims.len() != io.shape.len() => {
                "reshape it, the first dimension being the batch".to_string()
            }
            None => {
                let rest: String = io.shape.iter().skip(1).map(|d| format!(",{d}")).collect();
                format!("the model fixes its batch; --shape '{}[?{rest}]' opens it when it is compiled", io.name)
            }
        };
        Failure::usage(format!("{text}; {remedy}"))
    })
}

/// What makes an array fit that holds the same numbers in another order or without the batch; none for other arrays.
fn advice(wanted: &[usize], given: &[usize]) -> Option<&'static str> {
    let &[_, c, h, w] = wanted else { return (wanted.get(1..) == Some(given)).then_some("add the batch with x[None]") };
    match *given {
        // Pictures as wide as high as deep are of one order.
        [_, a, b, d] if (a, b, d) == (h, w, c) => Some("its channels are last; transpose it: x.transpose(0, 3, 1, 2)"),
        [a, b, d] if (a, b, d) == (h, w, c) && (a, b, d) != (c, h, w) => {
            Some("its channels are last and it has no batch; transpose it: x.transpose(2, 0, 1)[None]")
        }
        [a, b, d] if (a, b, d) == (c, h, w) => Some("add the batch with x[None]"),
        _ => None,
    }
}

/// Copies `tensor` into input `i` of `context`, converting integers where no value is lost.
///
/// # Errors
/// An element type or shape that does not fit.
pub fn feed(context: &mut Context, i: usize, tensor: &HostTensor) -> Outcome<usize> {
    let io = context.inputs()[i].clone();
    let batch = batch_of(&io, tensor)?;
    feed_rows(context, i, tensor, 0, batch)?;
    Ok(batch)
}

/// Copies `batch` items of `tensor`, beginning with item `from`, into input `i`; the input's shape must fit.
///
/// # Errors
/// An element type that does not fit.
pub fn feed_rows(context: &mut Context, i: usize, tensor: &HostTensor, from: usize, batch: usize) -> Outcome {
    let io = context.inputs()[i].clone();
    let rows = if io.batched { io.shape.first().copied().unwrap_or(1) } else { 0 };
    let mut dims = tensor.dims().to_vec();
    dims.iter_mut().take(usize::from(io.batched)).for_each(|first| *first = batch * rows);
    let unit = rows * dims.iter().skip(1).product::<usize>();
    let range = unit * from..unit * from + dims.iter().product::<usize>();
    let dims = &dims[..];
    let mismatch = || {
        let text = format!("input '{}' is {}; the array holds {:?}", io.name, io.elem, tensor.data().elem());
        Failure::usage(format!("{text}; convert it with NumPy's astype"))
    };
    match (io.elem, tensor.data()) {
        (Elem::F32, Data::F32(v)) => context.input_shaped::<f32>(i, dims)?.copy_from_slice(&v[range]),
        (Elem::U8, Data::U8(v)) => context.input_shaped::<u8>(i, dims)?.copy_from_slice(&v[range]),
        (Elem::I8, Data::I8(v)) => context.input_shaped::<i8>(i, dims)?.copy_from_slice(&v[range]),
        (Elem::I64, Data::I64(v)) => context.input_shaped::<i64>(i, dims)?.copy_from_slice(&v[range]),
        (Elem::I32, Data::I32(v)) => context.input_shaped::<i32>(i, dims)?.copy_from_slice(&v[range]),
        (Elem::U8, Data::Bool(v)) => {
            for (to, x) in context.input_shaped::<u8>(i, dims)?.iter_mut().zip(&v[range]) {
                *to = u8::from(*x);
            }
        }
        (Elem::I64, Data::I32(v)) => {
            for (to, x) in context.input_shaped::<i64>(i, dims)?.iter_mut().zip(&v[range]) {
                *to = i64::from(*x);
            }
        }
        (Elem::I32, Data::I64(v)) => {
            for (to, x) in context.input_shaped::<i32>(i, dims)?.iter_mut().zip(&v[range]) {
                *to = i32::try_from(*x).map_err(|_| mismatch())?;
            }
        }
        _ => return Err(mismatch()),
    }
    Ok(())
}

/// The first `count` indices of a dim.
fn first_of(t: &HostTensor, axis: usize, count: usize) -> Option<HostTensor> {
    let mut dims = t.dims().to_vec();
    let (size, run) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
    dims[axis] = count;
    let bytes = t.data().to_bytes();
    let unit = bytes.len() / t.len().max(1);
    let rows = bytes.chunks_exact((size * run * unit).max(1));
    let kept: Vec<u8> = rows.flat_map(|row| &row[..count * run * unit]).copied().collect();
    HostTensor::new(dims, Data::from_bytes(t.data().elem(), &kept)?)
}

/// The results of the last run.
///
/// # Errors
/// When there are none.
pub fn results(context: &Context) -> Outcome<Vec<(String, HostTensor)>> {
    let one = |(i, io): (usize, &IoInfo)| -> Outcome<(String, HostTensor)> {
        let data = match io.elem {
            Elem::F32 => Data::F32(context.output::<f32>(i)?.to_vec()),
            Elem::U8 => Data::U8(context.output::<u8>(i)?.to_vec()),
            Elem::I8 => Data::I8(context.output::<i8>(i)?.to_vec()),
            Elem::I32 => Data::I32(context.output::<i32>(i)?.to_vec()),
            Elem::I64 => Data::I64(context.output::<i64>(i)?.to_vec()),
        };
        let tensor = HostTensor::new(context.output_shape(i)?, data).and_then(|tensor| match io.counted {
            Some(counted) => first_of(&tensor, counted.axis, context.filled_shape(i).ok()?[counted.axis]),
            None => Some(tensor),
        });
        let tensor = tensor.ok_or_else(|| Failure::new(crate::failure::INTERNAL, "an output has another length"))?;
        Ok((io.name.clone(), tensor))
    };
    context.outputs().iter().enumerate().map(one).collect()
}
