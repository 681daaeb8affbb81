//! Corrections of biases.
//!
//! Rounded weights and operands that a range cuts off make a product's results wrong in one direction, the same for every place and
//! every sample: a shift of a channel's mean, which no layer behind averages out. What calibration measures of it is added to the
//! bias, which costs nothing at run time (data-free quantization, Nagel et al. 2019, section 4.2, with means of samples instead of
//! those of a batch norm).

use crate::compare::on_right;
use crate::{CompileError, Inside};
use qc_dialects::graph::{Add, Clamp, Constant, Linear};
use qc_ir::{Attrs, Builder, Diag, Elem, HostTensor, Module, OpId, TensorTy, Type, ValueId};
use qc_passes::quant::channels;
use qc_passes::quant::keep_float::is_kept;
use std::collections::BTreeMap;

/// What is to be added to biases, by the names of the tensors that come out right with it: results of products, or of the sum or bound
/// behind one, of which the product is part.
pub type Biases = BTreeMap<String, Vec<f32>>;

/// How far the means of channels are from the right ones, by tensor, where each op gets right operands in their formats: what it shifts
/// itself. Of one run on `inputs`, whose tensors in the original are `right`.
///
/// # Errors
/// A defect of qc: an op that cannot be evaluated.
pub fn shifts(
    integers: &Inside,
    inputs: &[HostTensor],
    right: &BTreeMap<String, HostTensor>,
) -> Result<BTreeMap<String, Vec<f64>>, CompileError> {
    let mut found = BTreeMap::new();
    // What the format of the result cuts off, a function behind may not tell apart; no bias brings it back.
    on_right(integers, inputs, right, &mut |name, _, wanted, got| {
        if let (Some(right), Some(got)) = (wanted.as_f32(), got.as_f32()) {
            found.insert(name.to_string(), shift(wanted.dims(), right, got));
        }
    })?;
    Ok(found)
}

/// How far the means of a tensor's channels are from the right ones, per channel, on one run.
fn shift(dims: &[usize], right: &[f32], got: &[f32]) -> Vec<f64> {
    let (n, beside) = (channels::count(dims).max(1), channels::beside(dims).max(1));
    let mut sums = vec![0.0; n];
    for (i, (r, g)) in right.iter().zip(got).enumerate().filter(|(_, (r, g))| r.is_finite() && g.is_finite()) {
        sums[i / beside % n] += f64::from(*r) - f64::from(*g);
    }
    let each = (right.len() / n).max(1) as f64;
    sums.iter_mut().for_each(|sum| *sum /= each);
    sums
}

/// Names of the tensors that a correction can be made for, in a canonical float module.
pub fn correctable(m: &Module) -> Vec<String> {
    let ops = m.walk(m.body()).into_iter();
    ops.filter(|&op| constant_bias(m, op).is_some()).filter_map(|op| Some(m.name(shown(m, op))?.to_string())).collect()
}

/// Adds corrections to the biases of a canonical float module.
///
/// # Errors
/// A correction with another number of channels than the product has.
pub(crate) fn correct(m: &mut Module, biases: &Biases) -> Result<(), Diag> {
    let mut left = biases.clone();
    for op in m.walk(m.body()) {
        let Some(mut bias) = constant_bias(m, op).filter(|_| !is_kept(m, op)) else { continue };
        let name = m.name(shown(m, op)).unwrap_or_default().to_string();
        // Of several products of one sum, one is corrected.
        let Some(added) = left.remove(&name) else { continue };
        if added.len() != bias.len() {
            let (wanted, given) = (bias.len(), added.len());
            let text = format!("the ranges file corrects {given} channels of \"{name}\", which has {wanted}");
            return Err(Diag::error(text).at(m.loc(op)).help("calibrate this very model"));
        }
        bias.iter_mut().zip(&added).for_each(|(b, a)| *b += a);
        let ty = TensorTy::new(Elem::F32, vec![bias.len()]);
        let value = m.consts.add("bias", ty, HostTensor::f32([bias.len()], bias).into());
        let made = Constant::build(&mut Builder::before(m, op), &[], Attrs::new().with("value", value))?;
        let v = made.out(m);
        with_bias(m, op, v)?;
    }
    Ok(())
}

/// Gives a product another bias; one without a bias has no place for it.
fn with_bias(m: &mut Module, op: OpId, bias: ValueId) -> Result<(), Diag> {
    if m.operands(op).len() > 2 {
        m.set_operand(op, 2, Some(bias));
        return Ok(());
    }
    let operands = [m.operand(op, 0), m.operand(op, 1), Some(bias)];
    let (def, attrs) = (m.def(op), m.attrs(op).clone());
    let new = Builder::before(m, op).create(def, &operands, attrs)?;
    m.set_loc(new, m.loc(op));
    let (old, new) = (m.result(op), m.result(new));
    if let Some(name) = m.name(old).map(str::to_string) {
        m.set_name(new, &name);
    }
    m.replace_uses(old, new);
    m.erase(op);
    Ok(())
}

/// The bias of a product with a constant weight, zeros where it has none; nothing for one that is computed.
fn constant_bias(m: &Module, op: OpId) -> Option<Vec<f32>> {
    let linear = Linear::of(m, op)?;
    let constant = |v: ValueId| Constant::of(m, m.producer(v)?).map(|c| m.consts.get(c.value(m)).tensor.clone());
    constant(linear.weight(m))?;
    let Type::Tensor(out) = m.ty(m.result(op)) else { return None };
    match linear.bias(m) {
        Some(bias) => constant(bias)?.as_f32().map(<[f32]>::to_vec),
        None => Some(vec![0.0; channels::count(&out.dims)]),
    }
}

/// The tensor that a product's kernel stores: its result, or that of the sum and the bound in its epilogue.
fn shown(m: &Module, op: OpId) -> ValueId {
    let v = m.result(op);
    let v = m.only_user(v).filter(|&user| m.is(user, Add::DEF)).map_or(v, |user| m.result(user));
    m.only_user(v).and_then(|user| Clamp::of(m, user)).map_or(v, |clamp| clamp.out(m))
}

#[cfg(test)]
mod tests {
    use super::*;
    use qc_ir::{parse, run_region};
    use std::collections::HashMap;

    const MODEL: &str = "module \"m\" phase canonical
const @w : tensor<2x2xf32> = [1.0, 0.0, 0.0, 1.0]
const @b : tensor<2xf32> = [0.5, 0.0]
func @main(%x : tensor<1x2xf32>) outputs [\"z\"] {
%w = graph.constant() {value = @w}
%b = graph.constant() {value = @b}
%y = graph.matmul(%x, %w, %b)
%r = graph.relu(%y)
%z = graph.matmul(%r, %w)
return(%z)
}
";

    fn corrected(biases: &[(&str, &[f32])]) -> Result<Vec<f32>, Diag> {
        corrected_of(MODEL, biases)
    }

    fn corrected_of(model: &str, biases: &[(&str, &[f32])]) -> Result<Vec<f32>, Diag> {
        let mut m = parse(model, &qc_dialects::REGISTRY, &HashMap::new()).unwrap();
        let biases = biases.iter().map(|(name, b)| (name.to_string(), b.to_vec())).collect();
        correct(&mut m, &biases)?;
        let out = run_region(&m, m.body(), &[HostTensor::f32([1, 2], vec![1.0, 2.0])], &mut |_, _, _| {})?;
        Ok(out[0].as_f32().unwrap().to_vec())
    }

    #[test]
    fn what_is_missing_is_added_in_front_of_the_bound() {
        assert_eq!(corrected(&[]).unwrap(), [1.5, 2.0]);
        assert_eq!(corrected(&[("r", &[0.25, -3.0]), ("z", &[0.0, 8.0])]).unwrap(), [1.75, 8.0]);
        assert_eq!(corrected(&[("unknown", &[1.0])]).unwrap(), [1.5, 2.0]);
        let said = corrected(&[("r", &[1.0])]).unwrap_err();
        assert!(format!("{said:?}").contains("corrects 1 channels of \\\"r\\\", which has 2"), "{said:?}");
    }

    #[test]
    fn what_stays_in_floats_is_right_as_it_is() {
        let kept = MODEL.replace("%z = graph.matmul(%r, %w)", "%z = graph.matmul(%r, %w) {keep_float = \"asked\"}");
        assert_eq!(corrected_of(&kept, &[("r", &[0.25, -3.0]), ("z", &[0.0, 8.0])]).unwrap(), [1.75, 0.0]);
    }

    #[test]
    fn shifts_are_means_of_channels() {
        let right = [1.0, 1.0, 2.0, f32::NAN];
        assert_eq!(shift(&[1, 2, 1, 2], &right, &[0.5, 1.0, 4.0, 0.0]), [0.25, -1.0]);
        assert_eq!(shift(&[2, 2], &right, &[1.0, 3.0, 1.0, 0.0]), [0.5, -1.0]);
    }
}
