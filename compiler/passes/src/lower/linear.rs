//! Matrix products with constant weights, and what they share with convolutions: constants, calls of the matrix kernels.

use super::Lower;
use super::call::{At, Code};
use super::elementwise::Stored;
use super::gate::Gate;
use super::matrix::{Loop, Panel, Pixels, Rhs, Rows, Sweep, pixel_loops};
use super::view::{View, levels};
use super::wide::{Weights, of_run};
use qc_dialects::quant::compute::Epilogue;
use qc_dialects::{graph::Matmul, quant::QMatmul};
use qc_ir::{Attr, Diag, HostTensor, Module, ValueId};
use qc_kernels::Variant;
use qc_kernels::args::{GemmCall, GemmF32Call, GemmF32More, GemmMore, KernelCall};
use qc_kernels::pack::{GemmShape, PANEL, Taps, pad16, round64};
use std::sync::Arc;

/// The sum of one output: runs of contiguous elements of the left side.
#[derive(Clone, Copy, Debug)]
pub struct Segments {
    /// Segments in y.
    pub y: usize,
    /// Bytes between them.
    pub y_stride: i64,
    /// Segments in x.
    pub x: usize,
    /// Bytes between them.
    pub x_stride: i64,
    /// Length of one: in groups of four for integer kernels, else in elements.
    pub k: usize,
}

impl Segments {
    /// `x` segments of `k` at the same place.
    pub fn repeated(x: usize, k: usize) -> Segments {
        Segments { y: 1, y_stride: 0, x, x_stride: 0, k }
    }
}

/// Packed weights and per-column constants.
pub struct Constants {
    pub weight: ValueId,
    pub bias: ValueId,
    pub scale: Option<ValueId>,
    pub addend: Option<ValueId>,
    /// Bytes of a full panel of weights, and of those of a group.
    pub panel_bytes: usize,
    pub group_bytes: usize,
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

/// The bounds of an integer result, by the depthwise kernel as well: its zero point, lowest and highest value.
pub fn bounds_u8(e: &Epilogue) -> (f32, i32, i32) {
    e.out.as_ref().map_or((0.0, 0, 0), |q| (q.zero(0) as f32, e.lo, e.hi))
}

/// A call of the integer matrix kernel.
pub fn integer_call(e: &Epilogue, s: &Segments, p: Panel) -> GemmCall<Code> {
    let variant = match (&e.out, e.residual) {
        (None, _) => Variant::F32,
        (Some(_), None) => Variant::U8,
        (Some(_), Some(_)) => Variant::U8Res,
    };
    let clamp = match (&e.out, e.residual) {
        (None, _) => Some([e.min, e.max]),
        (Some(_), r) => r.map(|r| [r.min, r.max]),
    };
    let (zero, lo, hi) = bounds_u8(e);
    let (res_row, res_outer) = p.res.as_ref().map_or((0, 0), |r| (r.row, r.outer));
    let added = e.residual.filter(|_| variant == Variant::U8Res);
    let more = GemmMore {
        scale: p.scale,
        addend: p.addend,
        col_sum: None,
        res: p.res.map(|r| r.at),
        lut: None,
        row_bias: p.row_bias,
        row_bias_outer: 0usize.into(),
        a_row: p.a.row.into(),
        a_outer: p.a.outer.into(),
        out_row: p.out.row.into(),
        out_outer: p.out.outer.into(),
        res_row: res_row.into(),
        res_outer: res_outer.into(),
        seg_y_stride: s.y_stride.into(),
        seg_x_stride: s.x_stride.into(),
        res_scale: added.map(|r| r.scale),
        res_offset: added.map_or(0.0, |r| r.offset),
        zero,
        lo,
        hi: e.out.is_some().then_some(hi),
        clamp_lo: clamp.map(|c| c[0]),
        clamp_hi: clamp.map(|c| c[1]),
    };
    let (seg_y, seg_x, k4) = (s.y.into(), s.x.into(), s.k.into());
    let (rows, outer, cols) = (p.rows, p.outer, p.cols);
    let (a, w, bias, out) = (p.a.at, p.w, p.bias, p.out.at);
    GemmCall { variant, a, w, bias, out, seg_y, seg_x, k4, rows, outer, cols, more }
}

/// A call of the integer matrix kernel that leaves accumulators as they are.
pub fn accumulator_call(s: &Segments, p: Panel) -> GemmCall<Code> {
    let more = GemmMore {
        a_row: p.a.row.into(),
        a_outer: p.a.outer.into(),
        out_row: p.out.row.into(),
        out_outer: p.out.outer.into(),
        seg_y_stride: s.y_stride.into(),
        seg_x_stride: s.x_stride.into(),
        ..GemmMore::default()
    };
    let (seg_y, seg_x, k4) = (s.y.into(), s.x.into(), s.k.into());
    let (rows, outer, cols) = (p.rows, p.outer, p.cols);
    let (a, w, bias, out) = (p.a.at, p.w, p.bias, p.out.at);
    GemmCall { variant: Variant::I32, a, w, bias, out, seg_y, seg_x, k4, rows, outer, cols, more }
}

/// What becomes of the sums of a float kernel.
#[derive(Clone, Debug)]
pub struct Finish {
    pub stored: Stored,
    /// Lowest and highest result.
    pub clamp: [f32; 2],
    pub gate: Gate,
}

impl Finish {
    /// Without a gate.
    pub fn plain(stored: Stored, clamp: [f32; 2]) -> Finish {
        Finish { stored, clamp, gate: Gate::NONE }
    }
}

/// A call of the float matrix kernel, with an activation.
pub fn float_call(to: &Finish, s: &Segments, p: Panel) -> GemmF32Call<Code> {
    let (stored, [clamp_lo, clamp_hi]) = (to.stored, to.clamp);
    let ([gate_offset, gate_bound, gate_factor], [post_factor, post_addend]) = (to.gate.swish, to.gate.post);
    // A factor per column is that of weights that are stored as bytes.
    let variant = if p.scale.is_some() { Variant::F32Bytes } else { stored.variant() };
    let (res_row, res_outer) = p.res.as_ref().map_or((0, 0), |r| (r.row, r.outer));
    let more = GemmF32More {
        w_scale: p.scale,
        res: p.res.map(|r| r.at),
        a_row: p.a.row.into(),
        a_outer: p.a.outer.into(),
        out_row: p.out.row.into(),
        out_outer: p.out.outer.into(),
        res_row: res_row.into(),
        res_outer: res_outer.into(),
        seg_y_stride: s.y_stride.into(),
        seg_x_stride: s.x_stride.into(),
        gate_factor,
        gate_offset,
        gate_bound,
        post_factor,
        post_addend,
        scale: stored.scale,
        zero: stored.zero,
        lo: stored.lo,
        hi: stored.hi,
    };
    let (seg_y, seg_x, k) = (s.y.into(), s.x.into(), s.k.into());
    let (rows, outer, cols) = (p.rows, p.outer, p.cols);
    let (a, w, bias, out) = (p.a.at, p.w, p.bias, p.out.at);
    GemmF32Call { variant, a, w, bias, out, seg_y, seg_x, k, rows, outer, cols, clamp_lo, clamp_hi, more }
}

/// The operands of a product, as matrices whose rows are all dims but the last.
#[derive(Clone, Copy)]
pub struct Sides<'a> {
    pub x: &'a View,
    pub out: &'a View,
    pub res: Option<&'a View>,
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
        let (bias, scales) = (padded_groups(&w.bias, groups), padded_groups(&e.scales, groups));
        let addend = e.out.is_none().then(|| padded_groups(&w.addend, groups));
        let pack = gemm_pack(shape, groups);
        Ok(Constants {
            weight: self.weight_data(w, parts, shape.kw, pack)?,
            bias: self.data("bias", HostTensor::i32([bias.len()], bias), vec![])?,
            scale: Some(self.data("scale", HostTensor::f32([scales.len()], scales), vec![])?),
            addend: addend.map(|x| self.data("addend", HostTensor::f32([x.len()], x), vec![])).transpose()?,
            panel_bytes: shape.panel_bytes(0),
            group_bytes: round64(shape.bytes()),
        })
    }

    /// Integer weights in `parts`, of windows `kw` wide.
    pub fn weight_data(
        &mut self,
        w: &Weights,
        parts: usize,
        kw: usize,
        pack: Vec<(Box<str>, Attr)>,
    ) -> Result<ValueId, Diag> {
        match w.stored() {
            Some(stored) if parts == 1 => self.shared_data(&w.name, stored.clone(), pack),
            _ => {
                let values = w.in_parts(parts, kw);
                self.data(&w.name, HostTensor::i8([values.len()], values), pack)
            }
        }
    }

    /// Float weights `[o, k..]` and their bias.
    pub fn float_constants(
        &mut self,
        weight: Arc<HostTensor>,
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
            weight: self.shared_data(name, weight, pack)?,
            bias: self.data("bias", HostTensor::f32([bias.len()], bias), vec![])?,
            scale: None,
            addend: None,
            panel_bytes: shape.panel_bytes_f32(0),
            group_bytes: round64(shape.bytes_f32()),
        })
    }

    /// `quant.matmul`.
    pub fn matmul_u8(&mut self, op: QMatmul) -> Result<(), Diag> {
        let src = self.src;
        let e = Epilogue::of(src, op.into()).map_err(Diag::bug)?;
        let x = self.view(op.x(src))?;
        let x = self.rows_view(x)?;
        let out = self.destination(op.out(src))?;
        let res = op.residual(src).map(|r| self.view(r)).transpose()?;
        let res = res.map(|r| self.rows_view(r)).transpose()?;
        let w = Weights::of(src, op.into())?;
        let runs = w.wide_runs(1);
        if runs.first() != Some(&(0..w.channels())) {
            self.columns_u8(&w, &e, 1, Sides { x: &x, out: &out, res: res.as_ref() })?;
        }
        for run in runs {
            let columns = |v: &View| v.narrow(v.dims.len() - 1, run.start, run.len(), 1);
            let (w, e) = (w.of_run(run.clone()), of_run(&e, run.clone()));
            let (out, res) = (columns(&out), res.as_ref().map(columns));
            self.columns_u8(&w, &e, w.parts(), Sides { x: &x, out: &out, res: res.as_ref() })?;
        }
        Ok(())
    }

    /// The output columns of `w`, by weights in `parts`.
    fn columns_u8(&mut self, w: &Weights, e: &Epilogue, parts: usize, sides: Sides<'_>) -> Result<(), Diag> {
        let channels = sides.x.dims.last().copied().unwrap_or(1);
        let taps = Taps::Joined { pitch: channels };
        let shape = GemmShape { cols: w.channels(), channels, kh: parts, kw: 1, taps };
        let c = self.integer_constants(w, e, parts, &shape, 1)?;
        let segments = Segments::repeated(parts, shape.k4());
        self.product(&c, &shape, sides, &|p| integer_call(e, &segments, p))
    }

    /// `graph.matmul`; with a constant right side its panels are packed by the compiler.
    pub fn matmul_f32(&mut self, op: Matmul) -> Result<(), Diag> {
        let src = self.src;
        let constant = crate::graph::constant(src, op.b(src)).filter(|_| has_layer_kernel(src, op));
        let Some(stored) = constant else { return self.matmul_computed(op) };
        let s = op.shape(src).map_err(Diag::bug)?;
        let (n, k) = (s.n, s.k);
        let weight = match op.transpose_b(src) {
            true => stored,
            false => src.consts.memo.one("transpose", &stored, || {
                let values = stored.as_f32().unwrap_or_default();
                HostTensor::f32([n, k], (0..n * k).map(|i| values[i % k * n + i / k]).collect())
            }),
        };
        let x = self.view(op.a(src))?;
        let x = self.rows_view(x)?;
        let (out, quant) = self.real_destination(op.out(src))?;
        let shape = GemmShape { cols: n, channels: k, kh: 1, kw: 1, taps: Taps::Joined { pitch: k } };
        let name = src.name(op.b(src)).unwrap_or("weight").to_string();
        let c = self.float_constants(weight, &name, op.bias(src), &shape, 1)?;
        let clamp = [op.min(src) as f32, op.max(src) as f32];
        let (to, segments) = (Finish::plain(Stored::of(quant.as_ref()), clamp), Segments::repeated(1, k));
        self.product(&c, &shape, Sides { x: &x, out: &out, res: None }, &|p| float_call(&to, &segments, p))
    }

    /// A product with constant weights of `shape`.
    pub fn product<C: KernelCall<Code>>(
        &mut self,
        c: &Constants,
        shape: &GemmShape,
        sides: Sides<'_>,
        call: &dyn Fn(Panel) -> C,
    ) -> Result<(), Diag> {
        let Sides { x, out, res } = sides;
        // A kernel writes rows of columns; a result that lies channels-last gets them from there.
        self.through_rows(out, |lower, out| {
            let lead = |v: &View| {
                let rank = v.dims.len() - 1;
                View { dims: v.dims[..rank].to_vec(), strides: v.strides[..rank].to_vec(), ..v.clone() }
            };
            let (a, o) = (lead(x), lead(out));
            let r = res.map_or_else(|| o.clone(), lead);
            let pixels = pixel_loops(levels(&a.dims, &[&a, &o, &r], 1));
            let at = Operands { a: x.into(), out: out.into(), res: res.map(At::from) };
            // What there is one of per row does not move with columns.
            let of_columns = res.is_none_or(|r| r.dims.last() == out.dims.last());
            let res = if of_columns { r.elem_bytes() } else { 0 };
            let bytes = Bytes { panel: c.panel_bytes, out: out.elem_bytes(), res };
            let macs = a.elements() * shape.cols * shape.channels;
            sweep_of(c, at, pixels, shape.cols, bytes, Loop::ONE, macs).emit(lower.emit(), call)
        })
    }
}

/// The operands of a sweep that move with its pixels.
pub struct Operands {
    /// Left side.
    pub a: At,
    /// Result.
    pub out: At,
    /// What is added.
    pub res: Option<At>,
}

/// Sizes of a sweep.
#[derive(Clone, Copy)]
pub struct Bytes {
    /// A full panel.
    pub panel: usize,
    /// An element of the result.
    pub out: i64,
    /// An element of the residual.
    pub res: i64,
}

impl Bytes {
    /// From one full panel of `cols` columns to the next.
    pub fn panels(&self, cols: usize) -> Loop {
        let columns = PANEL as i64;
        Loop {
            count: cols / PANEL,
            a: 0,
            w: self.panel as i64,
            out: columns * self.out,
            res: columns * self.res,
            columns,
            ..Loop::ONE
        }
    }
}

/// The sweep with constants `c` of `cols` columns per group.
pub fn sweep_of(
    c: &Constants,
    at: Operands,
    pixels: Pixels,
    cols: usize,
    bytes: Bytes,
    groups: Loop,
    macs: usize,
) -> Sweep {
    let Pixels { rows, outer, batch } = pixels;
    let panel = Panel {
        a: Rows { at: at.a, row: rows.a, outer: outer.a },
        w: At::start(c.weight),
        bias: At::start(c.bias),
        scale: c.scale.map(At::start),
        addend: c.addend.map(At::start),
        row_bias: None,
        out: Rows { at: at.out, row: rows.out, outer: outer.out },
        res: at.res.map(|at| Rows { at, row: rows.res, outer: outer.res }),
        rows: rows.count.into(),
        outer: outer.count.into(),
        cols: cols.into(),
    };
    Sweep { panel, rhs: Rhs::Constant, rows, outer, batch, groups, cols, panels: bytes.panels(cols), macs }
}

/// Whether a float product has the form of a layer: a constant right side, of which the packer makes panels.
pub fn has_layer_kernel(m: &Module, op: Matmul) -> bool {
    crate::graph::constant(m, op.b(m)).is_some_and(|b| b.as_f32().is_some())
        && m.dims(op.b(m)).len() == 2
        && !op.transpose_a(m)
        && op.bias(m).is_none_or(|b| crate::graph::constant(m, b).is_some())
}
