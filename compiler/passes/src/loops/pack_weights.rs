//! Lays weights out as the kernels read them.
//!
//! before  %w = loop.data() {value = @w, pack = {kind = "gemm", cols = 64, channels = 3, kh = 7, kw = 7, pitch = 3}}
//! after   %w = loop.data() {value = @w.packed}
//!
//! All instruction tiers share one layout, so this happens once per model.

use qc_dialects::loops::ConstBuffer;
use qc_dialects::phase;
use qc_ir::{Attr, BufferTy, Data, Diag, Elem, HostTensor, Keeps, Module, Pass, PassCx, TensorTy, Type};
use qc_kernels::pack::{GemmShape, Taps, pack_dw, pack_dw_f32, pack_gemm, pack_gemm_f32, round64};
use std::sync::Arc;

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
        let Some(data) = ConstBuffer::of(m, op) else { continue };
        let fields = data.pack(m);
        if fields.is_empty() {
            continue;
        }
        let source = m.consts.get(data.value(m)).clone();
        let bytes = pack(&fields, &source.tensor).map_err(|e| Diag::bug(format!("loop.data: {e}")).at(m.loc(op)))?;
        let len = bytes.len();
        let ty = TensorTy::new(Elem::U8, [len]);
        let c = m.consts.add(&format!("{}.packed", source.name), ty, Arc::new(HostTensor::u8([len], bytes)));
        m.set_attr(op, "value", c);
        m.set_attr(op, "pack", Attr::Fields(vec![]));
        let buffer = BufferTy { elem: Elem::U8, dims: [len].into(), strides: [1].into(), origin: 0, bytes: len };
        m.set_type(data.buf(m), Type::Buffer(buffer));
        cx.count("packed");
    }
    Ok(())
}

fn pack(fields: &[(Box<str>, Attr)], source: &HostTensor) -> Result<Vec<u8>, String> {
    let number = |name: &str| match fields.iter().find(|(n, _)| &**n == name) {
        Some((_, Attr::Int(x))) => usize::try_from(*x).map_err(|_| format!("`{name}` is negative")),
        _ => Err(format!("`{name}` is missing")),
    };
    let kind = match fields.iter().find(|(n, _)| &**n == "kind") {
        Some((_, Attr::Str(kind))) => kind,
        _ => return Err("`kind` is missing".into()),
    };
    match &**kind {
        "gemm" => {
            let taps = match number("pitch")? {
                0 => Taps::Split,
                pitch => Taps::Joined { pitch },
            };
            let shape = GemmShape {
                cols: number("cols")?,
                channels: number("channels")?,
                kh: number("kh")?,
                kw: number("kw")?,
                taps,
            };
            pack_groups(&shape, number("groups")?, source)
        }
        "depthwise" => {
            let (channels, kh, kw) = (number("channels")?, number("kh")?, number("kw")?);
            match source.data() {
                Data::I8(w) => pack_dw(channels, kh, kw, w).map_err(|e| e.to_string()),
                Data::F32(w) => pack_dw_f32(channels, kh, kw, w).map_err(|e| e.to_string()),
                _ => Err("weights are s8 or f32".into()),
            }
        }
        other => Err(format!("unknown kind `{other}`")),
    }
}

/// One group after the other, each at a multiple of 64 bytes.
fn pack_groups(shape: &GemmShape, groups: usize, source: &HostTensor) -> Result<Vec<u8>, String> {
    let each = shape.cols * shape.channels * shape.kh * shape.kw;
    let mut out = Vec::new();
    for g in 0..groups {
        let range = g * each..(g + 1) * each;
        let packed = match source.data() {
            Data::I8(w) => pack_gemm(shape, w.get(range).ok_or("too few weights")?),
            Data::F32(w) => pack_gemm_f32(shape, w.get(range).ok_or("too few weights")?),
            _ => return Err("weights are s8 or f32".into()),
        };
        out.extend(packed.map_err(|e| e.to_string())?);
        if groups > 1 {
            out.resize(round64(out.len()), 0);
        }
    }
    Ok(out)
}
