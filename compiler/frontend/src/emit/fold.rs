//! Ops of known tensors, computed at import by what the op's declaration says.

use super::{Graph, Known, Value};
use crate::elements::bounded;
use crate::error::Refusal;
use qc_dialects::graph;
use qc_dialects::phase;
use qc_ir::{Attrs, Builder, HostTensor, Module, OpDef, TensorTy, Type, ValueId};

/// Ops that stay in the module whatever they read: they take more work than their tensors are large, or quantize.
const LEFT: &[&[&OpDef]] = &[
    graph::conv::CONV,
    graph::matmul::MATMUL,
    graph::pool::POOL,
    graph::norm::NORM,
    graph::quantize::QUANTIZE,
    graph::constant::CONSTANT,
];

impl Graph {
    /// What an op of known tensors gives; `None` where it is left to the module. Stored integers are not looked at: they are to
    /// reach integer kernels.
    ///
    /// # Errors
    /// What the op says of these elements.
    pub(super) fn evaluated(
        &mut self,
        def: &'static OpDef,
        operands: &[Option<&Value>],
        attrs: &Attrs,
    ) -> Result<Option<Value>, Refusal> {
        if LEFT.iter().any(|ops| ops.contains(&def)) || !operands.iter().any(Option::is_some) {
            return Ok(None);
        }
        let known = |v: &Option<&Value>| match v {
            None => Some(None),
            Some(Value::Known(Known { tensor, .. })) => Some(Some(tensor.clone())),
            Some(Value::Runtime(_) | Value::Dequantized(_)) => None,
        };
        let Some(tensors) = operands.iter().map(known).collect::<Option<Vec<_>>>() else { return Ok(None) };
        let tensors: Vec<Option<&HostTensor>> = tensors.iter().map(Option::as_deref).collect();
        let mut m = Module::new("constants", phase::IMPORTED);
        let types: Vec<Type> = tensors.iter().flatten().map(|t| type_of(t)).collect();
        m.add_func("main", &types);
        let mut args = m.args(m.body()).to_vec().into_iter();
        let slots: Vec<Option<ValueId>> = tensors.iter().map(|t| t.and_then(|_| args.next())).collect();
        let body = m.body();
        // What does not fit is said of the op in the module.
        let Ok(op) = Builder::at_end(&mut m, body).create(def, &slots, attrs.clone()) else { return Ok(None) };
        let Some(len) = m.results(op).first().and_then(|&v| bounded(m.dims(v))) else { return Ok(None) };
        let read: usize = tensors.iter().flatten().map(|t| t.len()).sum();
        let Some(eval) = def.eval else { return Ok(None) };
        let mut failed = None;
        let folded = self.folded(len.saturating_add(read).saturating_mul(8), || match eval(&m, op, &tensors) {
            Ok(mut results) if results.len() == 1 => results.pop(),
            Ok(_) => None,
            Err(reason) => {
                failed = Some(reason);
                None
            }
        });
        match failed {
            Some(reason) => Err(Refusal::invalid(reason)),
            None => Ok(folded),
        }
    }
}

fn type_of(t: &HostTensor) -> Type {
    Type::Tensor(TensorTy::new(t.data().elem(), t.dims()))
}
