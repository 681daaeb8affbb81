//! Lays weights out as the kernels read them.
//!
//! before  %w = loop.data() {value = @w, pack = {kind = "gemm", cols = 64, channels = 3, kh = 7, kw = 7, pitch = 3}}
//! after   %w = loop.data() {value = @w.packed}
//!
//! All instruction tiers share one layout, so this happens once per model: programs of other shapes find it in the memo.

use qc_dialects::loops::ConstBuffer;
use qc_dialects::loops::pack::packed;
use qc_dialects::phase;
use qc_ir::{Attr, BufferTy, Diag, Elem, HostTensor, Keeps, Module, Pass, PassCx, TensorTy, Type};

/// The pass.
pub const PASS: Pass = Pass {
    name: "pack-weights",
    summary: "lays weights out as the kernels read them",
    from: phase::LOOPS,
    to: "",
    keeps: Keeps::Exact,
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    for op in m.ops(m.body()).to_vec() {
        cx.check_time()?;
        let Some(data) = ConstBuffer::of(m, op) else { continue };
        let fields = data.pack(m);
        if fields.is_empty() {
            continue;
        }
        let source = m.consts.get(data.value(m)).clone();
        let pack = || packed(&fields, &source.tensor).map(|bytes| vec![HostTensor::u8([bytes.len()], bytes)]);
        let made = m.consts.memo.made(&format!("pack {fields:?}"), &[&source.tensor], pack);
        let made = made.map_err(|e| Diag::bug(format!("loop.data: {e}")).at(m.loc(op)))?;
        let Some(bytes) = made.into_iter().next() else { continue };
        let len = bytes.len();
        let ty = TensorTy::new(Elem::U8, [len]);
        let c = m.consts.add(&format!("{}.packed", source.name), ty, bytes);
        m.set_attr(op, "value", c);
        m.set_attr(op, "pack", Attr::Fields(vec![]));
        let buffer = BufferTy { elem: Elem::U8, dims: [len].into(), strides: [1].into(), origin: 0, bytes: len };
        m.set_type(data.buf(m), Type::Buffer(buffer));
        cx.count("packed");
    }
    Ok(())
}
