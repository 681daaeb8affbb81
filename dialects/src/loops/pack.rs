//! Weights as kernels read them: the meaning of the attribute `pack` of `loop.data`. The pass `pack-weights` applies it
//! once; the interpreter applies it to code that the pass has not seen yet.

use qc_ir::{Attr, Data, HostTensor};
use qc_kernels::pack::{GemmShape, Taps, pack_dw, pack_dw_f32, pack_gemm, pack_gemm_bytes, pack_gemm_f32, round64};

/// The bytes of `source` laid out as the attribute `pack` of a `loop.data` says.
///
/// # Errors
/// One sentence when fields are missing or do not fit the tensor.
pub fn packed(fields: &[(Box<str>, Attr)], source: &HostTensor) -> Result<Vec<u8>, String> {
    let number = |name: &str| match fields.iter().find(|(n, _)| &**n == name) {
        Some((_, Attr::Int(x))) => usize::try_from(*x).map_err(|_| format!("`{name}` is negative")),
        _ => Err(format!("`{name}` is missing")),
    };
    let kind = match fields.iter().find(|(n, _)| &**n == "kind") {
        Some((_, Attr::Str(kind))) => kind,
        _ => return Err("`kind` is missing".into()),
    };
    match &**kind {
        "gemm" | "gemm_bytes" => {
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
            pack_groups(&shape, number("groups")?, source, &**kind == "gemm_bytes")
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

/// One group after the other, each at a multiple of 64 bytes; s8 as the integer kernels read it, or as the float one does.
fn pack_groups(shape: &GemmShape, groups: usize, source: &HostTensor, as_floats: bool) -> Result<Vec<u8>, String> {
    let each = shape.cols * shape.channels * shape.kh * shape.kw;
    let mut out = Vec::new();
    for g in 0..groups {
        let range = g * each..(g + 1) * each;
        let packed = match source.data() {
            Data::I8(w) if as_floats => pack_gemm_bytes(shape, w.get(range).ok_or("too few weights")?),
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
