//! Constants.

use qc_ir::{HostTensor, Module, OpId, Type};

qc_ir::ops! { dialect CONSTANT = "graph";
    /// A constant of the module's pool.
    op Constant = "graph.constant"() -> (out) { value: Const } [PURE CONST_LIKE] infer(infer_constant) eval(eval_constant);
}

fn infer_constant(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    Ok(vec![Type::Tensor(m.consts.get(Constant(op).value(m)).ty.clone())])
}

fn eval_constant(m: &Module, op: OpId, _: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    Ok(vec![(*m.consts.get(Constant(op).value(m)).tensor).clone()])
}
