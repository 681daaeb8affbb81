//! Element-wise steps.

use super::Numbers;
use super::build::Graph;
use qc_dialects::graph::{ACTIVATION, Abs, Add, Clip, Div, Function, Max, Min, Mul, Pow, Relu, Rem, Sub};
use qc_ir::{AttrKind, Attrs, ValueId};

/// `max(x, 0)`.
pub fn relu(g: &mut Graph, x: ValueId, _: &[u32]) -> Option<ValueId> {
    Some(g.op(Relu::DEF, &[x], Attrs::new()))
}

/// Bounds on one side or both.
pub fn clip(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let inf = f64::INFINITY;
    let (min, max) = [(0.0, 6.0), (-1.0, 1.0), (0.0, inf), (0.25, 0.75), (-inf, 0.5)][p[0] as usize % 5];
    Some(g.op(Clip::DEF, &[x], Attrs::new().with("min", min).with("max", max)))
}

/// A function of single elements with parameters at random. Its operand is made positive where negative numbers have no
/// value, and cut to 4 where values grow beyond what a sum bears.
pub fn function(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let def = ACTIVATION[p[0] as usize % ACTIVATION.len()];
    let mut attrs = Attrs::new();
    for (spec, &p) in def.attrs.iter().zip(&p[1..]) {
        let drawn = match (spec.kind, spec.default) {
            (AttrKind::Bool, _) => p.is_multiple_of(2).into(),
            (_, Some(default)) if !p.is_multiple_of(3) => default(),
            _ => (0.1 + f64::from(p % 9) / 5.0).into(),
        };
        attrs.set(spec.name, drawn);
    }
    let f = Function::with(def, &|name| attrs.get(name).cloned())?;
    let x = match () {
        () if f.value(-1.0).is_nan() => g.op(Abs::DEF, &[x], Attrs::new()),
        () if f.value(16.0).abs() > 1e3 => g.op(Clip::DEF, &[x], Attrs::new().with("min", -4.0).with("max", 4.0)),
        () => x,
    };
    Some(g.op(def, &[x], attrs))
}

/// Arithmetic with a constant that broadcasts.
pub fn with_constant(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let mut dims = g.dims(x);
    dims[0] = 1;
    for (i, d) in dims.iter_mut().enumerate().skip(1) {
        if p[0] >> i & 1 == 0 {
            *d = 1;
        }
    }
    let dims = if p[0].is_multiple_of(5) { Vec::new() } else { dims };
    let mut n = Numbers::new(u64::from(p[1]));
    let def = [Add::DEF, Sub::DEF, Mul::DEF, Div::DEF, Max::DEF, Min::DEF, Pow::DEF, Rem::DEF][p[2] as usize % 8];
    let mut values = n.floats(dims.iter().product(), 1.0);
    if def == Div::DEF || def == Rem::DEF {
        values.iter_mut().for_each(|x| *x = x.abs() + 0.5);
    }
    let c = g.floats(&dims, values);
    // Powers of numbers between 0 and 4, which always have a value.
    let x = match def == Pow::DEF {
        true => {
            let size = g.op(Abs::DEF, &[x], Attrs::new());
            g.op(Clip::DEF, &[size], Attrs::new().with("min", 0.125).with("max", 4.0))
        }
        false => x,
    };
    let right = [Div::DEF, Pow::DEF, Rem::DEF].contains(&def) || !p[3].is_multiple_of(3);
    Some(if right { g.op(def, &[x, c], Attrs::new()) } else { g.op(def, &[c, x], Attrs::new()) })
}

/// Arithmetic with another value of the same shape, or one that broadcasts to it.
pub fn with_value(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let dims = g.dims(x);
    let fits =
        |d: &[usize]| d.len() == dims.len() && d[0] == dims[0] && d.iter().zip(&dims).all(|(a, b)| a == b || *a == 1);
    let y = g.other(p[0], fits)?;
    let def = [Sub::DEF, Max::DEF, Min::DEF, Add::DEF, Mul::DEF][p[1] as usize % 5];
    let operands = if p[2].is_multiple_of(2) { [x, y] } else { [y, x] };
    Some(g.op(def, &operands, Attrs::new()))
}
