//! Element-wise ops, quantize and dequantize.
//!
//! The kernels take rows of contiguous elements; a second operand may repeat along a row or between rows. An operand
//! that lies otherwise is copied into the layout of the result first.

use super::Lower;
use super::emit::{Call, Fields, sweep};
use super::view::{Level, View, levels};
use qc_dialects::graph::{Clip, Dequantize, Quantize};
use qc_dialects::quant::{QAdd, QLut, QMul};
use qc_ir::{Diag, HostTensor, OpId, ValueId};

impl Lower<'_> {
    /// A view of `v` for an element-wise kernel over `out`: broadcast, and contiguous or repeated where `out` is
    /// contiguous.
    fn operand_like(&mut self, v: ValueId, out: &View, may_repeat: bool) -> Result<View, Diag> {
        let own = self.view(v)?;
        let view = own.broadcast(&out.dims);
        let inner = levels(&out.dims, &[out, &view], 0).pop();
        let e = view.elem_bytes();
        let fits = inner.is_none_or(|l| l.strides[1] == e || (may_repeat && l.strides[1] == 0));
        if fits && !own.external {
            return Ok(view);
        }
        let copy = self.fresh("operand", &out.dims, own.elem, [0; 4], 0)?;
        self.copy(&view, &copy)?;
        Ok(copy)
    }

    /// The result view of an element-wise op, in memory that kernels sweep in order.
    fn binary_sweep(&mut self, op: OpId, call: Call, swap: Option<(Call, bool)>) -> Result<(), Diag> {
        let (mut a, mut b) = (self.src.operand(op, 0), self.src.operand(op, 1));
        let out = self.destination(self.src.result(op))?;
        let mut call = call;
        // Only the right operand may repeat within a row; a commutative op can swap sides.
        if let (Some((swapped, true)), Some(lhs)) = (swap, a)
            && self.src.dims(lhs) != out.dims
        {
            (a, b) = (b, a);
            call = swapped;
        }
        let (Some(a), Some(b)) = (a, b) else { return Err(Diag::bug("an operand is missing")) };
        let (a, b) = (self.operand_like(a, &out, false)?, self.operand_like(b, &out, true)?);
        let all = contiguous(levels(&out.dims, &[&out, &a, &b], 0), 0, out.elem_bytes());
        let scalar = all.last().is_some_and(|l| l.strides[2] == 0);
        let all =
            all.into_iter().map(|l| Level { count: l.count, strides: vec![l.strides[1], l.strides[2], l.strides[0]] });
        let fields = Fields {
            counts: &["n", "rows"],
            pointers: &[("a", &["", "a_row"]), ("b", &["", "b_row"]), ("out", &["", "out_row"])],
        };
        let call = call.set("b_scalar", i64::from(scalar));
        sweep(&mut self.emit(), call, &fields, &[&a, &b, &out], all.collect())
    }

    /// `graph.add`, `sub`, `mul`, `div`, `max`, `min`.
    pub fn binary_f32(&mut self, op: OpId) -> Result<(), Diag> {
        let def = self.src.def(op);
        let word = def.name.trim_start_matches("graph.");
        let call = Call::new(&format!("binary_f32.{word}_f32"))
            .set("clamp_lo", f32::NEG_INFINITY)
            .set("clamp_hi", f32::INFINITY);
        let commutes = def.traits.has(qc_ir::Traits::COMMUTATIVE) && !matches!(word, "max" | "min");
        self.binary_sweep(op, call.clone(), Some((call, commutes)))
    }

    /// `quant.add`, `quant.mul`.
    pub fn binary_u8(&mut self, op: OpId) -> Result<(), Diag> {
        let src = self.src;
        let zeros = (self.zero_of(QAdd(op).lhs(src)), self.zero_of(QAdd(op).rhs(src)));
        let bounds = |c: Call| c.set("lo", QAdd(op).lo(src)).set("hi", QAdd(op).hi(src));
        if let Some(mul) = QMul::of(src, op) {
            let zero = src.quant_of(mul.out(src)).map_or(0, |q| q.zero(0));
            let scale = mul.factor(src).map_err(Diag::bug)?;
            let call = |za: i32, zb: i32| {
                let c = bounds(Call::new("binary_u8.mul_u8")).set("a_zero", za).set("b_zero", zb);
                c.set("scale", scale).set("zero", zero as f32)
            };
            return self.binary_sweep(op, call(zeros.0, zeros.1), Some((call(zeros.1, zeros.0), true)));
        }
        let f = QAdd(op).factors(src).map_err(Diag::bug)?;
        let call = bounds(Call::new("binary_u8.add_u8"))
            .set("a_scale", f.a_scale)
            .set("b_scale", f.b_scale)
            .set("offset", f.offset);
        // The order of the sum is part of its definition, so sides do not swap.
        self.binary_sweep(op, call, None)
    }

    fn unary_sweep(&mut self, op: OpId, call: Call, lut: Option<ValueId>) -> Result<(), Diag> {
        let x = self.src.operand(op, 0).ok_or_else(|| Diag::bug("no operand"))?;
        let out = self.destination(self.src.result(op))?;
        let a = self.operand_like(x, &out, false)?;
        let all = contiguous(levels(&out.dims, &[&out, &a], 0), 0, out.elem_bytes());
        let all = all.into_iter().map(|l| Level { count: l.count, strides: vec![l.strides[1], l.strides[0]] });
        let fields = Fields { counts: &["n", "rows"], pointers: &[("a", &["", "a_row"]), ("out", &["", "out_row"])] };
        // The table stays where it is: it follows the pointers that move.
        let call = lut.into_iter().fold(call, |c, t| c.fixed_pointer("lut", t));
        sweep(&mut self.emit(), call, &fields, &[&a, &out], all.collect())
    }

    /// `graph.relu`, `graph.clip`.
    pub fn clamp(&mut self, op: OpId) -> Result<(), Diag> {
        let (lo, hi) = match Clip::of(self.src, op) {
            Some(c) => (c.min(self.src) as f32, c.max(self.src) as f32),
            None => (0.0, f32::INFINITY),
        };
        self.unary_sweep(op, Call::new("unary.clamp_f32").set("clamp_lo", lo).set("clamp_hi", hi), None)
    }

    /// `quant.lut`.
    pub fn lut(&mut self, op: QLut) -> Result<(), Diag> {
        let table = self.src.consts.get(op.table(self.src)).tensor.clone();
        let table: HostTensor = (*table).clone();
        let data = self.data("table", table, vec![])?;
        self.unary_sweep(op.0, Call::new("unary.lut_u8"), Some(data))
    }

    /// `graph.quantize` to one u8 format.
    pub fn quantize(&mut self, op: Quantize) -> Result<(), Diag> {
        let q = self.src.quant(op.quant(self.src)).clone();
        if q.store != qc_ir::Store::U8 || q.axis.is_some() {
            return Err(Diag::error("graph.quantize: only u8 with one scale can be computed at run time"));
        }
        let (a, out) = (self.view(op.x(self.src))?, self.destination(op.out(self.src))?);
        let call = Call::new("quantize.u8")
            .set("scale", q.scale(0))
            .set("zero", q.zero(0) as f32)
            .set("lo", q.lo)
            .set("hi", q.hi);
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
