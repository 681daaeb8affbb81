//! Addresses stay in their buffers.
//!
//! Every index lies in an interval: those of constants, tasks and loops are known, arithmetic follows them. So does the
//! interval of each affine address. From each address on, the whole element of a load or a store must lie in the buffer,
//! and what a kernel touches from its pointer on; what cannot be bounded is refused. Where an index fills a count of a
//! kernel, it varies together with the address, which intervals cannot say: its smallest value counts. Constants that are
//! not packed yet have another size than kernels see. Nothing may be written into constants.

use super::extent::extent;
use super::{Arith, ConstBuffer, For, Index, Load, Parallel, Store, Ukernel, Watch};
use qc_ir::{Diag, Module, OpId, ValueId};
use qc_kernels::args::FieldKind;
use std::collections::HashMap;

/// Smallest and largest value.
type Interval = (i64, i64);

/// Checks all addresses of all functions; ops are known to be valid one by one.
pub fn check(m: &Module) -> Vec<Diag> {
    let mut errors = Vec::new();
    for (_, func) in m.funcs() {
        let mut reach = Reach { m, of: HashMap::new() };
        for op in m.walk(func.body) {
            if let Err(message) = reach.visit(op) {
                errors.push(Diag::error(format!("{}: {message}", m.def(op).name)).at(m.loc(op)));
            }
        }
    }
    errors
}

struct Reach<'m> {
    m: &'m Module,
    of: HashMap<ValueId, Interval>,
}

impl Reach<'_> {
    fn visit(&mut self, op: OpId) -> Result<(), String> {
        let m = self.m;
        if let Some(i) = Index::of(m, op) {
            self.of.insert(i.out(m), (i.value(m), i.value(m)));
        } else if let Some(arith) = Arith::of(m, op) {
            let (a, b) = (self.index(arith.lhs(m))?, self.index(arith.rhs(m))?);
            let interval = combined(&arith.op(m), a, b).ok_or("its result cannot be bounded")?;
            self.of.insert(arith.out(m), interval);
        } else if let Some(step) = Parallel::of(m, op) {
            let args = m.args(m.regions(op)[0]);
            self.of.insert(args[0], (0, step.tasks(m) - 1));
            self.of.insert(args[1], (1, step.tasks(m)));
        } else if let Some(view) = For::of(m, op) {
            let (lo, hi) = (self.index(view.lo(m))?, self.index(view.hi(m))?);
            hi.1.checked_add(view.step(m)).ok_or("its bounds and step are too large")?;
            // The body of a loop that never runs has any index.
            let last = hi.1.saturating_sub(1).max(lo.0);
            self.of.insert(m.args(m.regions(op)[0])[0], (lo.0, last));
        } else if let Some(load) = Load::of(m, op) {
            self.element(load.buf(m), &load.indices(m), &load.at(m))?;
        } else if let Some(store) = Store::of(m, op) {
            self.element(store.buf(m), &store.indices(m), &store.at(m))?;
            self.writable(store.buf(m))?;
        } else if let Some(call) = Ukernel::of(m, op) {
            self.kernel(call)?;
        } else if let Some(watch) = Watch::of(m, op) {
            self.elements(watch)?;
        }
        Ok(())
    }

    /// All elements of a tensor.
    fn elements(&self, watch: Watch) -> Result<(), String> {
        let (m, dims, at) = (self.m, watch.dims(self.m), watch.at(self.m));
        if dims.contains(&0) {
            return Ok(());
        }
        let bytes = m.elem_bytes(super::buffer(m, watch.buf(m))?.elem) as i64;
        let last = |(&dim, &stride): (&i64, &i64)| combined("mul", (0, dim - 1), (stride, stride));
        let mut extent = Some((0, bytes));
        for moved in dims.iter().zip(&at[1..]).map(last) {
            extent = extent.zip(moved).and_then(|(a, b)| combined("add", a, b));
        }
        self.within(watch.buf(m), &[], &at[..1], extent.ok_or("its address cannot be bounded")?)
    }

    fn index(&self, v: ValueId) -> Result<Interval, String> {
        self.of.get(&v).copied().ok_or_else(|| "an index cannot be bounded".into())
    }

    fn element(&self, buf: ValueId, indices: &[ValueId], at: &[i64]) -> Result<(), String> {
        let bytes = self.m.elem_bytes(super::buffer(self.m, buf)?.elem);
        self.within(buf, indices, at, (0, bytes as i64))
    }

    /// Whether the bytes of `extent`, counted from each address that the indices can make, lie in the buffer.
    fn within(&self, buf: ValueId, indices: &[ValueId], at: &[i64], extent: Interval) -> Result<(), String> {
        let buffer = super::buffer(self.m, buf)?;
        let (base, factors) = at.split_first().ok_or("`at` is empty")?;
        let start = i64::try_from(buffer.origin).ok().and_then(|origin| origin.checked_add(*base));
        let mut interval = start.map(|start| (start, start));
        for (&v, &factor) in indices.iter().zip(factors).filter(|(_, f)| **f != 0) {
            let moved = combined("mul", self.index(v)?, (factor, factor));
            interval = interval.zip(moved).and_then(|(a, b)| combined("add", a, b));
        }
        let interval = interval.and_then(|a| combined("add", a, extent));
        let (first, end) = interval.ok_or("its address cannot be bounded")?;
        if first < 0 || u64::try_from(end).map_or(true, |end| end > buffer.bytes as u64) {
            return Err(format!("bytes {first}..{end} are outside a buffer of {}", buffer.bytes));
        }
        Ok(())
    }

    fn writable(&self, buf: ValueId) -> Result<(), String> {
        match ConstBuffer::producing(self.m, buf) {
            Some(_) => Err("writes into a constant".into()),
            None => Ok(()),
        }
    }

    fn kernel(&self, op: Ukernel) -> Result<(), String> {
        let call = op.call(self.m)?;
        let count = |name: &str| {
            let (_, v) = call.dynamic.iter().find(|d| d.0 == name)?;
            self.of.get(v).map(|interval| interval.0)
        };
        for (name, buf, base, factors) in &call.pointers {
            if ConstBuffer::producing(self.m, *buf).is_some_and(|c| !c.pack(self.m).is_empty()) {
                continue;
            }
            let extent = extent(&call, name, count).ok_or_else(|| format!("pointer `{name}` cannot be bounded"))?;
            let at: Vec<i64> = std::iter::once(*base).chain(factors.iter().copied()).collect();
            self.within(*buf, &call.indices, &at, extent).map_err(|e| format!("pointer `{name}`: {e}"))?;
            if call.family.field(name).is_some_and(|f| f.kind == FieldKind::PtrOut) {
                self.writable(*buf)?;
            }
        }
        for (name, v) in &call.dynamic {
            self.index(*v).map_err(|e| format!("field `{name}`: {e}"))?;
        }
        Ok(())
    }
}

/// The interval of `op` over two intervals; `None` if it leaves 64 bits.
fn combined(op: &str, a: Interval, b: Interval) -> Option<Interval> {
    let corners = |f: fn(i64, i64) -> Option<i64>| {
        let all = [f(a.0, b.0)?, f(a.0, b.1)?, f(a.1, b.0)?, f(a.1, b.1)?];
        Some((*all.iter().min()?, *all.iter().max()?))
    };
    match op {
        "add" => corners(i64::checked_add),
        "sub" => corners(i64::checked_sub),
        "mul" => corners(i64::checked_mul),
        // Else generated code, which truncates, would differ from the floor, or trap.
        "div" if a.0 >= 0 && b.0 > 0 => corners(i64::checked_div),
        "min" => Some((a.0.min(b.0), a.1.min(b.1))),
        "max" => Some((a.0.max(b.0), a.1.max(b.1))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::combined;

    #[test]
    fn intervals_hold_all_results() {
        let pairs = [(-7, 3), (0, 0), (2, 5), (-4, -1), (1, 9)];
        for a in pairs {
            for b in pairs {
                for (op, f) in [
                    ("add", (|x, y| x + y) as fn(i64, i64) -> i64),
                    ("sub", |x, y| x - y),
                    ("mul", |x, y| x * y),
                    ("min", i64::min),
                    ("max", i64::max),
                    ("div", |x, y| x / y),
                ] {
                    let Some((lo, hi)) = combined(op, a, b) else {
                        assert!(op == "div" && (a.0 < 0 || b.0 <= 0), "{op} of {a:?} and {b:?}");
                        continue;
                    };
                    let all = (a.0..=a.1).flat_map(|x| (b.0..=b.1).map(move |y| f(x, y)));
                    assert_eq!((all.clone().min(), all.max()), (Some(lo), Some(hi)), "{op} of {a:?} and {b:?}");
                }
            }
        }
        assert_eq!(combined("add", (0, i64::MAX), (1, 1)), None);
    }
}
