//! What ops of both dialects have in common. Interfaces of one dialect stand beside their ops.

use crate::graph::conv::ConvShape;
use crate::graph::resample::{self, Axis};
use crate::graph::{Conv2d, LayerNorm, Linear, Resample, dims_of};
use crate::quant::{QBatchMatmul, QConv2d, QLinear, QResample};
use qc_ir::{ConstId, Module, OpId, ValueId};

qc_ir::interface! {
    /// A 2-D convolution, float or integer: weighted sums under a window.
    Convolution [Conv2d, QConv2d] {
        /// What the window runs over, NCHW.
        input: ValueId = [Conv2d.input, QConv2d.x];
        /// Padding: top, left, bottom, right.
        pads: Box<[i64]>;
        /// The geometry; an error where it does not fit.
        shape: Result<ConvShape, String>;
    }
}

qc_ir::interface! {
    /// Weighted sums of neighbours along axes, float or integer.
    Resampling [Resample, QResample] {
        /// The axes.
        axes: Box<[i64]>;
        /// Their sizes afterwards.
        sizes: Box<[i64]>;
        /// Elements per sum, by axis.
        taps: Box<[i64]>;
        /// Where the elements of all sums are.
        places: ConstId;
        /// What they are multiplied by.
        weights: ConstId;
    }
}

impl Resampling {
    /// The axes, in order.
    ///
    /// # Errors
    /// One sentence on what does not fit.
    pub fn along(self, m: &Module) -> Result<Vec<Axis<'_>>, String> {
        let (axes, sizes, taps) = (self.axes(m), self.sizes(m), self.taps(m));
        let constants = [self.places(m), self.weights(m)];
        resample::axes(m, dims_of(m, self.op(), 0)?, [&axes, &sizes, &taps], constants)
    }
}

/// The bounds, lower and upper, that a convolution, matrix product or layer norm clamps its result to in real numbers; `None`
/// for other ops.
pub fn own_clamp(m: &Module, op: OpId) -> Option<[f64; 2]> {
    let float = Linear::of(m, op).map(|l| [l.min(m), l.max(m)]);
    let layer = || QLinear::of(m, op).map(|q| [q.min(m), q.max(m)]);
    let product = || QBatchMatmul::of(m, op).map(|q| [q.min(m), q.max(m)]);
    float.or_else(layer).or_else(product).or_else(|| LayerNorm::of(m, op).map(|norm| [norm.min(m), norm.max(m)]))
}
