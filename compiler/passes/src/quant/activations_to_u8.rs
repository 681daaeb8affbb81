//! Stores signed activations as u8: the same numbers, with stored integers and zero point shifted by 128.
//!
//! before  %q = graph.quantize(%x) {quant = q<i8, s, 0, -127, 127>}
//! after   %q = graph.quantize(%x) {quant = q<u8, s, 128, 1, 255>}
//!
//! Kernels then know one kind of activation. Weights stay signed.

use qc_dialects::graph::{Concat, Dequantize, Quantize, Reshape, Slice, Transpose};
use qc_ir::{Diag, Elem, Keeps, Module, OpId, Pass, PassCx, Quant, Store, TensorTy, Type, ValueId};

/// The pass.
pub const PASS: Pass = Pass {
    name: "activations-to-u8",
    summary: "stores signed activations as u8 with a shifted zero point",
    from: "",
    to: "",
    keeps: Keeps::Exact,
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    for op in m.ops(m.body()).to_vec() {
        if Quantize::of(m, op).is_some() {
            let v = m.result(op);
            if let Some(shifted) = shifted(m, v)
                && movable(m, v)
            {
                let id = m.intern_quant(shifted);
                m.set_attr(op, "quant", id);
                retype(m, v, id);
                cx.count("shifted");
            }
        }
    }
    Ok(())
}

/// The u8 form of a signed per-tensor format.
fn shifted(m: &Module, v: ValueId) -> Option<Quant> {
    let q = m.quant_of(v)?;
    (q.store == Store::I8 && q.axis.is_none()).then(|| Quant {
        store: Store::U8,
        zeros: q.zeros.iter().map(|z| z + 128).collect(),
        lo: q.lo + 128,
        hi: q.hi + 128,
        ..q.clone()
    })
}

fn moves(m: &Module, op: OpId) -> bool {
    [Reshape::DEF, Transpose::DEF, Slice::DEF, Concat::DEF].iter().any(|d| m.is(op, d))
}

/// Whether all uses of `v` can follow a change of storage: dequantization, or movement of this value alone.
fn movable(m: &Module, v: ValueId) -> bool {
    m.uses(v).iter().all(|u| match u {
        qc_ir::Use::Return(..) => false,
        qc_ir::Use::Operand(op, _) => {
            m.is(*op, Dequantize::DEF) || (moves(m, *op) && m.operands(*op).len() == 1 && movable(m, m.result(*op)))
        }
    })
}

fn retype(m: &mut Module, v: ValueId, id: qc_ir::QuantId) {
    let dims = m.dims(v).to_vec();
    m.set_type(v, Type::Tensor(TensorTy::new(Elem::Quant(id), dims)));
    for u in m.uses(v).to_vec() {
        if let qc_ir::Use::Operand(op, _) = u
            && moves(m, op)
        {
            let inner = m.result(op);
            retype(m, inner, id);
        }
    }
}
