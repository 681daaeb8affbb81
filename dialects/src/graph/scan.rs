//! A region that runs once per index of an axis and carries states along: recurrent networks.
//!
//! The region is a program of its own: it reads nothing but its arguments and constants inside it, so no rewrite moves an op
//! into the repetition or out of it by looking at neighbours.

use super::{check_size, gather};
use qc_ir::{Data, Follow, HostTensor, Items, Module, OpId, RegionId, TensorTy, Traits, Type, ValueId, Watch};

qc_ir::ops! { dialect SCAN = "graph";
    /// Runs its region `steps` times. The operands are `states` states, then `sequences` sequences, whose first dim is `steps`,
    /// then what is the same in every step. The region takes the states, one index of each sequence, and the rest; it gives the
    /// next states, then what each step adds to the outputs. The results are the last states, and the outputs of all steps, one
    /// behind the other along a new first dim. With `reverse` steps go from the last index to the first; outputs stand at their index.
    op Scan = "graph.scan"(operands: Variadic Tensor) -> (results) {
        states: Int, sequences: Int, steps: Int, reverse: Bool = false
    } [PURE ANY_RESULTS] infer(infer) verify(verify) run(run) items_of_each(items);
}

impl Scan {
    /// The region.
    pub fn body(self, m: &Module) -> RegionId {
        m.regions(self.0)[0]
    }

    /// How many operands are states, and how many sequences.
    pub fn counts(self, m: &Module) -> [usize; 2] {
        [self.states(m), self.sequences(m)].map(|n| usize::try_from(n).unwrap_or(usize::MAX))
    }

    /// The indices in the order of the steps.
    fn indices(self, m: &Module) -> impl Iterator<Item = usize> {
        let (steps, reverse) = (self.steps(m) as usize, self.reverse(m));
        (0..steps).map(move |t| if reverse { steps - 1 - t } else { t })
    }

    /// The scan whose region an op stands in.
    pub fn around(m: &Module, op: OpId) -> Option<Scan> {
        Scan::of(m, m.region_parent(m.parent(op)?)?)
    }
}

/// How often an op is run: the product of the steps of all scans around it.
pub fn times(m: &Module, op: OpId) -> u64 {
    let scans = std::iter::successors(Scan::around(m, op), |scan| Scan::around(m, scan.0));
    scans.fold(1u64, |n, scan| n.saturating_mul(scan.steps(m) as u64))
}

/// The type of one index of a sequence of `steps`.
fn item(m: &Module, v: ValueId, steps: i64) -> Result<Type, String> {
    let t = m.tensor_ty(v);
    match t.dims.split_first() {
        Some((&first, rest)) if first as i64 == steps => Ok(Type::Tensor(TensorTy::new(t.elem, rest))),
        _ => Err(format!("a sequence of shape {:?} does not have {steps} steps", t.dims)),
    }
}

/// Whether a tensor has one format at every index.
fn is_whole(m: &Module, v: ValueId) -> bool {
    m.quant_of(v).is_none_or(|q| q.axis.is_none())
}

fn infer(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let scan = Scan(op);
    let ([states, sequences], steps, operands) = (scan.counts(m), scan.steps(m), scan.operands(m));
    let [body] = m.regions(op) else { return Err("needs one region".into()) };
    if !(1..=1 << 31).contains(&steps) || states.checked_add(sequences).is_none_or(|n| n > operands.len()) {
        return Err("needs steps, and as many operands as states and sequences".into());
    }
    let typed = |(i, &v): (usize, &ValueId)| match (states..states + sequences).contains(&i) {
        true => item(m, v, steps),
        false => Ok(m.ty(v).clone()),
    };
    let wanted = operands.iter().enumerate().map(typed).collect::<Result<Vec<Type>, String>>()?;
    if !m.args(*body).iter().map(|&v| m.ty(v)).eq(&wanted) {
        return Err("the arguments of the region are not its operands".into());
    }
    let returns = m.returns(*body);
    let (next, outputs) = returns.split_at(states.min(returns.len()));
    if !next.iter().map(|&v| m.ty(v)).eq(&wanted[..states]) || returns.is_empty() {
        return Err("the region does not give the next states".into());
    }
    let stacked = |&v: &ValueId| {
        let t = m.tensor_ty(v);
        let dims: Vec<usize> = std::iter::once(steps as usize).chain(t.dims.iter().copied()).collect();
        check_size(&dims)?;
        Ok(Type::Tensor(TensorTy::new(t.elem, dims)))
    };
    let outputs = outputs.iter().map(stacked).collect::<Result<Vec<Type>, String>>()?;
    Ok(wanted[..states].iter().cloned().chain(outputs).collect())
}

fn verify(m: &Module, op: OpId) -> Result<(), String> {
    let body = Scan(op).body(m);
    if !Scan(op).operands(m).iter().chain(m.returns(body)).all(|&v| is_whole(m, v)) {
        return Err("a tensor quantized per axis cannot be taken apart by steps".into());
    }
    let inside = m.walk(body);
    if let Some(&other) = inside.iter().find(|&&o| !m.def(o).traits.has(Traits::PURE)) {
        return Err(format!("{} cannot be repeated", m.def(other).name));
    }
    let own = |v: &ValueId| m.region_of(*v).is_some_and(|r| region_is_in(m, r, body));
    let reads = inside.iter().flat_map(|&o| m.operands(o)).flatten().chain(m.returns(body));
    match reads.into_iter().all(own) {
        true => Ok(()),
        false => Err("its region reads a value from outside; it must be an operand".into()),
    }
}

/// Whether `region` is `outer` or stands in it.
fn region_is_in(m: &Module, region: RegionId, outer: RegionId) -> bool {
    let up = |r: &RegionId| m.region_parent(*r).and_then(|op| m.parent(op));
    std::iter::successors(Some(region), up).any(|r| r == outer)
}

/// Index `t` of the first dim.
fn index(x: &HostTensor, t: usize) -> Result<HostTensor, String> {
    let rest = x.dims()[1..].to_vec();
    let n = rest.iter().product::<usize>();
    gather(x, rest, t * n..(t + 1) * n)?.pop().ok_or_else(|| "an index is missing".to_string())
}

fn run(m: &Module, op: OpId, args: &[Option<&HostTensor>], watch: Watch<'_>) -> Result<Vec<HostTensor>, String> {
    let (scan, body) = (Scan(op), Scan(op).body(m));
    let [states, sequences] = scan.counts(m);
    let args = args.iter().map(|t| t.ok_or("an operand is missing")).collect::<Result<Vec<_>, _>>()?;
    let mut carried: Vec<HostTensor> = args[..states].iter().map(|&t| t.clone()).collect();
    let outputs = m.results(op)[states..].to_vec();
    let mut stacked: Vec<Vec<Vec<u8>>> = outputs.iter().map(|_| vec![Vec::new(); scan.steps(m) as usize]).collect();
    for t in scan.indices(m) {
        let mut inputs = carried;
        for (&state, tensor) in m.args(body).iter().zip(&mut inputs) {
            watch(op, state, tensor);
        }
        for x in &args[states..states + sequences] {
            inputs.push(index(x, t)?);
        }
        inputs.extend(args[states + sequences..].iter().map(|&t| t.clone()));
        carried = qc_ir::run_region(m, body, &inputs, watch).map_err(|d| d.message)?;
        for (of_step, all) in carried.drain(states..).zip(&mut stacked) {
            all[t] = of_step.data().to_bytes();
        }
    }
    for (v, bytes) in outputs.into_iter().zip(stacked) {
        let data = Data::from_bytes(m.storage(m.tensor_ty(v).elem), &bytes.concat());
        let tensor = data.and_then(|data| HostTensor::new(m.dims(v), data));
        carried.push(tensor.ok_or("wrong number of elements")?);
    }
    Ok(carried)
}

/// Items stay apart if they do in every step. A state may be the same for all items at first only.
fn items(m: &Module, op: OpId, f: &Follow) -> Option<Vec<Items>> {
    let (scan, operands) = (Scan(op), Scan(op).operands(m));
    let [states, sequences] = scan.counts(m);
    let mut args: Vec<Items> = operands.iter().map(|&v| f.of(v)).collect();
    for (arg, &v) in args[..states].iter_mut().zip(&operands).filter(|(arg, _)| **arg == Items::Same) {
        // The same numbers for each item, as many times as there are items: they may become others.
        let repeats = |&axis: &usize| m.dims(v)[axis] > 1 && f.repeats(m, v, axis);
        *arg = (0..m.dims(v).len()).find(repeats).map_or(Items::Same, Items::Along);
    }
    for arg in &mut args[states..states + sequences] {
        if let Items::Along(axis) = arg {
            *axis = axis.checked_sub(1)?;
        }
    }
    // Each round a state more has items, or none has.
    for _ in 0..=states {
        let inside = Follow::in_region(m, scan.body(m), f.batch(), &args);
        let given: Vec<Items> = m.returns(scan.body(m)).iter().map(|&v| inside.of(v)).collect();
        if let Some(met) = given.iter().find(|i| matches!(i, Items::Met(_))) {
            return Some(vec![*met; given.len()]);
        }
        if given[..states] == args[..states] {
            let stacked =
                given[states..].iter().map(|i| if let Items::Along(a) = i { Items::Along(a + 1) } else { *i });
            return Some(given[..states].iter().copied().chain(stacked).collect());
        }
        for i in 0..states {
            match (args[i], given[i]) {
                (a, b) if a == b => {}
                (Items::Same, Items::Along(axis)) if f.repeats(m, operands[i], axis) => args[i] = given[i],
                _ => return None,
            }
        }
    }
    None
}
