//! Functions of single elements as scalar code: the same formulas that evaluate them, over the loop dialect.

use super::Lower;
use super::emit::Emit;
use super::view::{Level, levels};
use qc_dialects::graph::activation::{Function, Scalars};
use qc_dialects::loops::{Binary, Convert, Load, Scalar, Store, Unary};
use qc_ir::{Attrs, Diag, Elem, OpId, Type, ValueId};

/// Work below this many elements is not worth a join of threads.
const SMALL: usize = 1 << 12;

/// Adding and taking away `1.5 * 2^23` rounds to a whole number.
const MAGIC: f32 = 12_582_912.0;
/// The range of exp: beyond it lie 0 and infinity.
const EXP_RANGE: [f32; 2] = [-104.0, 89.0];
/// `ln 2` in two parts; the first has 8 bits, so that its product with an exponent is exact.
const LN2: [f32; 2] = [0.691_406_25, 0.001_740_930_6];
/// `(exp(r) - 1 - r) / r²` on `|r| <= ln 2 / 2`, by powers of `r`.
const EXP_POLY: [f32; 5] = [0.5, 0.166_665_76, 0.041_666_556, 0.008_363_179, 0.001_392_618_4];

/// The algebra whose numbers are code.
struct Code<'e, 'm>(&'e mut Emit<'m>);

impl Code<'_, '_> {
    fn op(&mut self, def: &'static qc_ir::OpDef, operands: &[ValueId], attrs: Attrs) -> Result<ValueId, Diag> {
        let operands: Vec<Option<ValueId>> = operands.iter().copied().map(Some).collect();
        self.0.op(def, &operands, attrs)?.ok_or_else(|| Diag::bug("an op without result"))
    }

    fn integer(&mut self, value: i32) -> Result<ValueId, Diag> {
        let attrs = Attrs::new().with("value", f64::from(value)).with("to", Type::Scalar(Elem::I32));
        self.op(Scalar::DEF, &[], attrs)
    }

    /// `x` rounded to a whole number, half to even; `|x|` is below `2^22`.
    fn rounded(&mut self, x: ValueId) -> Result<ValueId, Diag> {
        let shifted = self.with("add", x, MAGIC)?;
        self.with("sub", shifted, MAGIC)
    }

    /// `2^n` for a whole number from -126 to 127.
    fn power_of_two(&mut self, n: ValueId) -> Result<ValueId, Diag> {
        let n = self.op(Convert::DEF, &[n], Attrs::new().with("to", Type::Scalar(Elem::I32)))?;
        let (bias, place) = (self.integer(127)?, self.integer(1 << 23)?);
        let exponent = self.binary("add", n, bias)?;
        let bits = self.binary("mul", exponent, place)?;
        self.op(Unary::DEF, &[bits], Attrs::new().with("op", "from_bits"))
    }
}

impl Scalars for Code<'_, '_> {
    type V = ValueId;
    type E = Diag;

    fn constant(&mut self, value: f32) -> Result<ValueId, Diag> {
        self.op(Scalar::DEF, &[], Attrs::new().with("value", value).with("to", Type::Scalar(Elem::F32)))
    }

    fn binary(&mut self, op: &'static str, a: ValueId, b: ValueId) -> Result<ValueId, Diag> {
        self.op(Binary::DEF, &[a, b], Attrs::new().with("op", op))
    }

    fn sqrt(&mut self, x: ValueId) -> Result<ValueId, Diag> {
        self.op(Unary::DEF, &[x], Attrs::new().with("op", "sqrt"))
    }

    /// The kernels' method with products and sums rounded one by one: `x = n ln 2 + r`, a polynomial in `r`, and `2^n` in
    /// two factors, so that every result has its exponent.
    fn exp(&mut self, x: ValueId) -> Result<ValueId, Diag> {
        let x = self.with("max", x, EXP_RANGE[0])?;
        let x = self.with("min", x, EXP_RANGE[1])?;
        let n = self.with("mul", x, std::f32::consts::LOG2_E)?;
        let n = self.rounded(n)?;
        let high = self.with("mul", n, LN2[0])?;
        let r = self.binary("sub", x, high)?;
        let low = self.with("mul", n, LN2[1])?;
        let r = self.binary("sub", r, low)?;
        let mut q = self.constant(EXP_POLY[EXP_POLY.len() - 1])?;
        for c in EXP_POLY[..EXP_POLY.len() - 1].iter().rev() {
            q = self.binary("mul", q, r)?;
            q = self.with("add", q, *c)?;
        }
        let square = self.binary("mul", r, r)?;
        let p = self.binary("mul", q, square)?;
        let p = self.binary("add", p, r)?;
        let p = self.with("add", p, 1.0)?;
        let half = self.with("mul", n, 0.5)?;
        let half = self.rounded(half)?;
        let rest = self.binary("sub", n, half)?;
        let (half, rest) = (self.power_of_two(half)?, self.power_of_two(rest)?);
        let p = self.binary("mul", p, half)?;
        self.binary("mul", p, rest)
    }
}

impl Lower<'_> {
    /// One of the functions of `graph::activation`, element by element.
    pub fn activation(&mut self, op: OpId) -> Result<(), Diag> {
        let function = Function::of(self.src, op).ok_or_else(|| Diag::bug("not an activation"))?;
        let x = self.src.operand(op, 0).ok_or_else(|| Diag::bug("no operand"))?;
        let (a, out) = (self.view(x)?, self.destination(self.src.result(op))?);
        let mut all = levels(&out.dims.clone(), &[&a, &out], 1);
        if all.is_empty() {
            all.push(Level { count: 1, strides: vec![0, 0] });
        }
        let work: usize = all.iter().map(|l| l.count).product();
        let first = all.remove(0);
        let body = |e: &mut Emit<'_>, indices: &[(ValueId, &Level)]| -> Result<(), Diag> {
            let at = |k: usize, offset: i64| {
                let strides = indices.iter().map(|(_, l)| l.strides[k]);
                std::iter::once(offset).chain(strides).collect::<Vec<i64>>()
            };
            let ids = || indices.iter().map(|(v, _)| *v);
            let mut code = Code(e);
            let from: Vec<ValueId> = std::iter::once(a.buf).chain(ids()).collect();
            let x = code.op(Load::DEF, &from, Attrs::new().with("at", at(0, a.offset)))?;
            let y = function.apply(&mut code, x)?;
            let to: Vec<Option<ValueId>> = [y, out.buf].into_iter().chain(ids()).map(Some).collect();
            e.op(Store::DEF, &to, Attrs::new().with("at", at(1, out.offset))).map(|_| ())
        };
        let tasks = if work < SMALL { 1 } else { first.count };
        self.emit().step(tasks, |e, begin, end| {
            if tasks > 1 {
                return e.for_range(begin, end, |e, i| nest(e, vec![(i, &first)], &all, &body));
            }
            e.for_count(first.count, |e, i| nest(e, vec![(i, &first)], &all, &body))
        })
    }
}

/// What is done at one element, given an index per level.
type Body<'a> = dyn Fn(&mut Emit<'_>, &[(ValueId, &Level)]) -> Result<(), Diag> + 'a;

fn nest<'l>(
    e: &mut Emit<'_>,
    mut indices: Vec<(ValueId, &'l Level)>,
    rest: &'l [Level],
    body: &Body<'_>,
) -> Result<(), Diag> {
    match rest {
        [] => body(e, &indices),
        [level, rest @ ..] => e.for_count(level.count, |e, i| {
            indices.push((i, level));
            nest(e, indices, rest, body)
        }),
    }
}
