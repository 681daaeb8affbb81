//! Convolutions of integers whose format is found in a run.
//!
//! The padding holds the zero point of that format, which a fill reads from memory, so that every tap is a product of one kind.

use super::Lower;
use super::call::At;
use super::conv::Placed;
use super::dynamic::Quantized;
use super::layout::Layout;
use super::linear::{Constants, accumulator_call, gemm_pack, integer_call, padded_groups};
use super::view::View;
use super::wide::{Weights, of_run};
use qc_dialects::graph::IntegerConv2d;
use qc_dialects::graph::conv::ConvShape;
use qc_dialects::quant::compute::Epilogue;
use qc_dialects::quant::{Over, QDynamic, QDynamicConv2d};
use qc_ir::{Diag, HostTensor};
use qc_kernels::Variant;
use qc_kernels::pack::round64;

impl Lower<'_> {
    /// `quant.dynamic_conv2d`.
    pub fn dynamic_conv(&mut self, op: QDynamicConv2d) -> Result<(), Diag> {
        let src = self.src;
        let Quantized { q, formats } = self.quantized(op.x(src), Over::Tensor)?;
        let out = self.destination(op.out(src))?;
        let format = At::from(&formats);
        let s = op.shape(src).map_err(Diag::bug)?;
        let p = self.placed_u8(q, out, s, Some(format.clone().plus(4)))?;
        let w = Weights::of_run_time(src, op.weight(src), op.bias(src))?;
        let (scales, sums) = (QDynamic::from(op).scales(src).map_err(Diag::bug)?, w.sums(src));
        let (min, max) = (op.min(src) as f32, op.max(src) as f32);
        let e = Epilogue { scales, out: None, residual: None, lo: 0, hi: 0, min, max };
        self.channels(&p, &w, |lower, run, p, w, parts, shape| {
            let e = of_run(&e, run.clone());
            let c = lower.integer_constants(w, &e, parts, shape, p.s.groups)?;
            let padded = padded_groups(&sums[run], p.s.groups);
            let sums = lower.data("sums", HostTensor::i32([padded.len()], padded), vec![])?;
            let segments = p.segments(shape, shape.k4());
            p.sweep(&c, shape).emit(lower.emit(), |panel| {
                // Constants of columns move alike; the format is one for all rows.
                let col_sum = At { buf: sums, ..panel.bias.clone() };
                let mut call = integer_call(&e, &segments, panel);
                call.variant = Variant::F32Rows;
                (call.more.col_sum, call.more.res) = (Some(col_sum), Some(format.clone()));
                call
            })
        })
    }

    /// `graph.integer_conv2d`.
    pub fn integer_conv(&mut self, op: IntegerConv2d) -> Result<(), Diag> {
        let src = self.src;
        let x = self.view(op.x(src))?;
        let out = self.destination(op.out(src))?;
        let pad = op.pad(src).map(|pad| self.view(pad)).transpose()?;
        let s = op.shape(src).map_err(Diag::bug)?;
        let p = self.placed_u8(x, out, s, pad.as_ref().map(At::from))?;
        let w = Weights::of_run_time(src, op.weight(src), None)?;
        self.channels(&p, &w, |lower, _, p, w, parts, shape| {
            let zeros = padded_groups(&vec![0; w.channels()], p.s.groups);
            let c = Constants {
                weight: lower.weight_data(w, parts, shape.kw, gemm_pack(shape, p.s.groups))?,
                bias: lower.data("bias", HostTensor::i32([zeros.len()], zeros), vec![])?,
                scale: None,
                addend: None,
                panel_bytes: shape.panel_bytes(0),
                group_bytes: round64(shape.bytes()),
            };
            let segments = p.segments(shape, shape.k4());
            p.sweep(&c, shape).emit(lower.emit(), |panel| accumulator_call(&segments, panel))
        })
    }

    /// A convolution of `x` of u8, whose padding holds the byte at `pad`, or 0.
    fn placed_u8(&mut self, x: View, out: View, s: ConvShape, pad: Option<At>) -> Result<Placed, Diag> {
        let padding = [s.y.pads.0, s.x.pads.0, s.y.pads.1, s.x.pads.1];
        let placed = |x: View| Placed { s, x, out, res: None, group_stride: None };
        if padding == [0; 4] && x.is_channels_last() {
            return Ok(placed(x));
        }
        let copy = self.alloc("padded", x.elem, &x.dims, Layout::ChannelsLast { padding })?;
        self.fill_padding_from(&copy, 0, pad.as_ref())?;
        self.copy(&x, &copy)?;
        Ok(placed(copy))
    }
}
