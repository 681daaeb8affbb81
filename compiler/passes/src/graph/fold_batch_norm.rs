//! Folds a batch norm into the convolution or matrix product before it, or into a product and a sum.
//!
//! before  %c = graph.conv2d(%x, %w, %b)      %y = graph.batch_norm(%c, %scale, %bias, %mean, %var) {epsilon}
//! after   %y = graph.conv2d(%x, %w2, %b2)
//! where   `g = scale / sqrt(var + epsilon);  w2[o,..] = w[o,..] * g[o];  b2[o] = (b[o] - mean[o]) * g[o] + bias[o]`
//!
//! Needs constant parameters and a producer with no other user. Quantized weights keep their integers: `|g|` goes into
//! the scales, and the integers of a channel with negative `g` change sign. Without such a producer the batch norm
//! becomes `x * g + (bias - mean * g)`.

use super::{add_constant, add_f32, constant, constant_f32, sole_producer};
use qc_dialects::graph::{Add, BatchNorm, Conv2d, Dequantize, Matmul, Mul};
use qc_ir::{
    Attrs, Data, Diag, Elem, HostTensor, Keeps, Module, OpId, Pass, PassCx, Pattern, Quant, Rewriter, Store, TensorTy,
    ValueId,
};

/// The pass.
pub const PASS: Pass = Pass {
    name: "fold-batch-norm",
    summary: "folds batch norms into convolutions",
    from: "",
    to: "",
    keeps: Keeps::F32Rounding(1e-4),
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    cx.rewrite(
        m,
        &[
            Pattern { name: "bn-into-linear", root: BatchNorm::DEF, apply: bn_into_linear },
            Pattern { name: "bn-to-mul-add", root: BatchNorm::DEF, apply: bn_to_mul_add },
        ],
    )
}

/// `(g, bias - mean * g)` per channel.
fn factors(m: &Module, bn: BatchNorm) -> Option<(Vec<f32>, Vec<f32>)> {
    let (scale, bias) = (constant_f32(m, bn.scale(m))?, constant_f32(m, bn.bias(m))?);
    let (mean, var) = (constant_f32(m, bn.mean(m))?, constant_f32(m, bn.var(m))?);
    let epsilon = bn.epsilon(m);
    let g: Vec<f64> = scale.iter().zip(&var).map(|(&s, &v)| f64::from(s) / (f64::from(v) + epsilon).sqrt()).collect();
    let shift = (0..g.len()).map(|c| (f64::from(bias[c]) - f64::from(mean[c]) * g[c]) as f32).collect();
    let g: Vec<f32> = g.into_iter().map(|x| x as f32).collect();
    g.iter().all(|x| x.is_finite()).then_some((g, shift))
}

fn bn_into_linear(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let bn = BatchNorm(op);
    let producer = sole_producer(rw.m, bn.x(rw.m), op)?;
    let linear = rw.m.is(producer, Conv2d::DEF) || (rw.m.is(producer, Matmul::DEF) && rw.m.dims(bn.x(rw.m)).len() == 2);
    (linear && super::unclamped(rw.m, producer)).then_some(())?;
    let (g, shift) = factors(rw.m, bn)?;
    scale_linear(rw, op, producer, &g, Some(&shift))
}

fn bn_to_mul_add(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let bn = BatchNorm(op);
    let (g, shift) = factors(rw.m, bn)?;
    let x = bn.x(rw.m);
    let mut dims = vec![1; rw.m.dims(x).len()];
    dims[1] = g.len();
    let (g, shift) = (add_f32(rw, "bn.scale", &dims, g)?, add_f32(rw, "bn.shift", &dims, shift)?);
    let product = rw.create(Mul::DEF, &[Some(x), Some(g)], Attrs::new())?;
    let product = rw.m.result(product);
    let sum = rw.create(Add::DEF, &[Some(product), Some(shift)], Attrs::new())?;
    let (old, new) = (rw.m.result(op), rw.m.result(sum));
    rw.replace(old, new);
    Some(())
}

/// Replaces `op`, which computes `producer * g (+ shift)` per output channel, by the producer with scaled weights.
pub fn scale_linear(rw: &mut Rewriter<'_>, op: OpId, producer: OpId, g: &[f32], shift: Option<&[f32]>) -> Option<()> {
    let weight = rw.m.operand(producer, 1)?;
    let matmul = Matmul::of(rw.m, producer);
    let rank = rw.m.dims(weight).len();
    let axis = match matmul {
        None => 0,
        Some(mm) if mm.transpose_b(rw.m) => rank - 2,
        Some(_) => rank - 1,
    };
    let mut bias = match rw.m.operand(producer, 2) {
        Some(b) => constant_f32(rw.m, b)?,
        None => vec![0.0; g.len()],
    };
    for (c, b) in bias.iter_mut().enumerate() {
        *b = *b * g[c] + shift.map_or(0.0, |s| s[c]);
    }
    let scaled = match Dequantize::producing(rw.m, weight) {
        Some(dq) => scale_quantized(rw, dq, axis, g)?,
        None => scale_float(rw, weight, axis, g)?,
    };
    let bias = add_f32(rw, "bias", &[g.len()], bias)?;
    let operands = [rw.m.operand(producer, 0), Some(scaled), Some(bias)];
    let (def, attrs) = (rw.m.def(producer), rw.m.attrs(producer).clone());
    let loc = rw.fuse_locs(&[producer, op]);
    let new = rw.create_at(op, loc, def, &operands, attrs)?;
    let (old, new) = (rw.m.result(op), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}

fn channel_of(dims: &[usize], axis: usize) -> impl Fn(usize) -> usize + use<> {
    let (inner, size) = (dims[axis + 1..].iter().product::<usize>().max(1), dims[axis]);
    move |i| i / inner % size
}

fn scale_float(rw: &mut Rewriter<'_>, weight: ValueId, axis: usize, g: &[f32]) -> Option<ValueId> {
    let dims = rw.m.dims(weight).to_vec();
    let values = constant_f32(rw.m, weight)?;
    let channel = channel_of(&dims, axis);
    let scaled = values.into_iter().enumerate().map(|(i, w)| w * g[channel(i)]).collect();
    let name = rw.m.name(weight).unwrap_or("weight").to_string();
    add_f32(rw, &name, &dims, scaled)
}

fn scale_quantized(rw: &mut Rewriter<'_>, dq: Dequantize, axis: usize, g: &[f32]) -> Option<ValueId> {
    let stored = dq.q(rw.m);
    let (quant, tensor) = (rw.m.quant_of(stored)?.clone(), constant(rw.m, stored)?);
    let dims = tensor.dims().to_vec();
    let symmetric = quant.store == Store::I8 && quant.zeros.iter().all(|&z| z == 0);
    (symmetric && quant.axis.is_none_or(|a| a == axis)).then_some(())?;
    let channel = channel_of(&dims, axis);
    let negatable = |(i, &w): (usize, &i8)| g[channel(i)] > 0.0 || (g[channel(i)] < 0.0 && w != i8::MIN);
    tensor.as_i8()?.iter().enumerate().all(negatable).then_some(())?;
    let integers = tensor.as_i8()?.iter().enumerate().map(|(i, &w)| if g[channel(i)] < 0.0 { -w } else { w });
    let integers = Data::I8(integers.collect());
    let scales: Vec<f32> = (0..dims[axis]).map(|c| quant.scale(c) * g[c].abs()).collect();
    let format = Quant { axis: Some(axis), scales: scales.into(), zeros: Box::new([0]), ..quant };
    let id = rw.m.intern_quant(format);
    let name = rw.m.name(stored).unwrap_or("weight").to_string();
    let ty = TensorTy::new(Elem::Quant(id), dims.clone());
    let c = add_constant(rw, &name, ty, HostTensor::new(dims, integers)?)?;
    let op = rw.create(Dequantize::DEF, &[Some(c)], Attrs::new())?;
    Some(rw.m.result(op))
}
