//! Element-wise ops, quantize and dequantize.
//!
//! The kernels take rows of contiguous elements; a second operand may repeat along a row or between rows. An operand
//! that lies otherwise is copied into the layout of the result first. Kernels of real numbers read and write bytes where
//! a quantization or dequantization has no step of its own.

use super::Lower;
use super::call::{At, Code, Count};
use super::emit::{Operand, sweep};
use super::joined::Biased;
use super::view::{Level, View, levels};
use qc_dialects::graph::activation::Function;
use qc_dialects::graph::{Clamp, Dequantize, Quantize};
use qc_dialects::quant::{QBinary, QLut};
use qc_ir::{Diag, HostTensor, OpId, Quant, ValueId};
use qc_kernels::Variant;
use qc_kernels::args::{
    BinaryF32Call, BinaryF32More, BinaryU8Call, BinaryU8More, DequantizeCall, DequantizeMore, KernelCall, QuantizeCall,
    QuantizeMore, UnaryCall, UnaryMore,
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
    fn operands(&self, op: OpId, out: &View, commutes: bool) -> Result<[ValueId; 2], Diag> {
        let (Some(a), Some(b)) = (self.src.operand(op, 0), self.src.operand(op, 1)) else {
            return Err(Diag::bug("an operand is missing"));
        };
        let swap = commutes && self.src.dims(a) != out.dims;
        Ok(if swap { [b, a] } else { [a, b] })
    }

    /// `graph.add`, `sub`, `mul`, `div`, `max`, `min`, `pow`, `rem`.
    pub fn binary_f32(&mut self, op: OpId) -> Result<(), Diag> {
        let def = self.src.def(op);
        let word = def.name.trim_start_matches("graph.");
        let variant = Variant::from_name(&format!("{word}_f32")).ok_or_else(|| Diag::bug("no such kernel"))?;
        let commutes = def.traits.has(qc_ir::Traits::COMMUTATIVE) && !matches!(word, "max" | "min");
        let (out, quant) = self.real_destination(self.src.result(op))?;
        let stored = Stored::of(quant.as_ref());
        let [a, b] = self.operands(op, &out, commutes)?;
        let ((a, read_a), (b, read_b)) = (self.real_operand(a), self.real_operand(b));
        self.binary_sweep([a, b], &out, |b_scalar, [n, rows], [a, b, out]| BinaryF32Call {
            variant,
            a: a.at,
            b: b.at,
            out: out.at,
            rows,
            n,
            clamp_lo: f32::NEG_INFINITY,
            clamp_hi: f32::INFINITY,
            more: BinaryF32More {
                a_row: a.by[1],
                b_row: b.by[1],
                out_row: out.by[1],
                b_scalar,
                a_scale: read_a.scale,
                a_zero: read_a.zero,
                b_scale: read_b.scale,
                b_zero: read_b.zero,
                scale: stored.scale.unwrap_or(0.0),
                zero: stored.zero,
                lo: stored.lo,
                hi: stored.hi,
            },
        })
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

    /// Sweeps one operand, and what is added to it, in the order of the result's memory; `fields` are those that do not say
    /// where it lies.
    fn unary_sweep(
        &mut self,
        [x, addend]: [Option<ValueId>; 2],
        out: &View,
        variant: Variant,
        fields: &UnaryMore<Code>,
    ) -> Result<(), Diag> {
        let mut operand = |v: Option<ValueId>| v.map(|v| self.operand_like(v, out, false)).transpose();
        let (a, b) = (operand(x)?.ok_or_else(|| Diag::bug("no operand"))?, operand(addend)?);
        let (has_addend, b) = (b.is_some(), b.unwrap_or_else(|| a.clone()));
        let all = contiguous(levels(&out.dims, &[&a, &b, out], 2), 2, out.elem_bytes());
        sweep(&mut self.emit(), [&a, &b, out], all, |[n, rows], [a, b, out]| {
            let addend_row = if has_addend { b.by[1] } else { 0usize.into() };
            let (addend, a_row, out_row) = (has_addend.then_some(b.at), a.by[1], out.by[1]);
            let more = UnaryMore { a_row, addend, addend_row, out_row, ..fields.clone() };
            UnaryCall { variant, a: a.at, out: out.at, rows, n, more }
        })
    }

    /// A function of single real numbers.
    fn real_unary(&mut self, op: OpId, variant: Variant, [p0, p1, p2]: [f32; 3]) -> Result<(), Diag> {
        let biased = Biased::in_front_of(self.src, op);
        if let Some(biased) = biased {
            self.loc = self.joined_loc(op, &[biased.add]);
        }
        let x = biased.map(|biased| biased.x).or_else(|| self.src.operand(op, 0));
        let x = x.ok_or_else(|| Diag::bug("no operand"))?;
        let (out, quant) = self.real_destination(self.src.result(op))?;
        let stored = Stored::of(quant.as_ref());
        let (x, read) = self.real_operand(x);
        let fields = UnaryMore {
            p0: Some(p0),
            p1: Some(p1),
            p2,
            a_scale: read.scale,
            a_zero: read.zero,
            scale: stored.scale.unwrap_or(0.0),
            zero: stored.zero,
            lo: stored.lo,
            hi: stored.hi,
            ..Default::default()
        };
        self.unary_sweep([Some(x), biased.map(|biased| biased.addend)], &out, variant, &fields)
    }

    /// One of the functions of `graph::activation`.
    pub fn function(&mut self, op: OpId) -> Result<(), Diag> {
        let (variant, parameters) = Function::of(self.src, op).ok_or_else(|| Diag::bug("no function"))?.kernel();
        self.real_unary(op, variant, parameters)
    }

    /// `graph.relu`, `graph.clip`.
    pub fn clamp(&mut self, clamp: Clamp) -> Result<(), Diag> {
        let [lo, hi] = clamp.bounds(self.src);
        self.real_unary(clamp.op(), Variant::ClampF32, [lo, hi, 0.0])
    }

    /// `quant.lut`.
    pub fn lut(&mut self, op: QLut) -> Result<(), Diag> {
        let table = self.src.consts.get(op.table(self.src)).tensor.clone();
        let table: HostTensor = (*table).clone();
        let data = self.data("table", table, vec![])?;
        let out = self.destination(op.out(self.src))?;
        let fields = UnaryMore { lut: Some(At::start(data)), ..Default::default() };
        self.unary_sweep([Some(op.x(self.src)), None], &out, Variant::LutU8, &fields)
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
    fn of(format: Option<&Quant>) -> Read {
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
