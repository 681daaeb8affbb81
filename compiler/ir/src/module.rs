//! `Module` owns everything; functions, regions, ops and values are ids into its arenas.
//!
//! A region is one block: arguments, ordered ops, results. Control flow is ops with regions, so there is no CFG and no
//! dominance: a value is visible after its op in the same region, and in regions nested there. Fields of ops are
//! private; `edit.rs` is the only writer, so use lists cannot go stale.

use crate::attr::{Attr, Attrs};
use crate::consts::ConstPool;
use crate::id::{FuncId, LocId, OpId, QuantId, RegionId, ValueId};
use crate::loc::LocTable;
use crate::opdef::OpDef;
use crate::types::{Elem, Quant, Store, TensorTy, Type};
use id_arena::Arena;
use std::collections::HashMap;

/// A function: a named region.
#[derive(Clone, Debug)]
pub struct Func {
    /// Name without `@`.
    pub name: Box<str>,
    /// The body.
    pub body: RegionId,
    /// Names of the model's outputs, in order.
    pub outputs: Vec<Box<str>>,
}

/// One block of ops.
#[derive(Clone, Debug, Default)]
pub struct Region {
    pub(crate) args: Vec<ValueId>,
    pub(crate) results: Vec<ValueId>,
    /// The place of each result in its value's list of uses.
    pub(crate) places: Vec<u32>,
    pub(crate) first: Option<OpId>,
    pub(crate) last: Option<OpId>,
    pub(crate) len: usize,
    pub(crate) parent: Option<OpId>,
}

/// An op.
#[derive(Clone, Debug)]
pub struct Op {
    pub(crate) def: &'static OpDef,
    pub(crate) operands: Vec<Option<ValueId>>,
    /// The place of each operand in its value's list of uses.
    pub(crate) places: Vec<u32>,
    pub(crate) results: Vec<ValueId>,
    pub(crate) attrs: Attrs,
    pub(crate) regions: Vec<RegionId>,
    pub(crate) loc: LocId,
    pub(crate) parent: Option<RegionId>,
    pub(crate) prev: Option<OpId>,
    pub(crate) next: Option<OpId>,
    /// Grows along the region.
    pub(crate) order: u64,
}

/// Who defines a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueDef {
    /// Result `n` of an op.
    Result(OpId, usize),
    /// Argument `n` of a region.
    Arg(RegionId, usize),
}

/// Who uses a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// Operand `n` of an op.
    Operand(OpId, usize),
    /// Result `n` of a region.
    Return(RegionId, usize),
}

/// A value.
#[derive(Clone, Debug)]
pub struct Value {
    pub(crate) ty: Type,
    pub(crate) name: Option<Box<str>>,
    pub(crate) def: ValueDef,
    pub(crate) uses: Vec<Use>,
}

/// A program.
#[derive(Clone, Debug)]
pub struct Module {
    /// The model's file name, for messages.
    pub name: String,
    /// Name of the phase the program is in.
    pub phase: &'static str,
    /// Constants.
    pub consts: ConstPool,
    /// Locations.
    pub locs: LocTable,
    pub(crate) funcs: Arena<Func, FuncId>,
    pub(crate) regions: Arena<Region, RegionId>,
    pub(crate) ops: Arena<Op, OpId>,
    pub(crate) values: Arena<Value, ValueId>,
    quants: Arena<Quant, QuantId>,
    /// The ids of `quants`, so that interning a format does not compare it with all others.
    quant_ids: HashMap<Quant, QuantId>,
}

impl Module {
    /// An empty program.
    pub fn new(name: impl Into<String>, phase: &'static str) -> Module {
        Module {
            name: name.into(),
            phase,
            consts: ConstPool::default(),
            locs: LocTable::default(),
            funcs: Arena::new(),
            regions: Arena::new(),
            ops: Arena::new(),
            values: Arena::new(),
            quants: Arena::new(),
            quant_ids: HashMap::new(),
        }
    }

    /// All functions.
    pub fn funcs(&self) -> impl Iterator<Item = (FuncId, &Func)> {
        self.funcs.iter()
    }

    /// The first function: the model itself.
    pub fn main(&self) -> Option<&Func> {
        self.funcs.iter().next().map(|(_, f)| f)
    }

    /// The body of the first function.
    ///
    /// # Panics
    /// When the module has no function, which the verifier rejects.
    pub fn body(&self) -> RegionId {
        self.main().expect("invariant: a verified module has a function").body
    }

    /// Arguments of a region.
    pub fn args(&self, region: RegionId) -> &[ValueId] {
        &self.regions[region].args
    }

    /// Results of a region.
    pub fn returns(&self, region: RegionId) -> &[ValueId] {
        &self.regions[region].results
    }

    /// The op that holds a region; `None` for a function body.
    pub fn region_parent(&self, region: RegionId) -> Option<OpId> {
        self.regions[region].parent
    }

    /// The definition of an op.
    pub fn def(&self, op: OpId) -> &'static OpDef {
        self.ops[op].def
    }

    /// Whether `op` is an op of this definition.
    pub fn is(&self, op: OpId, def: &'static OpDef) -> bool {
        self.ops[op].def == def
    }

    /// Operands; `None` where an optional one is left out.
    pub fn operands(&self, op: OpId) -> &[Option<ValueId>] {
        &self.ops[op].operands
    }

    /// Operand `i`, if there is one.
    pub fn operand(&self, op: OpId, i: usize) -> Option<ValueId> {
        self.ops[op].operands.get(i).copied().flatten()
    }

    /// Results.
    pub fn results(&self, op: OpId) -> &[ValueId] {
        &self.ops[op].results
    }

    /// The only result.
    ///
    /// # Panics
    /// When the op has none: a bug of the caller.
    pub fn result(&self, op: OpId) -> ValueId {
        self.ops[op].results[0]
    }

    /// Nested regions.
    pub fn regions(&self, op: OpId) -> &[RegionId] {
        &self.ops[op].regions
    }

    /// The op's own attributes, without defaults.
    pub fn attrs(&self, op: OpId) -> &Attrs {
        &self.ops[op].attrs
    }

    /// An attribute, or its declared default.
    pub fn attr(&self, op: OpId, name: &str) -> Option<Attr> {
        let op = &self.ops[op];
        match op.attrs.get(name) {
            Some(a) => Some(a.clone()),
            None => op.def.attr(name)?.default.map(|d| d()),
        }
    }

    /// Where an op comes from.
    pub fn loc(&self, op: OpId) -> LocId {
        self.ops[op].loc
    }

    /// The region an op stands in; `None` when it was erased.
    pub fn parent(&self, op: OpId) -> Option<RegionId> {
        self.ops[op].parent
    }

    /// The type of a value.
    pub fn ty(&self, v: ValueId) -> &Type {
        &self.values[v].ty
    }

    /// The tensor type of a value.
    ///
    /// # Panics
    /// When the value is no tensor, which the verifier excludes for operands of tensor ops.
    pub fn tensor_ty(&self, v: ValueId) -> &TensorTy {
        self.values[v].ty.tensor().expect("invariant: operand of a tensor op is a tensor")
    }

    /// The dims of a tensor value; panics as [`Module::tensor_ty`].
    pub fn dims(&self, v: ValueId) -> &[usize] {
        &self.tensor_ty(v).dims
    }

    /// The name hint of a value.
    pub fn name(&self, v: ValueId) -> Option<&str> {
        self.values[v].name.as_deref()
    }

    /// Who defines a value.
    pub fn value_def(&self, v: ValueId) -> ValueDef {
        self.values[v].def
    }

    /// The op that computes a value; `None` for region arguments.
    pub fn producer(&self, v: ValueId) -> Option<OpId> {
        match self.values[v].def {
            ValueDef::Result(op, _) => Some(op),
            ValueDef::Arg(..) => None,
        }
    }

    /// All uses of a value, in no particular order.
    pub fn uses(&self, v: ValueId) -> &[Use] {
        &self.values[v].uses
    }

    /// The op that is the only user of a value; `None` if the value is returned or used more than once.
    pub fn only_user(&self, v: ValueId) -> Option<OpId> {
        match self.values[v].uses[..] {
            [Use::Operand(op, _)] => Some(op),
            _ => None,
        }
    }

    /// The quantized format of an id.
    pub fn quant(&self, id: QuantId) -> &Quant {
        &self.quants[id]
    }

    /// All quantized formats, in order of interning.
    pub fn quants(&self) -> impl Iterator<Item = (QuantId, &Quant)> {
        self.quants.iter()
    }

    /// The quantized format of a tensor value, if it is quantized.
    pub fn quant_of(&self, v: ValueId) -> Option<&Quant> {
        match self.ty(v).tensor()?.elem {
            Elem::Quant(q) => Some(self.quant(q)),
            _ => None,
        }
    }

    /// The storage of an element: itself, or that of its quantized format.
    pub fn storage(&self, elem: Elem) -> Elem {
        match elem {
            Elem::Quant(q) => self.quant(q).store.elem(),
            plain => plain,
        }
    }

    /// Bytes of one element.
    pub fn elem_bytes(&self, elem: Elem) -> usize {
        elem.bytes(|q| self.quant(q).store)
    }

    /// Interns a format: equal formats get one id.
    pub fn intern_quant(&mut self, quant: Quant) -> QuantId {
        if let Some(&id) = self.quant_ids.get(&quant) {
            return id;
        }
        let id = self.quants.alloc(quant.clone());
        self.quant_ids.insert(quant, id);
        id
    }

    /// All ops of a region and of the regions nested in it, in program order, outer before inner.
    pub fn walk(&self, region: RegionId) -> Vec<OpId> {
        let mut out = Vec::new();
        self.walk_into(region, &mut out);
        out
    }

    fn walk_into(&self, region: RegionId, out: &mut Vec<OpId>) {
        for &op in self.ops(region) {
            out.push(op);
            for &inner in &self.ops[op].regions {
                self.walk_into(inner, out);
            }
        }
    }

    /// A region and those nested in it, outer before inner.
    pub fn regions_in(&self, region: RegionId) -> Vec<RegionId> {
        let nested = self.walk(region).into_iter().flat_map(|op| self.ops[op].regions.iter().copied());
        std::iter::once(region).chain(nested).collect()
    }

    /// The region that a value belongs to: that of its op, or that whose argument it is.
    pub fn region_of(&self, v: ValueId) -> Option<RegionId> {
        match self.values[v].def {
            ValueDef::Result(op, _) => self.ops[op].parent,
            ValueDef::Arg(region, _) => Some(region),
        }
    }

    /// The number of ops in all functions.
    pub fn op_count(&self) -> usize {
        self.funcs.iter().map(|(_, f)| self.walk(f.body).len()).sum()
    }

    /// Whether a use is where its op or region says it is in the list of its value.
    pub(crate) fn is_listed(&self, v: ValueId, used: Use) -> bool {
        let place = match used {
            Use::Operand(op, i) => self.ops[op].places[i],
            Use::Return(region, i) => self.regions[region].places[i],
        };
        self.values[v].uses.get(place as usize) == Some(&used)
    }
}

/// A store that a quantized element must have: shorthand for verifiers.
pub fn store_of(m: &Module, elem: Elem) -> Option<Store> {
    match elem {
        Elem::Quant(q) => Some(m.quant(q).store),
        _ => None,
    }
}
