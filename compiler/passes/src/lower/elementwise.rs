//! Element-wise ops, quantize and dequantize.
//!
//! The kernels take rows of contiguous elements; a second operand may repeat along a row or between rows. An operand
//! that lies otherwise is copied into the layout of the result first. Kernels of real numbers read and write bytes where
//! a quantization or dequantization has no step of its own.

use super::Lower;
use super::call::{At, Code, Count};
use super::emit::{Operand, sweep};
use super::view::{Level, View, levels};
use qc_dialects::graph::{Dequantize, Quantize};
use qc_dialects::quant::{QBinary, QLut};
use qc_ir::{Diag, HostTensor, OpId, Quant, ValueId};
use qc_kernels::Variant;
use qc_kernels::args::{
    BinaryU8Call, BinaryU8More, DequantizeCall, DequantizeMore, KernelCall, QuantizeCall, QuantizeMore, UnaryCall,
    UnaryMore,
};

impl Lower<'_> {
    /// The tensor that a kernel of real numbers reads for `v`, and its format.
    pub(super) fn real_operand(&self, v: ValueId) -> (ValueId, Read) {
        let read = self.place.read(v).unwrap_or(v);
        (read, Read::of(self.src.quant_of(read)))
    }

    /// Sweeps two operands in the order of the result's memory. The call is made from: whether the second operand is one
    /// element per row, elements of a row, rows, both operands and the result.
    fn binary_sweep<C: KernelCall<Code>>(
        &mut self,
        [a, b]: [ValueId; 2],
        out: &View,
        call: impl Fn(Count, [Count; 2], [Operand<2>; 3]) -> C,
    ) -> Result<(), Diag> {
        let (a, b) = (self.operand_like(a, out, false)?, self.operand_like(b, out, true)?);
        let all = contiguous(levels(&out.dims, &[&a, &b, out], 2), 2, out.elem_bytes());
        let scalar = usize::from(all.last().is_some_and(|l| l.strides[1] == 0));
        sweep(&mut self.emit(), [&a, &b, out], all, |counts, operands| call(scalar.into(), counts, operands))
    }

    /// The operands of a binary op, the first of which must have the result's dims; only the second may repeat within a
    /// row. Those of a commutative op are swapped for it.
    pub(super) fn operands(&self, op: OpId, out: &View, commutes: bool) -> Result<[ValueId; 2], Diag> {
        let (Some(a), Some(b)) = (self.src.operand(op, 0), self.src.operand(op, 1)) else {
            return Err(Diag::bug("an operand is missing"));
        };
        let swap = commutes && self.src.dims(a) != out.dims;
        Ok(if swap { [b, a] } else { [a, b] })
    }

    /// `quant.add`, `quant.mul`.
    pub fn binary_u8(&mut self, view: QBinary) -> Result<(), Diag> {
        let (src, op) = (self.src, view.op());
        let out = self.destination(src.result(op))?;
        let [lo, hi] = view.bounds(src);
        let (variant, operands, factors) = match view {
            QBinary::QMul(mul) => {
                let zero = src.quant_of(mul.out(src)).map_or(0, |q| q.zero(0));
                let operands = self.operands(op, &out, true)?;
                let [a_zero, b_zero] = operands.map(|v| self.zero_of(v));
                let scale = Some(mul.factor(src).map_err(Diag::bug)?);
                (
                    Variant::MulU8,
                    operands,
                    BinaryU8More { a_zero, b_zero, scale, zero: zero as f32, ..Default::default() },
                )
            }
            QBinary::QAdd(add) => {
                let f = add.factors(src).map_err(Diag::bug)?;
                let (a_scale, b_scale) = (Some(f.a_scale), Some(f.b_scale));
                let factors = BinaryU8More { a_scale, b_scale, offset: f.offset, ..Default::default() };
                // The order of the sum is part of its definition, so sides do not swap.
                (Variant::AddU8, self.operands(op, &out, false)?, factors)
            }
        };
        self.binary_sweep(operands, &out, |b_scalar, [n, rows], [a, b, out]| {
            let (a_row, b_row, out_row) = (a.by[1], b.by[1], out.by[1]);
            let more = BinaryU8More { a_row, b_row, out_row, b_scalar, lo, ..factors.clone() };
            BinaryU8Call { variant, a: a.at, b: b.at, out: out.at, rows, n, hi, more }
        })
    }

    /// `quant.lut`.
    pub fn lut(&mut self, op: QLut) -> Result<(), Diag> {
        let table = self.src.consts.get(op.table(self.src)).tensor.clone();
        let table: HostTensor = (*table).clone();
        let data = self.data("table", table, vec![])?;
        let out = self.destination(op.out(self.src))?;
        let x = self.operand_like(op.x(self.src), &out, false)?;
        let all = contiguous(levels(&out.dims, &[&x, &out], 1), 1, 1);
        sweep(&mut self.emit(), [&x, &out], all, |[n, rows], [a, out]| {
            let (a_row, out_row, lut) = (a.by[1], out.by[1], Some(At::start(data)));
            let more = UnaryMore { lut, a_row, out_row, ..Default::default() };
            UnaryCall { variant: Variant::LutU8, a: a.at, out: out.at, rows, n, more }
        })
    }

    /// `graph.quantize` to one u8 format.
    pub fn quantize(&mut self, op: Quantize) -> Result<(), Diag> {
        let q = self.src.quant(op.quant(self.src)).clone();
        if q.store != qc_ir::Store::U8 || q.axis.is_some() {
            return Err(Diag::error("graph.quantize: only u8 with one scale can be computed at run time"));
        }
        let (a, out) = (self.view(op.x(self.src))?, self.destination(op.out(self.src))?);
        let all = contiguous(levels(&out.dims, &[&a, &out], 1), 1, 1);
        sweep(&mut self.emit(), [&a, &out], all, |[channels, pixels, outer], [a, out]| {
            let ([a_ch, a_px, a_outer], [_, out_px, out_outer]) = (a.by, out.by);
            let more = QuantizeMore { a_px, a_ch, a_outer, out_px, out_outer, zero: q.zero(0) as f32, lo: q.lo };
            let (variant, a, out) = (Variant::U8, a.at, out.at);
            QuantizeCall { variant, a, out, pixels, channels, outer, scale: q.scale(0), hi: q.hi, more }
        })
    }

    /// `graph.dequantize` of one u8 format.
    pub fn dequantize(&mut self, op: Dequantize) -> Result<(), Diag> {
        let x = op.q(self.src);
        let q = self.src.quant_of(x).cloned().ok_or_else(|| Diag::bug("no format"))?;
        if q.store != qc_ir::Store::U8 || q.axis.is_some() {
            return Err(Diag::error("graph.dequantize: only u8 with one scale can be computed at run time"));
        }
        let (a, out) = (self.view(x)?, self.destination(op.out(self.src))?);
        let all = contiguous(levels(&out.dims, &[&a, &out], 0), 0, 1);
        sweep(&mut self.emit(), [&a, &out], all, |[channels, pixels, outer], [a, out]| {
            let ([_, a_px, a_outer], [out_ch, out_px, out_outer]) = (a.by, out.by);
            let more = DequantizeMore { a_px, a_outer, out_px, out_ch, out_outer, zero: q.zero(0) as f32 };
            let (variant, a, out) = (Variant::F32, a.at, out.at);
            DequantizeCall { variant, a, out, pixels, channels, outer, scale: q.scale(0), more }
        })
    }
}

/// How a kernel of real numbers reads an operand: quantized, or as f32 if the scale is 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub scale: f32,
    pub zero: f32,
}

impl Read {
    pub fn of(format: Option<&Quant>) -> Read {
        format.map_or(Read { scale: 0.0, zero: 0.0 }, |q| Read { scale: q.scale(0), zero: q.zero(0) as f32 })
    }
}

/// How a kernel of real numbers stores its result: quantized, or as f32 if there is no scale.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Stored {
    pub scale: Option<f32>,
    pub zero: f32,
    pub lo: i32,
    pub hi: Option<i32>,
}

impl Stored {
    /// In `format`, or as f32.
    pub fn of(format: Option<&Quant>) -> Stored {
        let by = |q: &Quant| Stored { scale: Some(q.scale(0)), zero: q.zero(0) as f32, lo: q.lo, hi: Some(q.hi) };
        format.map_or_else(Stored::default, by)
    }

    /// The variant of the float kernels that store so.
    pub fn variant(&self) -> Variant {
        if self.scale.is_some() { Variant::U8 } else { Variant::F32 }
    }
}

/// Appends a level of one element if the innermost is not contiguous for operand `key`.
pub(super) fn contiguous(mut all: Vec<Level>, key: usize, elem_bytes: i64) -> Vec<Level> {
    if let Some(last) = all.last()
        && last.strides[key] != elem_bytes
    {
        let strides = vec![elem_bytes; last.strides.len()];
        all.push(Level { count: 1, strides });
    }
    all
}
