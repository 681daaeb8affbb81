//! Making graph ops: the layer between the two readers and the IR.
//!
//! A tensor is either known at import (shape arithmetic, parameters) or computed when the model runs. Known tensors are
//! worked on here and become `graph.constant` only when an op needs them. Everything that a hostile model could blow up
//! is bounded: ranks, element counts, and the bytes that folding may produce.

mod attention;
mod boxes;
mod choose;
mod compute;
mod fold;
mod index;
mod integer;
mod movement;
mod nms;
mod norm;
mod power;
pub(crate) mod ragged;
pub(crate) mod recurrent;
mod reduce;
mod regions;
mod resize;
pub(crate) mod rows;
mod sample;
pub(crate) mod scan;
mod spectrum;
mod transposed;
mod unfolded;
mod volumes;
mod window;

use compute::Pool;
pub(crate) use compute::{Arith, Conv, Count, Norm, scalar};
pub(crate) use integer::{Relation, Rounding};
pub(crate) use movement::{Padding, Range, cast_known, gather};
pub(crate) use nms::{BoxForm, Decay, Detections, Suppression};
pub(crate) use regions::{Regions, samples_of_regions};
pub(crate) use resize::Sums;
pub(crate) use sample::{Between, Beyond, Sample};
pub(crate) use spectrum::Transform;
use transposed::Transposed;
pub(crate) use window::Pooling;

use crate::elements::bounded;
use crate::error::Refusal;
use qc_dialects::graph;
use qc_dialects::phase;
use qc_ir::{
    Attrs, Builder, Data, Deadline, Elem, FuncId, HostTensor, Insert, LocId, Module, NodeId, OpDef, Quant, QuantId,
    RegionId, Store, TensorTy, Type, ValueId, attrs,
};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

/// A tensor of the model.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Computed when the model runs.
    Runtime(ValueId),
    /// Known at import.
    Known(Known),
    /// Known at import as stored integers.
    Dequantized(Arc<Dequantized>),
}

/// A tensor known at import, with the name that its constant will have.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub name: Arc<str>,
    pub tensor: Arc<HostTensor>,
    /// Least and largest number of the 4-bit or 16-bit integers as which it was stored; they are 8 or 32 bits wide here.
    pub narrow: Option<(i32, i32)>,
}

/// The real numbers that stored integers stand for. Movement moves the integers, so that they reach integer kernels;
/// everything else computes with the numbers.
#[derive(Debug)]
pub(crate) struct Dequantized {
    pub name: Arc<str>,
    pub stored: Arc<HostTensor>,
    pub quant: Quant,
    real: OnceLock<Arc<HostTensor>>,
    /// The stored constant, where it exists as a value already.
    made: Option<ValueId>,
}

impl Dequantized {
    /// The stored integers as plain ones.
    fn integers(&self) -> Value {
        Value::Known(Known { name: self.name.clone(), tensor: self.stored.clone(), narrow: None })
    }

    fn real(&self) -> &Arc<HostTensor> {
        self.real.get_or_init(|| Arc::new(graph::quantize::dequantize_tensor(&self.quant, &self.stored)))
    }

    /// Whether an op reads operand `i` as stored integers: weights and biases, and what sums, products and concats of
    /// quantized tensors take.
    fn is_read_by(&self, def: &OpDef, i: usize) -> bool {
        let is = |defs: &[&'static OpDef]| defs.iter().any(|d| d.name == def.name);
        let bytes = self.quant.axis.is_none() && self.quant.store != Store::I32;
        (i > 0 && is(graph::Linear::DEFS)) || (bytes && is(&[graph::Add::DEF, graph::Mul::DEF, graph::Concat::DEF]))
    }
}

impl Value {
    /// The tensor, if it is known.
    pub fn known(&self) -> Option<&HostTensor> {
        match self {
            Value::Known(k) => Some(&k.tensor),
            Value::Dequantized(d) => Some(d.real()),
            Value::Runtime(_) => None,
        }
    }

    /// The name that its constant will have, if it is known.
    pub fn name(&self) -> Option<&str> {
        match self {
            Value::Known(k) => Some(&k.name),
            Value::Dequantized(d) => Some(&d.name),
            Value::Runtime(_) => None,
        }
    }

    /// The same known tensor under the name of a model tensor; anything else unchanged.
    pub fn named(self, name: &str) -> Value {
        match self {
            Value::Known(k) if k.name.is_empty() => Value::Known(Known { name: name.into(), ..k }),
            other => other,
        }
    }
}

impl From<HostTensor> for Value {
    fn from(tensor: HostTensor) -> Value {
        Value::Known(Known { name: "".into(), tensor: Arc::new(tensor), narrow: None })
    }
}

/// A vector of known integers, as shapes are.
pub(crate) fn known_i64s(values: Vec<i64>) -> Value {
    HostTensor::i64(vec![values.len()], values).into()
}

/// The module being made.
pub(crate) struct Graph {
    pub m: Module,
    func: FuncId,
    body: RegionId,
    loc: LocId,
    /// Ops made so far, without constants.
    made: usize,
    /// Constants whose name was taken.
    renamed: usize,
    /// Constants that exist as values, by address of the tensor, which the pool keeps alive.
    constants: HashMap<*const HostTensor, ValueId>,
    /// Dequantized constants that exist as values, by address.
    dequantized: HashMap<*const Dequantized, (Arc<Dequantized>, ValueId)>,
    /// What constants of stored integers stand for.
    stored: HashMap<ValueId, Arc<Dequantized>>,
    quants: HashMap<QuantKey, QuantId>,
    /// Tensors of which a run fills a part.
    counted: HashMap<ValueId, rows::Rows>,
    /// Bytes that folding may still produce.
    fold_bytes: usize,
    /// How many regions there are around `body`.
    depth: usize,
    /// How many ops were made that end a run in which an index is out of range.
    checks: usize,
    /// When the import has to be done; one node may become very many ops.
    pub deadline: Option<Deadline>,
}

type QuantKey = (Store, Option<usize>, Vec<u32>, Vec<i32>, i32, i32);

/// The most quantized formats of a model: ten times what the largest real ones have.
const MAX_FORMATS: usize = 8192;

/// How many tensors are looked at for inputs behind one, how many inputs are named, and how many elements each may have.
const MAX_BEHIND: usize = 1000;
const MAX_NAMED: usize = 4;
const MAX_STATED: usize = 4096;

/// What folding may produce besides a multiple of the tensors read.
const FOLD_BASE_BYTES: usize = 16 << 20;
/// The multiple.
const FOLD_PER_BYTE: usize = 8;

impl Graph {
    /// An empty model called `name`.
    pub fn new(name: &str) -> Graph {
        let mut m = Module::new(name, phase::IMPORTED);
        let func = m.add_func("main", &[]);
        let body = m.body();
        let loc = m.locs.unknown();
        let fold_bytes = FOLD_BASE_BYTES;
        Graph {
            m,
            func,
            body,
            loc,
            made: 0,
            renamed: 0,
            constants: HashMap::new(),
            dequantized: HashMap::new(),
            stored: HashMap::new(),
            quants: HashMap::new(),
            counted: HashMap::new(),
            fold_bytes,
            depth: 0,
            checks: 0,
            deadline: None,
        }
    }

    /// Adds a model input.
    pub fn input(&mut self, name: &str, elem: Elem, dims: &[usize]) -> Value {
        let v = self.m.add_arg(self.body, Type::Tensor(TensorTy::new(elem, dims)));
        self.m.set_name(v, name);
        Value::Runtime(v)
    }

    /// The inputs of the model that a computed tensor depends on, by name; none where they are too many, or so large that nobody
    /// would state their values.
    pub fn inputs_behind(&self, v: ValueId) -> Vec<String> {
        let (mut found, mut seen, mut left) = (Vec::new(), HashSet::from([v]), vec![v]);
        while let Some(v) = left.pop() {
            match self.m.producer(v) {
                None if self.carried(v).is_some() => left.extend(self.carried(v).filter(|&x| seen.insert(x))),
                None if self.m.tensor_ty(v).len() > MAX_STATED => return Vec::new(),
                None => found.extend(self.m.name(v).map(str::to_string)),
                Some(op) => left.extend(self.m.operands(op).iter().flatten().filter(|&&x| seen.insert(x))),
            }
            if seen.len() > MAX_BEHIND || found.len() > MAX_NAMED {
                return Vec::new();
            }
        }
        found.sort();
        found
    }

    /// What an argument of a region that repeats is at first.
    fn carried(&self, v: ValueId) -> Option<ValueId> {
        let region = self.m.region_of(v)?;
        let at = self.m.args(region).iter().position(|&arg| arg == v)?;
        *self.m.operands(self.m.region_parent(region)?).get(at)?
    }

    /// Whether a tensor is computed from nothing but single integers that are inputs of the model.
    pub fn is_of_settings(&self, v: &Value) -> bool {
        let Value::Runtime(v) = v else { return false };
        let names = self.inputs_behind(*v);
        let inputs = self.m.args(self.m.body());
        let is_setting = |name: &String| {
            let found = inputs.iter().find(|&&v| self.m.name(v) == Some(name.as_str()));
            found.is_some_and(|&v| {
                let t = self.m.tensor_ty(v);
                t.len() == 1 && matches!(t.elem, Elem::I32 | Elem::I64)
            })
        };
        !names.is_empty() && names.iter().all(is_setting)
    }

    /// A tensor under the name of a model tensor, unless it has one.
    pub fn named(&mut self, v: Value, name: &str) -> Value {
        if let Value::Runtime(v) = v
            && self.m.name(v).is_none()
        {
            self.m.set_name(v, name);
        }
        v.named(name)
    }

    /// A tensor under the name of another with a word behind it, if that has one.
    fn beside(&mut self, other: &Value, v: Value, word: &str) -> Value {
        let Value::Runtime(other) = other else { return v };
        match self.m.name(*other).map(|name| format!("{name}.{word}")) {
            Some(name) => self.named(v, &name),
            None => v,
        }
    }

    /// Ops made from here on come from the next model node, which is returned.
    pub fn at_node(&mut self, name: &str, op_type: &str) -> NodeId {
        let node = self.m.locs.add_node(name, op_type);
        self.loc = self.m.locs.at(node);
        node
    }

    /// The node from which ops come.
    pub fn place(&self) -> LocId {
        self.loc
    }

    /// Ops made from here on come from this node again.
    pub fn back_at(&mut self, place: LocId) {
        self.loc = place;
    }

    /// How many ops were made that end a run in which an index is out of range.
    pub fn checks(&self) -> usize {
        self.checks
    }

    /// How many ops were made, constants not counted.
    pub fn made(&self) -> usize {
        self.made
    }

    /// Dims of a tensor.
    pub fn dims(&self, v: &Value) -> Vec<usize> {
        match v {
            Value::Runtime(v) => self.m.dims(*v).to_vec(),
            Value::Known(k) => k.tensor.dims().to_vec(),
            Value::Dequantized(d) => d.stored.dims().to_vec(),
        }
    }

    /// Element type of a tensor.
    pub fn elem(&self, v: &Value) -> Elem {
        match v {
            Value::Runtime(v) => self.m.tensor_ty(*v).elem,
            Value::Known(k) => k.tensor.data().elem(),
            Value::Dequantized(_) => Elem::F32,
        }
    }

    /// The quantized format of a tensor, if it is quantized.
    pub fn quant_of(&self, v: &Value) -> Option<&Quant> {
        match v {
            Value::Runtime(v) => self.m.quant_of(*v),
            Value::Known(_) | Value::Dequantized(_) => None,
        }
    }

    /// The dims of an NCHW tensor.
    pub fn nchw(&self, v: &Value) -> Result<[usize; 4], Refusal> {
        let dims = self.dims(v);
        <[usize; 4]>::try_from(dims.as_slice())
            .map_err(|_| Refusal::unsupported(format!("only 2-D images are supported, the input has shape {dims:?}")))
    }

    /// The value of a tensor in the module; a known one becomes a constant.
    pub fn value(&mut self, v: &Value) -> ValueId {
        match v {
            Value::Runtime(v) => *v,
            Value::Known(k) => self.plain_constant(&k.name, &k.tensor),
            Value::Dequantized(d) => self.plain_constant(&d.name, d.real()),
        }
    }

    fn plain_constant(&mut self, name: &str, tensor: &Arc<HostTensor>) -> ValueId {
        if let Some(&v) = self.constants.get(&Arc::as_ptr(tensor)) {
            return v;
        }
        let ty = TensorTy::new(tensor.data().elem(), tensor.dims());
        let value = self.constant(name, ty, tensor.clone());
        self.constants.insert(Arc::as_ptr(tensor), value);
        value
    }

    /// The value of operand `i` of an op.
    fn operand(&mut self, def: &'static OpDef, i: usize, v: &Value) -> Result<ValueId, Refusal> {
        let Value::Dequantized(d) = v else { return Ok(self.value(v)) };
        if !d.is_read_by(def, i) {
            return Ok(self.value(v));
        }
        if let Some((_, v)) = self.dequantized.get(&Arc::as_ptr(d)) {
            return Ok(*v);
        }
        let stored = match d.made.filter(|_| self.depth == 0) {
            Some(v) => Value::Runtime(v),
            None => self.quant_constant(&d.name, d.stored.clone(), d.quant.clone())?,
        };
        let real = self.emit(graph::Dequantize::DEF, &[Some(&stored)], attrs! {})?;
        let v = self.value(&real);
        self.dequantized.insert(Arc::as_ptr(d), (d.clone(), v));
        Ok(v)
    }

    fn constant(&mut self, name: &str, ty: TensorTy, tensor: Arc<HostTensor>) -> ValueId {
        let name = self.fresh_name(if name.is_empty() { "c" } else { name });
        let id = self.m.consts.add(&name, ty, tensor);
        let mut b = Builder { m: &mut self.m, at: Insert::End(self.body), loc: self.loc };
        let made = graph::Constant::build(&mut b, &[], attrs! { value: id });
        let v = made.expect("invariant: a constant has no operand that could be wrong").out(&self.m);
        self.m.set_name(v, &name);
        v
    }

    /// `name`, or with a number behind it if it is taken. One counter for all names, so that the search is short.
    fn fresh_name(&mut self, name: &str) -> String {
        let mut fresh = name.to_string();
        while self.m.consts.by_name(&fresh).is_some() {
            self.renamed += 1;
            fresh = format!("{name}.{}", self.renamed);
        }
        fresh
    }

    /// A constant of stored integers in a quantized format.
    ///
    /// # Errors
    /// When format and tensor do not fit.
    pub fn quant_constant(&mut self, name: &str, tensor: Arc<HostTensor>, quant: Quant) -> Result<Value, Refusal> {
        let id = self.quant(quant.clone(), tensor.dims())?;
        self.charge(bytes_like(tensor.data(), tensor.len()))?;
        let ty = TensorTy::new(Elem::Quant(id), tensor.dims());
        let v = self.constant(name, ty, tensor.clone());
        let real = Dequantized { name: name.into(), stored: tensor, quant, real: OnceLock::new(), made: Some(v) };
        self.stored.insert(v, Arc::new(real));
        Ok(Value::Runtime(v))
    }

    /// Whether a tensor is a constant of stored integers.
    pub fn is_stored(&self, v: &Value) -> bool {
        matches!(v, Value::Runtime(v) if self.stored.contains_key(v))
    }

    /// A constant of stored integers once more, for the region that is being filled; `None` for anything else.
    ///
    /// # Errors
    /// As [`Graph::quant_constant`].
    pub fn stored_again(&mut self, v: &Value) -> Result<Option<Value>, Refusal> {
        let stored = if let Value::Runtime(v) = v { self.stored.get(v).cloned() } else { None };
        stored.map(|d| self.quant_constant(&d.name, d.stored.clone(), d.quant.clone())).transpose()
    }

    /// The id of a format for tensors of `dims`.
    ///
    /// # Errors
    /// When the format does not fit them.
    pub fn quant(&mut self, quant: Quant, dims: &[usize]) -> Result<QuantId, Refusal> {
        self.charge(8 * (quant.scales.len() + quant.zeros.len()))?;
        graph::quantize::check_quant(&quant, dims).map_err(Refusal::invalid)?;
        let scales = quant.scales.iter().map(|s| s.to_bits()).collect();
        let key = (quant.store, quant.axis, scales, quant.zeros.to_vec(), quant.lo, quant.hi);
        if !self.quants.contains_key(&key) && self.quants.len() == MAX_FORMATS {
            return Err(Refusal::unsupported(format!("the model has more than {MAX_FORMATS} number formats")));
        }
        let m = &mut self.m;
        Ok(*self.quants.entry(key).or_insert_with(|| m.intern_quant(quant)))
    }

    /// What a constant of stored integers stands for.
    ///
    /// # Errors
    /// When format and tensor do not fit.
    pub fn dequantized_constant(&mut self, name: &str, tensor: HostTensor, quant: Quant) -> Result<Value, Refusal> {
        self.charge(8 * (quant.scales.len() + quant.zeros.len()))?;
        graph::quantize::check_quant(&quant, tensor.dims()).map_err(Refusal::invalid)?;
        let (name, stored) = (name.into(), Arc::new(tensor));
        Ok(Value::Dequantized(Arc::new(Dequantized { name, stored, quant, real: OnceLock::new(), made: None })))
    }

    /// A dequantized constant whose integers are moved by `f`, scales lying along `axis` afterwards; `None` for anything
    /// else, and where `axis` does not say where several scales are to lie.
    pub fn moved(
        &mut self,
        x: &Value,
        axis: Option<usize>,
        f: impl FnOnce(&mut Graph, &Value) -> Result<Value, Refusal>,
    ) -> Option<Value> {
        let Value::Dequantized(d) = x else { return None };
        let axis = if d.quant.axis.is_some() { Some(axis?) } else { None };
        let stored = d.integers();
        let moved = f(self, &stored).ok()?;
        self.dequantized_constant(&d.name, moved.known()?.clone(), Quant { axis, ..d.quant.clone() }).ok()
    }

    /// A float tensor in a quantized format.
    ///
    /// # Errors
    /// When the format does not fit, or when the tensor is not f32.
    pub fn quantize(&mut self, v: &Value, quant: Quant) -> Result<Value, Refusal> {
        let id = self.quant(quant, &self.dims(v))?;
        self.emit_f32(graph::Quantize::DEF, &[Some(v)], attrs! { quant: id })
    }

    /// What a quantized tensor stands for.
    ///
    /// # Errors
    /// When it is not quantized.
    pub fn dequantize(&mut self, v: &Value) -> Result<Value, Refusal> {
        if let Value::Runtime(v) = v
            && let Some(known) = self.stored.get(v)
        {
            return Ok(Value::Dequantized(known.clone()));
        }
        self.emit(graph::Dequantize::DEF, &[Some(v)], attrs! {})
    }

    /// Makes an op, or computes it if its operands are known.
    ///
    /// # Errors
    /// What the op's declaration says, or a result that is empty or of too high a rank.
    pub fn emit(&mut self, def: &'static OpDef, operands: &[Option<&Value>], attrs: Attrs) -> Result<Value, Refusal> {
        if self.made.is_multiple_of(64) && self.deadline.is_some_and(|d| d.check().is_err()) {
            // The walk over the nodes looks at the deadline, too, and says that it has passed.
            return Err(Refusal::unsupported("the time is over"));
        }
        if let Some(v) = self.evaluated(def, operands, &attrs)? {
            return Ok(v);
        }
        let value = |(i, v): (usize, &Option<&Value>)| v.map(|v| self.operand(def, i, v)).transpose();
        let operands: Vec<Option<ValueId>> = operands.iter().enumerate().map(value).collect::<Result<_, _>>()?;
        let mut b = Builder { m: &mut self.m, at: Insert::End(self.body), loc: self.loc };
        let op = b.create(def, &operands, attrs).map_err(|diag| Refusal::invalid(diag.message))?;
        self.made += 1;
        self.checks += usize::from([graph::Index::DEF, graph::Offsets::DEF].iter().any(|d| d.name == def.name));
        let v = self.m.result(op);
        let dims = self.m.dims(v);
        if bounded(dims).is_none() || dims.contains(&0) {
            return Err(Refusal::unsupported(format!("the result has the shape {dims:?}")));
        }
        self.follow_rows(op)?;
        Ok(Value::Runtime(v))
    }

    /// Makes an op whose operands must all be f32.
    ///
    /// # Errors
    /// As [`Graph::emit`], and for operands of other element types.
    pub fn emit_f32(
        &mut self,
        def: &'static OpDef,
        operands: &[Option<&Value>],
        attrs: Attrs,
    ) -> Result<Value, Refusal> {
        for v in operands.iter().flatten() {
            self.expect_f32(v)?;
        }
        self.emit(def, operands, attrs)
    }

    /// Refuses tensors that are not f32.
    pub fn expect_f32(&self, v: &Value) -> Result<(), Refusal> {
        match self.elem(v) {
            Elem::F32 => Ok(()),
            Elem::Quant(_) => Err(Refusal::unsupported("an operand is quantized; only float operands are supported")
                .remedy("put a dequantize before the node")),
            other => {
                let word = other.word().unwrap_or("unknown");
                Err(Refusal::unsupported(format!("an operand is {word}; only float operands are supported")))
            }
        }
    }

    /// As [`Graph::folded`]; the result keeps the name of `from`.
    fn folded_from(&mut self, from: &Value, bytes: usize, make: impl FnOnce() -> Option<HostTensor>) -> Option<Value> {
        let made = self.folded(bytes, make)?;
        Some(match from.name() {
            Some(name) => made.named(name),
            None => made,
        })
    }

    /// A folded result, if it stays within the bytes that folding may produce.
    pub fn folded(&mut self, bytes: usize, make: impl FnOnce() -> Option<HostTensor>) -> Option<Value> {
        self.fold_bytes = self.fold_bytes.checked_sub(bytes)?;
        make().filter(|t| bounded(t.dims()).is_some()).map(Value::from)
    }

    /// More may be folded, because this tensor was read.
    pub fn grant(&mut self, tensor: &HostTensor) {
        let bytes = bytes_like(tensor.data(), tensor.len());
        self.fold_bytes = self.fold_bytes.saturating_add(bytes.saturating_mul(FOLD_PER_BYTE));
    }

    /// Takes work or memory of this many bytes out of what folding may cost.
    ///
    /// # Errors
    /// When nothing is left: the model reuses its constants in an absurd way.
    pub fn charge(&mut self, bytes: usize) -> Result<(), Refusal> {
        let left = self.fold_bytes.checked_sub(bytes);
        self.fold_bytes = left.ok_or_else(|| {
            Refusal::unsupported("the model multiplies its constants out of proportion")
                .remedy("simplify the model before compiling it")
        })?;
        Ok(())
    }

    /// Names the outputs and returns the module.
    pub fn finish(mut self, outputs: &[(String, Value)]) -> Module {
        let values: Vec<ValueId> = outputs.iter().map(|(_, v)| self.value(v)).collect();
        self.m.set_returns(self.body, &values);
        self.m.func_mut(self.func).outputs = outputs.iter().map(|(n, _)| n.as_str().into()).collect();
        self.m
    }
}

/// Bytes of a host tensor with this many elements like those of `data`.
fn bytes_like(data: &Data, len: usize) -> usize {
    data.elem().bytes(|_| Store::U8).saturating_mul(len)
}
