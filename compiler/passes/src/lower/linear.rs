//! Sweeps of the matrix kernels, shared by convolutions and matrix products; and the matrix products themselves.
//!
//! One call computes a panel of up to 64 output columns for a range of pixels. Around it run loops over images, groups,
//! row blocks and panels. Weights stream through once: all pixels of a block, then the next panel. Tasks are images,
//! else output rows, else panels, whichever comes first in sufficient number.

use super::Lower;
use super::elementwise::stored_as;
use super::emit::{Call, Emit};
use super::view::{Level, View, bytes_of, levels};
use super::wide::{Weights, of_run};
use qc_dialects::quant::compute::Epilogue;
use qc_dialects::{graph::Matmul, quant::QMatmul};
use qc_ir::{Attr, Diag, Elem, HostTensor, Module, Quant, ValueId};
use qc_kernels::pack::{GemmShape, PANEL, Taps, pad16};

/// Bytes from one index to the next, for input, output and residual.
#[derive(Clone, Copy, Debug)]
pub struct Stride {
    pub count: usize,
    pub a: i64,
    pub out: i64,
    pub res: i64,
}

impl Stride {
    pub const ONE: Stride = Stride { count: 1, a: 0, out: 0, res: 0 };

    fn from_level(l: &Level) -> Stride {
        Stride { count: l.count, a: l.strides[0], out: l.strides[1], res: l.strides[2] }
    }
}

/// A matrix sweep.
pub struct Gemm {
    /// The call with everything set that does not move.
    pub call: Call,
    /// Pointers of `call` that exist, in order: input, weight, bias, scale, output, residual.
    pub has_scale: bool,
    pub has_res: bool,
    /// Pixels of one row, rows, images, groups.
    pub rows: Stride,
    pub outer: Stride,
    pub images: Stride,
    pub groups: Stride,
    /// Output columns of a group.
    pub cols: usize,
    /// Bytes of a full weight panel, and of a group's weights.
    pub panel_bytes: usize,
    pub group_bytes: usize,
    /// Bytes of an output element, and of a residual one.
    pub out_bytes: i64,
    pub res_bytes: i64,
    /// Multiply-accumulates of all of it.
    pub macs: usize,
}

/// Less than this many multiply-accumulates are not worth a join of threads.
pub const SMALL_MACS: usize = 1 << 18;
/// Pixels of a row block: small enough that a block's input stays in L1/L2 while all panels pass over it.
const BLOCK_PIXELS: usize = 800;

impl Gemm {
    /// Factors for [`Call::moved`] in the order of the pointers.
    fn factors(&self, a: i64, w: i64, column: i64, out: i64, res: i64) -> Vec<i64> {
        let mut f = vec![a, w, 4 * column];
        if self.has_scale {
            f.push(4 * column);
        }
        f.push(out);
        if self.has_res {
            f.push(res);
        }
        f
    }

    fn by(&self, s: Stride) -> Vec<i64> {
        self.factors(s.a, 0, 0, s.out, s.res)
    }

    fn by_panel(&self, panels: i64) -> Vec<i64> {
        let columns = PANEL as i64 * panels;
        self.factors(0, self.panel_bytes as i64 * panels, columns, columns * self.out_bytes, columns * self.res_bytes)
    }

    fn by_group(&self) -> Vec<i64> {
        let padded = self.cols.div_ceil(16) * 16;
        self.factors(self.groups.a, self.group_bytes as i64, padded as i64, self.groups.out, self.groups.res)
    }

    /// Builds the step.
    pub fn emit(self, e: Emit<'_>) -> Result<(), Diag> {
        let mut e = e.with_macs(self.macs);
        let call = self.call.clone().set("rows", self.rows.count);
        let panels = self.cols.div_ceil(PANEL);
        let split = self.macs >= SMALL_MACS;
        if self.images.count > 1 {
            let tasks = if split { self.images.count } else { 1 };
            return e.step(tasks, |e, begin, end| {
                let (lo, hi) = if split { (begin, end) } else { (e.index(0)?, e.index(self.images.count as i64)?) };
                let call = call.set("outer", self.outer.count);
                self.each_group(e, call, |e, call| {
                    self.each_panel(e, call, |e, call| {
                        e.for_range(lo, hi, |e, n| e.call(call.moved(n, &self.by(self.images))))
                    })
                })
            });
        }
        if split && self.outer.count >= 8 {
            return e.step(self.outer.count, |e, begin, end| self.rows_of_task(e, call, begin, end));
        }
        let call = call.set("outer", self.outer.count);
        if split && self.groups.count > 1 {
            return e.step(self.groups.count, |e, begin, end| {
                e.for_range(begin, end, |e, g| {
                    self.each_panel(e, call.moved(g, &self.by_group()), |e, call| e.call(call))
                })
            });
        }
        if split && panels > 1 {
            return e.step(panels, |e, begin, end| {
                e.for_range(begin, end, |e, p| {
                    let done = e.arith_const("mul", p, PANEL as i64)?;
                    let all = e.index(self.cols as i64)?;
                    let left = e.arith("sub", all, done)?;
                    let cols = e.arith_const("min", left, PANEL as i64)?;
                    e.call(call.moved(p, &self.by_panel(1)).dynamic("cols", cols))
                })
            });
        }
        e.step(1, |e, _, _| self.each_group(e, call, |e, call| self.each_panel(e, call, |e, call| e.call(call))))
    }

    /// Output rows `begin..end` in blocks, all panels for each block.
    fn rows_of_task(&self, e: &mut Emit<'_>, call: Call, begin: ValueId, end: ValueId) -> Result<(), Diag> {
        let block = (BLOCK_PIXELS / self.rows.count.max(1)).max(1);
        let panels = self.cols.div_ceil(PANEL) * self.groups.count;
        if panels == 1 || block >= self.outer.count {
            let count = e.arith("sub", end, begin)?;
            let call = call.moved(begin, &self.by(self.outer));
            return self.all_columns(e, call, count);
        }
        e.for_step(begin, end, block as i64, |e, row| {
            let left = e.arith("sub", end, row)?;
            let count = e.arith_const("min", left, block as i64)?;
            self.all_columns(e, call.moved(row, &self.by(self.outer)), count)
        })
    }

    fn all_columns(&self, e: &mut Emit<'_>, call: Call, count: ValueId) -> Result<(), Diag> {
        self.each_group(e, call, |e, call| self.each_panel(e, call, |e, call| e.call(call.dynamic("outer", count))))
    }

    fn each_group(
        &self,
        e: &mut Emit<'_>,
        call: Call,
        body: impl Fn(&mut Emit<'_>, Call) -> Result<(), Diag>,
    ) -> Result<(), Diag> {
        match self.groups.count {
            1 => body(e, call),
            n => e.for_count(n, |e, g| body(e, call.moved(g, &self.by_group()))),
        }
    }

    fn each_panel(
        &self,
        e: &mut Emit<'_>,
        call: Call,
        body: impl Fn(&mut Emit<'_>, Call) -> Result<(), Diag>,
    ) -> Result<(), Diag> {
        let (full, tail) = (self.cols / PANEL, self.cols % PANEL);
        match full {
            0 => {}
            1 => body(e, call.clone().set("cols", PANEL))?,
            n => e.for_count(n, |e, p| body(e, call.clone().set("cols", PANEL).moved(p, &self.by_panel(1))))?,
        }
        if tail > 0 {
            body(e, call.set("cols", tail).offset(&self.by_panel(full as i64)))?;
        }
        Ok(())
    }
}

/// Loops over pixels as kernels want them: the pixels of a row, rows, images. Rows too short to fill tiles are joined
/// where they lie one behind the other.
pub fn pixel_loops(mut outer_first: Vec<Level>) -> [Stride; 3] {
    outer_first.retain(|l| l.count != 1);
    if let [.., next, last] = &outer_first[..] {
        let joins = next.strides.iter().zip(&last.strides).all(|(o, s)| *o == s * last.count as i64);
        if joins && last.count < 12 && !last.count.is_multiple_of(7) {
            let joined = Level { count: next.count * last.count, strides: last.strides.clone() };
            outer_first.truncate(outer_first.len() - 2);
            outer_first.push(joined);
        }
    }
    let mut take = || outer_first.pop().map_or(Stride::ONE, |l| Stride::from_level(&l));
    [take(), take(), take()]
}

/// Packed weights and per-column constants.
pub struct Constants {
    pub weight: ValueId,
    pub bias: ValueId,
    pub scale: Option<ValueId>,
}

/// Values per column, padded per group.
pub fn padded_groups<T: Copy + Default>(values: &[T], groups: usize) -> Vec<T> {
    values.chunks(values.len() / groups).flat_map(pad16).collect()
}

/// The `pack` attribute for a matrix kernel: `split` says that taps of a row are separate segments.
pub fn gemm_pack(shape: &GemmShape, groups: usize) -> Vec<(Box<str>, Attr)> {
    let field = |n: &str, v: usize| (n.into(), Attr::from(v));
    let pitch = match shape.taps {
        Taps::Joined { pitch } => pitch,
        Taps::Split => 0,
    };
    vec![
        ("kind".into(), Attr::from("gemm")),
        field("groups", groups),
        field("cols", shape.cols),
        field("channels", shape.channels),
        field("kh", shape.kh),
        field("kw", shape.kw),
        field("pitch", pitch),
    ]
}

/// The epilogue fields of an integer kernel, and the kernel's variant.
pub fn epilogue_fields(mut call: Call, e: &Epilogue) -> Call {
    match &e.out {
        None => call.set("clamp_lo", e.min).set("clamp_hi", e.max),
        Some(q) => {
            call = call.set("zero", q.zero(0) as f32).set("lo", e.lo).set("hi", e.hi);
            match e.residual {
                None => call,
                Some(r) => {
                    call = call.set("res_scale", r.scale).set("res_offset", r.offset);
                    call.set("clamp_lo", r.min).set("clamp_hi", r.max)
                }
            }
        }
    }
}

/// The variant of the integer matrix kernels that an epilogue needs.
pub fn variant(e: &Epilogue) -> &'static str {
    match (&e.out, e.residual) {
        (None, _) => "f32",
        (Some(_), None) => "u8",
        (Some(_), Some(_)) => "u8r",
    }
}

impl Lower<'_> {
    /// Integer weights in `parts`, packed for `shape`, with bias and scale of all output channels.
    pub fn integer_constants(
        &mut self,
        w: &Weights,
        e: &Epilogue,
        parts: usize,
        shape: &GemmShape,
        groups: usize,
    ) -> Result<Constants, Diag> {
        let stored = w.in_parts(parts, shape.kw);
        let (bias, scales) = (padded_groups(&w.bias, groups), padded_groups(&e.scales, groups));
        let pack = gemm_pack(shape, groups);
        Ok(Constants {
            weight: self.data(&w.name, HostTensor::i8([stored.len()], stored), pack)?,
            bias: self.data("bias", HostTensor::i32([bias.len()], bias), vec![])?,
            scale: Some(self.data("scale", HostTensor::f32([scales.len()], scales), vec![])?),
        })
    }

    /// Float weights `[o, k..]` and their bias.
    pub fn float_constants(
        &mut self,
        weight: Vec<f32>,
        name: &str,
        bias: Option<ValueId>,
        shape: &GemmShape,
        groups: usize,
    ) -> Result<Constants, Diag> {
        let bias = match bias {
            None => vec![0.0; shape.cols * groups],
            Some(b) => crate::graph::constant_f32(self.src, b).ok_or_else(|| Diag::bug("the bias is not constant"))?,
        };
        let bias = padded_groups(&bias, groups);
        let pack = gemm_pack(shape, groups);
        Ok(Constants {
            weight: self.data(name, HostTensor::f32([weight.len()], weight), pack)?,
            bias: self.data("bias", HostTensor::f32([bias.len()], bias), vec![])?,
            scale: None,
        })
    }

    /// `quant.matmul`.
    pub fn matmul_u8(&mut self, op: QMatmul) -> Result<(), Diag> {
        let src = self.src;
        let e = Epilogue::of(src, op.0).map_err(Diag::bug)?;
        let dims = src.dims(op.weight(src)).to_vec();
        let (n, k) = (dims[0], dims[1]);
        let x = self.rows_view(op.x(src))?;
        let out = self.destination(op.out(src))?;
        let res = op.residual(src).map(|r| self.rows_view(r)).transpose()?;
        let w = Weights::of(src, op.0)?;
        let runs = w.wide_runs(1);
        if runs.first() != Some(&(0..n)) {
            self.columns_u8(&w, &e, &x, &out, res.as_ref(), k, 1)?;
        }
        for run in runs {
            let last = out.dims.len() - 1;
            let columns = |v: &View| v.narrow(last, run.start, run.len(), 1);
            let (w, e) = (w.of_run(run.clone()), of_run(&e, run.clone()));
            let parts = w.parts();
            self.columns_u8(&w, &e, &x, &columns(&out), res.as_ref().map(columns).as_ref(), k, parts)?;
        }
        Ok(())
    }

    /// The output columns of `w`, by weights in `parts`.
    fn columns_u8(
        &mut self,
        w: &Weights,
        e: &Epilogue,
        x: &View,
        out: &View,
        res: Option<&View>,
        k: usize,
        parts: usize,
    ) -> Result<(), Diag> {
        let n = w.channels();
        let shape = GemmShape { cols: n, channels: k, kh: parts, kw: 1, taps: Taps::Joined { pitch: k } };
        let c = self.integer_constants(w, e, parts, &shape, 1)?;
        let call = epilogue_fields(Call::new(&format!("gemm.{}", variant(e))), e).set("k4", shape.k4());
        let out_elem = if e.out.is_some() { Elem::U8 } else { Elem::F32 };
        let sizes = (shape.panel_bytes(0), shape.bytes());
        self.product(call.set("seg_x", parts), x, out, res, &c, (n, k), sizes, out_elem)
    }

    /// `graph.matmul`; with a constant right side its panels are packed by the compiler.
    pub fn matmul_f32(&mut self, op: Matmul) -> Result<(), Diag> {
        let src = self.src;
        let constant = crate::graph::constant_f32(src, op.b(src)).filter(|_| has_layer_kernel(src, op));
        let Some(values) = constant else { return self.matmul_computed(op) };
        let s = op.shape(src).map_err(Diag::bug)?;
        let (n, k) = (s.n, s.k);
        let weight = match op.transpose_b(src) {
            true => values,
            false => (0..n * k).map(|i| values[i % k * n + i / k]).collect(),
        };
        let x = self.rows_view(op.a(src))?;
        let (out, quant) = self.real_destination(op.out(src))?;
        let shape = GemmShape { cols: n, channels: k, kh: 1, kw: 1, taps: Taps::Joined { pitch: k } };
        let name = src.name(op.b(src)).unwrap_or("weight").to_string();
        let c = self.float_constants(weight, &name, op.bias(src), &shape, 1)?;
        let call = float_call("gemm_f32", quant, [op.min(src), op.max(src)]).set("seg_x", 1).set("k", k);
        let sizes = (shape.panel_bytes_f32(0), shape.bytes_f32());
        let elem = out.elem;
        self.product(call, &x, &out, None, &c, (n, k), sizes, elem)
    }

    /// A view whose last dim is contiguous.
    fn rows_view(&mut self, v: ValueId) -> Result<View, Diag> {
        let view = self.view(v)?;
        let last = view.strides.last().copied().unwrap_or(view.elem_bytes());
        if last == view.elem_bytes() || view.dims.last() == Some(&1) {
            return Ok(view);
        }
        let copy = self.fresh("rows", &view.dims, view.elem, [0; 4], 0)?;
        let copy = View { strides: super::view::row_major(&view.dims, view.elem), ..copy };
        self.copy(&view, &copy)?;
        Ok(copy)
    }

    fn product(
        &mut self,
        call: Call,
        x: &View,
        out: &View,
        res: Option<&View>,
        c: &Constants,
        (n, k): (usize, usize),
        (panel_bytes, group_bytes): (usize, usize),
        out_elem: Elem,
    ) -> Result<(), Diag> {
        // A kernel writes rows of columns; a result that lies channels-last gets them from there.
        let rank = x.dims.len();
        if out.dims[rank - 1] > 1 && out.strides[rank - 1] != out.elem_bytes() {
            let fresh = self.fresh("product", &out.dims, out.elem, [0; 4], 0)?;
            let rows = View { strides: super::view::row_major(&out.dims, out.elem), ..fresh };
            self.product(call, x, &rows, res, c, (n, k), (panel_bytes, group_bytes), out_elem)?;
            return self.copy(&rows, out);
        }
        let lead =
            |v: &View| View { dims: v.dims[..rank - 1].to_vec(), strides: v.strides[..rank - 1].to_vec(), ..v.clone() };
        let (a, o) = (lead(x), lead(out));
        let r = res.map_or_else(|| o.clone(), lead);
        let [rows, outer, images] = pixel_loops(levels(&a.dims.clone(), &[&a, &o, &r], 1));
        let mut call = call.set("seg_y", 1).view("a", x, &[]).pointer("w", c.weight, 0, &[]);
        call = call.pointer("bias", c.bias, 0, &[]);
        if let Some(scale) = c.scale {
            call = call.pointer("scale", scale, 0, &[]);
        }
        call = call.view("out", out, &[]);
        if let Some(res) = res {
            call = call.view("res", res, &[]);
        }
        let macs = a.elements() * n * k;
        let gemm = Gemm {
            call: strided(call, rows, outer, res.is_some()),
            has_scale: c.scale.is_some(),
            has_res: res.is_some(),
            rows,
            outer,
            images,
            groups: Stride::ONE,
            cols: n,
            panel_bytes,
            group_bytes,
            out_bytes: bytes_of(out_elem) as i64,
            res_bytes: r.elem_bytes(),
            macs,
        };
        gemm.emit(self.emit())
    }
}

/// Whether a float product has the form of a layer: a constant right side, of which the packer makes panels.
pub fn has_layer_kernel(m: &Module, op: Matmul) -> bool {
    crate::graph::constant(m, op.b(m)).is_some_and(|b| b.as_f32().is_some())
        && m.dims(op.b(m)).len() == 2
        && !op.transpose_a(m)
        && op.bias(m).is_none_or(|b| crate::graph::constant(m, b).is_some())
}

/// A call of a float kernel with an activation, whose result is stored in a format, if there is one.
pub fn float_call(family: &str, quant: Option<Quant>, [lo, hi]: [f64; 2]) -> Call {
    let variant = if quant.is_some() { "u8" } else { "f32" };
    let call = Call::new(&format!("{family}.{variant}")).set("clamp_lo", lo as f32).set("clamp_hi", hi as f32);
    stored_as(call, quant)
}

/// Sets the stride fields of a matrix kernel.
pub fn strided(call: Call, rows: Stride, outer: Stride, has_res: bool) -> Call {
    let call = call.set("a_row", rows.a).set("a_outer", outer.a).set("out_row", rows.out).set("out_outer", outer.out);
    if has_res { call.set("res_row", rows.res).set("res_outer", outer.res) } else { call }
}
