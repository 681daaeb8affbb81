//! Finds functions of single elements that a model writes out op by op.
//!
//! before  %a = graph.add(%x, 3)   %c = graph.clip(%a) {min = 0, max = 6}   %m = graph.mul(%x, %c)   %y = graph.mul(%m, 1/6)
//! after   %y = graph.hard_swish(%x)
//!
//! One op reads and writes memory once, and is one table in INT8. Found are swish, hard sigmoid, hard swish and gelu, where
//! nothing else reads what is in between. Divisions by constants are products since `canonicalize`.

use super::{sole_producer, splat};
use qc_dialects::graph::{Add, Clip, Erf, Gelu, HardSigmoid, HardSwish, Mul, Sigmoid, Swish};
use qc_ir::{Attrs, Diag, Keeps, Module, OpDef, OpId, Pass, PassCx, Pattern, Rewriter, ValueId};

/// The pass.
pub const PASS: Pass = Pass {
    name: "raise-functions",
    summary: "finds functions of single elements that are written out",
    from: "",
    to: "",
    keeps: Keeps::F32Rounding(1e-5),
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    cx.rewrite(
        m,
        &[
            Pattern { name: "hard-swish", root: Mul::DEF, apply: hard_swish },
            Pattern { name: "gelu", root: Mul::DEF, apply: gelu },
            Pattern { name: "swish", root: Mul::DEF, apply: swish },
            Pattern { name: "hard-sigmoid", root: Mul::DEF, apply: hard_sigmoid },
            Pattern { name: "hard-swish-of-hard-sigmoid", root: Mul::DEF, apply: gated_by_hard_sigmoid },
        ],
    )
}

/// The operand and the constant of `x + c` or `x * c`.
fn with_constant(m: &Module, op: OpId, def: &OpDef) -> Option<(ValueId, f32)> {
    (m.def(op) == def && m.dims(m.operand(op, 0)?) == m.dims(m.result(op))).then_some(())?;
    Some((m.operand(op, 0)?, splat(m, m.operand(op, 1)?)?))
}

/// Both orders of the operands of a product.
fn factors(m: &Module, op: OpId) -> Option<[(ValueId, ValueId); 2]> {
    let (a, b) = (m.operand(op, 0)?, m.operand(op, 1)?);
    (m.is(op, Mul::DEF) && m.dims(a) == m.dims(b)).then_some([(a, b), (b, a)])
}

/// `clip(x + offset, 0, threshold)`, of which `user` is the only reader.
fn gate(m: &Module, v: ValueId, user: OpId) -> Option<(ValueId, f32, f32)> {
    let clip = Clip::of(m, sole_producer(m, v, user)?)?;
    let add = sole_producer(m, clip.x(m), clip.0)?;
    let (x, offset) = with_constant(m, add, Add::DEF)?;
    let threshold = clip.max(m) as f32;
    (clip.min(m) == 0.0 && threshold.is_finite() && threshold > 0.0).then_some((x, offset, threshold))
}

fn make(rw: &mut Rewriter<'_>, root: OpId, def: &'static OpDef, x: ValueId, attrs: Attrs) -> Option<()> {
    let new = rw.create(def, &[Some(x)], attrs)?;
    let (old, new) = (rw.m.result(root), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}

fn hard_swish_attrs(offset: f32, threshold: f32, scale: f32) -> Attrs {
    Attrs::new().with("offset", offset).with("threshold", threshold).with("scale", scale)
}

/// `x * gate(x) * k`, the constant outermost or beside the gate.
fn hard_swish(rw: &mut Rewriter<'_>, root: OpId) -> Option<()> {
    let m = &*rw.m;
    let outer = with_constant(m, root, Mul::DEF).and_then(|(v, k)| {
        let product = sole_producer(m, v, root)?;
        let found = factors(m, product)?.into_iter().find_map(|(x, g)| Some((x, gate(m, g, product)?)))?;
        Some((found.0, found.1, k))
    });
    let inner = || {
        factors(m, root)?.into_iter().find_map(|(x, v)| {
            let (g, k) = with_constant(m, sole_producer(m, v, root)?, Mul::DEF)?;
            Some((x, gate(m, g, m.producer(v)?)?, k))
        })
    };
    let (x, (gated, offset, threshold), k) = outer.or_else(inner)?;
    (x == gated && k.is_normal() && (1.0 / k).is_normal()).then_some(())?;
    make(rw, root, HardSwish::DEF, x, hard_swish_attrs(offset, threshold, 1.0 / k))
}

/// `gate(x) * k` that ends at 1.
fn hard_sigmoid(rw: &mut Rewriter<'_>, root: OpId) -> Option<()> {
    let (v, k) = with_constant(rw.m, root, Mul::DEF)?;
    let (x, offset, threshold) = gate(rw.m, v, root)?;
    ((threshold * k - 1.0).abs() < 1e-6).then_some(())?;
    make(rw, root, HardSigmoid::DEF, x, Attrs::new().with("alpha", k).with("beta", offset * k))
}

/// `x * hard_sigmoid(x)`.
fn gated_by_hard_sigmoid(rw: &mut Rewriter<'_>, root: OpId) -> Option<()> {
    let m = &*rw.m;
    let (x, gate) = factors(m, root)?.into_iter().find_map(|(x, g)| {
        let gate = HardSigmoid::of(m, sole_producer(m, g, root)?)?;
        (gate.x(m) == x).then_some((x, gate))
    })?;
    let (alpha, beta) = (gate.alpha(m) as f32, gate.beta(m) as f32);
    (alpha > 0.0 && (1.0 / alpha).is_normal()).then_some(())?;
    make(rw, root, HardSwish::DEF, x, hard_swish_attrs(beta / alpha, 1.0 / alpha, 1.0 / alpha))
}

/// `x * sigmoid(x)` and `x * sigmoid(x * beta)`.
fn swish(rw: &mut Rewriter<'_>, root: OpId) -> Option<()> {
    let m = &*rw.m;
    let (x, beta) = factors(m, root)?.into_iter().find_map(|(x, g)| {
        let sigmoid = Sigmoid::of(m, sole_producer(m, g, root)?)?;
        let inner = sigmoid.x(m);
        if inner == x {
            return Some((x, 1.0));
        }
        let (scaled, beta) = with_constant(m, sole_producer(m, inner, sigmoid.0)?, Mul::DEF)?;
        (scaled == x).then_some((x, beta))
    })?;
    make(rw, root, Swish::DEF, x, Attrs::new().with("beta", beta))
}

/// `1 + erf(x / sqrt 2)`, of which `user` is the only reader.
fn one_and_erf(m: &Module, v: ValueId, user: OpId) -> Option<ValueId> {
    let add = sole_producer(m, v, user)?;
    let (e, one) = with_constant(m, add, Add::DEF)?;
    let erf = Erf::of(m, sole_producer(m, e, add)?)?;
    let (x, scale) = with_constant(m, sole_producer(m, erf.x(m), erf.0)?, Mul::DEF)?;
    let exact = one == 1.0 && (scale - std::f32::consts::FRAC_1_SQRT_2).abs() < 1e-6;
    exact.then_some(x)
}

/// `x * (1 + erf(x / sqrt 2)) * 0.5`, the constant at any place.
fn gelu(rw: &mut Rewriter<'_>, root: OpId) -> Option<()> {
    let m = &*rw.m;
    let half = |op: OpId| with_constant(m, op, Mul::DEF).filter(|(_, k)| *k == 0.5).map(|(v, _)| v);
    let outermost = || {
        let product = sole_producer(m, half(root)?, root)?;
        factors(m, product)?.into_iter().find_map(|(x, e)| (one_and_erf(m, e, product)? == x).then_some(x))
    };
    let inside = || {
        factors(m, root)?.into_iter().find_map(|(v, w)| {
            let beside_x = half(m.producer(v)?).filter(|&x| one_and_erf(m, w, root) == Some(x));
            let beside_erf = || {
                let product = sole_producer(m, w, root)?;
                (one_and_erf(m, half(product)?, product)? == v).then_some(v)
            };
            beside_x.or_else(beside_erf)
        })
    };
    let x = outermost().or_else(inside)?;
    make(rw, root, Gelu::DEF, x, Attrs::new())
}
