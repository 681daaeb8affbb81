//! Models that are ready to run: compiled in this process, or loaded from a `.so`.

use crate::args::ModelArgs;
use crate::failure::{Failure, MODEL, Outcome};
use qc_compiler::batch::Data;
use qc_compiler::{CompileOptions, Compiler, TargetCpu};
use qc_ir::{HostTensor, NoSink};
use qc_kernels::Tier;
use qc_runtime::{Context, ContextOptions, Elem, IoInfo, Note, Predictor, TrustOfUser};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

/// A model that is ready to run.
pub struct Model {
    /// The model.
    pub predictor: Predictor,
    /// What it is.
    pub note: Note,
    /// Time to load or to compile it.
    pub ready_in: Duration,
    /// Whether it was compiled in this process.
    pub is_jit: bool,
}

/// Whether `path` is a folder rather than a file. Anything else, such as a pipe, could block whoever reads it.
///
/// # Errors
/// When there is nothing, or neither of both.
pub fn is_folder(path: &Path) -> Outcome<bool> {
    let metadata = std::fs::metadata(path).map_err(|e| Failure::io(path, &e))?;
    match metadata.is_dir() || metadata.is_file() {
        true => Ok(metadata.is_dir()),
        false => Err(Failure::new(MODEL, format!("{}: this is neither a regular file nor a folder", path.display()))),
    }
}

/// Whether the file at `path` is a shared object, by its first bytes.
///
/// # Errors
/// When it cannot be read.
pub fn is_shared_object(path: &Path) -> Outcome<bool> {
    let fail = |e: std::io::Error| Failure::io(path, &e);
    if is_folder(path)? {
        return Ok(false);
    }
    let mut head = Vec::new();
    File::open(path).map_err(fail)?.take(4).read_to_end(&mut head).map_err(fail)?;
    Ok(head == b"\x7fELF")
}

/// Loads a `.so`, or compiles a model for this machine with code for `batch`, or for that of `data`.
///
/// # Errors
/// As loading and compiling; options of the compiler for a `.so`.
pub fn open(path: &Path, args: &ModelArgs, batch: usize, data: Data) -> Outcome<Model> {
    open_for(path, args, batch, data, &[]).map(|(model, _)| model)
}

/// As [`open`], for arrays by the names of inputs: those that the model needs as constants are, and their names are given.
///
/// # Errors
/// As [`open`].
pub fn open_for(
    path: &Path,
    args: &ModelArgs,
    batch: usize,
    data: Data,
    arrays: &[(String, HostTensor)],
) -> Outcome<(Model, Vec<String>)> {
    let start = Instant::now();
    let is_jit = !is_shared_object(path)?;
    let mut constant = Vec::new();
    let predictor = if is_jit {
        let target = TargetCpu::Tier(jit_tier());
        let options = CompileOptions { target, batches: vec![batch.max(1)], data, ..args.options()? };
        let file = args.open(path, &options)?;
        let mut compiler = Compiler::new(options);
        constant = if arrays.is_empty() { Vec::new() } else { compiler.take_values(&file, arrays) };
        compiler.compile_file(&file, &mut NoSink)?.jit()?
    } else {
        args.none_for(path)?;
        Predictor::load_named_by_user(path, args.check(), TrustOfUser)?
    };
    let ready_in = start.elapsed();
    let note: Note = serde_json::from_str(predictor.json())
        .map_err(|e| Failure::new(MODEL, format!("{}: its metadata cannot be read: {e}", path.display())))?;
    Ok((Model { predictor, note, ready_in, is_jit }, constant))
}

/// The tier for code of this process: the machine's, unless `QC_CPU` caps it. A word that is no tier is left to the
/// runtime, which refuses it.
pub fn jit_tier() -> Tier {
    let cap = std::env::var("QC_CPU").ok().and_then(|name| Tier::from_name(name.trim()));
    qc_kernels::host::best(cap)
}

impl Model {
    /// A caller with this many threads; none: as the environment and the machine say.
    ///
    /// # Errors
    /// As the runtime.
    pub fn context(&self, threads: Option<u32>) -> Outcome<Context> {
        Ok(self.predictor.context(&ContextOptions { threads, cpu: None })?)
    }

    /// The inputs of the shape of this number, as `ids [n, 16], mask [n, 16]`; empty for a model of one shape.
    pub fn shape_name(&self, shape: usize) -> String {
        self.note.shapes().into_iter().nth(shape).unwrap_or_default()
    }

    /// The only input, which must be f32.
    ///
    /// # Errors
    /// A model with several inputs or another type.
    pub fn picture_input(&self) -> Outcome<&IoInfo> {
        match self.predictor.inputs() {
            [one] if one.elem == Elem::F32 => Ok(one),
            [one] => Err(Failure::usage(format!("input '{}' is {one}; pictures need f32 [n, c, h, w]", one.name))),
            several => Err(Failure::usage(format!("the model has {} inputs; pictures need just one", several.len()))),
        }
    }

    /// The output that holds scores of classes: the named one, or the first of f32 with more than one value.
    ///
    /// # Errors
    /// When there is none.
    pub fn scores_output(&self, name: Option<&str>) -> Outcome<usize> {
        let outputs = self.predictor.outputs();
        let fits = |io: &IoInfo| io.elem == Elem::F32 && classes(io) > 1;
        let found = match name {
            Some(name) => outputs.iter().position(|io| io.name == name),
            None => outputs.iter().position(fits),
        };
        found.filter(|&i| fits(&outputs[i])).ok_or_else(|| {
            let names: Vec<String> = outputs.iter().map(|io| format!("'{}' {io}", io.name)).collect();
            Failure::usage(format!("no such output holds f32 scores of classes; outputs are {}", names.join(", ")))
        })
    }
}

/// Scores per row of an output.
pub fn classes(io: &IoInfo) -> usize {
    io.item_len() / io.shape.first().copied().unwrap_or(1).max(1)
}

/// The largest `k` scores: class and score, best first; equal ones by class.
pub fn top(scores: &[f32], k: usize) -> Vec<(usize, f32)> {
    let mut order: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    order.truncate(k);
    order
}

#[cfg(test)]
mod tests {
    use super::top;

    #[test]
    fn the_best_come_first_and_ties_by_class() {
        assert_eq!(top(&[0.5, 2.0, 0.5, 2.0], 3), [(1, 2.0), (3, 2.0), (0, 0.5)]);
        assert_eq!(top(&[1.0], 5), [(0, 1.0)]);
    }
}
