//! Every reader of untrusted bytes behind one function.

use super::split;
use qc_compiler::{CompileError, CompileOptions, Compiler, ModelFile, Ranges, TargetCpu, pipeline};
use qc_ir::{Module, NoSink, Step};
use qc_kernels::Tier;
use qc_runtime::pictures::{Preset, Size};
use std::path::Path;
use std::sync::OnceLock;

/// A reader of untrusted bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reader {
    /// ONNX models, compiled.
    Onnx,
    /// Paddle programs with combined parameters (see [`super::join`]), compiled.
    Paddle,
    /// Paddle programs in JSON with combined parameters, compiled.
    Pir,
    /// Compiled models: headers, notes and digests.
    Note,
    /// Modules in text form, compiled from their phase on.
    Qir,
    /// Ranges files, used for the example model.
    Ranges,
    /// `.npy` and `.npz` files.
    Arrays,
    /// PNG and JPEG pictures, prepared for a model.
    Picture,
}

impl Reader {
    /// All of them.
    pub const ALL: [Reader; 8] = [
        Reader::Onnx,
        Reader::Paddle,
        Reader::Pir,
        Reader::Note,
        Reader::Qir,
        Reader::Ranges,
        Reader::Arrays,
        Reader::Picture,
    ];

    /// Name on command lines and of the fuzz target.
    pub fn name(self) -> &'static str {
        match self {
            Reader::Onnx => "onnx",
            Reader::Paddle => "paddle",
            Reader::Pir => "pir",
            Reader::Note => "note",
            Reader::Qir => "qir",
            Reader::Ranges => "ranges",
            Reader::Arrays => "arrays",
            Reader::Picture => "picture",
        }
    }
}

/// Gives bytes to a reader, and what it makes of them to what comes behind it.
///
/// # Errors
/// The sentence with which they are refused.
///
/// # Panics
/// For a defect: a panic of the reader, or an internal error.
pub fn read(reader: Reader, bytes: &[u8]) -> Result<(), String> {
    match reader {
        Reader::Onnx => compile(ModelFile::from_bytes("mutant.onnx", bytes.to_vec(), None)),
        Reader::Paddle | Reader::Pir => {
            let (model, params) = split(bytes);
            let name = if reader == Reader::Paddle { "mutant.pdmodel" } else { "mutant.json" };
            compile(ModelFile::from_bytes(name, model.to_vec(), Some(params.to_vec())))
        }
        Reader::Note => qc_runtime::note::check_bytes(bytes).map(drop).map_err(|e| e.to_string()),
        Reader::Qir => module(bytes),
        Reader::Ranges => ranges(bytes),
        Reader::Arrays => qc_arrays::parse(bytes).map(drop),
        Reader::Picture => pictures(bytes),
    }
}

/// A compiler for one batch and the lowest tier, whose code every machine makes in the same way.
fn compiler(options: CompileOptions) -> Compiler {
    Compiler::new(CompileOptions { target: TargetCpu::Tier(Tier::Scalar), batches: vec![1], ..options })
}

fn refusal(e: CompileError) -> String {
    let text = e.to_string();
    assert!(!matches!(e, CompileError::Bug { .. }), "{text}");
    assert!(!text.is_empty());
    text
}

fn compile(file: ModelFile) -> Result<(), String> {
    let compiled = compiler(CompileOptions::default()).compile_file(&file, &mut NoSink).map_err(refusal)?;
    // Machine code for every eighth: it takes longer than all the rest.
    if file.sha256()[0].is_multiple_of(8) {
        compiled.jit().map_err(refusal)?;
    }
    Ok(())
}

/// The passes that follow a phase, up to planned loop code.
fn rest_of_pipeline(phase: &str) -> Vec<Step> {
    let options = CompileOptions::default();
    let parts = [pipeline::float(&options), pipeline::int8(&options), pipeline::loops()];
    let from = match phase {
        "imported" | "canonical" => 0,
        "quantized" => 1,
        "fused" => 2,
        _ => 3,
    };
    parts[from..].concat()
}

fn module(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let consts = qc_ir::read_sidecar(&[]);
    let mut m: Module = qc_ir::parse(text, &qc_dialects::REGISTRY, &consts).map_err(|d| d.to_string())?;
    if let Some(d) = qc_ir::verify(&m, &qc_dialects::REGISTRY).into_iter().next() {
        return Err(d.render(&m));
    }
    let compiler = compiler(CompileOptions::default());
    let rest = rest_of_pipeline(m.phase);
    compiler.run(&mut m, &rest, &mut NoSink).map_err(refusal)?;
    Ok(())
}

/// The example's float model, which ranges files are for.
fn example() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits/digits.onnx");
    BYTES.get_or_init(|| std::fs::read(path).expect("the example is part of the repository"))
}

fn ranges(bytes: &[u8]) -> Result<(), String> {
    let options = CompileOptions { ranges: Some(Ranges::parse(bytes)?), ..CompileOptions::default() };
    let file = ModelFile::from_bytes("digits.onnx", example().to_vec(), None);
    compiler(options).compile_file(&file, &mut NoSink).map(drop).map_err(refusal)
}

fn pictures(bytes: &[u8]) -> Result<(), String> {
    for (name, side) in [("imagenet", 224), ("digits", 8)] {
        let (preset, size) = (Preset::named(name).expect("a preset"), Size { height: side, width: side });
        preset.load_bytes(bytes, size, &mut vec![0.0; preset.values(size)])?;
    }
    Ok(())
}
