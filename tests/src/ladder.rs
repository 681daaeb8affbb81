//! The ladder of equivalence: each level of the compiler computes what the level above it does.
//!
//! | rung | relation |
//! |---|---|
//! | graph interpreter, canonical float graph | reference |
//! | quant interpreter, fused graph | close: quantization is the one lossy step |
//! | loop interpreter, planned loop code | equal, if everything is integer |
//! | JIT on every tier | equal to the loop interpreter |

use qc_compiler::{CompileError, CompileOptions, Compiled, Compiler, ContextOptions, ModelFile, TargetCpu, pipeline};
use qc_ir::{Data, HostTensor, Module, NoSink};

/// The modules of one model on all rungs.
pub struct Rungs {
    /// Canonical graph.
    pub canonical: Module,
    /// Fused graph.
    pub fused: Module,
    /// Planned loop code.
    pub planned: Module,
    /// All tiers, ready to run.
    pub compiled: Compiled,
}

/// Compiles a model for every rung.
///
/// # Errors
/// As [`Compiler::compile`].
pub fn rungs(file: &ModelFile, options: &CompileOptions) -> Result<Rungs, CompileError> {
    let options = CompileOptions { target: TargetCpu::Fat, ..options.clone() };
    let compiler = Compiler::new(options.clone());
    let mut m = compiler.canonical(file)?.module;
    let canonical = m.clone();
    if let Some(ranges) = &options.ranges {
        qc_compiler::ranges::attach(&mut m, ranges).map_err(|d| CompileError::Bug { text: d.to_string() })?;
    }
    compiler.run(&mut m, pipeline::int8(&options), &mut NoSink)?;
    let fused = m.clone();
    compiler.run(&mut m, pipeline::LOOPS, &mut NoSink)?;
    let compiled = compiler.compile_file(file, &mut NoSink)?;
    Ok(Rungs { canonical, fused, planned: m, compiled })
}

/// Runs a compiled model on one tier.
///
/// # Errors
/// A sentence.
pub fn run_jit(
    predictor: &qc_compiler::Predictor,
    tier: &str,
    threads: u32,
    inputs: &[HostTensor],
    batch: usize,
) -> Result<Vec<HostTensor>, String> {
    let options = ContextOptions { threads: Some(threads), cpu: Some(tier.into()) };
    let mut cx = predictor.context(&options).map_err(|e| e.to_string())?;
    for (i, input) in inputs.iter().enumerate() {
        match input.data() {
            Data::F32(v) => cx.input_mut::<f32>(i, batch).map_err(|e| e.to_string())?.copy_from_slice(v),
            Data::I64(v) => cx.input_mut::<i64>(i, batch).map_err(|e| e.to_string())?.copy_from_slice(v),
            Data::U8(v) => cx.input_mut::<u8>(i, batch).map_err(|e| e.to_string())?.copy_from_slice(v),
            other => return Err(format!("inputs of type {:?} are not tested", other.elem())),
        }
    }
    cx.run().map_err(|e| e.to_string())?;
    let mut outputs = Vec::new();
    for (i, info) in predictor.outputs().iter().enumerate() {
        let values = cx.output::<f32>(i).map_err(|e| e.to_string())?.to_vec();
        outputs.push(HostTensor::f32(info.shape_at(batch), values));
    }
    Ok(outputs)
}
