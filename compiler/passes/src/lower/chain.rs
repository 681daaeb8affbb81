//! Element-wise ops on real numbers. Those that only read one another in a row are one step, whose kernels run one behind the
//! other over pieces that stay in the first-level cache.
//!
//! before  %p = graph.mul(%x, %g)   %s = graph.add(%p, %x)   %y = graph.relu(%s)
//! after   one step that stores %y; %p and %s have no memory of their own: they lie where %y will be, a piece of them at a time
//!
//! So any row of such ops is one pass over memory, with the kernels that there are. `joined.rs` says which ops are in a row.

use super::Lower;
use super::call::Count;
use super::elementwise::{Read, Stored, contiguous};
use super::emit::{Emit, Operand, cut_into_pieces, lengthen_rows, sweep_each};
use super::grain;
use super::joined::Biased;
use super::layout::Layout;
use super::repeat::Repeated;
use super::view::{View, levels};
use qc_dialects::graph::activation::Function;
use qc_dialects::graph::{Binary, Clamp};
use qc_ir::{Diag, Module, OpId, Traits, ValueId};
use qc_kernels::Variant;
use qc_kernels::args::{BinaryF32Call, BinaryF32More, UnaryCall, UnaryMore};

/// Kernel and parameters of an op.
enum Kernel {
    Binary(Variant),
    Unary(Variant, [f32; 3]),
}

impl Kernel {
    fn of(m: &Module, op: OpId) -> Result<Kernel, Diag> {
        if let Some(clamp) = Clamp::of(m, op) {
            let [lo, hi] = clamp.bounds(m);
            return Ok(Kernel::Unary(Variant::ClampF32, [lo, hi, 0.0]));
        }
        if let Some(function) = Function::of(m, op) {
            let (variant, parameters) = function.kernel();
            return Ok(Kernel::Unary(variant, parameters));
        }
        let word = m.def(op).name.trim_start_matches("graph.");
        let variant = Variant::from_name(&format!("{word}_f32")).filter(|_| Binary::is(m, op));
        variant.map(Kernel::Binary).ok_or_else(|| Diag::bug("no such kernel"))
    }

    /// Whether the sides of an op may change places, whatever their numbers are.
    fn commutes(&self, m: &Module, op: OpId) -> bool {
        let one_or_other = matches!(self, Kernel::Binary(Variant::MaxF32 | Variant::MinF32));
        m.def(op).traits.has(Traits::COMMUTATIVE) && !one_or_other
    }
}

/// One op of a row: its kernel, the places of its operands among the views, and how they are read.
struct Link {
    kernel: Kernel,
    a: (usize, Read),
    /// The second operand, or the addend of a function.
    b: Option<(usize, Read)>,
    stored: Stored,
}

impl Link {
    /// The call for rows of elements; `repeats` says whether the second operand is one element per row.
    fn emit(&self, e: &mut Emit<'_>, [n, rows]: [Count; 2], all: &[Operand<2>], repeats: bool) -> Result<(), Diag> {
        let (out, a, read_a) = (&all[0], &all[self.a.0], self.a.1);
        let b = self.b.map(|(b, read)| (&all[b], read));
        let (stored, scale) = (&self.stored, self.stored.scale.unwrap_or(0.0));
        match (&self.kernel, b) {
            (Kernel::Binary(_), None) => Err(Diag::bug("an operand is missing")),
            (&Kernel::Binary(variant), Some((b, read_b))) => e.call(&BinaryF32Call {
                variant,
                a: a.at.clone(),
                b: b.at.clone(),
                out: out.at.clone(),
                rows,
                n,
                clamp_lo: f32::NEG_INFINITY,
                clamp_hi: f32::INFINITY,
                more: BinaryF32More {
                    a_row: a.by[1],
                    b_row: b.by[1],
                    out_row: out.by[1],
                    b_scalar: usize::from(repeats).into(),
                    a_scale: read_a.scale,
                    a_zero: read_a.zero,
                    b_scale: read_b.scale,
                    b_zero: read_b.zero,
                    scale,
                    zero: stored.zero,
                    lo: stored.lo,
                    hi: stored.hi,
                },
            }),
            (&Kernel::Unary(variant, [p0, p1, p2]), addend) => e.call(&UnaryCall {
                variant,
                a: a.at.clone(),
                out: out.at.clone(),
                rows,
                n,
                more: UnaryMore {
                    lut: None,
                    addend: addend.map(|(b, _)| b.at.clone()),
                    a_row: a.by[1],
                    addend_row: addend.map_or(0usize.into(), |(b, _)| b.by[1]),
                    out_row: out.by[1],
                    p0: Some(p0),
                    p1: Some(p1),
                    p2,
                    a_scale: read_a.scale,
                    a_zero: read_a.zero,
                    scale,
                    zero: stored.zero,
                    lo: stored.lo,
                    hi: stored.hi,
                },
            }),
        }
    }
}

/// What a step reads and writes.
struct Operands {
    /// The result under its own dims.
    out: View,
    /// The dims of the loops, where they are not those of the result.
    cut: Option<Vec<usize>>,
    /// The result, then the operands, under the dims of the loops.
    views: Vec<View>,
}

impl Operands {
    /// A view under the dims of the loops.
    fn cut(&self, view: &View) -> Result<View, Diag> {
        let Some(dims) = self.cut.as_ref().filter(|dims| **dims != view.dims) else { return Ok(view.clone()) };
        view.reshaped(dims).ok_or_else(|| Diag::bug("a dim of an operand cannot be cut"))
    }
}

impl Lower<'_> {
    /// Element-wise ops, each of which but the first reads the one before.
    pub fn real_ops(&mut self, ops: &[OpId]) -> Result<(), Diag> {
        let Some((&last, before)) = ops.split_last() else { return Ok(()) };
        self.loc = self.joined_loc(last, before);
        let (out, quant) = self.real_destination(self.src.result(last))?;
        let mut operands = Operands { cut: self.cut_dims(ops), views: Vec::new(), out };
        let whole = operands.cut(&operands.out)?;
        operands.views.push(whole);
        let mut links: Vec<Link> = Vec::new();
        for (i, &op) in ops.iter().enumerate() {
            let running = i.checked_sub(1).map(|before| self.src.result(ops[before]));
            let stored = Stored::of(quant.as_ref().filter(|_| op == last));
            let link = self.link(op, running, stored, &mut operands)?;
            links.push(link);
        }
        let all: Vec<&View> = operands.views.iter().collect();
        let mut sizes = contiguous(levels(&all[0].dims, &all, 0), 0, all[0].elem_bytes());
        lengthen_rows(&mut sizes);
        if ops.len() > 1 {
            cut_into_pieces(&mut sizes, grain::CACHED);
        }
        let repeats: Vec<bool> = (0..all.len()).map(|k| sizes.last().is_some_and(|l| l.strides[k] == 0)).collect();
        sweep_each(&mut self.emit(), &all, sizes, &|e, counts, all| {
            links.iter().try_for_each(|link| link.emit(e, counts, all, link.b.is_some_and(|(b, _)| repeats[b])))
        })
    }

    /// The dims of the loops over `ops`, where one of them reads repeated elements.
    fn cut_dims(&self, ops: &[OpId]) -> Option<Vec<usize>> {
        let joined = &self.place.conversions.joined;
        let operands = ops.iter().flat_map(|&op| self.src.operands(op)).flatten();
        operands.filter_map(|&v| joined.repeated(v)).next().map(|repeated| repeated.dims(self.src))
    }

    /// An op whose operand `running`, if any, lies in the place of the result.
    fn link(
        &mut self,
        op: OpId,
        running: Option<ValueId>,
        stored: Stored,
        operands: &mut Operands,
    ) -> Result<Link, Diag> {
        let kernel = Kernel::of(self.src, op)?;
        let Kernel::Binary(_) = kernel else {
            let biased = Biased::in_front_of(self.src, op).filter(|_| running.is_none());
            if let Some(biased) = biased {
                self.loc = self.joined_loc(op, &[biased.add]);
            }
            let x = biased.map(|biased| biased.x).or_else(|| self.src.operand(op, 0));
            let a = self.place_of(x.ok_or_else(|| Diag::bug("no operand"))?, running, false, operands)?;
            let b = biased.map(|biased| self.place_of(biased.addend, None, false, operands)).transpose()?;
            return Ok(Link { kernel, a, b, stored });
        };
        let commutes = kernel.commutes(self.src, op);
        let [a, b] = self.operands(op, &operands.out, commutes)?;
        let [a, b] = if commutes && running == Some(b) { [b, a] } else { [a, b] };
        let a = self.place_of(a, running, false, operands)?;
        let b = self.place_of(b, running, true, operands)?;
        Ok(Link { kernel, a, b: Some(b), stored })
    }

    /// The place of an operand among the views, and how it is read.
    fn place_of(
        &mut self,
        v: ValueId,
        running: Option<ValueId>,
        may_repeat: bool,
        operands: &mut Operands,
    ) -> Result<(usize, Read), Diag> {
        if running == Some(v) {
            return Ok((0, Read::of(None)));
        }
        let (v, read) = self.real_operand(v);
        let view = match self.place.conversions.joined.repeated(v).cloned() {
            Some(repeated) => self.repeated_like(&repeated, &operands.out)?,
            None => self.operand_like(v, &operands.out, may_repeat)?,
        };
        let view = operands.cut(&view)?;
        operands.views.push(view);
        Ok((operands.views.len() - 1, read))
    }

    /// Repeated elements as an operand of a step that writes `out`: as they lie in their source, or a copy where rows of the
    /// result are no runs there.
    fn repeated_like(&mut self, repeated: &Repeated, out: &View) -> Result<View, Diag> {
        let source = self.view(repeated.source)?;
        if source.dims[1] > 1 && source.is_channels_last() && out.is_channels_last() {
            return Ok(repeated.view(&source));
        }
        let copy = self.alloc(
            "repeated",
            source.elem,
            &out.dims,
            if out.is_channels_last() { Layout::usual(&out.dims) } else { Layout::Rows },
        )?;
        self.copy_repeated(repeated, &source, &copy)?;
        Ok(copy)
    }
}
