//! Conversions between float and integer ops that need no step of their own.
//!
//! before  %c = graph.conv2d(%x, %w)   %q = graph.quantize(%c)   %d = graph.dequantize(%p)   %s = graph.sigmoid(%d)
//! after   one step that stores u8 (%c has no memory), and one step that reads u8 (%d has no memory)
//!
//! Kernels of convolutions, products, norms, softmax and element-wise ops round their result like `graph.quantize`, and those
//! of element-wise ops read their operands like `graph.dequantize`, so nothing changes but the bytes that move.

use super::joined::Joined;
use qc_dialects::graph::activation::Function;
use qc_dialects::graph::conv::ConvShape;
use qc_dialects::graph::{Binary, Clamp, Conv2d, Dequantize, LayerNorm, Matmul, Quantize, Softmax};
use qc_ir::{Module, OpId, Quant, Store, Use, ValueId};
use qc_kernels::pack::{GemmShape, Taps};
use std::collections::HashMap;

/// Float tensors without memory.
#[derive(Default, Debug)]
pub struct Conversions {
    /// By float tensor: the quantized one that its producer stores.
    pub stored: HashMap<ValueId, ValueId>,
    /// By float tensor: the quantized one that its readers read.
    pub read: HashMap<ValueId, ValueId>,
    /// Ops that are part of the step of a norm or softmax.
    pub joined: Joined,
}

impl Conversions {
    /// All such tensors of the main function and its regions.
    pub fn of(m: &Module) -> Conversions {
        let mut found = Conversions { joined: Joined::of(m), ..Conversions::default() };
        for op in m.walk(m.body()) {
            if let Some(quantize) = Quantize::of(m, op) {
                let x = quantize.x(m);
                if m.only_user(x) == Some(op) && plain(m.quant(quantize.quant(m))) && stores_bytes(m, x) {
                    found.stored.insert(x, quantize.out(m));
                }
            } else if let Some(dequantize) = Dequantize::of(m, op) {
                let out = dequantize.out(m);
                let reads_bytes = |user| elementwise(m, user) && !found.joined.is_in_softmax(user);
                let all = m.uses(out).iter().all(|u| matches!(u, Use::Operand(user, _) if reads_bytes(*user)));
                if all && m.quant_of(dequantize.q(m)).is_some_and(plain) {
                    found.read.insert(out, dequantize.q(m));
                }
            }
        }
        found
    }

    /// Whether a quantization or dequantization is part of another op's step.
    pub fn has_no_step(&self, m: &Module, conversion: OpId) -> bool {
        match Quantize::of(m, conversion) {
            Some(quantize) => self.stored.contains_key(&quantize.x(m)),
            None => self.read.contains_key(&m.result(conversion)),
        }
    }
}

/// Whether kernels know the format.
fn plain(q: &Quant) -> bool {
    q.store == Store::U8 && q.axis.is_none()
}

/// Whether the op is computed by the kernels of one or two operands of real numbers.
fn elementwise(m: &Module, op: OpId) -> bool {
    Binary::is(m, op) || Clamp::is(m, op) || Function::of(m, op).is_some()
}

/// Whether the op behind `x` has a kernel that stores u8.
fn stores_bytes(m: &Module, x: ValueId) -> bool {
    let Some(op) = m.producer(x) else { return false };
    if let Some(product) = Matmul::of(m, op) {
        return super::linear::has_layer_kernel(m, product);
    }
    match Conv2d::of(m, op).map(|conv| conv.shape(m)) {
        None => elementwise(m, op) || m.is(op, LayerNorm::DEF) || m.is(op, Softmax::DEF),
        // Where a conversion is next to nothing beside the sum, the sum keeps its float memory.
        Some(Ok(s)) => !sums_spill(&s),
        Some(Err(_)) => false,
    }
}

/// Whether the sums of a float convolution are so long that they rest in the output.
pub(super) fn sums_spill(s: &ConvShape) -> bool {
    let [cols, channels, kh, kw] = s.weight;
    let panels = GemmShape { cols: cols / s.groups, channels, kh, kw, taps: Taps::Split };
    !s.is_depthwise() && panels.f32_sums_spill()
}
