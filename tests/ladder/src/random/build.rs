//! Builds the module of a recipe.

use super::makers::MAKERS;
use super::{Mode, Recipe, Step, pairs};
use qc_dialects::graph::{Cast, Constant, Dequantize, Quantize, Relu, Reshape, Scan};
use qc_dialects::phase;
use qc_ir::{
    Attrs, Builder, ConstId, Elem, HostTensor, Insert, Module, OpDef, Quant, RegionId, TensorTy, Type, ValueId,
    run_region, seeded_inputs,
};
use std::collections::HashMap;
use std::sync::Arc;

/// Elements that a value may have per batch item.
pub const MAX_ELEMENTS: usize = 3000;
/// Multiply-accumulates that an op may have per batch item.
pub const MAX_MACS: usize = 150_000;

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

/// Smallest and largest element of every value that was offered to later steps, in that order.
type Seen = Vec<(f32, f32)>;

fn ranges(m: &Module, offered: &[ValueId]) -> Seen {
    let inputs = seeded_inputs(m);
    let mut seen = HashMap::new();
    let mut see = |v: ValueId, t: &HostTensor| {
        let values = t.as_f32().unwrap_or(&[]);
        let tame = values.iter().map(|x| x.clamp(-1e4, 1e4));
        seen.insert(v, tame.fold((0.0f32, 0.0f32), |(lo, hi), x| (lo.min(x), hi.max(x))));
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
    let mut graph = Graph { m, body, batch, ranges, pool: Vec::new(), count: 0 };
    graph.second_input(recipe);
    graph.keep(input, 0);
    for step in &recipe.steps {
        graph.step(step);
    }
    let Graph { mut m, pool, .. } = graph;
    // The last value, and what nothing reads; the rest of it is dead.
    let mut outputs: Vec<ValueId> = pool.iter().rev().filter(|v| m.uses(**v).is_empty()).copied().take(3).collect();
    if outputs.is_empty() {
        outputs.extend(pool.last());
    }
    m.set_returns(body, &outputs);
    m.func_mut(f).outputs = (0..outputs.len()).map(|i| format!("out{i}").into()).collect();
    (m, pool)
}

/// A model while it grows.
pub struct Graph {
    /// The module.
    pub m: Module,
    body: RegionId,
    /// Items of a batch: the first dim of every value.
    pub batch: usize,
    ranges: Option<Seen>,
    /// Values that later steps may read, oldest first.
    pub pool: Vec<ValueId>,
    count: usize,
}

impl Graph {
    /// Makes an op; missing optional operands are left out.
    pub fn op(&mut self, def: &'static OpDef, operands: &[ValueId], attrs: Attrs) -> ValueId {
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

    /// A scan of a region, whose operands are sequences where `sequences` says; gives the results.
    pub fn scan(
        &mut self,
        operands: &[ValueId],
        attrs: Attrs,
        sequences: std::ops::Range<usize>,
        body: impl FnOnce(&mut Graph, &[ValueId]) -> Vec<ValueId>,
    ) -> Vec<ValueId> {
        let of_step = |(i, &v): (usize, &ValueId)| {
            let t = self.m.tensor_ty(v);
            let dims = &t.dims[usize::from(sequences.contains(&i))..];
            Type::Tensor(TensorTy::new(t.elem, dims))
        };
        let types: Vec<Type> = operands.iter().enumerate().map(of_step).collect();
        let slots: Vec<Option<ValueId>> = operands.iter().copied().map(Some).collect();
        let name = format!("scan{}", self.count);
        self.count += 1;
        let loc = self.m.locs.node(&name, Scan::DEF.name);
        let mut b = Builder { m: &mut self.m, at: Insert::End(self.body), loc };
        let (op, region) = b.begin(Scan::DEF, &slots, attrs, &types);
        let outside = std::mem::replace(&mut self.body, region);
        let args = self.m.args(region).to_vec();
        for (i, &v) in args.iter().enumerate() {
            self.m.set_name(v, &format!("{name}.{i}"));
        }
        let returns = body(self, &args);
        self.m.set_returns(region, &returns);
        self.body = outside;
        let mut b = Builder { m: &mut self.m, at: Insert::End(outside), loc };
        b.finish(op).unwrap_or_else(|d| panic!("the generator made an invalid scan: {d}"));
        let results = self.m.results(op).to_vec();
        for (i, &v) in results.iter().enumerate() {
            self.m.set_name(v, &format!("{name}.out{i}"));
        }
        results
    }

    /// A constant.
    pub fn constant(&mut self, ty: TensorTy, tensor: HostTensor) -> ValueId {
        let c = self.m.consts.add(&format!("c{}", self.count), ty, Arc::new(tensor));
        self.op(Constant::DEF, &[], Attrs::new().with("value", c))
    }

    /// A constant that is part of an op.
    pub fn stored(&mut self, tensor: HostTensor) -> ConstId {
        let ty = TensorTy::new(tensor.data().elem(), tensor.dims());
        self.count += 1;
        self.m.consts.add(&format!("c{}", self.count), ty, Arc::new(tensor))
    }

    /// A constant of floats.
    pub fn floats(&mut self, dims: &[usize], data: Vec<f32>) -> ValueId {
        self.constant(TensorTy::new(Elem::F32, dims), HostTensor::f32(dims, data))
    }

    /// The dims of a value.
    pub fn dims(&self, v: ValueId) -> Vec<usize> {
        self.m.dims(v).to_vec()
    }

    /// The dims of an image, or `None` for another rank.
    pub fn plane(&self, v: ValueId) -> Option<[usize; 4]> {
        self.m.dims(v).try_into().ok()
    }

    /// Elements per batch item.
    pub fn elements(&self, v: ValueId) -> usize {
        self.m.tensor_ty(v).len() / self.batch
    }

    /// Offers a value to later steps, with ranges mostly as a quantized pair; gives what later steps see.
    pub fn keep(&mut self, v: ValueId, pick: u32) -> ValueId {
        let seen = self.ranges.as_ref().and_then(|r| r.get(self.pool.len())).copied();
        let kept = match seen {
            Some((lo, hi)) if pick % 5 != 4 => self.pair(v, pairs::activation(lo, hi, pick)),
            _ => v,
        };
        self.pool.push(kept);
        kept
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
    pub fn other(&self, pick: u32, fits: impl Fn(&[usize]) -> bool) -> Option<ValueId> {
        let all: Vec<ValueId> = self.pool.iter().copied().filter(|&v| fits(self.m.dims(v))).collect();
        all.get(pick as usize % all.len().max(1)).copied()
    }

    /// `x` under another shape per item.
    pub fn reshaped(&mut self, x: ValueId, rest: &[usize]) -> ValueId {
        let shape: Vec<i64> = [self.batch].iter().chain(rest).map(|&d| d as i64).collect();
        self.op(Reshape::DEF, &[x], Attrs::new().with("shape", shape))
    }

    /// `x` with all its elements in one dim per item.
    pub fn flat(&mut self, x: ValueId) -> ValueId {
        let n = self.elements(x);
        self.reshaped(x, &[n])
    }

    /// A second argument of the model: an image, a value per channel, or integers.
    fn second_input(&mut self, recipe: &Recipe) {
        let [c, h, w] = recipe.input;
        let (elem, rest) = match recipe.second % 10 {
            5 => (Elem::F32, vec![c, h, w]),
            6 => (Elem::F32, vec![c, 1, 1]),
            7 => (Elem::U8, vec![c, h, w]),
            8 => (Elem::I64, vec![c]),
            9 => (Elem::I32, vec![2, c]),
            _ => return,
        };
        let dims: Vec<usize> = [self.batch].iter().chain(&rest).copied().collect();
        let v = self.m.add_arg(self.body, Type::Tensor(TensorTy::new(elem, dims)));
        self.m.set_name(v, "second");
        let v = match elem {
            Elem::F32 => v,
            _ => self.op(Cast::DEF, &[v], Attrs::new().with("to", Type::Scalar(Elem::F32))),
        };
        self.keep(v, recipe.second);
    }

    fn step(&mut self, step: &Step) {
        let x = self.pick(step.picks[0]);
        let p = &step.picks[1..];
        let total: u32 = MAKERS.iter().map(|m| m.weight).sum();
        let mut left = step.kind % total;
        let maker = MAKERS.iter().find(|m| {
            let hit = left < m.weight;
            left = left.saturating_sub(m.weight);
            hit
        });
        let made = maker.and_then(|m| (m.make)(self, x, p));
        let v = made.unwrap_or_else(|| self.op(Relu::DEF, &[x], Attrs::new()));
        self.keep(v, step.picks[9]);
    }
}
