//! Pooling. The kernels clip windows themselves, so no padding is needed.

use super::Lower;
use super::call::Code;
use super::emit::Emit;
use super::grain;
use super::view::View;
use qc_dialects::graph::pool::{Count, PoolShape};
use qc_dialects::graph::{AdaptiveAvgPool, AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool};
use qc_dialects::quant::{QAvgPool, QMaxPool};
use qc_ir::{Diag, Module, OpId, ValueId};
use qc_kernels::Variant;
use qc_kernels::args::{PoolCall, PoolMore};

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
        let plain = PoolMore::default;
        let (variant, more, shape) = if let Some(p) = MaxPool::of(src, op) {
            (Variant::MaxF32, plain(), p.shape(src))
        } else if let Some(p) = AvgPool::of(src, op) {
            let count_mode = count_field(p.count_mode(src).map_err(Diag::bug)?).into();
            (Variant::AvgF32, PoolMore { count_mode, ..plain() }, p.shape(src))
        } else if let Some(p) = QMaxPool::of(src, op) {
            let (lo, hi) = (p.lo(src) as i32, Some(p.hi(src) as i32));
            (Variant::MaxU8, PoolMore { lo, hi, ..plain() }, p.shape(src))
        } else if let Some(p) = QAvgPool::of(src, op) {
            (Variant::AvgU8, average_of_bytes(src, p)?, p.shape(src))
        } else if AdaptiveAvgPool::of(src, op).is_some() {
            let [oh, ow] = [out.dims[2], out.dims[3]];
            // The kernel takes its windows from the sizes; a mean one says how much work there is.
            let kernel = [a.dims[2].div_ceil(oh), a.dims[3].div_ceil(ow)];
            let shape = PoolShape { input: dims, out: [oh, ow], kernel, strides: [1, 1], pads: [0; 4] };
            (Variant::AvgF32, PoolMore { cover_h: oh.into(), cover_w: Some(ow.into()), ..plain() }, Ok(shape))
        } else if GlobalAvgPool::of(src, op).is_some() {
            (Variant::AvgF32, plain(), whole())
        } else if GlobalMaxPool::of(src, op).is_some() {
            (Variant::MaxF32, plain(), whole())
        } else {
            return Err(Diag::bug("not a pooling op"));
        };
        let s = shape.map_err(Diag::bug)?;
        self.pool_sweep(geometry(variant, more, &a, &out, &s), &a, &out, &s)
    }

    /// Tasks are images, or the rows of a single image.
    fn pool_sweep(&mut self, mut call: PoolCall<Code>, a: &View, out: &View, s: &PoolShape) -> Result<(), Diag> {
        let (images, rows) = (s.input[0], s.out[0]);
        let small = out.elements() * s.kernel[0] * s.kernel[1] < grain::POOLED;
        let tasks = match small {
            true => 1,
            false if images > 1 => images,
            false => rows,
        };
        self.emit().step(tasks, |e, begin, end| {
            if small || images > 1 {
                let image = |e: &mut Emit<'_>, n: ValueId| {
                    call.a = call.a.moved(n, a.strides[0]);
                    call.out = call.out.moved(n, out.strides[0]);
                    e.call(&call)
                };
                return if small { e.for_count(images, image) } else { e.for_range(begin, end, image) };
            }
            call.rows = e.arith("sub", end, begin)?.into();
            call.out = call.out.moved(begin, out.strides[2]);
            call.more.oy_begin = begin.into();
            e.call(&call)
        })
    }
}

/// The fields of an average of bytes.
fn average_of_bytes(src: &Module, p: QAvgPool) -> Result<PoolMore<Code>, Diag> {
    let [(a_scale, a_zero), (scale, zero)] = p.formats(src).map_err(Diag::bug)?;
    Ok(PoolMore {
        count_mode: count_field(p.count_mode(src).map_err(Diag::bug)?).into(),
        a_scale: Some(a_scale),
        a_zero,
        scale: Some(scale),
        zero: zero as f32,
        lo: p.lo(src) as i32,
        hi: Some(p.hi(src) as i32),
        ..PoolMore::default()
    })
}

fn count_field(count: Count) -> usize {
    match count {
        Count::Exclusive => 0,
        Count::Kernel => 1,
        Count::Inclusive => 2,
    }
}

/// The call for a whole image; `more` are the fields that say what is computed.
fn geometry(variant: Variant, more: PoolMore<Code>, a: &View, out: &View, s: &PoolShape) -> PoolCall<Code> {
    PoolCall {
        variant,
        a: a.into(),
        out: out.into(),
        in_h: s.input[2].into(),
        in_w: s.input[3].into(),
        kh: s.kernel[0].into(),
        kw: s.kernel[1].into(),
        stride_y: s.strides[0].into(),
        stride_x: s.strides[1].into(),
        rows: s.out[0].into(),
        cols: s.out[1].into(),
        channels: s.input[1].into(),
        more: PoolMore {
            a_px: a.strides[3].into(),
            a_row: a.strides[2].into(),
            out_px: out.strides[3].into(),
            out_row: out.strides[2].into(),
            pad_top: s.pads[0].into(),
            pad_left: s.pads[1].into(),
            pad_bottom: s.pads[2].into(),
            pad_right: s.pads[3].into(),
            ..more
        },
    }
}
