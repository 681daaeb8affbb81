//! Pooling. The kernels clip windows themselves, so no border is needed.

use super::Lower;
use super::emit::Call;
use super::view::View;
use qc_dialects::graph::pool::{Count, PoolShape};
use qc_dialects::graph::{AdaptiveAvgPool, AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool};
use qc_dialects::quant::{QAvgPool, QMaxPool};
use qc_ir::{Diag, OpId};

impl Lower<'_> {
    /// Any pooling op.
    pub fn pool(&mut self, op: OpId) -> Result<(), Diag> {
        let src = self.src;
        let x = src.operand(op, 0).ok_or_else(|| Diag::bug("no operand"))?;
        let a = self.channels_last_view(x, [0; 4])?;
        let out = self.destination(src.result(op))?;
        let dims = [a.dims[0], a.dims[1], a.dims[2], a.dims[3]];
        let whole = || {
            let kernel = [a.dims[2] as i64, a.dims[3] as i64];
            PoolShape::new(dims, &kernel, &[1, 1], &[0; 4], false)
        };
        let (call, shape) = if let Some(p) = MaxPool::of(src, op) {
            (Call::new("pool.max_f32"), p.shape(src))
        } else if let Some(p) = AvgPool::of(src, op) {
            let mode = count_field(p.count_mode(src).map_err(Diag::bug)?);
            (Call::new("pool.avg_f32").set("count_mode", mode), p.shape(src))
        } else if let Some(p) = QMaxPool::of(src, op) {
            (Call::new("pool.max_u8").set("lo", p.lo(src)).set("hi", p.hi(src)), p.shape(src))
        } else if let Some(p) = QAvgPool::of(src, op) {
            let [(a_scale, a_zero), (scale, zero)] = p.formats(src).map_err(Diag::bug)?;
            let call = Call::new("pool.avg_u8").set("a_scale", a_scale).set("a_zero", a_zero);
            let call = call.set("scale", scale).set("zero", zero as f32);
            let mode = count_field(p.count_mode(src).map_err(Diag::bug)?);
            (call.set("count_mode", mode).set("lo", p.lo(src)).set("hi", p.hi(src)), p.shape(src))
        } else if AdaptiveAvgPool::of(src, op).is_some() {
            let [oh, ow] = [out.dims[2], out.dims[3]];
            let call = Call::new("pool.avg_f32").set("cover_h", oh).set("cover_w", ow);
            // The kernel takes its windows from the sizes; a mean one says how much work there is.
            let kernel = [a.dims[2].div_ceil(oh), a.dims[3].div_ceil(ow)];
            (call, Ok(PoolShape { input: dims, out: [oh, ow], kernel, strides: [1, 1], pads: [0; 4] }))
        } else if GlobalAvgPool::of(src, op).is_some() {
            (Call::new("pool.avg_f32"), whole())
        } else if GlobalMaxPool::of(src, op).is_some() {
            (Call::new("pool.max_f32"), whole())
        } else {
            return Err(Diag::bug("not a pooling op"));
        };
        self.pool_sweep(call, &a, &out, &shape.map_err(Diag::bug)?)
    }

    /// Tasks are images, or the rows of a single image.
    fn pool_sweep(&mut self, call: Call, a: &View, out: &View, s: &PoolShape) -> Result<(), Diag> {
        let call = geometry(call, a, out)
            .set("in_h", s.input[2])
            .set("in_w", s.input[3])
            .set("kh", s.kernel[0])
            .set("kw", s.kernel[1])
            .set("stride_y", s.strides[0])
            .set("stride_x", s.strides[1])
            .set("pad_top", s.pads[0])
            .set("pad_left", s.pads[1])
            .set("pad_bottom", s.pads[2])
            .set("pad_right", s.pads[3])
            .set("cols", s.out[1])
            .set("channels", s.input[1]);
        let (images, rows) = (s.input[0], s.out[0]);
        let moves = [a.strides[0], out.strides[0]];
        let row = out.strides[2];
        let small = out.elements() * s.kernel[0] * s.kernel[1] < 1 << 16;
        let tasks = if small {
            1
        } else if images > 1 {
            images
        } else {
            rows
        };
        self.emit().step(tasks, |e, begin, end| {
            if small || images > 1 {
                let call = call.set("rows", rows).set("oy_begin", 0);
                return match small {
                    true => e.for_count(images, |e, n| e.call(call.moved(n, &moves))),
                    false => e.for_range(begin, end, |e, n| e.call(call.moved(n, &moves))),
                };
            }
            let count = e.arith("sub", end, begin)?;
            e.call(call.moved(begin, &[0, row]).dynamic("oy_begin", begin).dynamic("rows", count))
        })
    }
}

fn count_field(count: Count) -> i64 {
    match count {
        Count::Exclusive => 0,
        Count::Kernel => 1,
        Count::Inclusive => 2,
    }
}

fn geometry(call: Call, a: &View, out: &View) -> Call {
    call.view("a", a, &[])
        .view("out", out, &[])
        .set("a_px", a.strides[3])
        .set("a_row", a.strides[2])
        .set("out_px", out.strides[3])
        .set("out_row", out.strides[2])
}
