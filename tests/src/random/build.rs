//! Builds the module of a recipe.

use super::{Mode, Numbers, Recipe, Step, pairs};
use qc_dialects::graph::{
    AdaptiveAvgPool, Add, AvgPool, BatchNorm, Clip, Concat, Constant, Conv2d, Dequantize, Div, GlobalAvgPool,
    GlobalMaxPool, Lrn, Matmul, Max, MaxPool, Min, Mul, Pad, Quantize, ReduceMean, Relu, Reshape, Slice, Softmax, Sub,
    Transpose,
};
use qc_dialects::phase;
use qc_ir::{
    Attrs, Builder, Elem, HostTensor, Module, OpDef, PrintOptions, Quant, RegionId, TensorTy, Type, ValueId,
    run_region, seeded_inputs,
};
use std::collections::HashMap;
use std::sync::Arc;

/// Elements that a value may have per batch item.
const MAX_ELEMENTS: usize = 3000;
/// Multiply-accumulates that an op may have per batch item.
const MAX_MACS: usize = 150_000;

/// The module of a recipe at a batch size, in phase `imported`.
pub fn build(recipe: &Recipe, batch: usize) -> Module {
    let ranges = match recipe.mode {
        Mode::Float | Mode::Ranges => None,
        Mode::Pairs | Mode::ExactPairs => {
            let (float, offered) = make(recipe, 1, None);
            Some(ranges(&float, &offered))
        }
    };
    make(recipe, batch, ranges).0
}

/// The canonical module of a recipe as the text of a file test.
pub fn canonical_text(recipe: &Recipe) -> String {
    let m = build(recipe, 1);
    format!("// test: ladder\n{}", qc_ir::print(&m, PrintOptions { inline_limit: usize::MAX, locs: false }))
}

/// Smallest and largest element of every value that was offered to later steps, in that order.
type Seen = Vec<(f32, f32)>;

fn ranges(m: &Module, offered: &[ValueId]) -> Seen {
    let inputs = seeded_inputs(m);
    let mut seen = HashMap::new();
    let mut see = |v: ValueId, t: &HostTensor| {
        let values = t.as_f32().unwrap_or(&[]);
        seen.insert(v, values.iter().fold((0.0f32, 0.0f32), |(lo, hi), &x| (lo.min(x), hi.max(x))));
    };
    for (&v, t) in m.args(m.body()).iter().zip(&inputs) {
        see(v, t);
    }
    run_region(m, m.body(), &inputs, &mut |_, v, t| see(v, t)).expect("a random float model can be evaluated");
    offered.iter().map(|v| seen[v]).collect()
}

/// The module, and the values that were offered to later steps.
fn make(recipe: &Recipe, batch: usize, ranges: Option<Seen>) -> (Module, Vec<ValueId>) {
    let mut m = Module::new("random", phase::IMPORTED);
    let [c, h, w] = recipe.input;
    let f = m.add_func("main", &[Type::Tensor(TensorTy::new(Elem::F32, [batch, c, h, w]))]);
    let body = m.main().expect("invariant: just added").body;
    let input = m.args(body)[0];
    m.set_name(input, "x");
    let mut maker = Maker { m, body, batch, ranges, pool: Vec::new(), count: 0 };
    maker.keep(input, 0);
    for step in &recipe.steps {
        maker.step(step);
    }
    let Maker { mut m, pool, .. } = maker;
    // The last value, and what nothing reads.
    let mut outputs: Vec<ValueId> = pool.iter().rev().filter(|v| m.uses(**v).is_empty()).copied().take(3).collect();
    if outputs.is_empty() {
        outputs.extend(pool.last());
    }
    m.set_returns(body, &outputs);
    m.func_mut(f).outputs = (0..outputs.len()).map(|i| format!("out{i}").into()).collect();
    (m, pool)
}

struct Maker {
    m: Module,
    body: RegionId,
    batch: usize,
    ranges: Option<Seen>,
    pool: Vec<ValueId>,
    count: usize,
}

impl Maker {
    fn op(&mut self, def: &'static OpDef, operands: &[ValueId], attrs: Attrs) -> ValueId {
        let mut slots: Vec<Option<ValueId>> = operands.iter().copied().map(Some).collect();
        if def.operands.last().is_none_or(|s| s.kind != qc_ir::SlotKind::Variadic) {
            slots.resize(def.operands.len(), None);
        }
        let name = format!("{}{}", def.name.trim_start_matches("graph."), self.count);
        self.count += 1;
        let loc = self.m.locs.node(&name, def.name);
        let mut b = Builder::at_end(&mut self.m, self.body);
        b.loc = loc;
        let made = b.create(def, &slots, attrs).unwrap_or_else(|d| panic!("the generator made an invalid op: {d}"));
        let v = self.m.result(made);
        self.m.set_name(v, &name);
        v
    }

    fn constant(&mut self, ty: TensorTy, tensor: HostTensor) -> ValueId {
        let c = self.m.consts.add(&format!("c{}", self.count), ty, Arc::new(tensor));
        self.op(Constant::DEF, &[], Attrs::new().with("value", c))
    }

    fn floats(&mut self, dims: &[usize], data: Vec<f32>) -> ValueId {
        self.constant(TensorTy::new(Elem::F32, dims), HostTensor::f32(dims, data))
    }

    fn dims(&self, v: ValueId) -> Vec<usize> {
        self.m.dims(v).to_vec()
    }

    /// Offers a value to later steps; with ranges, most of them as a quantized pair.
    fn keep(&mut self, v: ValueId, pick: u32) {
        let seen = self.ranges.as_ref().and_then(|r| r.get(self.pool.len())).copied();
        let kept = match seen {
            Some((lo, hi)) if pick % 5 != 4 => self.pair(v, pairs::activation(lo, hi, pick)),
            _ => v,
        };
        self.pool.push(kept);
    }

    fn pair(&mut self, v: ValueId, format: Quant) -> ValueId {
        let id = self.m.intern_quant(format);
        let q = self.op(Quantize::DEF, &[v], Attrs::new().with("quant", id));
        self.op(Dequantize::DEF, &[q], Attrs::new())
    }

    /// Mostly the newest value, else any.
    fn pick(&self, pick: u32) -> ValueId {
        let i = if pick % 4 < 3 { self.pool.len() - 1 } else { (pick / 4) as usize % self.pool.len() };
        self.pool[i]
    }

    /// Another value for which `fits` holds, or `None`.
    fn other(&self, pick: u32, fits: impl Fn(&[usize]) -> bool) -> Option<ValueId> {
        let all: Vec<ValueId> = self.pool.iter().copied().filter(|&v| fits(self.m.dims(v))).collect();
        all.get(pick as usize % all.len().max(1)).copied()
    }

    fn step(&mut self, step: &Step) {
        let x = self.pick(step.picks[0]);
        let p = &step.picks[1..];
        let plane = self.m.dims(x).len() == 4;
        let v = match step.kind % 27 {
            0..=3 if plane => self.conv(x, p, 1),
            4 if plane => self.conv(x, p, 2),
            5 | 6 if plane => self.conv(x, p, 3),
            7 | 26 => self.matmul(x, p),
            8 | 9 => self.op(Relu::DEF, &[x], Attrs::new()),
            10 => self.clip(x, p),
            11..=13 => self.residual(x, p),
            14 => self.elementwise(x, p),
            15 if plane => self.pool(x, p),
            16 if plane => self.global(x, p),
            17 => self.concat(x, p),
            18 => self.slice(x, p),
            19 if plane => self.shuffle(x, p),
            20 => self.norm(x, p),
            21 => self.pad(x, p),
            22 => self.reshape(x, p),
            23 => self.mean(x, p),
            24 if plane => self.batch_norm(x, p),
            25 if plane => self.squeeze_excite(x, p),
            _ => self.op(Relu::DEF, &[x], Attrs::new()),
        };
        self.keep(v, step.picks[7]);
    }

    fn conv(&mut self, x: ValueId, p: &[u32], kind: u32) -> ValueId {
        let [_, c, h, w] = self.dims(x)[..] else { unreachable!("invariant: rank 4") };
        let divisors: Vec<usize> = (1..=c).filter(|g| c % g == 0).collect();
        let groups = match kind {
            1 => 1,
            2 => divisors[p[0] as usize % divisors.len()],
            _ => c,
        };
        let (mut kernel, mut dilation) = ([1usize; 2], [1usize; 2]);
        let mut pads = [0i64; 4];
        for (d, size) in [h, w].into_iter().enumerate() {
            let bits = p[1] as usize >> (8 * d);
            kernel[d] = [1, 3, 3, 2, 5][bits % 5];
            dilation[d] = 1 + usize::from(bits.is_multiple_of(7));
            let reach = (kernel[d] - 1) * dilation[d] + 1;
            let (before, after) = (reach / 2, if bits.is_multiple_of(3) { reach / 2 } else { (bits / 8) % reach });
            if bits % 4 != 3 || reach > size {
                pads[d] = before as i64;
                pads[2 + d] = after as i64;
            }
            if reach > size + (pads[d] + pads[2 + d]) as usize {
                (kernel[d], dilation[d]) = (1, 1);
            }
        }
        let strides = [1 + i64::from(p[2].is_multiple_of(3)), 1 + i64::from((p[2] / 3).is_multiple_of(3))];
        let taps = c / groups * kernel[0] * kernel[1];
        let room = (MAX_ELEMENTS / (h * w).max(1)).min(MAX_MACS / (h * w * taps).max(1)).max(1);
        let wanted = match kind {
            1 => [1, 2, 5, 8, 16, 20, 33, 64][p[3] as usize % 8],
            _ => groups * (1 + p[3] as usize % 3),
        };
        let out = if groups == 1 { wanted.min(room) } else { wanted.min((room / groups).max(1) * groups) };
        let mut n = Numbers::new(u64::from(p[4]));
        let weights = n.floats(out * taps, 1.7 / (taps as f32).sqrt());
        let dims = [out, c / groups, kernel[0], kernel[1]];
        let mut operands = vec![x];
        self.parameters(&mut operands, &dims, 0, weights, &mut n, p[5]);
        let attrs = Attrs::new()
            .with("strides", strides)
            .with("pads", pads)
            .with("dilations", dilation.map(|d| d as i64))
            .with("groups", groups);
        self.op(Conv2d::DEF, &operands, attrs)
    }

    /// Adds weight and perhaps bias to the operands: floats, or stored integers when the input is quantized.
    fn parameters(
        &mut self,
        operands: &mut Vec<ValueId>,
        dims: &[usize],
        axis: usize,
        values: Vec<f32>,
        n: &mut Numbers,
        pick: u32,
    ) {
        let input = Dequantize::producing(&self.m, operands[0]).and_then(|d| self.m.quant_of(d.q(&self.m))).cloned();
        let bias = (!pick.is_multiple_of(4)).then(|| n.floats(dims[axis], 0.5));
        let quantized = input.filter(|_| pick % 9 != 8);
        let Some(input) = quantized else {
            let w = self.floats(dims, values);
            operands.push(w);
            if let Some(bias) = bias {
                let b = self.floats(&[dims[axis]], bias);
                operands.push(b);
            }
            return;
        };
        let (format, stored) = pairs::weight(&values, dims, axis, pick);
        let id = self.m.intern_quant(format.clone());
        let w = self.constant(TensorTy::new(Elem::Quant(id), dims), stored);
        let w = self.op(Dequantize::DEF, &[w], Attrs::new());
        operands.push(w);
        if let Some(values) = bias {
            let b = if (pick / 16).is_multiple_of(3) {
                self.floats(&[values.len()], values)
            } else {
                let (format, stored) = pairs::bias(&values, &input, &format);
                let id = self.m.intern_quant(format);
                let b = self.constant(TensorTy::new(Elem::Quant(id), [values.len()]), stored);
                self.op(Dequantize::DEF, &[b], Attrs::new())
            };
            operands.push(b);
        }
    }

    fn matmul(&mut self, x: ValueId, p: &[u32]) -> ValueId {
        let dims = self.dims(x);
        let x = match dims.len() {
            4 => {
                let flat = self.reshaped(x, &[dims[1] * dims[2] * dims[3]]);
                self.keep(flat, p[6]);
                self.pool[self.pool.len() - 1]
            }
            _ => x,
        };
        let k = *self.m.dims(x).last().expect("invariant: rank 2 or more");
        let out = [1, 3, 10, 16, 40, 65][p[0] as usize % 6].min((MAX_MACS / k.max(1)).max(1));
        let mut n = Numbers::new(u64::from(p[4]));
        let weights = n.floats(out * k, 1.7 / (k as f32).sqrt());
        let transposed = p[1].is_multiple_of(2);
        let (dims, axis) = if transposed { ([out, k], 0) } else { ([k, out], 1) };
        let mut operands = vec![x];
        self.parameters(&mut operands, &dims, axis, weights, &mut n, p[5]);
        self.op(Matmul::DEF, &operands, Attrs::new().with("transpose_b", transposed))
    }

    fn reshaped(&mut self, x: ValueId, rest: &[usize]) -> ValueId {
        let shape: Vec<i64> = [self.batch].iter().chain(rest).map(|&d| d as i64).collect();
        self.op(Reshape::DEF, &[x], Attrs::new().with("shape", shape))
    }

    fn clip(&mut self, x: ValueId, p: &[u32]) -> ValueId {
        let (min, max) = [(0.0, 6.0), (-1.0, 1.0), (0.0, f64::INFINITY), (0.25, 0.75)][p[0] as usize % 4];
        self.op(Clip::DEF, &[x], Attrs::new().with("min", min).with("max", max))
    }

    /// The sum, perhaps the product, with another value of the same shape.
    fn residual(&mut self, x: ValueId, p: &[u32]) -> ValueId {
        let dims = self.dims(x);
        let y = self.other(p[0], |d| d == dims).unwrap_or(x);
        let def = if p[1] % 4 == 3 { Mul::DEF } else { Add::DEF };
        let sum = if p[2].is_multiple_of(2) {
            self.op(def, &[x, y], Attrs::new())
        } else {
            self.op(def, &[y, x], Attrs::new())
        };
        if p[3].is_multiple_of(2) { self.op(Relu::DEF, &[sum], Attrs::new()) } else { sum }
    }

    /// Arithmetic with a constant that broadcasts.
    fn elementwise(&mut self, x: ValueId, p: &[u32]) -> ValueId {
        let mut dims = self.dims(x);
        dims[0] = 1;
        for (i, d) in dims.iter_mut().enumerate().skip(1) {
            if p[0] >> i & 1 == 0 {
                *d = 1;
            }
        }
        let dims = if p[0].is_multiple_of(5) { Vec::new() } else { dims };
        let mut n = Numbers::new(u64::from(p[1]));
        let defs = [Add::DEF, Sub::DEF, Mul::DEF, Div::DEF, Max::DEF, Min::DEF];
        let def = defs[p[2] as usize % 6];
        let mut values = n.floats(dims.iter().product(), 1.0);
        if def == Div::DEF {
            values.iter_mut().for_each(|x| *x = x.abs() + 0.5);
        }
        let c = self.floats(&dims, values);
        let right = def == Div::DEF || !p[3].is_multiple_of(3);
        if right { self.op(def, &[x, c], Attrs::new()) } else { self.op(def, &[c, x], Attrs::new()) }
    }

    fn pool(&mut self, x: ValueId, p: &[u32]) -> ValueId {
        let dims = self.dims(x);
        let (mut kernel, mut strides, mut pads) = ([1i64; 2], [1i64; 2], [0i64; 4]);
        for d in 0..2 {
            let (size, bits) = (dims[2 + d] as i64, i64::from(p[d]));
            kernel[d] = (1 + bits % 3).min(size);
            strides[d] = 1 + bits / 3 % 3;
            pads[d] = (bits / 9 % 3).min(kernel[d] - 1);
            pads[2 + d] = (bits / 27 % 3).min(kernel[d] - 1);
        }
        // With rounding up, the last window may begin behind the input; a mean of nothing is not asked for.
        let starts_inside = |d: usize| {
            let padded = dims[2 + d] as i64 + pads[d] + pads[2 + d];
            let last = (padded - kernel[d] + strides[d] - 1) / strides[d] * strides[d];
            last < dims[2 + d] as i64 + pads[d]
        };
        let ceil = p[2].is_multiple_of(2) && starts_inside(0) && starts_inside(1);
        let attrs =
            Attrs::new().with("kernel", kernel).with("strides", strides).with("pads", pads).with("ceil_mode", ceil);
        match ["max", "max", "exclusive", "kernel", "inclusive"][p[3] as usize % 5] {
            "max" => self.op(MaxPool::DEF, &[x], attrs),
            count => self.op(AvgPool::DEF, &[x], attrs.with("count", count)),
        }
    }

    fn global(&mut self, x: ValueId, p: &[u32]) -> ValueId {
        match p[0] % 4 {
            0 => self.op(GlobalMaxPool::DEF, &[x], Attrs::new()),
            1 => {
                let output = [1 + i64::from(p[1] % 4), 1 + i64::from(p[2] % 4)];
                self.op(AdaptiveAvgPool::DEF, &[x], Attrs::new().with("output", output))
            }
            _ => self.op(GlobalAvgPool::DEF, &[x], Attrs::new()),
        }
    }

    fn concat(&mut self, x: ValueId, p: &[u32]) -> ValueId {
        let dims = self.dims(x);
        let axis = if p[0].is_multiple_of(4) { 1 + p[1] as usize % (dims.len() - 1) } else { 1 };
        let fits = |d: &[usize]| d.len() == dims.len() && (0..d.len()).all(|i| i == axis || d[i] == dims[i]);
        let mut operands = vec![x];
        for pick in &p[2..3 + p[5] as usize % 2] {
            let total: usize = operands.iter().map(|&v| self.m.tensor_ty(v).len() / self.batch).sum();
            let next =
                self.other(*pick, fits).filter(|&v| total + self.m.tensor_ty(v).len() / self.batch <= MAX_ELEMENTS);
            operands.extend(next);
        }
        if p[4].is_multiple_of(2) {
            operands.reverse();
        }
        self.op(Concat::DEF, &operands, Attrs::new().with("axis", axis))
    }

    fn slice(&mut self, x: ValueId, p: &[u32]) -> ValueId {
        let dims = self.dims(x);
        let mut starts = vec![0i64; dims.len()];
        let mut ends: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        let mut steps = vec![1i64; dims.len()];
        let axis = if p[0].is_multiple_of(3) { 1 + p[1] as usize % (dims.len() - 1) } else { 1 };
        starts[axis] = i64::from(p[2]) % ends[axis];
        ends[axis] -= i64::from(p[3]) % (ends[axis] - starts[axis]);
        steps[axis] = 1 + i64::from(p[4].is_multiple_of(5));
        self.op(Slice::DEF, &[x], Attrs::new().with("starts", starts).with("ends", ends).with("steps", steps))
    }

    /// A channel shuffle.
    fn shuffle(&mut self, x: ValueId, p: &[u32]) -> ValueId {
        let [_, c, h, w] = self.dims(x)[..] else { unreachable!("invariant: rank 4") };
        let divisors: Vec<usize> = (1..=c).filter(|g| c % g == 0).collect();
        let g = divisors[p[0] as usize % divisors.len()];
        let split = self.reshaped(x, &[g, c / g, h, w]);
        let swapped = self.op(Transpose::DEF, &[split], Attrs::new().with("perm", [0i64, 2, 1, 3, 4]));
        self.reshaped(swapped, &[c, h, w])
    }

    fn norm(&mut self, x: ValueId, p: &[u32]) -> ValueId {
        let rank = self.m.dims(x).len();
        // Local response normalisation is made for images.
        if p[0].is_multiple_of(2) || rank != 4 {
            let axis = if p[1].is_multiple_of(2) { 1 } else { rank - 1 };
            return self.op(Softmax::DEF, &[x], Attrs::new().with("axis", axis));
        }
        let attrs = Attrs::new().with("size", 1 + i64::from(p[1] % 5)).with("alpha", 0.1);
        self.op(Lrn::DEF, &[x], attrs.with("beta", 0.75).with("bias", 1.0 + f64::from(p[2] % 2)))
    }

    fn pad(&mut self, x: ValueId, p: &[u32]) -> ValueId {
        let rank = self.m.dims(x).len();
        let mut pads = vec![0i64; 2 * rank];
        for i in 1..rank {
            let spatial = i >= 2 || p[0].is_multiple_of(4);
            pads[i] = if spatial { i64::from(p[1] >> (2 * i) & 1) } else { 0 };
            pads[rank + i] = if spatial { i64::from(p[1] >> (2 * i + 1) & 1) } else { 0 };
        }
        let value = if p[2].is_multiple_of(2) { 0.0 } else { 0.5 };
        self.op(Pad::DEF, &[x], Attrs::new().with("pads", pads).with("value", value))
    }

    fn reshape(&mut self, x: ValueId, p: &[u32]) -> ValueId {
        let dims = self.dims(x);
        match (p[0] % 3, dims.len()) {
            (0, 4) => self.op(Transpose::DEF, &[x], Attrs::new().with("perm", [0i64, 2, 3, 1])),
            (1, 4) => self.reshaped(x, &[dims[1], dims[2] * dims[3]]),
            (0, 3) => self.op(Transpose::DEF, &[x], Attrs::new().with("perm", [0i64, 2, 1])),
            (1, 2) => self.reshaped(x, &[dims[1], 1, 1]),
            _ => self.reshaped(x, &[dims[1..].iter().product()]),
        }
    }

    fn mean(&mut self, x: ValueId, p: &[u32]) -> ValueId {
        let rank = self.m.dims(x).len();
        let axes: Vec<i64> = if rank == 4 && p[0].is_multiple_of(2) { vec![2, 3] } else { vec![rank as i64 - 1] };
        let keepdims = rank - axes.len() < 2 || p[1].is_multiple_of(2);
        self.op(ReduceMean::DEF, &[x], Attrs::new().with("axes", axes).with("keepdims", keepdims))
    }

    fn batch_norm(&mut self, x: ValueId, p: &[u32]) -> ValueId {
        let c = self.m.dims(x)[1];
        let mut n = Numbers::new(u64::from(p[0]));
        let mut operands = vec![x];
        for (scale, offset) in [(1.0, 0.2), (0.3, 0.0), (0.3, 0.0), (0.4, 1.0)] {
            let values = n.floats(c, scale).into_iter().map(|v| v + offset).collect();
            let v = self.floats(&[c], values);
            operands.push(v);
        }
        self.op(BatchNorm::DEF, &operands, Attrs::new().with("epsilon", 1e-3))
    }

    /// Channels weighted by what a small network says about their means.
    fn squeeze_excite(&mut self, x: ValueId, p: &[u32]) -> ValueId {
        let pooled = self.op(GlobalAvgPool::DEF, &[x], Attrs::new());
        self.keep(pooled, p[1]);
        let pooled = self.pool[self.pool.len() - 1];
        let c = self.m.dims(x)[1];
        let mut n = Numbers::new(u64::from(p[2]));
        let weights = n.floats(c * c, 1.7 / (c as f32).sqrt());
        let mut operands = vec![pooled];
        self.parameters(&mut operands, &[c, c, 1, 1], 0, weights, &mut n, p[3]);
        let gate = self.op(Conv2d::DEF, &operands, Attrs::new());
        let gate = self.op(Clip::DEF, &[gate], Attrs::new().with("min", 0.0).with("max", 1.0));
        self.keep(gate, p[4]);
        let gate = self.pool[self.pool.len() - 1];
        self.op(Mul::DEF, &[x, gate], Attrs::new())
    }
}
