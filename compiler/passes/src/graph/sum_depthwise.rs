//! Makes a depthwise convolution and a sum over channels of a float convolution with one output channel.
//!
//! before  %y = graph.conv2d(%x, @w, %b) {groups = 1}                 @w [1, c, kh, kw]
//! after   %d = graph.conv2d(%x, @v, _) {groups = c}                  @v [c, 1, kh, kw]
//!         %y = graph.conv2d(%d, @ones, %b)                           @ones [1, c, 1, 1]
//!
//! Kernels of matrices compute 16 output channels at once, so a convolution with one costs what one with 16 does. A depthwise
//! one costs its own products, and the sum behind it has one tap instead of the window's. Sums run over the window first, then
//! over channels.

use super::{add_f32, constant_f32};
use qc_dialects::graph::Conv2d;
use qc_dialects::phase;
use qc_ir::{Attrs, Diag, Keeps, Module, OpId, Pass, PassCx, Pattern, Rewriter};

/// The pass.
pub const PASS: Pass = Pass {
    name: "sum-depthwise",
    summary: "makes a depthwise convolution and a sum of a float convolution with one output channel",
    from: phase::FUSED,
    to: "",
    keeps: Keeps::F32Rounding(1e-5),
    run,
};

/// Taps of a window from which on two steps cost less than one.
const FEWEST_TAPS: usize = 4;

/// Input channels from which on that pays: so many are computed at once.
const FEWEST_CHANNELS: usize = 16;

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    cx.rewrite(m, &[Pattern { name: "one-channel", root: Conv2d::DEF, apply: one_channel }])
}

fn one_channel(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let conv = Conv2d(op);
    let (weight, x) = (conv.weight(rw.m), conv.input(rw.m));
    let &[1, channels, kh, kw] = rw.m.dims(weight) else { return None };
    let pays = channels >= FEWEST_CHANNELS && kh * kw >= FEWEST_TAPS;
    (pays && conv.groups(rw.m) == 1 && conv.residual(rw.m).is_none()).then_some(())?;
    let taps = constant_f32(rw.m, weight)?;
    let name = rw.m.name(weight).unwrap_or("weight").to_string();
    let of_windows = add_f32(rw, &name, &[channels, 1, kh, kw], taps)?;
    let bounds = [("min", conv.min(rw.m)), ("max", conv.max(rw.m))];
    let open = [("min", f64::NEG_INFINITY), ("max", f64::INFINITY)];
    let with =
        |attrs: Attrs, all: [(&'static str, f64); 2]| all.into_iter().fold(attrs, |a, (name, v)| a.with(name, v));
    let attrs = with(rw.m.attrs(op).clone().with("groups", channels as i64), open);
    let windows = rw.create(Conv2d::DEF, &[Some(x), Some(of_windows), None, None], attrs)?;
    let windows = rw.m.result(windows);
    let ones = add_f32(rw, "ones", &[1, channels, 1, 1], vec![1.0; channels])?;
    let operands = [Some(windows), Some(ones), conv.bias(rw.m), None];
    let sum = rw.create(Conv2d::DEF, &operands, with(Attrs::new(), bounds))?;
    let (old, new) = (rw.m.result(op), rw.m.result(sum));
    rw.replace(old, new);
    Some(())
}
