//! Regions that run once per index of an axis.

use super::{Dequantized, Graph, Value};
use crate::elements::bounded;
use crate::error::Refusal;
use qc_dialects::graph;
use qc_ir::{Builder, HostTensor, Insert, OpId, RegionId, Type, ValueId, attrs};
use std::collections::HashMap;
use std::sync::Arc;

type Result<T> = std::result::Result<T, Refusal>;

/// What a region is run over.
pub(crate) struct Over<'a> {
    /// First values of the states.
    pub states: &'a [Value],
    /// What has an index for each step, along its first dim.
    pub sequences: &'a [Value],
    /// What every step reads.
    pub same: &'a [Value],
    /// How many steps.
    pub steps: usize,
    /// From the last index to the first.
    pub reverse: bool,
}

/// What one step reads.
pub(crate) struct Inside {
    pub states: Vec<Value>,
    pub items: Vec<Value>,
    pub same: Vec<Value>,
}

/// States and outputs: the next and those of one step, or the last and those of all.
pub(crate) struct Given {
    pub states: Vec<Value>,
    pub outputs: Vec<Value>,
}

/// A region that is being filled.
pub(crate) enum Open {
    /// The only step of a region, which needs none.
    Once,
    /// The op, its region, how many states it has, and what stood for constants around it.
    Region { op: OpId, region: RegionId, outside: RegionId, states: usize, around: Around },
}

/// Constants that exist as values of the region around.
type Around = (HashMap<*const HostTensor, ValueId>, HashMap<*const Dequantized, (Arc<Dequantized>, ValueId)>);

impl Graph {
    /// Runs a region over an axis. A single step needs no region.
    ///
    /// # Errors
    /// What `body` says, and what does not fit.
    pub fn scan(&mut self, over: &Over<'_>, body: impl FnOnce(&mut Graph, Inside) -> Result<Given>) -> Result<Given> {
        let (open, inside) = self.open_scan(over)?;
        match body(self, inside) {
            Ok(given) => self.close_scan(open, given),
            Err(refusal) => {
                self.abandon_scan(open);
                Err(refusal)
            }
        }
    }

    /// Begins a region: what is made from here on is one step, until it is closed or abandoned.
    ///
    /// # Errors
    /// What does not fit.
    pub fn open_scan(&mut self, over: &Over<'_>) -> Result<(Open, Inside)> {
        if over.steps == 1 {
            return Ok((Open::Once, self.once(over)?));
        }
        let operands: Vec<Value> = [over.states, over.sequences, over.same].concat();
        let values: Vec<ValueId> = operands.iter().map(|v| self.value(v)).collect();
        let [states, sequences] = [over.states.len(), over.sequences.len()];
        let of_step = |(i, &v): (usize, &ValueId)| {
            let mut ty = self.m.tensor_ty(v).clone();
            if (states..states + sequences).contains(&i) {
                ty.dims = ty.dims.iter().skip(1).copied().collect();
            }
            Type::Tensor(ty)
        };
        let types: Vec<Type> = values.iter().enumerate().map(of_step).collect();
        let attrs = attrs! { states: states, sequences: sequences, steps: over.steps, reverse: over.reverse };
        let slots: Vec<Option<ValueId>> = values.iter().copied().map(Some).collect();
        let mut b = Builder { m: &mut self.m, at: Insert::End(self.body), loc: self.loc };
        let (op, region) = b.begin(graph::Scan::DEF, &slots, attrs, &types);
        let args: Vec<Value> = self.m.args(region).iter().map(|&v| Value::Runtime(v)).collect();
        let node = self.m.locs.nodes(self.loc).first().map_or(String::new(), |n| n.name.to_string());
        let way = if over.reverse { ".reverse" } else { "" };
        let carried = self.m.args(region)[..states].to_vec();
        for (i, &v) in carried.iter().enumerate() {
            self.m.set_name(v, &format!("{node}{way}.state{i}"));
        }
        let inside = Inside {
            states: args[..states].to_vec(),
            items: args[states..states + sequences].to_vec(),
            same: args[states + sequences..].to_vec(),
        };
        // Constants are values of the region that they stand in.
        let around = (std::mem::take(&mut self.constants), std::mem::take(&mut self.dequantized));
        let outside = std::mem::replace(&mut self.body, region);
        self.depth += 1;
        Ok((Open::Region { op, region, outside, states, around }, inside))
    }

    /// Goes back to what is around a region, whose op is given back.
    fn leave(&mut self, open: Open) -> Option<(OpId, usize)> {
        let Open::Region { op, outside, states, around, .. } = open else { return None };
        self.depth -= 1;
        self.body = outside;
        (self.constants, self.dequantized) = around;
        Some((op, states))
    }

    /// Takes a region away that cannot be filled.
    pub fn abandon_scan(&mut self, open: Open) {
        if let Some((op, _)) = self.leave(open) {
            self.m.erase(op);
        }
    }

    /// Ends a region by what one step gives.
    ///
    /// # Errors
    /// What does not fit.
    pub fn close_scan(&mut self, open: Open, given: Given) -> Result<Given> {
        match &open {
            Open::Once => return self.of_once(given),
            Open::Region { region, .. } => {
                let all: Vec<ValueId> = given.states.iter().chain(&given.outputs).map(|v| self.value(v)).collect();
                self.m.set_returns(*region, &all);
            }
        }
        let Some((op, states)) = self.leave(open) else { return Ok(given) };
        let mut b = Builder { m: &mut self.m, at: Insert::End(self.body), loc: self.loc };
        if let Err(diag) = b.finish(op) {
            self.m.erase(op);
            return Err(Refusal::invalid(diag.message));
        }
        self.made += 1;
        let results = self.m.results(op).to_vec();
        if let Some(dims) = results.iter().map(|&v| self.m.dims(v)).find(|dims| bounded(dims).is_none()) {
            return Err(Refusal::unsupported(format!("the result has the shape {dims:?}")));
        }
        let results: Vec<Value> = results.into_iter().map(Value::Runtime).collect();
        Ok(Given { states: results[..states].to_vec(), outputs: results[states..].to_vec() })
    }

    /// What the only step of a region reads.
    fn once(&mut self, over: &Over<'_>) -> Result<Inside> {
        let mut items = Vec::new();
        for x in over.sequences {
            let dims = self.dims(x);
            items.push(self.reshape(x, &dims[1..])?);
        }
        Ok(Inside { states: over.states.to_vec(), items, same: over.same.to_vec() })
    }

    /// The outputs of the only step of a region as those of all.
    fn of_once(&mut self, given: Given) -> Result<Given> {
        let mut outputs = Vec::new();
        for y in &given.outputs {
            let dims: Vec<usize> = std::iter::once(1).chain(self.dims(y)).collect();
            outputs.push(self.reshape(y, &dims)?);
        }
        Ok(Given { states: given.states, outputs })
    }
}
