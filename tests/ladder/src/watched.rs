//! Tensors that are watched where they lie against the same tensors as outputs.

use qc_compiler::{CompileError, Compiler, interpret, pipeline};
use qc_dialects::graph::Constant;
use qc_ir::{Elem, HostTensor, Module, NoSink, Step, ValueId};

/// A fused graph with all of its float tensors as results, if it has any.
pub fn all_floats(fused: &Module) -> Option<Module> {
    let body = fused.body();
    let ops = fused.ops(body).iter().filter(|op| !fused.is(**op, Constant::DEF));
    let is_float = |v: &ValueId| fused.ty(*v).tensor().is_some_and(|t| t.elem == Elem::F32);
    let floats: Vec<ValueId> = ops.flat_map(|&op| fused.results(op)).copied().filter(is_float).collect();
    let mut all = fused.clone();
    let (id, _) = fused.funcs().next()?;
    all.func_mut(id).outputs = (0..floats.len()).map(|i| format!("t{i}").into()).collect();
    all.set_returns(body, &floats);
    (!floats.is_empty()).then_some(all)
}

/// Lowers a graph with results that are copied, and with results that are watched; gives both planned.
///
/// # Errors
/// As the compiler.
pub fn both(compiler: &Compiler, graph: &Module) -> Result<[Module; 2], CompileError> {
    let planned = |steps: Vec<Step>| {
        let mut m = graph.clone();
        compiler.run(&mut m, &steps, &mut NoSink).map(|_| m)
    };
    Ok([planned(pipeline::loops())?, planned(pipeline::watched())?])
}

/// Runs both; says which tensor differs. What is watched comes in the order in which it is computed.
///
/// # Errors
/// A tensor that differs in any bit.
pub fn compare([copied, watched]: &[Module; 2], inputs: &[HostTensor]) -> Result<(), String> {
    let run = |m: &Module| interpret(m, inputs).map_err(|d| d.render(m));
    let (copied, watched) = (run(copied)?, run(watched)?);
    if copied.len() != watched.len() {
        return Err(format!("{} tensors are watched of {}", watched.len(), copied.len()));
    }
    let one = |(i, (a, b)): (usize, (&HostTensor, &HostTensor))| {
        crate::everywhere::same(a, b).map_err(|e| format!("tensor {i}: {e}"))
    };
    copied.iter().zip(&watched).enumerate().try_for_each(one)
}
