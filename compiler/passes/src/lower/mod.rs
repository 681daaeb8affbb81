//! Lowers tensors to buffers and ops to steps of kernel calls.
//!
//! before  %y = quant.conv2d(%x, %w, %b) {pads = [1, 1, 1, 1], to = !q1}
//! after   %xb = loop.alloc() : buf<1x64x56x56xu8, [215296, 1, 3712, 64], 3776, 215296>
//!         loop.parallel() {tasks = 56} do (%begin : index, %end : index) {
//!           .. loop.ukernel(%xb, %wp, %bias, %scale, %yb, ..) {kernel = "gemm.u8", ..} .. }
//!
//! A lowering is ordinary code: one function per kind of op, `rules.rs` says which. Rank-4 tensors lie channels-last,
//! others row-major; `place.rs` decides padding and sharing, `view.rs` does the arithmetic of strides, `call.rs` is what
//! kernel calls are made of, `emit.rs` builds steps, `matrix.rs` those of the matrix kernels, `grain.rs` says how they are cut. Nothing else in the compiler knows how a tensor lies in memory.

pub mod call;
mod conv;
pub mod conversions;
mod elementwise;
pub mod emit;
mod grain;
mod linear;
mod matmul;
mod matrix;
mod movement;
mod norm;
mod place;
mod pool;
mod reduce;
mod rules;
mod scalar;
pub mod view;
mod wide;

use call::At;
use emit::Emit;
use place::Placement;
use qc_dialects::{graph, loops, phase};
use qc_ir::{
    Attr, Attrs, BufferTy, Builder, Data, Deadline, Diag, Elem, HostTensor, Keeps, LocId, Module, OpId, Pass, PassCx,
    Quant, TensorTy, Traits, Type, ValueId,
};
use qc_kernels::Variant;
use qc_kernels::args::{FillCall, FillMore};
use std::collections::HashMap;
use std::sync::Arc;
use view::{View, bytes_of, channels_last, row_major};

/// The pass.
pub const PASS: Pass = Pass {
    name: "lower-to-loops",
    summary: "turns tensors into buffers and ops into steps of kernel calls",
    from: phase::FUSED,
    to: phase::LOOPS,
    keeps: Keeps::F32Rounding(1e-4),
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    let mut out = Module::new(m.name.clone(), phase::LOOPS);
    out.locs = m.locs.clone();
    let place = Placement::of(m);
    let (views, outputs, loc) = (HashMap::new(), Vec::new(), m.locs.unknown());
    let mut lower = Lower { src: m, place, out, views, outputs, loc, deadline: cx.deadline };
    lower.signature()?;
    for &op in m.ops(m.body()) {
        cx.check_time()?;
        lower.loc = m.loc(op);
        lower.op(op).map_err(|d| if d.loc.is_none() { d.at(m.loc(op)) } else { d })?;
    }
    lower.results()?;
    *m = lower.out;
    Ok(())
}

/// The state of the lowering: the tensor module, the loop module, and where each tensor lies.
struct Lower<'s> {
    src: &'s Module,
    place: Placement,
    out: Module,
    views: HashMap<ValueId, View>,
    outputs: Vec<View>,
    loc: LocId,
    deadline: Option<Deadline>,
}

impl Lower<'_> {
    /// The main function: inputs, then outputs, all row-major.
    fn signature(&mut self) -> Result<(), Diag> {
        let src = self.src;
        let func = src.main().ok_or_else(|| Diag::bug("the module has no function"))?;
        let (name, outputs) = (func.name.clone(), func.outputs.clone());
        let inputs: Vec<ValueId> = src.args(func.body).to_vec();
        let values: Vec<ValueId> = inputs.iter().chain(src.returns(func.body)).copied().collect();
        let types: Vec<Type> = values
            .iter()
            .map(|&v| {
                let t = src.tensor_ty(v);
                Type::Buffer(plain_buffer(src.storage(t.elem), &t.dims))
            })
            .collect();
        let f = self.out.add_func(&name, &types);
        self.out.func_mut(f).outputs = outputs.clone();
        let args = self.out.args(self.out.body()).to_vec();
        for (i, (&v, &arg)) in values.iter().zip(&args).enumerate() {
            let view = self.whole(arg);
            match i.checked_sub(inputs.len()) {
                None => {
                    self.out.set_name(arg, src.name(v).unwrap_or("input"));
                    self.views.insert(v, view);
                }
                Some(n) => {
                    self.out.set_name(arg, &format!("out.{}", outputs.get(n).map_or("", |n| n)));
                    self.outputs.push(view);
                }
            }
        }
        Ok(())
    }

    /// The view of a whole buffer value.
    fn whole(&self, buf: ValueId) -> View {
        let b = self.out.ty(buf).buffer().expect("invariant: a buffer value has a buffer type");
        View {
            buf,
            offset: 0,
            dims: b.dims.to_vec(),
            strides: b.strides.iter().map(|&s| s as i64).collect(),
            elem: b.elem,
            padding: [0; 4],
        }
    }

    fn emit(&mut self) -> Emit<'_> {
        let body = self.out.body();
        Emit::new(&mut self.out, body, self.loc).until(self.deadline)
    }

    /// A result that is its operand.
    fn alias(&mut self, op: OpId) -> Result<(), Diag> {
        let x = self.src.operand(op, 0).ok_or_else(|| Diag::bug("no operand"))?;
        let view = self.view(x)?;
        self.views.insert(self.src.result(op), view);
        Ok(())
    }

    /// Where a tensor lies; constants are laid down at their first use.
    fn view(&mut self, v: ValueId) -> Result<View, Diag> {
        if let Some(view) = self.views.get(&v) {
            return Ok(view.clone());
        }
        let tensor = crate::graph::constant(self.src, v).ok_or_else(|| Diag::bug("a tensor has no place yet"))?;
        let (name, dims) = (self.src.name(v).unwrap_or("const").to_string(), tensor.dims().to_vec());
        let view = match dims[..] {
            [_, c, h, w] if c > 1 && h * w > 1 => {
                let strides = channels_last(c, [h, w], tensor.data().elem());
                let buf = self.data(&name, channels_last_tensor(&tensor), vec![])?;
                View { dims, strides, ..self.whole(buf) }
            }
            _ => {
                let buf = self.data(&name, (*tensor).clone(), vec![])?;
                self.whole(buf)
            }
        };
        self.views.insert(v, view.clone());
        Ok(view)
    }

    /// Constant memory.
    fn data(&mut self, name: &str, tensor: HostTensor, pack: Vec<(Box<str>, Attr)>) -> Result<ValueId, Diag> {
        let elem = tensor.data().elem();
        let ty = Type::Buffer(plain_buffer(elem, tensor.dims()));
        let c = self.out.consts.add(name, TensorTy::new(elem, tensor.dims()), Arc::new(tensor));
        let mut attrs = Attrs::new().with("value", c);
        if !pack.is_empty() {
            attrs.set("pack", Attr::Fields(pack));
        }
        let body = self.out.body();
        let mut b = Builder::at_end(&mut self.out, body);
        b.loc = self.loc;
        let op = b.create_with(loops::ConstBuffer::DEF, &[], attrs, vec![ty], &[])?;
        let v = self.out.result(op);
        self.out.set_name(v, name);
        Ok(v)
    }

    /// A new buffer of the arena.
    fn alloc(&mut self, name: &str, ty: BufferTy, padding: [usize; 4]) -> Result<View, Diag> {
        let body = self.out.body();
        let mut b = Builder::at_end(&mut self.out, body);
        b.loc = self.loc;
        let op = b.create_with(loops::Alloc::DEF, &[], Attrs::new(), vec![Type::Buffer(ty)], &[])?;
        let v = self.out.result(op);
        self.out.set_name(v, name);
        Ok(View { padding, ..self.whole(v) })
    }

    /// A new buffer for a tensor, with its padding filled with `zero`.
    fn fresh(&mut self, name: &str, dims: &[usize], elem: Elem, padding: [usize; 4], zero: i32) -> Result<View, Diag> {
        let [n, c, h, w] = dims[..] else {
            return self.alloc(name, plain_buffer(elem, dims), [0; 4]);
        };
        let [top, left, bottom, right] = padding;
        let padded = [top + h + bottom, left + w + right];
        let strides: Vec<usize> = channels_last(c, padded, elem).into_iter().map(|s| s as usize).collect();
        let origin = top * strides[2] + left * strides[3];
        let bytes = n * strides[0];
        let view =
            self.alloc(name, BufferTy { elem, dims: dims.into(), strides: strides.into(), origin, bytes }, padding)?;
        if padding != [0; 4] {
            self.fill_padding(&view, zero)?;
        }
        Ok(view)
    }

    /// Fills the padding of a new buffer: what lies before the first pixel, between rows, and behind the last pixel.
    fn fill_padding(&mut self, v: &View, zero: i32) -> Result<(), Diag> {
        let [top, left, bottom, right] = v.padding.map(|b| b as i64);
        let (n, h) = (v.dims[0], v.dims[2] as i64);
        let (image, row, pixel) = (v.strides[0], v.strides[2], v.strides[3]);
        let width = v.dims[3] as i64 * pixel;
        let e = v.elem_bytes();
        let variant = if e == 1 { Variant::B1 } else { Variant::B4 };
        let call = |start: i64, bytes: i64, rows: i64| FillCall {
            variant,
            dst: At::from(v).plus(start),
            n: (bytes / e).into(),
            rows: rows.into(),
            outer: n.into(),
            more: FillMore { row_stride: row.into(), outer_stride: image.into(), value: zero },
        };
        let runs = [
            (-(top * row + left * pixel), top * row + left * pixel, 1),
            (width, (left + right) * pixel, h - 1),
            ((h - 1) * row + width, right * pixel + bottom * row, 1),
        ];
        self.emit().step(1, |e, _, _| {
            for (start, bytes, rows) in runs {
                if bytes > 0 && rows > 0 {
                    e.call(&call(start, bytes, rows))?;
                }
            }
            Ok(())
        })
    }

    /// The stored integer that stands for 0 in a tensor.
    fn zero_of(&self, v: ValueId) -> i32 {
        self.src.quant_of(v).map_or(0, |q| q.zero(0))
    }

    /// Where an op is to write its result `v`.
    fn destination(&mut self, v: ValueId) -> Result<View, Diag> {
        // Parts may be nested as deep as the model is long, so no recursion.
        let (mut parts, mut at) = (Vec::new(), v);
        while let Some(part) = self.place.part(at).filter(|_| !self.views.contains_key(&at)) {
            parts.push((at, part));
            at = part.whole;
        }
        let mut view = self.whole_destination(at)?;
        for (v, part) in parts.into_iter().rev() {
            view = view.narrow(part.axis, part.start, self.src.dims(v)[part.axis], 1);
            self.views.insert(v, view.clone());
        }
        Ok(view)
    }

    /// As [`Lower::destination`], of a tensor that is no part of another.
    fn whole_destination(&mut self, v: ValueId) -> Result<View, Diag> {
        if let Some(view) = self.views.get(&v) {
            return Ok(view.clone());
        }
        let t = self.src.tensor_ty(v).clone();
        let view = if let Some(i) = self.place.output(v) {
            self.outputs[i].clone()
        } else {
            let name = self.src.name(v).unwrap_or("t").to_string();
            let elem = self.src.storage(t.elem);
            let padding = self.place.padding(v);
            match padding == [0; 4] && self.lies_in_rows(v) {
                true => self.alloc(&name, plain_buffer(elem, &t.dims), padding)?,
                false => self.fresh(&name, &t.dims, elem, padding, self.zero_of(v))?,
            }
        };
        self.views.insert(v, view.clone());
        Ok(view)
    }

    /// Whether a tensor is better row-major, whatever its rank: matrices of a product, and what is computed from them
    /// element by element or along rows.
    fn lies_in_rows(&self, v: ValueId) -> bool {
        let Some(op) = self.src.producer(v) else { return false };
        if self.src.is(op, graph::Matmul::DEF) {
            return true;
        }
        let along = [graph::Quantize::DEF, graph::Dequantize::DEF, graph::Softmax::DEF];
        let follows = self.src.def(op).traits.has(Traits::ELEMENTWISE) || along.iter().any(|d| self.src.is(op, d));
        let Some(x) = self.src.operand(op, 0).filter(|_| follows) else { return false };
        let x = self.place.read(x).unwrap_or(x);
        match self.views.get(&x) {
            // Inputs are in rows whatever reads them.
            Some(_) if self.src.producer(x).is_none() => false,
            Some(view) => !view.is_channels_last() && view.strides == row_major(&view.dims, view.elem),
            None => self.place.stored(x) == Some(v) && self.lies_in_rows(x),
        }
    }

    /// Where a float op that can quantize writes its result `v`: as real numbers, or in the format of the quantization
    /// behind it.
    fn real_destination(&mut self, v: ValueId) -> Result<(View, Option<Quant>), Diag> {
        let stored = self.place.stored(v).unwrap_or(v);
        Ok((self.destination(stored)?, self.src.quant_of(stored).cloned()))
    }

    /// Copies what was not written in place into the caller's outputs.
    fn results(&mut self) -> Result<(), Diag> {
        for (i, &v) in self.src.returns(self.src.body()).iter().enumerate() {
            if self.place.output(v) != Some(i) {
                let (from, to) = (self.view(v)?, self.outputs[i].clone());
                self.copy(&from, &to)?;
            }
        }
        Ok(())
    }

    /// `v` channels-last with at least this padding: itself, or a copy.
    fn channels_last_view(&mut self, v: ValueId, padding: [usize; 4]) -> Result<View, Diag> {
        let view = self.view(v)?;
        let enough = view.padding.iter().zip(padding).all(|(have, need)| *have >= need);
        if view.is_channels_last() && enough {
            return Ok(view);
        }
        let (name, zero) = (self.src.name(v).unwrap_or("t").to_string(), self.zero_of(v));
        let copy = self.fresh(&format!("{name}.nhwc"), &view.dims, view.elem, padding, zero)?;
        self.copy(&view, &copy)?;
        Ok(copy)
    }
}

/// A row-major buffer without padding.
fn plain_buffer(elem: Elem, dims: &[usize]) -> BufferTy {
    let strides: Box<[usize]> = row_major(dims, elem).into_iter().map(|s| s as usize).collect();
    let bytes = dims.iter().product::<usize>() * bytes_of(elem);
    BufferTy { elem, dims: dims.into(), strides, origin: 0, bytes }
}

/// The elements of a rank-4 NCHW tensor in channels-last order.
fn channels_last_tensor(t: &HostTensor) -> HostTensor {
    fn permute<T: Copy>(v: &[T], [n, c, h, w]: [usize; 4]) -> Vec<T> {
        let mut out = Vec::with_capacity(v.len());
        for (b, p) in (0..n).flat_map(|b| (0..h * w).map(move |p| (b, p))) {
            out.extend((0..c).map(|k| v[(b * c + k) * h * w + p]));
        }
        out
    }
    let dims: [usize; 4] = t.dims().try_into().expect("invariant: the caller checked the rank");
    let data = match t.data() {
        Data::F32(v) => Data::F32(permute(v, dims)),
        Data::I8(v) => Data::I8(permute(v, dims)),
        Data::U8(v) => Data::U8(permute(v, dims)),
        Data::I32(v) => Data::I32(permute(v, dims)),
        Data::I64(v) => Data::I64(permute(v, dims)),
        Data::Bool(v) => Data::Bool(permute(v, dims)),
    };
    HostTensor::new(dims.to_vec(), data).expect("invariant: as many elements as before")
}
