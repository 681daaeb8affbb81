//! Element-wise ops, quantize and dequantize.
//!
//! The kernels take rows of contiguous elements; a second operand may repeat along a row or between rows. An operand
//! that lies otherwise is copied into the layout of the result first. Kernels of real numbers read and write bytes where
//! a quantization or dequantization has no step of its own.

use super::emit::{Call, Fields, sweep};
use super::view::{Level, View, levels};
use super::{Lower, plain_buffer};
use qc_dialects::graph::activation::Function;
use qc_dialects::graph::{Clip, Dequantize, Quantize};
use qc_dialects::quant::{QAdd, QLut, QMul};
use qc_ir::{Diag, HostTensor, OpId, Quant, ValueId};
use qc_kernels::{Family, Variant};

impl Lower<'_> {
    /// A view of `v` for an element-wise kernel over `out`: broadcast, and contiguous or repeated where `out` is
    /// contiguous.
    fn operand_like(&mut self, v: ValueId, out: &View, may_repeat: bool) -> Result<View, Diag> {
        let own = self.view(v)?;
        let view = own.broadcast(&out.dims);
        let inner = levels(&out.dims, &[out, &view], 0).pop();
        let e = view.elem_bytes();
        let fits = inner.is_none_or(|l| l.strides[1] == e || (may_repeat && l.strides[1] == 0));
        if fits {
            return Ok(view);
        }
        // Images lie in rows as well, if they come from a product.
        let copy = match out.dims.len() == 4 && !out.is_channels_last() {
            true => self.alloc("operand", plain_buffer(own.elem, &out.dims), [0; 4])?,
            false => self.fresh("operand", &out.dims, own.elem, [0; 4], 0)?,
        };
        self.copy(&view, &copy)?;
        Ok(copy)
    }

    /// The tensor that a kernel of real numbers reads for `v`, and the call with its format.
    fn real_operand(&self, v: ValueId, call: Call, scale: &str, zero: &str) -> (ValueId, Call) {
        let read = self.place.read(v).unwrap_or(v);
        match self.src.quant_of(read) {
            Some(q) => (read, call.set(scale, q.scale(0)).set(zero, q.zero(0) as f32)),
            None => (read, call),
        }
    }

    /// Sweeps two operands in the order of the result's memory.
    fn binary_sweep(&mut self, [a, b]: [ValueId; 2], out: &View, call: Call) -> Result<(), Diag> {
        let (a, b) = (self.operand_like(a, out, false)?, self.operand_like(b, out, true)?);
        let all = contiguous(levels(&out.dims, &[out, &a, &b], 0), 0, out.elem_bytes());
        let scalar = all.last().is_some_and(|l| l.strides[2] == 0);
        let all =
            all.into_iter().map(|l| Level { count: l.count, strides: vec![l.strides[1], l.strides[2], l.strides[0]] });
        let fields = Fields {
            counts: &["n", "rows"],
            pointers: &[("a", &["", "a_row"]), ("b", &["", "b_row"]), ("out", &["", "out_row"])],
        };
        let call = call.set("b_scalar", i64::from(scalar));
        sweep(&mut self.emit(), call, &fields, &[&a, &b, out], all.collect())
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

    /// `graph.add`, `sub`, `mul`, `div`, `max`, `min`.
    pub fn binary_f32(&mut self, op: OpId) -> Result<(), Diag> {
        let def = self.src.def(op);
        let word = def.name.trim_start_matches("graph.");
        let call = Call::new(&format!("binary_f32.{word}_f32"))
            .set("clamp_lo", f32::NEG_INFINITY)
            .set("clamp_hi", f32::INFINITY);
        let commutes = def.traits.has(qc_ir::Traits::COMMUTATIVE) && !matches!(word, "max" | "min");
        let (out, quant) = self.real_destination(self.src.result(op))?;
        let [a, b] = self.operands(op, &out, commutes)?;
        let (a, call) = self.real_operand(a, stored_as(call, quant), "a_scale", "a_zero");
        let (b, call) = self.real_operand(b, call, "b_scale", "b_zero");
        self.binary_sweep([a, b], &out, call)
    }

    /// `quant.add`, `quant.mul`.
    pub fn binary_u8(&mut self, op: OpId) -> Result<(), Diag> {
        let src = self.src;
        let out = self.destination(src.result(op))?;
        let bounds = |c: Call| c.set("lo", QAdd(op).lo(src)).set("hi", QAdd(op).hi(src));
        if let Some(mul) = QMul::of(src, op) {
            let zero = src.quant_of(mul.out(src)).map_or(0, |q| q.zero(0));
            let operands = self.operands(op, &out, true)?;
            let [za, zb] = operands.map(|v| self.zero_of(v));
            let call = bounds(Call::new("binary_u8.mul_u8")).set("a_zero", za).set("b_zero", zb);
            let call = call.set("scale", mul.factor(src).map_err(Diag::bug)?).set("zero", zero as f32);
            return self.binary_sweep(operands, &out, call);
        }
        let f = QAdd(op).factors(src).map_err(Diag::bug)?;
        let call = bounds(Call::new("binary_u8.add_u8"))
            .set("a_scale", f.a_scale)
            .set("b_scale", f.b_scale)
            .set("offset", f.offset);
        // The order of the sum is part of its definition, so sides do not swap.
        let operands = self.operands(op, &out, false)?;
        self.binary_sweep(operands, &out, call)
    }

    fn unary_sweep(&mut self, x: ValueId, out: &View, call: Call) -> Result<(), Diag> {
        let a = self.operand_like(x, out, false)?;
        let all = contiguous(levels(&out.dims, &[out, &a], 0), 0, out.elem_bytes());
        let all = all.into_iter().map(|l| Level { count: l.count, strides: vec![l.strides[1], l.strides[0]] });
        let fields = Fields { counts: &["n", "rows"], pointers: &[("a", &["", "a_row"]), ("out", &["", "out_row"])] };
        sweep(&mut self.emit(), call, &fields, &[&a, out], all.collect())
    }

    /// A function of single real numbers.
    fn real_unary(&mut self, op: OpId, variant: Variant, parameters: [f32; 3]) -> Result<(), Diag> {
        let x = self.src.operand(op, 0).ok_or_else(|| Diag::bug("no operand"))?;
        let (out, quant) = self.real_destination(self.src.result(op))?;
        let mut call = stored_as(Call::new(&format!("unary.{}", variant.name())), quant);
        let needed = |name| Family::Unary.field(name).is_some_and(|f| f.is_needed(variant, |_| false));
        for (field, value) in ["p0", "p1", "p2"].into_iter().zip(parameters) {
            if value != 0.0 || needed(field) {
                call = call.set(field, value);
            }
        }
        let (x, call) = self.real_operand(x, call, "a_scale", "a_zero");
        self.unary_sweep(x, &out, call)
    }

    /// One of the functions of `graph::activation`.
    pub fn function(&mut self, op: OpId) -> Result<(), Diag> {
        let (variant, parameters) = Function::of(self.src, op).ok_or_else(|| Diag::bug("no function"))?.kernel();
        self.real_unary(op, variant, parameters)
    }

    /// `graph.relu`, `graph.clip`.
    pub fn clamp(&mut self, op: OpId) -> Result<(), Diag> {
        let (lo, hi) = match Clip::of(self.src, op) {
            Some(c) => (c.min(self.src) as f32, c.max(self.src) as f32),
            None => (0.0, f32::INFINITY),
        };
        self.real_unary(op, Variant::ClampF32, [lo, hi, 0.0])
    }

    /// `quant.lut`.
    pub fn lut(&mut self, op: QLut) -> Result<(), Diag> {
        let table = self.src.consts.get(op.table(self.src)).tensor.clone();
        let table: HostTensor = (*table).clone();
        let data = self.data("table", table, vec![])?;
        let out = self.destination(op.out(self.src))?;
        // The table stays where it is: it follows the pointers that move.
        self.unary_sweep(op.x(self.src), &out, Call::new("unary.lut_u8").fixed_pointer("lut", data))
    }

    /// `graph.quantize` to one u8 format.
    pub fn quantize(&mut self, op: Quantize) -> Result<(), Diag> {
        let q = self.src.quant(op.quant(self.src)).clone();
        if q.store != qc_ir::Store::U8 || q.axis.is_some() {
            return Err(Diag::error("graph.quantize: only u8 with one scale can be computed at run time"));
        }
        let (a, out) = (self.view(op.x(self.src))?, self.destination(op.out(self.src))?);
        let call = stored_as(Call::new("quantize.u8"), Some(q));
        let fields = Fields {
            counts: &["channels", "pixels", "outer"],
            pointers: &[("a", &["a_ch", "a_px", "a_outer"]), ("out", &["", "out_px", "out_outer"])],
        };
        let all = levels(&out.dims.clone(), &[&a, &out], 1);
        sweep(&mut self.emit(), call, &fields, &[&a, &out], contiguous(all, 1, 1))
    }

    /// `graph.dequantize` of one u8 format.
    pub fn dequantize(&mut self, op: Dequantize) -> Result<(), Diag> {
        let x = op.q(self.src);
        let q = self.src.quant_of(x).cloned().ok_or_else(|| Diag::bug("no format"))?;
        if q.store != qc_ir::Store::U8 || q.axis.is_some() {
            return Err(Diag::error("graph.dequantize: only u8 with one scale can be computed at run time"));
        }
        let (a, out) = (self.view(x)?, self.destination(op.out(self.src))?);
        let call = Call::new("dequantize.f32").set("scale", q.scale(0)).set("zero", q.zero(0) as f32);
        let fields = Fields {
            counts: &["channels", "pixels", "outer"],
            pointers: &[("a", &["", "a_px", "a_outer"]), ("out", &["out_ch", "out_px", "out_outer"])],
        };
        let all = levels(&out.dims.clone(), &[&a, &out], 0);
        sweep(&mut self.emit(), call, &fields, &[&a, &out], contiguous(all, 0, 1))
    }
}

/// A call that stores its real numbers in a format, if there is one.
pub(super) fn stored_as(call: Call, format: Option<Quant>) -> Call {
    match format {
        Some(q) => call.set("scale", q.scale(0)).set("zero", q.zero(0) as f32).set("lo", q.lo).set("hi", q.hi),
        None => call,
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
