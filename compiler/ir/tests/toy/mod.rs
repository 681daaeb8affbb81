//! A toy dialect: the core is tested without any op of qc.

#![allow(dead_code, clippy::unwrap_used)]

use qc_ir::{
    Elem, HostTensor, Kind, Module, OpDef, OpId, PhaseDef, Registry, TensorTy, Type, ValueId, parse, run_region,
};
use std::collections::HashMap;

qc_ir::ops! { dialect TOY = "toy";
    /// A number in every element.
    op Fill = "toy.fill"() -> (out) { value: Float, dims: Ints } [PURE CONST_LIKE] infer(infer_fill) eval(eval_fill);
    /// The sum.
    op Add = "toy.add"(lhs: Tensor, rhs: Tensor) -> (out) {} [PURE ELEMENTWISE COMMUTATIVE] infer(infer_same) eval(eval_add);
    /// `x * factor + offset`.
    op Scale = "toy.scale"(x: Tensor, offset: Optional Tensor) -> (out) { factor: Float = 2.0, note: Str = "" } [PURE ELEMENTWISE]
        infer(infer_same) verify(verify_scale) eval(eval_scale);
    /// The sum of all operands.
    op Sum = "toy.sum"(first: Tensor, rest: Variadic Tensor) -> (out) {} [PURE] infer(infer_same) eval(eval_sum);
    /// Has an effect and no result.
    op Effect = "toy.effect"(x: Tensor) {} [NONE];
    /// A region; its result type is stated.
    op Block = "toy.block"(x: Tensor) -> (out) {} [NONE];
    /// The larger and the smaller of two.
    op Order = "toy.order"(lhs: Tensor, rhs: Tensor) -> (high, low) {} [PURE] infer(infer_order);
}

/// What can be parsed.
pub static REGISTRY: Registry = Registry {
    dialects: &[TOY],
    phases: &[
        PhaseDef { name: "raw", dialects: &["toy"], kinds: &[Kind::Tensor], verify: |_| Vec::new() },
        PhaseDef { name: "done", dialects: &["toy"], kinds: &[Kind::Tensor], verify: |_| Vec::new() },
        PhaseDef { name: "empty", dialects: &[], kinds: &[Kind::Tensor], verify: |_| Vec::new() },
    ],
    interpret: |m, inputs| run_region(m, m.body(), inputs, &mut |_, _, _| {}),
    unrounded: |_, _| None,
};

fn ty(m: &Module, op: OpId, i: usize) -> Result<Type, String> {
    m.operand(op, i).map(|v| m.ty(v).clone()).ok_or_else(|| format!("operand {i} is missing"))
}

fn infer_fill(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let dims: Vec<usize> = Fill(op).dims(m).iter().map(|&d| d as usize).collect();
    Ok(vec![Type::Tensor(TensorTy::new(Elem::F32, dims))])
}

fn infer_same(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let first = ty(m, op, 0)?;
    let other = m.operands(op).iter().flatten().find(|&&v| *m.ty(v) != first);
    if other.is_some() { Err("operands differ in type".into()) } else { Ok(vec![first]) }
}

fn infer_order(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    Ok(vec![ty(m, op, 0)?, ty(m, op, 1)?])
}

fn verify_scale(m: &Module, op: OpId) -> Result<(), String> {
    if Scale(op).factor(m).is_finite() { Ok(()) } else { Err("the factor must be finite".into()) }
}

fn floats<'a>(args: &[Option<&'a HostTensor>], i: usize) -> &'a HostTensor {
    args[i].unwrap()
}

fn map(x: &HostTensor, f: impl Fn(usize, f32) -> f32) -> Result<Vec<HostTensor>, String> {
    let out = x.as_f32().ok_or("no floats")?.iter().enumerate().map(|(i, &v)| f(i, v)).collect();
    Ok(vec![HostTensor::f32(x.dims(), out)])
}

fn eval_fill(m: &Module, op: OpId, _: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let dims: Vec<usize> = Fill(op).dims(m).iter().map(|&d| d as usize).collect();
    Ok(vec![HostTensor::f32(dims.clone(), vec![Fill(op).value(m) as f32; dims.iter().product()])])
}

fn eval_add(_: &Module, _: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let b = floats(args, 1).as_f32().ok_or("no floats")?;
    map(floats(args, 0), |i, x| x + b[i])
}

fn eval_scale(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let factor = Scale(op).factor(m) as f32;
    let offset = args.get(1).copied().flatten().and_then(HostTensor::as_f32);
    map(floats(args, 0), |i, x| x * factor + offset.map_or(0.0, |o| o[i]))
}

fn eval_sum(_: &Module, _: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    map(floats(args, 0), |i, _| args.iter().flatten().map(|t| t.as_f32().unwrap()[i]).sum())
}

/// Parses a module in phase `raw` with these lines as the body of `@main(%x, %y)`.
pub fn module(body: &str) -> Module {
    text(&format!(
        "module \"toy\" phase raw\nfunc @main(%x : tensor<2xf32>, %y : tensor<2xf32>) outputs [\"out\"] {{\n{body}\n}}\n"
    ))
    .unwrap()
}

/// Parses a whole module.
pub fn text(text: &str) -> Result<Module, qc_ir::Diag> {
    parse(text, &REGISTRY, &HashMap::new())
}

/// The value called `name`.
pub fn value(m: &Module, name: &str) -> ValueId {
    let results = m.walk(m.body()).into_iter().flat_map(|op| m.results(op).to_vec());
    let mut all = m.args(m.body()).iter().copied().chain(results);
    all.find(|&v| m.name(v) == Some(name)).unwrap()
}

/// The op that computes the value called `name`.
pub fn op(m: &Module, name: &str) -> OpId {
    m.producer(value(m, name)).unwrap()
}

/// The names of the ops of the body.
pub fn names(m: &Module) -> Vec<&'static str> {
    m.ops(m.body()).iter().map(|&op| m.def(op).name).collect()
}

/// All definitions, to keep the macro's list in use.
pub fn all() -> &'static [&'static OpDef] {
    TOY
}
