//! Stores signed activations as u8: the same numbers, with stored integers and zero point shifted by 128.
//!
//! before  %q = graph.quantize(%x) {quant = q<i8, s, 0, -127, 127>}
//! after   %q = graph.quantize(%x) {quant = q<u8, s, 128, 1, 255>}
//!
//! Kernels then know one kind of activation. Weights stay signed. A result of the model that is signed becomes plain
//! integers, which are computed from its numbers: `round(x / s) + zero`.

use crate::graph::is_movement;
use qc_dialects::graph::{Add, Cast, Constant, Dequantize, Mul, Quantize};
use qc_ir::{
    Attrs, Builder, Diag, Elem, HostTensor, Keeps, Module, Pass, PassCx, Quant, Store, TensorTy, Type, ValueId,
};
use std::sync::Arc;

/// The pass.
pub const PASS: Pass = Pass {
    name: "activations-to-u8",
    summary: "stores signed activations as u8 with a shifted zero point",
    from: "",
    to: "",
    keeps: Keeps::Exact,
    run,
};

/// Adding this and taking it away rounds a number below `2^22` to a whole one.
const MAGIC: f32 = 12_582_912.0;

/// Makes the model's signed results plain integers.
fn plain_results(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    let body = m.body();
    let mut returns = m.returns(body).to_vec();
    for v in &mut returns {
        let Some(q) = m.quant_of(*v).filter(|q| q.store == Store::I8 && q.axis.is_none()).cloned() else { continue };
        let name = m.name(*v).unwrap_or("result").to_string();
        let mut b = Builder::at_end(m, body);
        let mut x = Dequantize::build(&mut b, &[Some(*v)], Attrs::new())?.out(b.m);
        let steps = [(Mul::DEF, 1.0 / q.scale(0)), (Add::DEF, MAGIC), (Add::DEF, -MAGIC), (Add::DEF, q.zero(0) as f32)];
        for (def, value) in steps {
            let ty = TensorTy::new(Elem::F32, Vec::<usize>::new());
            let c = b.m.consts.add("step", ty, Arc::new(HostTensor::f32(Vec::new(), vec![value])));
            let c = Constant::build(&mut b, &[], Attrs::new().with("value", c))?.out(b.m);
            let op = b.create(def, &[Some(x), Some(c)], Attrs::new())?;
            x = b.m.result(op);
        }
        *v = Cast::build(&mut b, &[Some(x)], Attrs::new().with("to", Type::Scalar(Elem::I8)))?.out(b.m);
        let plain = *v;
        m.set_name(plain, &format!("{name}.plain"));
        cx.count("results");
    }
    m.set_returns(body, &returns);
    Ok(())
}

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    plain_results(m, cx)?;
    for op in m.walk(m.body()) {
        cx.check_time()?;
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

/// Whether all uses of `v` can follow a change of storage: dequantization, or movement of this value alone.
fn movable(m: &Module, v: ValueId) -> bool {
    m.uses(v).iter().all(|u| match u {
        qc_ir::Use::Return(..) => false,
        qc_ir::Use::Operand(op, _) => {
            m.is(*op, Dequantize::DEF)
                || (is_movement(m, *op) && m.operands(*op).len() == 1 && movable(m, m.result(*op)))
        }
    })
}

fn retype(m: &mut Module, v: ValueId, id: qc_ir::QuantId) {
    let dims = m.dims(v).to_vec();
    m.set_type(v, Type::Tensor(TensorTy::new(Elem::Quant(id), dims)));
    for u in m.uses(v).to_vec() {
        if let qc_ir::Use::Operand(op, _) = u
            && is_movement(m, op)
        {
            let inner = m.result(op);
            retype(m, inner, id);
        }
    }
}
