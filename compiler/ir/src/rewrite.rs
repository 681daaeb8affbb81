//! The rewriting driver: a worklist of ops, patterns tried by root op.
//!
//! Rules for patterns: a rewrite never makes the code worse, and there are no rules for commuting or reassociating;
//! canonicalize once and match one form. Patterns never walk the module themselves.

use crate::attr::Attrs;
use crate::diag::Diag;
use crate::edit::Builder;
use crate::id::{LocId, OpId, RegionId, ValueId};
use crate::limits::Deadline;
use crate::module::{Module, Use};
use crate::opdef::{OpDef, Traits};
use std::collections::{BTreeMap, HashSet, VecDeque};

/// A rewrite of ops of one kind.
pub struct Pattern {
    /// Name, for statistics.
    pub name: &'static str,
    /// The kind of op it starts from.
    pub root: &'static OpDef,
    /// Does the rewrite, or returns `None` without having changed anything but new dead ops.
    pub apply: fn(&mut Rewriter<'_>, OpId) -> Option<()>,
}

/// What a pattern works with: the module, and a place and location for new ops.
pub struct Rewriter<'m> {
    /// The module.
    pub m: &'m mut Module,
    root: OpId,
    touched: Vec<OpId>,
    error: Option<Diag>,
}

impl Rewriter<'_> {
    /// Makes an op before the root, with the root's location; an error ends the pass.
    pub fn create(&mut self, def: &'static OpDef, operands: &[Option<ValueId>], attrs: Attrs) -> Option<OpId> {
        let loc = self.m.loc(self.root);
        self.create_at(self.root, loc, def, operands, attrs)
    }

    /// Makes an op before `next` with location `loc`.
    pub fn create_at(
        &mut self,
        next: OpId,
        loc: LocId,
        def: &'static OpDef,
        operands: &[Option<ValueId>],
        attrs: Attrs,
    ) -> Option<OpId> {
        let mut b = Builder::before(self.m, next);
        b.loc = loc;
        match b.create(def, operands, attrs) {
            Ok(op) => {
                self.touched.push(op);
                Some(op)
            }
            Err(diag) => {
                self.error.get_or_insert(diag);
                None
            }
        }
    }

    /// Makes every user of `old` use `new`, which inherits the name; users are looked at again.
    pub fn replace(&mut self, old: ValueId, new: ValueId) {
        self.touch_users(old);
        self.m.replace_uses(old, new);
        if self.m.name(new).is_none()
            && let Some(name) = self.m.name(old).map(str::to_string)
        {
            self.m.set_name(new, &name);
        }
    }

    /// The locations of `ops` as one.
    pub fn fuse_locs(&mut self, ops: &[OpId]) -> LocId {
        let locs: Vec<LocId> = ops.iter().map(|&op| self.m.loc(op)).collect();
        self.m.locs.fuse(&locs)
    }

    /// Has the users of `v` looked at again.
    pub fn touch_users(&mut self, v: ValueId) {
        let users = self.m.uses(v).iter().filter_map(|u| match u {
            Use::Operand(op, _) => Some(*op),
            Use::Return(..) => None,
        });
        self.touched.extend(users);
    }
}

/// Applies `patterns` to `region` until none fits; counts applications per pattern in `hits`.
///
/// Dead pure ops are removed. `limit` bounds the number of applications, for searching a guilty one.
///
/// # Errors
/// A pattern built an invalid op, the rewriting does not end, or the time is over.
pub fn rewrite(
    m: &mut Module,
    region: RegionId,
    patterns: &[Pattern],
    hits: &mut BTreeMap<&'static str, usize>,
    limit: &mut usize,
    deadline: Option<Deadline>,
) -> Result<(), Diag> {
    let mut work: VecDeque<OpId> = m.ops(region).iter().copied().collect();
    let mut queued: HashSet<OpId> = work.iter().copied().collect();
    let budget = 10 * work.len() + 1000;
    let (mut applied, mut visited) = (0, 0usize);
    while let Some(op) = work.pop_front() {
        queued.remove(&op);
        visited += 1;
        if visited % 16 == 0 {
            deadline.map_or(Ok(()), |d| d.check()).map_err(|e| Diag::limit(&e))?;
        }
        if m.parent(op).is_none() {
            continue;
        }
        let mut touched = Vec::new();
        if !remove_if_dead(m, op, &mut touched) {
            let def = m.def(op);
            for p in patterns.iter().filter(|p| p.root == def) {
                if *limit == 0 {
                    break;
                }
                let mut rw = Rewriter { m, root: op, touched: Vec::new(), error: None };
                let done = (p.apply)(&mut rw, op).is_some();
                touched.append(&mut rw.touched);
                if let Some(diag) = rw.error {
                    return Err(diag.note(format!("while applying `{}`", p.name)));
                }
                if done {
                    *hits.entry(p.name).or_default() += 1;
                    *limit -= 1;
                    applied += 1;
                    if applied > budget {
                        return Err(Diag::bug(format!("rewriting does not end; last pattern was `{}`", p.name)));
                    }
                    // What the pattern left unread goes first: patterns look at uses.
                    if !remove_if_dead(m, op, &mut touched) {
                        touched.push(op);
                    }
                    break;
                }
            }
        }
        for t in touched {
            if m.parent(t).is_some() && queued.insert(t) {
                work.push_back(t);
            }
        }
    }
    Ok(())
}

/// Removes an op that nobody reads, and what only it read; says whether it did. `touched` gets the producers that stay.
fn remove_if_dead(m: &mut Module, op: OpId, touched: &mut Vec<OpId>) -> bool {
    let unread = |m: &Module, op: OpId| {
        m.def(op).traits.has(Traits::PURE) && m.results(op).iter().all(|&v| m.uses(v).is_empty())
    };
    if !unread(m, op) {
        return false;
    }
    let mut work = vec![op];
    while let Some(op) = work.pop() {
        if m.parent(op).is_none() {
            continue;
        }
        if !unread(m, op) {
            touched.push(op);
            continue;
        }
        work.extend(m.operands(op).iter().flatten().filter_map(|&v| m.producer(v)));
        m.erase(op);
    }
    true
}

/// Removes all dead pure ops of a region.
pub fn remove_dead(m: &mut Module, region: RegionId) {
    m.erase_all(region, |m, op| {
        m.def(op).traits.has(Traits::PURE) && m.results(op).iter().all(|&v| m.uses(v).is_empty())
    });
}
