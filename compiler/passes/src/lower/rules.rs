//! Which function lowers which op.

use super::Lower;
use qc_dialects::graph::{
    ACTIVATION, AdaptiveAvgPool, Add, AvgPool, BatchNorm, Binary, Cast, Clamp, Compare, Concat, Constant, Conv2d,
    Conversion, CumSum, Dequantize, DynamicQuantize, DynamicScale, DynamicZero, Expand, Gather, GlobalAvgPool,
    GlobalMaxPool, Index, IntBinary, IntReduce, IntegerConv2d, IntegerMatmul, LayerNorm, Lrn, Matmul, MatrixNms,
    MaxPool, Nms, Observe, Offsets, Pad, Quantize, ReduceMean, Resample, Reshape, Scan, Scatter, Select, Slice,
    Softmax, Take, TopK, Transpose,
};
use qc_dialects::quant::{
    QAvgPool, QBatchMatmul, QBinary, QConv2d, QDynamicConv2d, QDynamicMatmul, QEmbedding, QFloatMatmul, QLut, QMatmul,
    QMaxPool, QResample,
};
use qc_ir::{Diag, OpDef, OpId};

/// Lowers one op.
type Rule = fn(&mut Lower<'_>, OpId) -> Result<(), Diag>;

/// The ops that have code, each once.
const RULES: &[(&[&OpDef], Rule)] = &[
    // Constants are laid down at their first use; the others are views, which the layout knows.
    (&[Constant::DEF, Transpose::DEF, Expand::DEF, Slice::DEF, Observe::DEF], |_, _| Ok(())),
    (&[Reshape::DEF], |l, op| l.reshape(Reshape(op))),
    (&[Concat::DEF], |l, op| l.concat(Concat(op))),
    (&[Pad::DEF], |l, op| l.pad(Pad(op))),
    (&[Cast::DEF], |l, op| l.cast(Cast(op))),
    (&[IntBinary::DEF], |l, op| l.int_binary(IntBinary(op))),
    (&[IntReduce::DEF], |l, op| l.int_reduce(IntReduce(op))),
    (&[CumSum::DEF], |l, op| l.cumsum(CumSum(op))),
    (&[Compare::DEF], |l, op| l.compare(Compare(op))),
    (&[Select::DEF], |l, op| l.select(Select(op))),
    (&[Index::DEF], |l, op| l.index(Index(op))),
    (&[Offsets::DEF], |l, op| l.offsets(Offsets(op))),
    (&[Gather::DEF], |l, op| l.gather(Gather(op))),
    (&[Take::DEF], |l, op| l.take(Take(op))),
    (&[Resample::DEF], |l, op| l.resample(Resample(op))),
    (&[QResample::DEF], |l, op| l.resample_u8(QResample(op))),
    (&[TopK::DEF], |l, op| l.top_k(TopK(op))),
    (&[Nms::DEF], |l, op| l.nms(Nms(op))),
    (&[MatrixNms::DEF], |l, op| l.matrix_nms(MatrixNms(op))),
    (&[Scatter::DEF], |l, op| l.scatter(Scatter(op))),
    (&[Conv2d::DEF], |l, op| l.conv_f32(Conv2d(op))),
    (&[QConv2d::DEF], |l, op| l.conv_u8(QConv2d(op))),
    (&[Matmul::DEF], |l, op| l.matmul_f32(Matmul(op))),
    (&[QMatmul::DEF], |l, op| l.matmul_u8(QMatmul(op))),
    (&[QDynamicMatmul::DEF], |l, op| l.dynamic_matmul(QDynamicMatmul(op))),
    (&[QDynamicConv2d::DEF], |l, op| l.dynamic_conv(QDynamicConv2d(op))),
    (&[IntegerConv2d::DEF], |l, op| l.integer_conv(IntegerConv2d(op))),
    (&[QFloatMatmul::DEF], |l, op| l.float_matmul(QFloatMatmul(op))),
    (&[QEmbedding::DEF], |l, op| l.embedding(QEmbedding(op))),
    (&[IntegerMatmul::DEF], |l, op| l.integer_matmul(IntegerMatmul(op))),
    (&[DynamicQuantize::DEF], |l, op| l.dynamic_quantize(DynamicQuantize(op))),
    (&[DynamicScale::DEF], |l, op| l.dynamic_scale(DynamicScale(op))),
    (&[DynamicZero::DEF], |l, op| l.dynamic_zero(DynamicZero(op))),
    (&[QBatchMatmul::DEF], |l, op| l.batch_matmul(QBatchMatmul(op))),
    (&[MaxPool::DEF, AvgPool::DEF, QMaxPool::DEF, QAvgPool::DEF], |l, op| l.pool(op)),
    (&[GlobalMaxPool::DEF, GlobalAvgPool::DEF, AdaptiveAvgPool::DEF], |l, op| l.pool(op)),
    (Binary::DEFS, |l, op| l.real_ops(&[op])),
    (QBinary::DEFS, |l, op| QBinary::of(l.src, op).map_or_else(|| Err(lost(op)), |view| l.binary_u8(view))),
    (Clamp::DEFS, |l, op| l.real_ops(&[op])),
    (ACTIVATION, |l, op| l.real_ops(&[op])),
    (&[QLut::DEF], |l, op| l.lut(QLut(op))),
    (Conversion::DEFS, |l, op| l.conversion(op)),
    (&[Softmax::DEF], |l, op| l.softmax(Softmax(op))),
    (&[LayerNorm::DEF], |l, op| l.layer_norm(LayerNorm(op))),
    (&[Lrn::DEF], |l, op| l.lrn(Lrn(op))),
    (&[ReduceMean::DEF], |l, op| l.reduce_mean(ReduceMean(op))),
    (&[Scan::DEF], |l, op| l.scan(Scan(op))),
    (&[BatchNorm::DEF], |_, _| {
        Err(Diag::error("graph.batch_norm: its statistics are not constant, finite numbers")
            .help("check the exported mean and variance; a variance must not be negative"))
    }),
];

fn lost(_: OpId) -> Diag {
    Diag::bug("an op is not what its rule says")
}

fn rule(def: &OpDef) -> Option<Rule> {
    RULES.iter().find(|(defs, _)| defs.contains(&def)).map(|(_, rule)| *rule)
}

impl Lower<'_> {
    /// Lowers an op.
    pub fn op(&mut self, op: OpId) -> Result<(), Diag> {
        let def = self.src.def(op);
        let joined = &self.place.conversions.joined;
        if joined.has_no_step(op) {
            return Ok(());
        }
        if let Some(sum) = joined.embeddings(op) {
            return self.sum_of_embeddings(&sum.clone(), Add(op));
        }
        if let Some(row) = joined.row(op).map(<[OpId]>::to_vec) {
            return self.real_ops(&row);
        }
        if let Some(norm) = joined.norm_with(op) {
            return self.layer_norm(norm);
        }
        match rule(def) {
            Some(rule) => rule(self, op),
            None => Err(Diag::bug(format!("{} cannot be lowered; an earlier pass should have replaced it", def.name))),
        }
    }

    /// `graph.quantize`, `graph.dequantize`: neighbours may have converted already, or do so themselves.
    fn conversion(&mut self, op: OpId) -> Result<(), Diag> {
        match Conversion::of(self.src, op) {
            _ if self.place.conversions.has_no_step(self.src, op) => Ok(()),
            Some(Conversion::Quantize(Quantize(op))) => self.quantize(Quantize(op)),
            Some(Conversion::Dequantize(Dequantize(op))) => self.dequantize(Dequantize(op)),
            None => Err(lost(op)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RULES;
    use qc_dialects::{graph, quant};

    #[test]
    fn every_op_of_tensors_has_one_rule() {
        for def in graph::GRAPH.iter().chain(quant::QUANT) {
            let rules = RULES.iter().flat_map(|(defs, _)| *defs).filter(|d| *d == def).count();
            assert_eq!(rules, 1, "{}", def.name);
        }
    }
}
