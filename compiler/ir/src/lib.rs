//! The intermediate representation of qc. It names no op: dialects declare theirs with [`ops!`].
//!
//! Five concepts: a [`Module`] owns everything; a [`Func`] has a body [`Region`]; a region is one block of ops; an
//! [`Op`] has operands, results, attributes, nested regions and a location; a [`Value`] is the result of an op or an
//! argument of a region. Everything but the module is a four-byte id.

// The tests' toy dialect names the crate as its users do.
#[cfg(test)]
extern crate self as qc_ir;

mod attr;
mod bisect;
mod check;
mod class;
mod consts;
mod declare;
mod diag;
mod edit;
mod id;
mod interface;
mod interp;
mod items;
mod layout;
mod lex;
mod limits;
mod loc;
mod manager;
mod memo;
mod module;
mod opdef;
mod parse;
mod pass;
mod print;
mod rewrite;
mod sets;
mod tensor;
mod types;
mod verify;

pub use attr::{Attr, AttrKind, Attrs};
pub use bisect::{Culprit, GuiltyRewrite, bisect};
pub use check::{SAMPLES, check, distance, samples, seeded_inputs};
pub use class::{Class, Kind};
pub use consts::{Const, ConstPool, content_hash};
pub use diag::{Diag, Severity};
pub use edit::{Builder, Insert};
pub use id::{ConstId, FuncId, LocId, NodeId, OpId, QuantId, RegionId, ValueId};
pub use interp::run_region;
pub use items::{Counted, Follow, Items, ItemsFn, ItemsOfEachFn, repeats_along};
pub use layout::Ops;
pub use limits::{Deadline, Exceeded, Limit, Limits};
pub use loc::{LocTable, Node};
pub use manager::{ManagerOptions, NoSink, PassReport, Select, Sink, reproducer_pipeline, round_trips, run};
pub use memo::Memo;
pub use module::{Func, Module, Op, Region, Use, Value, ValueDef, store_of};
pub use opdef::{
    AttrSpec, EvalFn, InferFn, MARKS, OpDef, PhaseDef, Registry, RunFn, Slot, SlotKind, Traits, VerifyFn, Watch,
};
pub use parse::{parse, read_sidecar};
pub use pass::{Keeps, Pass, PassCx, Step, parse_pipeline, print_pipeline};
pub use print::{PrintOptions, print, quote_name, sidecar, ty as print_type, types as print_types};
pub use rewrite::{Pattern, Rewriter, remove_dead};
pub use sets::DisjointSets;
pub use tensor::{Data, HostTensor, indices, strides, transposed};
pub use types::{BufferTy, Dims, Elem, Quant, Store, TensorTy, Type};
pub use verify::verify;
