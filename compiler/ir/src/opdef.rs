//! What the core knows about an op: data and three function pointers, made by the `ops!` macro.

use crate::attr::{Attr, AttrKind};
use crate::class::{Class, Kind};
use crate::id::OpId;
use crate::items::{ItemsFn, ItemsOfEachFn};
use crate::module::Module;
use crate::tensor::HostTensor;
use crate::types::Type;

/// How many values an operand slot takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotKind {
    /// Exactly one.
    Required,
    /// One or none.
    Optional,
    /// Any number; only the last slot.
    Variadic,
}

/// An operand slot.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Name, for documentation and errors.
    pub name: &'static str,
    /// How many values.
    pub kind: SlotKind,
    /// Which values.
    pub class: Class,
    /// The rank of tensors, where only one is possible.
    pub rank: Option<usize>,
}

impl Slot {
    /// What the slot takes, as one phrase.
    pub fn describe(&self) -> String {
        match self.rank {
            Some(rank) => format!("{} and have rank {rank}", self.class.describe()),
            None => self.class.describe().into(),
        }
    }

    /// Whether a value of type `ty` may stand in the slot.
    pub fn accepts(&self, m: &Module, ty: &Type) -> bool {
        let rank = ty.tensor().map(|t| t.dims.len());
        self.class.holds(m, ty) && (self.rank.is_none() || self.rank == rank)
    }
}

/// A declared attribute.
#[derive(Clone, Copy)]
pub struct AttrSpec {
    /// Name.
    pub name: &'static str,
    /// Kind of value.
    pub kind: AttrKind,
    /// Value when absent; `None` makes the attribute required.
    pub default: Option<fn() -> Attr>,
}

/// What any op may have besides its own attributes: marks by which a pass tells later ones about an op. They change nothing
/// of what it computes.
pub static MARKS: &[AttrSpec] = &[AttrSpec { name: "keep_float", kind: AttrKind::Str, default: None }];

/// Facts that generic code asks about an op.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traits(u8);

impl Traits {
    /// No facts.
    pub const NONE: Traits = Traits(0);
    /// No side effect: unused results mean the op may be removed.
    pub const PURE: Traits = Traits(1);
    /// Swapping the first two operands changes nothing.
    pub const COMMUTATIVE: Traits = Traits(2);
    /// Each output element depends on the input elements at the same place.
    pub const ELEMENTWISE: Traits = Traits(4);
    /// Moves elements without computing, so it commutes with per-tensor quantization.
    pub const MOVEMENT: Traits = Traits(8);
    /// The result is a constant.
    pub const CONST_LIKE: Traits = Traits(16);
    /// Its operands and regions say how many results there are, not its declaration.
    pub const ANY_RESULTS: Traits = Traits(32);

    /// Both sets of facts.
    pub const fn and(self, other: Traits) -> Traits {
        Traits(self.0 | other.0)
    }

    /// Whether all facts of `other` hold.
    pub const fn has(self, other: Traits) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Computes the result types from operands and attributes; the error is one sentence without the op's name.
pub type InferFn = fn(&Module, OpId) -> Result<Vec<Type>, String>;
/// Checks what inference does not.
pub type VerifyFn = fn(&Module, OpId) -> Result<(), String>;
/// Computes the results; operands as in the op, `None` where an optional one is left out.
pub type EvalFn = fn(&Module, OpId, &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String>;
/// Sees every result of an op as it is computed, and may change it.
pub type Watch<'w> = &'w mut dyn FnMut(OpId, crate::ValueId, &mut HostTensor);
/// Computes the results of an op with regions; `watch` is to see what these compute.
pub type RunFn = fn(&Module, OpId, &[Option<&HostTensor>], Watch<'_>) -> Result<Vec<HostTensor>, String>;

/// The definition of an op.
pub struct OpDef {
    /// `dialect.name`.
    pub name: &'static str,
    /// Documentation, one line per entry.
    pub doc: &'static [&'static str],
    /// Operand slots.
    pub operands: &'static [Slot],
    /// Result names.
    pub results: &'static [&'static str],
    /// Attributes, any order.
    pub attrs: &'static [AttrSpec],
    /// Facts for generic code.
    pub traits: Traits,
    /// Result types; ops without it state their result types in the text form.
    pub infer: Option<InferFn>,
    /// Further checks.
    pub verify: Option<VerifyFn>,
    /// Meaning on host tensors; ops on buffers have an interpreter of their own.
    pub eval: Option<EvalFn>,
    /// Meaning of an op with regions, in place of `eval`.
    pub run: Option<RunFn>,
    /// What becomes of the items of a batch; element-wise ops need not say it.
    pub items: Option<ItemsFn>,
    /// The same for each result by itself, in place of `items`.
    pub items_of_each: Option<ItemsOfEachFn>,
}

impl OpDef {
    /// The part of the name before the dot.
    pub fn dialect(&self) -> &'static str {
        self.name.split('.').next().unwrap_or(self.name)
    }

    /// The declaration of attribute `name`, which may be a mark.
    pub fn attr(&self, name: &str) -> Option<&'static AttrSpec> {
        self.attrs.iter().chain(MARKS).find(|a| a.name == name)
    }
}

impl PartialEq for OpDef {
    fn eq(&self, other: &OpDef) -> bool {
        std::ptr::eq(self, other) || self.name == other.name
    }
}

impl std::fmt::Debug for OpDef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// One level of the lowering chain.
#[derive(Clone, Copy)]
pub struct PhaseDef {
    /// Name in the text form.
    pub name: &'static str,
    /// Dialects whose ops may appear.
    pub dialects: &'static [&'static str],
    /// Kinds of types that its values may have.
    pub kinds: &'static [Kind],
    /// What must hold besides.
    pub verify: fn(&Module) -> Vec<crate::Diag>,
}

/// The ops and phases that a tool knows: what the core needs to parse, verify and interpret a module.
#[derive(Clone, Copy)]
pub struct Registry {
    /// All dialects.
    pub dialects: &'static [&'static [&'static OpDef]],
    /// All phases, from model to machine.
    pub phases: &'static [PhaseDef],
    /// Runs the first function of a module on its inputs.
    pub interpret: fn(&Module, &[HostTensor]) -> Result<Vec<HostTensor>, crate::Diag>,
    /// The same program without the rounding of its quantize/dequantize pairs, each of which is a clamp there, for those of
    /// their readers that are chosen by number: how much rounding is worth. `None` where there are none.
    pub unrounded: fn(&Module, &dyn Fn(usize) -> bool) -> Option<Module>,
}

impl Registry {
    /// The op called `name`.
    pub fn op(&self, name: &str) -> Option<&'static OpDef> {
        self.dialects.iter().flat_map(|d| d.iter()).copied().find(|d| d.name == name)
    }

    /// The phase called `name`.
    pub fn phase(&self, name: &str) -> Option<&'static PhaseDef> {
        self.phases.iter().find(|p| p.name == name)
    }
}
