//! How much of a tensor's signal its roundings to 8 bits leave, seen from the ops that read it.
//!
//! A rounding to steps of `s` adds noise of `s^2 / 12` to each element (Bennett's model; see [Widrow and Kollár,
//! *Quantization Noise*, 2008]), or all of an element that is smaller. Whether that is much depends on the readers: a
//! few large channels may fill the range of a tensor while weights of the next layer take what is in the small ones. So
//! noise is followed to the next products, whose results have a known variance:
//!
//! `noise(o) = Σ_c weight(o, c)^2 * min(s^2 / 12, E x_c^2)`, and of a tensor `mean_o noise(o) / variance(o)`, at most 1 each
//!
//! where `weight(o, c)^2` is a sum over taps. On the way, sums pass noise on, a product with another tensor multiplies it by
//! the mean square of that, functions and means keep its ratio to the signal. A result of the model is compared as a whole.
//! Everything is read backwards: each tensor has, per channel, a *gain* by which noise there counts.

use super::channels::{Channels, Order, count};
use super::rectified;
use crate::graph::{constant, is_constant_f32, is_movement};
use qc_dialects::graph::{
    AdaptiveAvgPool, Add, AvgPool, Clamp, Concat, Constant, Conv2d, GlobalAvgPool, GlobalMaxPool, LayerNorm, Linear,
    Matmul, Max, MaxPool, Min, Mul, Pad, Resample, Reshape, Softmax, Sub,
};
use qc_ir::{DisjointSets, HostTensor, Module, OpId, Traits, ValueId};
use std::collections::HashMap;

/// What calibration knows of a tensor.
#[derive(Clone, Debug)]
pub struct Known {
    /// The width of a step of its format.
    pub step: f64,
    /// Mean and mean square of each channel.
    pub moments: Vec<(f64, f64)>,
}

/// The dims under which products see the tensors of a module, where a reshape is between: a sequence becomes an image for a
/// convolution and is one again behind it, and its channels are those of the image.
pub struct Seen {
    dims: HashMap<ValueId, Vec<usize>>,
    /// A number of all values that are the same elements in the same order.
    alike: HashMap<ValueId, ValueId>,
    /// What only a ReLU reads, and what that leaves, in the order of the program.
    rectified: Vec<(ValueId, ValueId)>,
}

impl Seen {
    /// Looks at all reshapes and products.
    pub fn of(m: &Module) -> Seen {
        let mut sets = DisjointSets::default();
        let ops = m.walk(m.body());
        for reshape in ops.iter().filter_map(|&op| Reshape::of(m, op)) {
            sets.join(reshape.x(m), reshape.out(m));
        }
        let mut by_set: HashMap<ValueId, Vec<usize>> = HashMap::new();
        let products = |images: bool| ops.iter().filter_map(move |&op| Linear::of(m, op).map(|l| (op, l, images)));
        for (op, linear, _) in products(true).filter(|p| m.is(p.0, Conv2d::DEF)).chain(products(false)) {
            for v in [linear.input(m), m.result(op)] {
                by_set.entry(sets.root(v)).or_insert_with(|| m.dims(v).to_vec());
            }
        }
        let relu = |op: &OpId| {
            let clamp = Clamp::of(m, *op).filter(|clamp| clamp.bounds(m)[0] == 0.0)?;
            (m.only_user(clamp.x(m)) == Some(*op)).then(|| (clamp.x(m), clamp.out(m)))
        };
        let rectified = ops.iter().filter_map(relu).collect();
        let mut seen = Seen { dims: HashMap::new(), alike: HashMap::new(), rectified };
        for region in m.regions_in(m.body()) {
            let results = m.ops(region).iter().flat_map(|&op| m.results(op));
            for &v in m.args(region).iter().chain(results) {
                let root = sets.root(v);
                let dims = by_set.get(&root).cloned();
                seen.dims.insert(v, dims.unwrap_or_else(|| m.dims(v).to_vec()));
                seen.alike.insert(v, root);
            }
        }
        seen
    }

    /// The dims of a tensor as products see it.
    pub fn dims(&self, v: ValueId) -> &[usize] {
        self.dims.get(&v).map_or(&[], |dims| dims)
    }

    /// `known`, the same of tensors without a name that a reshape makes of those, and what was there before a ReLU.
    fn shared(&self, known: &HashMap<ValueId, Known>) -> HashMap<ValueId, Known> {
        let mut named: Vec<(&ValueId, &Known)> = known.iter().collect();
        named.sort_by_key(|(v, _)| **v);
        let mut by_set: HashMap<ValueId, &Known> = HashMap::new();
        for (v, known) in named {
            by_set.entry(self.alike.get(v).copied().unwrap_or(*v)).or_insert(known);
        }
        let one = |(v, root): (&ValueId, &ValueId)| {
            let of = known.get(v).or_else(|| by_set.get(root).copied())?;
            Some((*v, of.clone()))
        };
        let mut all: HashMap<ValueId, Known> = self.alike.iter().filter_map(one).collect();
        for &(x, out) in self.rectified.iter().rev() {
            if let (false, Some(left)) = (all.contains_key(&x), all.get(&out)) {
                let moments = left.moments.iter().map(|of| rectified::before(*of)).collect();
                all.insert(x, Known { step: left.step, moments });
            }
        }
        all
    }
}

/// Decibels between signal and noise of a tensor, for the tensors of a canonical float module that are known and read.
pub fn ratios(m: &Module, known: &HashMap<ValueId, Known>) -> HashMap<ValueId, f64> {
    let seen = Seen::of(m);
    let known = &seen.shared(known);
    let gains = Gains::of(m, seen, known);
    let decibels = |v: &ValueId, gain: &[f64]| {
        let noise = gains.noise(*v)?;
        let ratio: f64 = noise.iter().zip(gain).map(|(n, g)| n * g).sum();
        Some((*v, (-10.0 * ratio.max(1e-12).log10()).max(0.0)))
    };
    gains.of.iter().filter_map(|(v, gain)| decibels(v, gain)).collect()
}

/// Gains of the channels of the tensors that are known and read.
pub fn gains(m: &Module, known: &HashMap<ValueId, Known>) -> HashMap<ValueId, Vec<f64>> {
    let seen = Seen::of(m);
    let known = seen.shared(known);
    Gains::of(m, seen, &known).of
}

/// Gains per channel of the tensors that are read.
struct Gains<'m> {
    m: &'m Module,
    seen: Seen,
    known: &'m HashMap<ValueId, Known>,
    of: HashMap<ValueId, Vec<f64>>,
}

/// `values` for `n` channels, where they are of other ones their mean.
fn means(values: Vec<f64>, n: usize) -> Vec<f64> {
    if values.len() == n { values } else { vec![values.iter().sum::<f64>() / values.len().max(1) as f64; n] }
}

/// `gains` for `n` channels, where they are of other ones evenly; noise that all channels have counts the same.
fn shared(gains: Vec<f64>, n: usize) -> Vec<f64> {
    if gains.len() == n { gains } else { vec![gains.iter().sum::<f64>() / n.max(1) as f64; n] }
}

impl<'m> Gains<'m> {
    fn of(m: &'m Module, seen: Seen, known: &'m HashMap<ValueId, Known>) -> Gains<'m> {
        let mut gains = Gains { m, seen, known, of: HashMap::new() };
        for &v in m.returns(m.body()) {
            gains.result(v);
        }
        for op in m.walk(m.body()).into_iter().rev() {
            gains.read(op);
        }
        gains
    }

    fn count(&self, v: ValueId) -> usize {
        count(self.seen.dims(v))
    }

    fn moments(&self, v: ValueId) -> Option<Vec<(f64, f64)>> {
        if let Some(known) = self.known.get(&v) {
            return Some(known.moments.clone());
        }
        let tensor = constant(self.m, v)?;
        let mut channels = Channels::default();
        channels.observe(Order::rows(tensor.dims()), tensor.as_f32()?);
        channels.moments()
    }

    fn mean_squares(&self, v: ValueId) -> Option<Vec<f64>> {
        let squares = self.moments(v)?.into_iter().map(|(_, square)| square).collect();
        Some(means(squares, self.count(v)))
    }

    fn variances(&self, v: ValueId) -> Option<Vec<f64>> {
        let one = |(mean, square): (f64, f64)| (square - mean * mean).max(0.0);
        Some(means(self.moments(v)?.into_iter().map(one).collect(), self.count(v)))
    }

    /// The noise of each channel's elements.
    fn noise(&self, v: ValueId) -> Option<Vec<f64>> {
        let step = self.known.get(&v)?.step;
        Some(self.mean_squares(v)?.into_iter().map(|square| square.min(step * step / 12.0)).collect())
    }

    /// Noise of `v` counts by `gains`, too; the reader that suffers most decides.
    fn add(&mut self, v: ValueId, gains: Option<Vec<f64>>) {
        let Some(gains) = gains.filter(|_| self.known.contains_key(&v)) else { return };
        let gains = shared(gains, self.count(v));
        match self.of.get_mut(&v) {
            Some(all) => all.iter_mut().zip(gains).for_each(|(a, b)| *a = a.max(b)),
            None => drop(self.of.insert(v, gains)),
        }
    }

    /// A result of the model is compared with its own spread over all channels.
    fn result(&mut self, v: ValueId) {
        let Some(moments) = self.moments(v) else { return };
        let n = moments.len().max(1) as f64;
        let (mean, square) = moments.iter().fold((0.0, 0.0), |(a, b), (mean, square)| (a + mean / n, b + square / n));
        let variance = square - mean * mean;
        self.add(v, (variance > 0.0).then(|| vec![1.0 / (n * variance); moments.len()]));
    }

    /// Noise counts by its ratio to the channel's own signal, on an average of channels.
    fn own(&mut self, v: ValueId) {
        let gains = self.variances(v).zip(self.noise(v)).map(|(variances, noise)| {
            let n = variances.len().max(1) as f64;
            let one = |(variance, noise): (f64, f64)| if noise > 0.0 { 1.0 / (n * variance.max(noise)) } else { 0.0 };
            variances.into_iter().zip(noise).map(one).collect()
        });
        self.add(v, gains);
    }

    fn read(&mut self, op: OpId) {
        let m = self.m;
        let is = |defs: &[&'static qc_ir::OpDef]| defs.iter().any(|d| m.is(op, d));
        let pools = [MaxPool::DEF, AvgPool::DEF, GlobalAvgPool::DEF, GlobalMaxPool::DEF, AdaptiveAvgPool::DEF];
        // Norms and softmaxes read floats.
        if is(&[Constant::DEF, LayerNorm::DEF, Softmax::DEF]) {
            return;
        }
        if Linear::of(m, op).is_some_and(|l| is_constant_f32(m, l.weight(m))) {
            return self.product(op);
        }
        let operands: Vec<ValueId> = m.operands(op).iter().flatten().copied().collect();
        if let (true, Some(concat)) = (is(&[Concat::DEF]), Concat::of(m, op)) {
            return self.concat(concat, &operands);
        }
        if is_movement(m, op) || is(&[Add::DEF, Sub::DEF, Max::DEF, Min::DEF]) {
            let gains = self.of.get(&m.result(op)).cloned();
            return operands.into_iter().for_each(|x| self.add(x, gains.clone()));
        }
        if is(&[Mul::DEF]) && operands[0] != operands[1] {
            return [0, 1].into_iter().for_each(|i| self.factor(operands[i], operands[1 - i], m.result(op)));
        }
        let alone = m.def(op).traits.has(Traits::ELEMENTWISE) || is(&pools) || is(&[Pad::DEF, Resample::DEF]);
        match &operands[..] {
            [x] if alone => self.function(*x, m.result(op)),
            _ => operands.into_iter().for_each(|x| self.own(x)),
        }
    }

    /// What a function makes of noise has the same ratio to the signal.
    fn function(&mut self, x: ValueId, out: ValueId) {
        let (Some(gains), Some(own)) = (self.of.get(&out).cloned(), self.variances(x)) else { return };
        let Some(behind) = self.variances(out) else { return };
        let parts: Vec<f64> = gains.iter().zip(&behind).map(|(g, v)| g * v).collect();
        let parts = shared(parts, own.len());
        let one = |(part, own): (&f64, &f64)| if *own > 0.0 { part / own } else { 0.0 };
        self.add(x, Some(parts.iter().zip(&own).map(one).collect()));
    }

    fn factor(&mut self, x: ValueId, other: ValueId, out: ValueId) {
        let (Some(gains), Some(squares)) = (self.of.get(&out).cloned(), self.mean_squares(other)) else { return };
        let squares = means(squares, gains.len());
        self.add(x, Some(gains.iter().zip(squares).map(|(g, s)| g * s).collect()));
    }

    fn concat(&mut self, op: Concat, operands: &[ValueId]) {
        let Some(gains) = self.of.get(&op.out(self.m)).cloned() else { return };
        let axis = op.axis(self.m) as usize;
        let counts: usize = operands.iter().map(|&x| self.count(x)).sum();
        let along = counts == gains.len() && self.m.dims(op.out(self.m)).get(axis) == Some(&counts);
        let mut from = 0;
        for &x in operands {
            let n = self.count(x);
            let own = if along { gains.get(from..from + n).map(<[f64]>::to_vec) } else { Some(gains.clone()) };
            self.add(x, own);
            from += n;
        }
    }

    fn product(&mut self, op: OpId) {
        let m = self.m;
        let Some(linear) = Linear::of(m, op) else { return };
        let (x, out) = (linear.input(m), m.result(op));
        let Some(weight) = constant(m, linear.weight(m)).and_then(|t| Squares::of(m, op, &t)) else { return };
        let (Some(noise), Some(variances)) = (self.noise(x), self.variances(out)) else { return };
        let noise = means(noise, weight.groups * weight.inputs);
        let variances = means(variances, weight.outputs());
        let mut gains = vec![0.0; noise.len()];
        let share = 1.0 / weight.outputs() as f64;
        for (o, (row, variance)) in weight.rows().zip(variances).enumerate() {
            let from = weight.first_input(o);
            let all: f64 = row.iter().zip(&noise[from..]).map(|(w, n)| w * n).sum();
            // A result that is nothing but its noise has lost all, not more.
            let worst = variance.max(all);
            if worst > 0.0 {
                gains[from..].iter_mut().zip(row).for_each(|(g, w)| *g += w * share / worst);
            }
        }
        self.add(x, Some(gains));
    }
}

/// Squares of a weight, added up over taps: a row per output channel, of the inputs of its group.
struct Squares {
    groups: usize,
    inputs: usize,
    values: Vec<f64>,
}

impl Squares {
    fn of(m: &Module, op: OpId, weight: &HostTensor) -> Option<Squares> {
        let (values, dims) = (weight.as_f32()?, weight.dims());
        let square = |w: &f32| f64::from(*w) * f64::from(*w);
        if let Some(conv) = Conv2d::of(m, op) {
            let taps = dims[2] * dims[3];
            let values = values.chunks(taps.max(1)).map(|taps| taps.iter().map(square).sum()).collect();
            return Some(Squares { groups: usize::try_from(conv.groups(m)).ok()?, inputs: dims[1], values });
        }
        let product = Matmul::of(m, op).filter(|_| dims.len() == 2)?;
        let (inputs, outputs) = if product.transpose_b(m) { (dims[1], dims[0]) } else { (dims[0], dims[1]) };
        let at = |o: usize, k: usize| if product.transpose_b(m) { o * inputs + k } else { k * outputs + o };
        let values =
            (0..outputs).flat_map(|o| (0..inputs).map(move |k| at(o, k))).map(|i| square(&values[i])).collect();
        Some(Squares { groups: 1, inputs, values })
    }

    fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks(self.inputs.max(1))
    }

    fn outputs(&self) -> usize {
        self.values.len() / self.inputs.max(1)
    }

    /// The first of the inputs that output `o` is made of.
    fn first_input(&self, o: usize) -> usize {
        o / (self.outputs() / self.groups.max(1)).max(1) * self.inputs
    }
}

#[cfg(test)]
mod tests {
    use super::{Known, ratios};
    use qc_dialects::REGISTRY;
    use qc_ir::{ValueId, parse};
    use std::collections::HashMap;

    /// A tensor's name, its step, and mean and mean square of its channels.
    type Of<'a> = (&'a str, f64, &'a [(f64, f64)]);

    /// The ratio of `%x`, in a program with `ops`.
    fn of(header: &str, ops: &str, known: &[Of]) -> Option<f64> {
        let text = format!("module \"m\" phase canonical\n{header}{{\n{ops}}}\n");
        let m = parse(&text, &REGISTRY, &HashMap::new()).unwrap();
        let results = m.ops(m.body()).iter().flat_map(|&op| m.results(op));
        let values = m.args(m.body()).iter().chain(results);
        let named: HashMap<&str, ValueId> = values.filter_map(|&v| Some((m.name(v)?, v))).collect();
        let one = |(name, step, moments): &Of| (named[name], Known { step: *step, moments: moments.to_vec() });
        ratios(&m, &known.iter().map(one).collect()).get(&named["x"]).copied()
    }

    /// `step` whose noise has the power `noise`.
    fn step(noise: f64) -> f64 {
        (12.0 * noise).sqrt()
    }

    fn close(ratio: Option<f64>, expected: f64) {
        assert!(ratio.is_some_and(|r| (r - expected).abs() < 1e-6), "{ratio:?} {expected}");
    }

    const PRODUCT: &str = "const @w : tensor<2x2xf32> = [1.0, 0.0, 0.0, 10.0]
func @main(%x : tensor<4x2xf32>) outputs [\"y\"] ";
    const BY_W: &str = "%w = graph.constant() {value = @w}\n%y = graph.matmul(%x, %w)\nreturn(%y)\n";

    #[test]
    fn weights_say_which_channels_count() {
        // The first channel is large, the second is what the second result is made of: noise of 0.01 is 1e-6 of the first
        // result's variance and a tenth of the second's.
        let y: Of = ("y", 1.0, &[(0.0, 1e4), (0.0, 10.0)]);
        let ratio = of(PRODUCT, BY_W, &[("x", step(0.01), &[(0.0, 1e4), (0.0, 0.1)]), y]);
        close(ratio, -10.0 * ((1e-6f64 + 0.1) / 2.0).log10());
        // Elements that are less than the noise have no more of it than themselves.
        let small = of(PRODUCT, BY_W, &[("x", step(0.01), &[(0.0, 1e4), (0.0, 1e-4)]), y]);
        close(small, -10.0 * ((1e-6f64 + 1e-3) / 2.0).log10());
        // A result that never varies has lost what it had, once.
        let constant =
            of(PRODUCT, BY_W, &[("x", step(0.01), &[(0.0, 1e4), (0.0, 0.1)]), ("y", 1.0, &[(0.0, 1e4), (3.0, 9.0)])]);
        close(constant, -10.0 * ((1e-6f64 + 1.0) / 2.0).log10());
        assert_eq!(of(PRODUCT, BY_W, &[y]), None);
        assert_eq!(of(PRODUCT, BY_W, &[("x", step(0.01), &[(0.0, 1e4), (0.0, 0.1)])]), None);
    }

    #[test]
    fn groups_of_a_convolution_have_inputs_of_their_own() {
        let header = "const @w : tensor<2x1x1x2xf32> = [1.0, 2.0, 3.0, 0.0]
func @main(%x : tensor<1x2x1x2xf32>) outputs [\"y\"] ";
        let ops = "%w = graph.constant() {value = @w}\n%y = graph.conv2d(%x, %w, _) {groups = 2}\nreturn(%y)\n";
        let ratio =
            of(header, ops, &[("x", step(1.0), &[(0.0, 50.0), (0.0, 0.5)]), ("y", 1.0, &[(1.0, 51.0), (0.0, 9.0)])]);
        close(ratio, -10.0 * ((5.0f64 / 50.0 + 9.0 * 0.5 / 9.0) / 2.0).log10());
    }

    #[test]
    fn sums_pass_noise_on_and_products_weigh_it() {
        let header = "func @main(%x : tensor<2x2xf32>, %g : tensor<2x1xf32>) outputs [\"y\"] ";
        let x: Of = ("x", step(0.01), &[(0.0, 1.0), (0.0, 1.0)]);
        let y: Of = ("y", 1.0, &[(0.0, 4.0), (0.0, 4.0)]);
        let sum = of(header, "%y = graph.add(%x, %g)\nreturn(%y)\n", &[x, y]);
        close(sum, -10.0 * (0.01f64 / 4.0).log10());
        let gate: Of = ("g", 1.0, &[(0.5, 0.25)]);
        let product = of(header, "%y = graph.mul(%x, %g)\nreturn(%y)\n", &[x, y, gate]);
        close(product, -10.0 * (0.25 * 0.01f64 / 4.0).log10());
    }

    #[test]
    fn functions_keep_the_ratio_and_parts_of_a_concat_are_told_apart() {
        let header = "func @main(%x : tensor<2x1xf32>, %z : tensor<2x1xf32>) outputs [\"y\"] ";
        let x: Of = ("x", step(0.01), &[(0.0, 1.0)]);
        let f: Of = ("f", 1.0, &[(0.0, 0.04)]);
        let ops = "%f = graph.tanh(%x)\n%y = graph.concat(%z, %f) {axis = 1}\nreturn(%y)\n";
        let ratio = of(header, ops, &[x, f, ("y", 1.0, &[(0.0, 1.96), (0.0, 0.04)])]);
        // The result as a whole has a variance of 1, of which the function's noise is a 25th of that of `%x`.
        close(ratio, -10.0 * (0.01f64 * 0.04 / 2.0).log10());
    }

    #[test]
    fn a_sequence_has_the_channels_of_the_image_that_it_becomes() {
        let header = "const @w : tensor<1x2x1x1xf32> = [1.0, 3.0]
func @main(%x : tensor<1x2x3xf32>) outputs [\"y\"] ";
        let ops = "%i = graph.reshape(%x) {shape = [1, 2, 1, 3]}\n%w = graph.constant() {value = @w}
%0 = graph.conv2d(%i, %w, _)\n%y = graph.reshape(%0) {shape = [1, 3]}\nreturn(%y)\n";
        let ratio = of(header, ops, &[("x", step(0.1), &[(0.0, 5.0), (0.0, 0.05)]), ("y", 1.0, &[(0.0, 9.0)])]);
        close(ratio, -10.0 * ((0.1f64 + 9.0 * 0.05) / 9.0).log10());
    }

    #[test]
    fn what_norms_and_softmaxes_read_is_no_matter() {
        let header = "func @main(%x : tensor<2x2xf32>) outputs [\"y\"] ";
        let x: Of = ("x", step(1.0), &[(0.0, 1.0), (0.0, 1.0)]);
        let y: Of = ("y", 1.0, &[(0.5, 0.3), (0.5, 0.3)]);
        assert_eq!(of(header, "%y = graph.softmax(%x) {axis = 1}\nreturn(%y)\n", &[x, y]), None);
    }
}
