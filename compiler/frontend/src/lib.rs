//! Reads ONNX and PaddlePaddle models into the graph dialect.
//!
//! [`import`] takes the bytes of a model and a resolver for the files beside it; it does no I/O itself. What the bytes
//! are is found out from the bytes. Input is untrusted: a broken or hostile model gives an error value, never a panic,
//! and memory stays in proportion to the input. Everything that keeps a model from being imported is reported at once.

#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(test)]
mod bombs;
#[cfg(test)]
mod cases;
mod constants;
mod elements;
mod emit;
mod error;
mod files;
mod functions;
mod inputs;
mod json;
mod onnx;
mod options;
mod paddle;
#[cfg(test)]
mod seeds;
mod shape;
mod sniff;
mod stated;
mod walk;
mod width;
mod wire;

pub use constants::Constants;
pub use error::{ImportError, ImportErrors};
pub use files::{FileError, Files, NoFiles, PathError, check_external_path};
pub use onnx::write::{Interface, Unwritten, Written, write as write_onnx};
pub use options::{Disposition, Imported, NodeReport, Options, Port, Source};
pub use prost::bytes::Bytes;
pub use sniff::{Format, sniff};
pub use stated::{DimSpec, ShapeSpec, Shapes};

/// The vocabularies of models and their operators that are understood, each sorted. Control flow and constants of Paddle 3,
/// which are no operators of a table, are left out.
pub fn op_types() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("ONNX", onnx::ops::names("")),
        ("ONNX, domain com.microsoft", onnx::ops::names("com.microsoft")),
        ("Paddle 1 and 2", paddle::ops::names()),
        ("Paddle 3 (pd_op)", paddle::pir::ops::names()),
    ]
}

/// What an op type of Paddle 1 and 2 is called in Paddle 3.
pub fn names_in_paddle_3(op_type: &str) -> Vec<&'static str> {
    paddle::pir::ops::names_of(op_type)
}

/// Reads a tensor that ONNX stores in a file of its own, with its name if it has one.
///
/// # Errors
/// A sentence: no such file, an element type that no model has, or elements that do not fit the shape.
pub fn onnx_tensor(bytes: Bytes) -> Result<(Option<String>, qc_ir::HostTensor), String> {
    onnx::tensor_file(bytes)
}

/// The shapes to compile a model for: every combination of the sizes that `stated` gives its inputs and named dims. Shapes
/// of which nothing is stated are left out. Of `options`, the limits are used.
///
/// `data` are the shapes of arrays that the model is going to be run with, by input name where they have one. Where nothing is
/// stated, dims that the model leaves open are theirs; else they choose among the combinations, if they fit one.
///
/// # Errors
/// As [`import`]; statements that fit no input or contradict each other; more combinations than the limit `variants`.
pub fn combinations(
    source: &Source<'_>,
    options: &Options,
    stated: &[ShapeSpec],
    data: &[(Option<String>, Vec<usize>)],
) -> Result<Vec<Shapes>, ImportErrors> {
    if stated.is_empty() && data.is_empty() {
        return Ok(vec![Shapes::new()]);
    }
    // What cannot be imported says so there.
    let Some(declared) = declared(source, options)? else { return Ok(vec![Shapes::new()]) };
    if stated.is_empty() {
        return stated::combinations(&declared, &stated::of_data(&declared, data), &options.limits);
    }
    let mut all = stated::combinations(&declared, stated, &options.limits)?;
    let fitting = |shapes: &Shapes| stated::fits_data(&declared, shapes, data);
    if all.iter().any(fitting) {
        all.retain(fitting);
    }
    Ok(all)
}

/// The shape of every input of a model, given those of some, batch included; the others have to be fixed in the model.
///
/// # Errors
/// As [`import`]; shapes that do not fit the model or one another, and inputs without a shape.
pub fn exact(
    source: &Source<'_>,
    options: &Options,
    given: &[(Option<String>, Vec<usize>)],
) -> Result<Shapes, ImportErrors> {
    let Some(declared) = declared(source, options)? else { return Ok(Shapes::new()) };
    stated::exact(&declared, given, &options.limits)
}

/// The names of a model's inputs, in its order.
///
/// # Errors
/// As [`import`].
pub fn input_names(source: &Source<'_>, options: &Options) -> Result<Vec<String>, ImportErrors> {
    Ok(declared(source, options)?.unwrap_or_default().into_iter().map(|d| d.name).collect())
}

/// The inputs that a model declares and that are not constants; none where it is no model.
fn declared(source: &Source<'_>, options: &Options) -> Result<Option<Vec<inputs::Declared>>, ImportErrors> {
    let all = match sniff(&source.model) {
        Format::Onnx => onnx::declared(source, options)?,
        Format::PaddleProgram => paddle::declared(source, options)?,
        Format::PaddlePir => {
            json::check(&source.model, &options.limits)?;
            paddle::declared_pir(source)?
        }
        _ => return Ok(None),
    };
    Ok(Some(all.into_iter().filter(|d| !options.values.contains_key(&d.name)).collect()))
}

/// Imports a model into the graph dialect with static shapes.
///
/// # Errors
/// [`ImportErrors`] with everything that keeps the model from being imported.
pub fn import(source: &Source<'_>, options: &Options) -> Result<Imported, ImportErrors> {
    let refuse = |reason: &str, remedy: &str| {
        Err(ImportError::NotAModel { reason: reason.into(), remedy: remedy.into() }.into())
    };
    let format = sniff(&source.model);
    if format == Format::PaddlePir {
        json::check(&source.model, &options.limits)?;
    }
    let imported = match format {
        Format::Onnx => onnx::import(source, options),
        Format::PaddleProgram => paddle::import(source, options),
        Format::PaddlePir => paddle::import_pir(source, options),
        Format::PaddleParams => refuse(
            "this is a Paddle parameter file, which holds no program",
            "give the .pdmodel, .json or __model__ that belongs to it, or the directory of both",
        ),
        Format::Pickle => refuse(
            "this is a Python pickle, such as .pdparams, .pdiparams.info or a PyTorch checkpoint",
            "export an inference model: paddle.jit.save, or torch.onnx.export",
        ),
        Format::Zip => {
            refuse("this is a zip archive, such as a TorchScript file", "unpack it, or export the model to ONNX")
        }
        Format::Unknown => refuse(
            "the bytes are neither ONNX nor a Paddle program",
            "give the .onnx, .pdmodel, .json or __model__ file",
        ),
    }?;
    options.limits.check(qc_ir::Limit::Nodes, imported.report.len() as u64, || "the number of nodes is".into())?;
    options.limits.check_module(&imported.module)?;
    Ok(imported)
}
