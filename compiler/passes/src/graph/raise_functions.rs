//! Finds functions of single elements that a model writes out op by op.
//!
//! before  %a = graph.add(%x, 3)   %c = graph.clip(%a) {min = 0, max = 6}   %m = graph.mul(%x, %c)   %y = graph.mul(%m, 1/6)
//! after   %y = graph.hard_swish(%x)
//!
//! One op reads and writes memory once, and is one table in INT8. Found are swish, hard sigmoid, hard swish and gelu, by erf and
//! by tanh, where nothing else reads what is in between. Divisions by constants are products since `canonicalize`. What gelu has
//! inside its function may be any sums and products that are the right polynomial.

use super::{sole_producer, splat};
use qc_dialects::graph::{Add, Clip, Erf, Gelu, HardSigmoid, HardSwish, Mul, Sigmoid, Sub, Swish, Tanh};
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

/// The coefficients of a polynomial of degree 3 at most.
type Cubic = [f64; 4];

/// `v` as a polynomial in `x`: sums, differences and products of `x` and constants. `left` bounds the ops that are looked at.
fn cubic(m: &Module, v: ValueId, x: ValueId, left: &mut usize) -> Option<Cubic> {
    if v == x {
        return Some([0.0, 1.0, 0.0, 0.0]);
    }
    if let Some(c) = splat(m, v) {
        return Some([f64::from(c), 0.0, 0.0, 0.0]);
    }
    *left = left.checked_sub(1)?;
    let op = m.producer(v)?;
    let sign = [(Add::DEF, 1.0), (Sub::DEF, -1.0), (Mul::DEF, 0.0)].into_iter().find(|(def, _)| m.is(op, def))?.1;
    let (a, b) = (cubic(m, m.operand(op, 0)?, x, left)?, cubic(m, m.operand(op, 1)?, x, left)?);
    if sign == 0.0 { times(a, b) } else { Some(std::array::from_fn(|i| a[i] + sign * b[i])) }
}

/// The product, if its degree is not beyond 3.
fn times(a: Cubic, b: Cubic) -> Option<Cubic> {
    let mut product = [0.0; 4];
    for (i, p) in a.iter().enumerate().filter(|(_, p)| **p != 0.0) {
        for (j, q) in b.iter().enumerate().filter(|(_, q)| **q != 0.0) {
            *product.get_mut(i + j)? += p * q;
        }
    }
    Some(product)
}

/// Ops that are looked at for one function.
const LOOKED_AT: usize = 16;

/// The factors of a product whose inner products only `user` reads.
fn all_factors(m: &Module, v: ValueId, user: OpId, left: &mut usize, factors: &mut Vec<ValueId>) {
    match sole_producer(m, v, user).and_then(|op| Mul::of(m, op)).filter(|_| *left > 0) {
        Some(mul) => {
            *left -= 1;
            [mul.lhs(m), mul.rhs(m)].into_iter().for_each(|v| all_factors(m, v, mul.0, left, factors));
        }
        None => factors.push(v),
    }
}

/// `c + c * f(inner)`, of which there is one reader, with `f` being erf or tanh: `c`, `inner` and whether it is tanh.
fn one_and(m: &Module, v: ValueId) -> Option<(f64, ValueId, bool)> {
    let add = sole_producer(m, v, m.only_user(v)?)?;
    let (mut f, c) = with_constant(m, add, Add::DEF)?;
    let (mut factor, mut reader) = (1.0, add);
    if let Some(mul) = sole_producer(m, f, add).filter(|&op| m.is(op, Mul::DEF)) {
        (f, factor) = with_constant(m, mul, Mul::DEF)?;
        reader = mul;
    }
    let op = sole_producer(m, f, reader).filter(|_| factor == c)?;
    let (erf, tanh) = (Erf::of(m, op), Tanh::of(m, op));
    let inner = erf.map(|erf| erf.x(m)).or(tanh.map(|tanh| tanh.x(m)))?;
    Some((f64::from(c), inner, tanh.is_some()))
}

/// Whether `inner` is what gelu of `x` has inside tanh or erf.
fn is_inside_gelu(m: &Module, inner: ValueId, x: ValueId, tanh: bool) -> bool {
    let near = |found: f64, wanted: f64| (found - wanted).abs() <= 2e-6 * wanted;
    let linear = if tanh { (2.0 / std::f64::consts::PI).sqrt() } else { std::f64::consts::FRAC_1_SQRT_2 };
    let cube = if tanh { linear * 0.044_715 } else { 0.0 };
    let found = cubic(m, inner, x, &mut LOOKED_AT.clone());
    found.is_some_and(|[a, b, c, d]| a == 0.0 && near(b, linear) && c == 0.0 && near(d, cube))
}

/// `x * (1 + erf(x / sqrt 2)) / 2` and `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2`, the constants at any place.
fn gelu(rw: &mut Rewriter<'_>, root: OpId) -> Option<()> {
    let m = &*rw.m;
    let (mut factors, mut left) = (Vec::new(), LOOKED_AT);
    all_factors(m, m.operand(root, 0)?, root, &mut left, &mut factors);
    all_factors(m, m.operand(root, 1)?, root, &mut left, &mut factors);
    let (mut scale, mut x, mut gate) = (1.0, None, None);
    for &v in &factors {
        match (splat(m, v), one_and(m, v)) {
            (Some(c), _) => scale *= f64::from(c),
            (None, Some(found)) if gate.is_none() => gate = Some(found),
            (None, _) if x.is_none() => x = Some(v),
            _ => return None,
        }
    }
    let (x, (c, inner, tanh)) = (x?, gate?);
    let right = scale * c == 0.5 && is_inside_gelu(m, inner, x, tanh) && m.dims(x) == m.dims(m.result(root));
    right.then_some(())?;
    make(rw, root, Gelu::DEF, x, Attrs::new().with("tanh", tanh))
}
