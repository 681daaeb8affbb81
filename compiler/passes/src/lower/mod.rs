//! Lowers tensors to buffers and ops to steps of kernel calls.
//!
//! before  %y = quant.conv2d(%x, %w, %b) {pads = [1, 1, 1, 1], to = !q1}
//! after   %xb = loop.alloc() {layout = "channels-last", padding = [1, 1, 1, 1]}
//!           : buf<1x64x56x56xu8, [215296, 1, 3712, 64], 3776, 215296>
//!         loop.parallel() {tasks = 56} do (%begin : index, %end : index) {
//!           .. loop.ukernel(%xb, %wp, %bias, %scale, %yb, ..) {kernel = "gemm.u8", ..} .. }
//!
//! A lowering is ordinary code: one function per kind of op, `rules.rs` says which. How each tensor lies is decided before,
//! by `layout.rs`, and nothing else in the compiler knows; `view.rs` does the arithmetic of strides, `copies.rs` makes the copies
//! for readers that need another layout, `watch.rs` says where results lie when nobody takes them away, `call.rs` is what kernel calls are made of, `emit.rs` builds steps, `matrix.rs` those
//! of the matrix kernels, `grain.rs` says how they are cut.

mod along;
mod batch_matmul;
pub mod call;
mod chain;
mod choose;
mod conv;
pub mod conversions;
mod copies;
mod dynamic;
mod dynamic_conv;
mod elementwise;
pub mod emit;
mod gate;
mod gather;
mod grain;
mod joined;
mod layout;
mod linear;
mod matmul;
mod matrix;
mod movement;
mod nms;
mod norm;
mod pool;
mod reduce;
mod repeat;
mod rules;
mod scalar;
mod scan;
mod stored;
pub mod view;
mod watch;
mod wide;

use emit::Emit;
use layout::{Layout, Layouts, Root};
use qc_dialects::quant::Over;
use qc_dialects::{loops, phase};
use qc_ir::{
    Attr, Attrs, Builder, Data, Deadline, Diag, Elem, HostTensor, Insert, Keeps, LocId, Module, Pass, PassCx, Quant,
    RegionId, TensorTy, Type, ValueId,
};
use std::collections::HashMap;
use std::sync::Arc;
use view::{Base, View};

/// The option of the pass that leaves results where they lie: `loop.watch` says where, behind the step that makes them. The program
/// has no outputs then.
pub const WATCH: &str = "watch";

/// What becomes of the results of the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Results {
    /// They go to the caller's memory.
    Copied,
    /// They stay where they lie, until the next op.
    Watched,
}

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
    out.consts.memo = m.consts.memo.clone();
    out.locs = m.locs.clone();
    let (buffers, dynamic, outputs, loc) = (HashMap::new(), HashMap::new(), Vec::new(), m.locs.unknown());
    let results = if cx.flag(WATCH) { Results::Watched } else { Results::Copied };
    let (place, checks, deadline, repeated) = (Layouts::of(m, results), Vec::new(), cx.deadline, None);
    let mut lower = Lower { src: m, place, out, buffers, dynamic, outputs, results, checks, loc, deadline, repeated };
    lower.signature()?;
    lower.region(m.body())?;
    lower.results()?;
    lower.checks()?;
    *m = lower.out;
    Ok(())
}

/// The state of the lowering: the tensor module, how its tensors lie, the loop module, and the buffers in it so far.
struct Lower<'s> {
    src: &'s Module,
    place: Layouts,
    out: Module,
    /// By the tensor that is the root of what lies there.
    buffers: HashMap<ValueId, Base>,
    /// Tensors in formats of a run so far.
    dynamic: HashMap<(ValueId, Over), dynamic::Quantized>,
    outputs: Vec<ValueId>,
    results: Results,
    checks: Vec<gather::Noted>,
    loc: LocId,
    deadline: Option<Deadline>,
    /// The loop that ops are lowered into, if it is not the program itself.
    repeated: Option<scan::Repeated>,
}

impl Lower<'_> {
    /// Lowers the ops of a region.
    fn region(&mut self, region: RegionId) -> Result<(), Diag> {
        let src = self.src;
        for &op in src.ops(region) {
            self.deadline.map_or(Ok(()), |d| d.check()).map_err(|e| Diag::limit(&e))?;
            self.loc = src.loc(op);
            self.op(op).map_err(|d| if d.loc.is_none() { d.at(src.loc(op)) } else { d })?;
            if self.results == Results::Watched {
                self.watch(op)?;
            }
        }
        Ok(())
    }

    /// The main function: inputs, then outputs unless results are watched, all row-major.
    fn signature(&mut self) -> Result<(), Diag> {
        let src = self.src;
        let func = src.main().ok_or_else(|| Diag::bug("the module has no function"))?;
        let inputs: Vec<ValueId> = src.args(func.body).to_vec();
        let (name, (outputs, returns)) = (
            func.name.clone(),
            match self.results {
                Results::Copied => (func.outputs.clone(), src.returns(func.body)),
                Results::Watched => Default::default(),
            },
        );
        let values: Vec<ValueId> = inputs.iter().chain(returns).copied().collect();
        let types: Vec<Type> = values
            .iter()
            .map(|&v| {
                let t = src.tensor_ty(v);
                Type::Buffer(Layout::Rows.buffer(src.storage(t.elem), &t.dims))
            })
            .collect();
        let f = self.out.add_func(&name, &types);
        self.out.func_mut(f).outputs = outputs.clone();
        let args = self.out.args(self.out.body()).to_vec();
        for (i, (&v, &arg)) in values.iter().zip(&args).enumerate() {
            match i.checked_sub(inputs.len()) {
                None => {
                    self.out.set_name(arg, src.name(v).unwrap_or("input"));
                    self.buffers.insert(v, arg.into());
                }
                Some(n) => {
                    self.out.set_name(arg, &format!("out.{}", outputs.get(n).map_or("", |n| n)));
                    self.outputs.push(arg);
                }
            }
        }
        Ok(())
    }

    /// The view of a whole buffer value.
    fn whole(&self, buf: ValueId) -> View {
        let b = self.out.ty(buf).buffer().expect("invariant: a buffer value has a buffer type");
        View::whole(buf, b, [0; 4])
    }

    fn emit(&mut self) -> Emit<'_> {
        let emit = match self.repeated {
            Some(r) => Emit::new(&mut self.out, r.region, self.loc).within_a_step(r.index),
            None => {
                let body = self.out.body();
                Emit::new(&mut self.out, body, self.loc)
            }
        };
        emit.until(self.deadline)
    }

    /// A builder of buffers, which are declared outside of steps.
    fn outside(&mut self) -> Builder<'_> {
        let at = match &self.repeated {
            Some(repeated) => Insert::Before(repeated.step),
            None => Insert::End(self.out.body()),
        };
        Builder { m: &mut self.out, at, loc: self.loc }
    }

    /// Where a tensor lies; constants are laid down at their first use.
    fn view(&mut self, v: ValueId) -> Result<View, Diag> {
        let view = self.place.view(v).ok_or_else(|| Diag::bug("a tensor without memory is read"))?.clone();
        let Root(root) = view.buf;
        let base = match self.buffers.get(&root) {
            Some(base) => base.clone(),
            None => self.constant(root)?.into(),
        };
        Ok(view.of_buffer(&base))
    }

    /// Lays down a constant.
    fn constant(&mut self, v: ValueId) -> Result<ValueId, Diag> {
        let tensor =
            crate::graph::constant(self.src, v).ok_or_else(|| Diag::bug("a tensor is read before it is written"))?;
        let name = self.src.name(v).unwrap_or("const").to_string();
        let tensor = match self.place.layout(v) {
            Layout::ChannelsLast { .. } => {
                self.out.consts.memo.one("channels last", &tensor, || channels_last_tensor(&tensor))
            }
            _ => tensor,
        };
        let buf = self.shared_data(&name, tensor, vec![])?;
        self.buffers.insert(v, buf.into());
        Ok(buf)
    }

    /// Constant memory.
    fn data(&mut self, name: &str, tensor: HostTensor, pack: Vec<(Box<str>, Attr)>) -> Result<ValueId, Diag> {
        let tensor = self.out.consts.memo.kept(tensor);
        self.shared_data(name, tensor, pack)
    }

    /// As [`Lower::data`], of a tensor that other programs may have as well.
    fn shared_data(
        &mut self,
        name: &str,
        tensor: Arc<HostTensor>,
        pack: Vec<(Box<str>, Attr)>,
    ) -> Result<ValueId, Diag> {
        let elem = tensor.data().elem();
        let ty = Type::Buffer(Layout::Rows.buffer(elem, tensor.dims()));
        let c = self.out.consts.add(name, TensorTy::new(elem, tensor.dims()), tensor);
        let mut attrs = Attrs::new().with("value", c);
        if !pack.is_empty() {
            attrs.set("pack", Attr::Fields(pack));
        }
        let op = self.outside().create_with(loops::ConstBuffer::DEF, &[], attrs, vec![ty], &[])?;
        let v = self.out.result(op);
        self.out.set_name(v, name);
        Ok(v)
    }

    /// A new buffer of the arena, in a layout of its own. Its padding is not filled.
    fn alloc(&mut self, name: &str, elem: Elem, dims: &[usize], layout: Layout) -> Result<View, Diag> {
        self.alloc_with(name, elem, dims, layout, layout_attrs(layout))
    }

    /// As [`Lower::alloc`], with what the dump says of it.
    fn alloc_with(
        &mut self,
        name: &str,
        elem: Elem,
        dims: &[usize],
        layout: Layout,
        attrs: Attrs,
    ) -> Result<View, Diag> {
        let ty = layout.buffer(elem, dims);
        let op = self.outside().create_with(loops::Alloc::DEF, &[], attrs, vec![Type::Buffer(ty.clone())], &[])?;
        let v = self.out.result(op);
        self.out.set_name(v, name);
        Ok(View::whole(v, &ty, layout.padding()))
    }

    /// The stored integer that stands for 0 in a tensor.
    fn zero_of(&self, v: ValueId) -> i32 {
        self.src.quant_of(v).map_or(0, |q| q.zero(0))
    }

    /// Where an op is to write its result `v`; the buffer is made with the first part of it.
    fn destination(&mut self, v: ValueId) -> Result<View, Diag> {
        let view = self.place.view(v).ok_or_else(|| Diag::bug("a tensor without memory is written"))?.clone();
        let Root(root) = view.buf;
        let base = match (self.buffers.get(&root), self.place.layout(root)) {
            (Some(base), _) => base.clone(),
            (None, Layout::Output(i)) => self.outputs[i].into(),
            (None, layout) => self.own_buffer(root, layout)?.into(),
        };
        let view = view.of_buffer(&base);
        self.buffers.insert(root, base);
        Ok(view)
    }

    /// The buffer of a tensor that is a root, its padding filled.
    fn own_buffer(&mut self, v: ValueId, layout: Layout) -> Result<ValueId, Diag> {
        let src = self.src;
        let (t, name) = (src.tensor_ty(v), src.name(v).unwrap_or("t"));
        let parts: Vec<Attr> = self.place.parts(src, v).into_iter().map(|part| part.map(|n| n as i64).into()).collect();
        let mut attrs = layout_attrs(layout);
        if !parts.is_empty() {
            attrs.set("parts", Attr::List(parts));
        }
        let view = self.alloc_with(name, src.storage(t.elem), &t.dims, layout, attrs)?;
        self.fill_padding(&view, self.zero_of(v))?;
        Ok(view.buf)
    }

    /// Where a float op that can quantize writes its result `v`: as real numbers, or in the format of the quantization
    /// behind it.
    fn real_destination(&mut self, v: ValueId) -> Result<(View, Option<Quant>), Diag> {
        let stored = self.place.stored(v).unwrap_or(v);
        Ok((self.destination(stored)?, self.src.quant_of(stored).cloned()))
    }

    /// Copies what was not written in place into the caller's outputs.
    fn results(&mut self) -> Result<(), Diag> {
        if self.results == Results::Watched {
            return Ok(());
        }
        for (i, &v) in self.src.returns(self.src.body()).iter().enumerate() {
            if self.place.layout(v) != Layout::Output(i) {
                let (from, to) = (self.view(v)?, self.whole(self.outputs[i]));
                self.copy(&from, &to)?;
            }
        }
        Ok(())
    }
}

/// What `loop.alloc` says of a layout.
fn layout_attrs(layout: Layout) -> Attrs {
    let mut attrs = Attrs::new();
    if let Layout::ChannelsLast { padding } = layout {
        attrs.set("layout", Attr::from("channels-last"));
        if padding != [0; 4] {
            attrs.set("padding", padding.map(|p| p as i64).into());
        }
    }
    attrs
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
