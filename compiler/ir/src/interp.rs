//! Runs a function of pure tensor ops by calling each op's `eval`.

use crate::diag::Diag;
use crate::id::{OpId, RegionId, ValueId};
use crate::module::Module;
use crate::opdef::Watch;
use crate::tensor::HostTensor;
use std::collections::HashMap;
use std::sync::Arc;

/// Runs `region` on `inputs`; `watch` sees every op's results as they are computed, and may change them.
///
/// # Errors
/// Wrong inputs, an op without `eval`, or what an `eval` says.
pub fn run_region(
    m: &Module,
    region: RegionId,
    inputs: &[HostTensor],
    watch: Watch<'_>,
) -> Result<Vec<HostTensor>, Diag> {
    let args = m.args(region);
    if args.len() != inputs.len() {
        return Err(Diag::error(format!("the model takes {} inputs, not {}", args.len(), inputs.len())));
    }
    let mut values: HashMap<ValueId, Arc<HostTensor>> = HashMap::new();
    for (&arg, input) in args.iter().zip(inputs) {
        if m.dims(arg) != input.dims() {
            let name = m.name(arg).unwrap_or("?");
            let text = format!("input `{name}` has shape {:?}, not {:?}", m.dims(arg), input.dims());
            return Err(Diag::error(text));
        }
        values.insert(arg, Arc::new(input.clone()));
    }
    let last = last_uses(m, region);
    for (n, &op) in m.ops(region).iter().enumerate() {
        let results = run_op(m, op, &values, watch)?;
        for (&v, mut tensor) in m.results(op).iter().zip(results) {
            watch(op, v, &mut tensor);
            values.insert(v, Arc::new(tensor));
        }
        for v in m.operands(op).iter().flatten() {
            if last.get(v) == Some(&n) {
                values.remove(v);
            }
        }
    }
    let take = |v: &ValueId| values.get(v).map(|t| (**t).clone());
    m.returns(region).iter().map(take).collect::<Option<Vec<_>>>().ok_or_else(|| Diag::bug("a result was not computed"))
}

fn run_op(
    m: &Module,
    op: OpId,
    values: &HashMap<ValueId, Arc<HostTensor>>,
    watch: Watch<'_>,
) -> Result<Vec<HostTensor>, Diag> {
    let def = m.def(op);
    let fail = |message: String| Diag::error(format!("{}: {message}", def.name)).at(m.loc(op));
    let args: Vec<Option<&HostTensor>> =
        m.operands(op).iter().map(|v| v.and_then(|v| values.get(&v)).map(|t| &**t)).collect();
    let results = match (def.run, def.eval) {
        (Some(run), _) => run(m, op, &args, watch).map_err(fail)?,
        (None, Some(eval)) => eval(m, op, &args).map_err(fail)?,
        (None, None) => return Err(fail("cannot be evaluated".into())),
    };
    for (&v, t) in m.results(op).iter().zip(&results) {
        if m.dims(v) != t.dims() || m.storage(m.tensor_ty(v).elem) != t.data().elem() {
            let text = format!("{}: evaluation gave {:?} {:?}", def.name, t.dims(), t.data().elem());
            return Err(Diag::bug(text).at(m.loc(op)));
        }
    }
    Ok(results)
}

/// For each value, the last op of the region that uses it; returned values are absent.
fn last_uses(m: &Module, region: RegionId) -> HashMap<ValueId, usize> {
    let mut last = HashMap::new();
    for (n, &op) in m.ops(region).iter().enumerate() {
        for v in m.operands(op).iter().flatten() {
            last.insert(*v, n);
        }
    }
    for v in m.returns(region) {
        last.remove(v);
    }
    last
}
