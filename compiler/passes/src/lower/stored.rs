//! Float ops whose constants are stored as s8: kernels make floats of them as they read them.

use super::Lower;
use super::call::At;
use super::elementwise::Stored;
use super::linear::{Constants, Finish, Segments, Sides, float_call, gemm_pack, padded_groups};
use qc_dialects::quant::{QEmbedding, QFloatMatmul};
use qc_ir::{Attr, Diag, HostTensor};
use qc_kernels::pack::{GemmShape, Taps, round64};

impl Lower<'_> {
    /// `quant.float_matmul`.
    pub fn float_matmul(&mut self, op: QFloatMatmul) -> Result<(), Diag> {
        let (src, missing) = (self.src, || Diag::bug("an operand is not constant"));
        let stored = crate::graph::constant(src, op.weight(src)).ok_or_else(missing)?;
        let [n, k] = [stored.dims()[0], stored.dims()[1]];
        let x = self.view(op.x(src))?;
        let x = self.rows_view(x)?;
        let out = self.destination(op.out(src))?;
        let bias = match op.bias(src) {
            Some(b) => crate::graph::constant_f32(src, b).ok_or_else(missing)?,
            None => vec![0.0; n],
        };
        let (bias, scales) = (padded_groups(&bias, 1), padded_groups(&op.scales(src).map_err(Diag::bug)?, 1));
        let shape = GemmShape { cols: n, channels: k, kh: 1, kw: 1, taps: Taps::Joined { pitch: k } };
        let mut pack = gemm_pack(&shape, 1);
        pack.iter_mut().filter(|(name, _)| &**name == "kind").for_each(|(_, kind)| *kind = Attr::from("gemm_bytes"));
        let name = src.name(op.weight(src)).unwrap_or("weight").to_string();
        let c = Constants {
            weight: self.shared_data(&name, stored, pack)?,
            bias: self.data("bias", HostTensor::f32([bias.len()], bias), vec![])?,
            scale: Some(self.data("scale", HostTensor::f32([scales.len()], scales), vec![])?),
            addend: None,
            panel_bytes: shape.panel_bytes_f32(0) / 4,
            group_bytes: round64(shape.bytes_f32() / 4),
        };
        let clamp = [op.min(src) as f32, op.max(src) as f32];
        let (as_real, segments) = (Stored::of(None), Segments::repeated(1, k));
        self.product(&c, &shape, Sides { x: &x, out: &out, res: None }, &|p| {
            float_call(&Finish::plain(as_real, clamp), &segments, p)
        })
    }

    /// `quant.embedding`.
    pub fn embedding(&mut self, op: QEmbedding) -> Result<(), Diag> {
        let (src, scale) = (self.src, self.table_scale(op)?);
        self.gathered([op.table(src), op.indices(src)], op.out(src), 0, Some(scale))
    }

    /// The factors of the rows of a table.
    pub(super) fn table_scale(&mut self, op: QEmbedding) -> Result<At, Diag> {
        let scales = op.scales(self.src).map_err(Diag::bug)?;
        Ok(At::start(self.data("scale", HostTensor::f32([scales.len()], scales), vec![])?))
    }
}
