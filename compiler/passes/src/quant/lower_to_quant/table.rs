//! Functions of one quantized tensor, as a table.
//!
//! before  %d = graph.dequantize(%x)  %e = graph.erf(%d)  %s = graph.mul(%d, %e)  %y = graph.quantize(%s) {quant = !q}
//! after   %y = quant.lut(%x) {table, to = !q}
//!
//! However many ops lie between, a byte has 256 values: each is taken through the ops as the graph computes them, roundings
//! of quantization between them included. Constants take part where they are the same for all elements.

use super::{dequantized, element, finish};
use crate::graph::{constant, splat};
use crate::quant::keep_float::is_kept;
use qc_dialects::graph::quantize::{dequantize_tensor, quantize};
use qc_dialects::graph::{Dequantize, Quantize};
use qc_dialects::quant::QLut;
use qc_ir::{Attrs, Elem, HostTensor, Module, OpId, Quant, QuantId, Rewriter, TensorTy, Traits, ValueId};
use std::collections::HashMap;

/// Ops that become one table, at most.
const LONGEST: usize = 32;

/// The ops between a quantized tensor and a value that is a function of its elements.
#[derive(Default)]
struct Chain {
    /// The tensor; `None` until one is found.
    x: Option<ValueId>,
    /// The ops, operands first; tables among them.
    ops: Vec<OpId>,
}

impl Chain {
    /// The chain that ends in `v`, a value of f32.
    fn ending_in(m: &Module, v: ValueId) -> Option<Chain> {
        let mut chain = Chain::default();
        chain.add(m, v, m.dims(v))?;
        chain.x.is_some().then_some(chain)
    }

    /// Adds what computes `v` of shape `dims`; `None` if it is no function of the elements of one tensor.
    fn add(&mut self, m: &Module, v: ValueId, dims: &[usize]) -> Option<()> {
        if number(m, v).is_some() {
            return Some(());
        }
        let op = m.producer(v)?;
        if self.ops.contains(&op) {
            return Some(());
        }
        (m.dims(v) == dims && !is_kept(m, op) && self.ops.len() < LONGEST).then_some(())?;
        if let Some(q) = dequantized(m, v) {
            self.start(m, q)?;
        } else {
            let real = |v: &Option<ValueId>| v.is_some_and(|v| m.tensor_ty(v).elem == Elem::F32);
            let function = m.def(op).traits.has(Traits::ELEMENTWISE) && m.results(op).len() == 1;
            (function && m.operands(op).iter().all(real)).then_some(())?;
            for operand in m.operands(op).iter().flatten() {
                self.add(m, *operand, dims)?;
            }
        }
        self.ops.push(op);
        Some(())
    }

    /// Takes `q` for the tensor, or what `q` is a table of.
    fn start(&mut self, m: &Module, q: ValueId) -> Option<()> {
        let tables: Vec<QLut> = tables_to(m, q);
        let x = tables.first().map_or(q, |first| first.x(m));
        self.ops.extend(tables.iter().map(|t| t.0));
        (*self.x.get_or_insert(x) == x).then_some(())
    }

    /// The values of `v` for the 256 values of an element.
    fn values(&self, m: &Module, v: ValueId) -> Option<Vec<f32>> {
        let mut known: HashMap<ValueId, HostTensor> = HashMap::new();
        for &op in self.ops.iter().filter(|&&op| !m.is(op, QLut::DEF)) {
            let out = m.result(op);
            let value = match dequantized(m, out) {
                Some(q) => dequantize_tensor(m.quant_of(q)?, &HostTensor::u8([256], bytes_of(m, q)?)),
                None => {
                    let operands = m.operands(op).iter().flatten();
                    let one = |v: ValueId| number(m, v).map(|c| HostTensor::f32([1], vec![c]));
                    let args: Option<Vec<HostTensor>> =
                        operands.map(|v| known.get(v).cloned().or_else(|| one(*v))).collect();
                    let args = args?;
                    let args: Vec<Option<&HostTensor>> = args.iter().map(Some).collect();
                    m.def(op).eval?(m, op, &args).ok()?.pop()?
                }
            };
            known.insert(out, value);
        }
        Some(known.get(&v)?.as_f32()?.to_vec())
    }
}

/// The one number that all elements of a constant are, stored as it is or quantized.
fn number(m: &Module, v: ValueId) -> Option<f32> {
    let Some(stored) = Dequantize::producing(m, v) else { return splat(m, v) };
    let q = stored.q(m);
    let real = dequantize_tensor(m.quant_of(q)?, &*constant(m, q)?);
    let (first, rest) = real.as_f32()?.split_first()?;
    rest.iter().all(|x| x.to_bits() == first.to_bits()).then_some(*first)
}

/// The tables that make `q`, the first first.
fn tables_to(m: &Module, q: ValueId) -> Vec<QLut> {
    let mut tables = Vec::new();
    let mut v = q;
    while let Some(t) = QLut::producing(m, v) {
        tables.push(t);
        v = t.x(m);
    }
    tables.reverse();
    tables
}

/// The bytes of `q` for the 256 values of an element of what it is a table of.
fn bytes_of(m: &Module, q: ValueId) -> Option<Vec<u8>> {
    let mut bytes: Vec<u8> = (0..=255).collect();
    for t in tables_to(m, q) {
        let table = m.consts.get(t.table(m)).tensor.clone();
        let table = table.as_u8()?;
        bytes.iter_mut().for_each(|b| *b = table[usize::from(*b)]);
    }
    Some(bytes)
}

/// Makes a table of whatever gives the operand of the quantization `root`.
pub fn function(rw: &mut Rewriter<'_>, root: OpId, id: QuantId, format: &Quant) -> Option<()> {
    let v = Quantize(root).x(rw.m);
    let chain = Chain::ending_in(rw.m, v)?;
    let values = chain.values(rw.m, v)?;
    let bytes =
        values.iter().map(|v| quantize(*v, format.scale(0), format.zero(0), format.lo, format.hi) as u8).collect();
    let mapped = lut(rw, chain.x?, id, bytes)?;
    let new = rw.m.producer(mapped)?;
    let ops: Vec<OpId> = chain.ops.iter().copied().chain([root]).collect();
    finish(rw, root, &ops, new)
}

/// The table of `f` on real numbers between two formats, exactly as dequantize, `f`, quantize would compute it.
pub fn table(from: &Quant, to: &Quant, f: impl Fn(f32) -> f32) -> Vec<u8> {
    let one = |q: i32| {
        let real = (q - from.zero(0)) as f32 * from.scale(0);
        quantize(f(real), to.scale(0), to.zero(0), to.lo, to.hi) as u8
    };
    (0..256).map(one).collect()
}

/// `x` through a table.
pub fn lut(rw: &mut Rewriter<'_>, x: ValueId, id: QuantId, table: Vec<u8>) -> Option<ValueId> {
    let ty = TensorTy::new(Elem::U8, [256]);
    let tensor = HostTensor::u8([256], table);
    let c = rw.m.consts.add("table", ty, std::sync::Arc::new(tensor));
    let op = rw.create(QLut::DEF, &[Some(x)], Attrs::new().with("table", c).with("to", element(id)))?;
    Some(rw.m.result(op))
}

/// `x` in format `id`: itself, or through a table.
pub fn in_format(rw: &mut Rewriter<'_>, x: ValueId, id: QuantId, format: &Quant) -> Option<ValueId> {
    let from = rw.m.quant_of(x)?.clone();
    if rw.m.tensor_ty(x).elem == Elem::Quant(id) {
        return Some(x);
    }
    lut(rw, x, id, table(&from, format, |v| v))
}
