//! The loop dialect: buffers, steps, loops, kernel calls, and scalar code for what no kernel covers.
//!
//! A step is a `loop.parallel` in the body of the main function. Its region sees a range of tasks and computes exactly
//! those, in any order, so steps can be split over threads. The main function's arguments are the model's inputs, then
//! its outputs, all row-major.
//!
//! Addresses are affine: an `at` row holds a byte offset and one factor per index operand.

mod extent;
pub mod interp;
mod layout;
pub mod pack;
pub(crate) mod reach;

use qc_ir::{Attr, BufferTy, Elem, Module, OpId, Type, ValueId};
use qc_kernels::args::FieldKind;
use qc_kernels::table::{self, Family, Variant};

qc_ir::ops! { dialect LOOPS = "loop";
    /// A buffer in the arena. `offset` is its place there, -1 before planning. `layout` says how a tensor lies in it:
    /// `rows` is row-major; `channels-last` has the channels of a pixel together, and around each plane `padding` (top, left,
    /// bottom, right) of rows and columns that hold its zero; `panels` is the right side of a product, packed for its kernel.
    /// `parts` are the tensors that are written into this one: axis, first index, count.
    op Alloc = "loop.alloc"() -> (buf) {
        offset: Int = -1i64, layout: Str = "rows", padding: Ints = vec![0i64; 4], parts: List = Vec::<Attr>::new()
    } [NONE] verify(layout::verify);
    /// Constant memory. `pack` says how the constant is to be laid out for a kernel; it is empty once that is done.
    op ConstBuffer = "loop.data"() -> (buf) { value: Const, pack: Fields = Vec::<(Box<str>, Attr)>::new() }
        [PURE] verify(verify_data);
    /// A step: the region runs tasks `begin..end` of `0..tasks`, any split of which gives the same bytes. `macs` counts
    /// the multiply-accumulates of all tasks, for profiles.
    op Parallel = "loop.parallel"() { tasks: Int, macs: Int = 0i64 } [NONE] verify(verify_parallel);
    /// Runs the region for `lo, lo + step, .. < hi`.
    op For = "loop.for"(lo: Index, hi: Index) { step: Int = 1i64 } [NONE] verify(verify_for);
    /// An index constant.
    op Index = "loop.index"() -> (out) { value: Int } [PURE] infer(infer_index);
    /// Index arithmetic: `op` is add, sub, mul, div, min or max. `div` divides what is not negative by what is
    /// positive, and rounds down.
    op Arith = "loop.arith"(lhs: Index, rhs: Index) -> (out) { op: Str } [PURE] infer(infer_index) verify(verify_arith);
    /// Calls a kernel. The operands are buffers, one per name in `ptrs`, then indices. Pointer `p` is the origin of its
    /// buffer plus `at[p][0] + sum_i at[p][1 + i] * index_i`. The last indices fill the fields named in `dyn`; `args` are
    /// the constant fields. `kernel` is `family.variant`, and the name of a row once selected.
    op Ukernel = "loop.ukernel"(operands: Variadic Address) {
        kernel: Str, ptrs: List, at: List, dyn_fields: List = Vec::<Attr>::new(), args: Fields
    } [NONE] verify(verify_ukernel);
    /// A scalar constant of type `to`.
    op Scalar = "loop.scalar"() -> (out) { value: Float, to: Type } [PURE] infer(infer_scalar);
    /// Loads one element at byte `at[0] + sum_i at[1 + i] * index_i` behind the buffer's origin.
    op Load = "loop.load"(buf: Buffer, indices: Variadic Index) -> (out) { at: Ints } [NONE] infer(infer_load);
    /// Stores one element; addressed as `loop.load`.
    op Store = "loop.store"(value: Scalar, buf: Buffer, indices: Variadic Index) { at: Ints } [NONE] verify(verify_store);
    /// Scalar arithmetic on equal types: `op` is add, sub, mul, div, max or min; of integers also rem, and, or, xor. `max` of
    /// floats is `if a > b or a is NaN { a } else { b }`, `min` likewise. Integers of 8 bits become 32 bits wide when they are
    /// loaded; division by 0 gives 0, and the least integer divided by -1 is itself.
    op Binary = "loop.binary"(lhs: Scalar, rhs: Scalar) -> (out) { op: Str } [PURE] infer(infer_binary);
    /// Whether `lhs op rhs` for scalars of equal types: `op` is eq, lt or le.
    op Compare = "loop.compare"(lhs: Scalar, rhs: Scalar) -> (out) { op: Str } [PURE] infer(infer_compare);
    /// `yes` where the truth value holds, else `no`.
    op Select = "loop.select"(condition: Scalar, yes: Scalar, no: Scalar) -> (out) {} [PURE] infer(infer_select);
    /// What a step found out about its operands, looked at when the program has run. `buf` holds two i64: whether a number broke
    /// the rule, and which. `what` has it, `node` asked for it; `rule` says what it is not, such as `index of a dim of 4`.
    op Check = "loop.check"(buf: Buffer) { rule: Str, what: Str, node: Str } [NONE] verify(verify_check);
    /// A tensor that whoever runs the program may look at when the steps in front have run: `name`, of `dims`, whose element `[i0, ..]`
    /// lies at byte `at[0] + sum_d at[1 + d] * i_d` behind the buffer's origin. Nothing is computed.
    op Watch = "loop.watch"(buf: Buffer) { name: Str, dims: Ints, at: Ints } [NONE] verify(verify_watch);
    /// Converts a scalar; floats are truncated towards zero and saturate.
    op Convert = "loop.convert"(x: Scalar) -> (out) { to: Type } [PURE] infer(infer_convert);
}

/// The kernel family and variant that a `loop.ukernel` names, by `family.variant` or by row.
pub fn kernel_of(m: &Module, op: Ukernel) -> Option<(Family, Variant)> {
    let name = op.kernel(m);
    match name.split_once('.') {
        Some((family, variant)) => Some((Family::from_name(family)?, Variant::from_name(variant)?)),
        None => table::by_name(&name).map(|row| (row.family, row.variant)),
    }
}

/// The arguments of a kernel call, taken apart.
pub struct Call {
    /// Family.
    pub family: Family,
    /// Variant.
    pub variant: Variant,
    /// Field name, buffer, byte offset and factors of the indices.
    pub pointers: Vec<(String, ValueId, i64, Vec<i64>)>,
    /// All index operands.
    pub indices: Vec<ValueId>,
    /// Field name and the index operand that fills it.
    pub dynamic: Vec<(String, ValueId)>,
    /// Field name and value.
    pub constant: Vec<(Box<str>, Attr)>,
}

impl Ukernel {
    /// The call in parts.
    ///
    /// # Errors
    /// One sentence on what does not fit the kernel's argument struct.
    pub fn call(self, m: &Module) -> Result<Call, String> {
        let (family, variant) = kernel_of(m, self).ok_or_else(|| format!("there is no kernel `{}`", self.kernel(m)))?;
        let operands = self.operands(m);
        let (names, at) = (strings(&self.ptrs(m))?, self.at(m));
        if names.len() != at.len() || names.len() > operands.len() {
            return Err("needs one `at` row and one buffer per name in `ptrs`".into());
        }
        let (buffers, indices) = operands.split_at(names.len());
        let mut pointers = Vec::new();
        for ((name, &buf), row) in names.into_iter().zip(buffers).zip(&at) {
            let Attr::Ints(row) = row else { return Err("`at` must hold lists of integers".into()) };
            if row.len() != indices.len() + 1 {
                return Err(format!("`at` of {name} needs {} entries", indices.len() + 1));
            }
            if m.ty(buf).buffer().is_none() {
                return Err(format!("{name} is no buffer"));
            }
            pointers.push((name, buf, row[0], row[1..].to_vec()));
        }
        let fields = strings(&self.dyn_fields(m))?;
        let first = indices.len().checked_sub(fields.len()).ok_or("more `dyn_fields` than indices")?;
        let dynamic: Vec<_> = fields.into_iter().zip(indices[first..].iter().copied()).collect();
        let constant = self.args(m);
        let call = Call { family, variant, pointers, indices: indices.to_vec(), dynamic, constant };
        call.check_fields()?;
        Ok(call)
    }
}

impl Call {
    /// Whether each field that is set exists, is set once and by a value of its kind, and none that is needed is missing.
    fn check_fields(&self) -> Result<(), String> {
        let mut set: Vec<&str> = Vec::new();
        for (name, fits) in self.fields() {
            let family = self.family.name();
            let field = self.family.field(name).ok_or_else(|| format!("{family} kernels have no field `{name}`"))?;
            if !fits(field.kind) {
                return Err(format!("field `{name}` is set to a value of another kind than {:?}", field.kind));
            }
            if set.contains(&name) {
                return Err(format!("field `{name}` is set twice"));
            }
            set.push(name);
        }
        let is_set = |name: &str| set.contains(&name);
        match self.family.fields().iter().find(|f| f.is_needed(self.variant, is_set) && !is_set(f.name)) {
            Some(field) => {
                let kernel = format!("{}.{}", self.family.name(), self.variant.name());
                Err(format!("{kernel} needs its field `{}`", field.name))
            }
            None => Ok(()),
        }
    }

    /// The fields that are set, and which kinds of field their values fit.
    fn fields(&self) -> impl Iterator<Item = (&str, fn(FieldKind) -> bool)> {
        let pointer: fn(FieldKind) -> bool = |kind| matches!(kind, FieldKind::PtrIn | FieldKind::PtrOut);
        let pointers = self.pointers.iter().map(move |p| (p.0.as_str(), pointer));
        let count: fn(FieldKind) -> bool = |kind| kind == FieldKind::Usize;
        let dynamic = self.dynamic.iter().map(move |d| (d.0.as_str(), count));
        let constant = self.constant.iter().map(|(name, value)| {
            let fits: fn(FieldKind) -> bool = match value {
                Attr::Int(x) if i32::try_from(*x).is_ok() => |kind| matches!(kind, FieldKind::Usize | FieldKind::I32),
                Attr::Int(_) => |kind| kind == FieldKind::Usize,
                Attr::Float(_) => |kind| kind == FieldKind::F32,
                _ => |_| false,
            };
            (&**name, fits)
        });
        pointers.chain(dynamic).chain(constant)
    }
}

fn strings(list: &[Attr]) -> Result<Vec<String>, String> {
    let one = |a: &Attr| match a {
        Attr::Str(s) => Ok(s.to_string()),
        _ => Err("expected a list of strings".to_string()),
    };
    list.iter().map(one).collect()
}

/// The buffer type of a value.
///
/// # Errors
/// When it is none.
pub fn buffer(m: &Module, v: ValueId) -> Result<&BufferTy, String> {
    m.ty(v).buffer().ok_or_else(|| "expected a buffer".to_string())
}

fn verify_alloc(m: &Module, op: OpId) -> Result<(), String> {
    let b = buffer(m, m.result(op))?;
    if b.strides.len() != b.dims.len() {
        return Err("needs one stride per dim".into());
    }
    if b.dims.contains(&0) {
        return Ok(());
    }
    let mut reach = b.dims.iter().zip(&b.strides).map(|(d, s)| d.saturating_sub(1).checked_mul(*s));
    let start = b.origin.checked_add(m.elem_bytes(b.elem));
    let end = reach.try_fold(start, |end, bytes| Some(Some(end?.checked_add(bytes?)?))).flatten();
    match end.ok_or("its elements cannot be addressed")? {
        end if end > b.bytes => Err(format!("elements reach byte {end} of {}", b.bytes)),
        _ => Ok(()),
    }
}

fn verify_data(m: &Module, op: OpId) -> Result<(), String> {
    verify_alloc(m, op)?;
    let (b, source) = (buffer(m, m.result(op))?, &m.consts.get(ConstBuffer(op).value(m)).tensor);
    let held = source.len() * m.elem_bytes(source.data().elem());
    if b.bytes == held { Ok(()) } else { Err(format!("a buffer of {} bytes for a constant of {held}", b.bytes)) }
}

fn region_args(m: &Module, op: OpId, count: usize) -> Result<(), String> {
    match m.regions(op) {
        [r] if m.args(*r).len() == count && m.args(*r).iter().all(|&v| *m.ty(v) == Type::Index) => Ok(()),
        _ => Err(format!("needs one region with {count} index arguments")),
    }
}

fn verify_parallel(m: &Module, op: OpId) -> Result<(), String> {
    if Parallel(op).tasks(m) < 1 {
        return Err("needs at least one task".into());
    }
    region_args(m, op, 2)
}

fn verify_for(m: &Module, op: OpId) -> Result<(), String> {
    if For(op).step(m) < 1 || [For(op).lo(m), For(op).hi(m)].iter().any(|&v| *m.ty(v) != Type::Index) {
        return Err("needs index bounds and a positive step".into());
    }
    region_args(m, op, 1)
}

fn infer_index(_: &Module, _: OpId) -> Result<Vec<Type>, String> {
    Ok(vec![Type::Index])
}

fn verify_arith(m: &Module, op: OpId) -> Result<(), String> {
    match &*Arith(op).op(m) {
        "add" | "sub" | "mul" | "div" | "min" | "max" => Ok(()),
        other => Err(format!("unknown operation `{other}`")),
    }
}

fn verify_ukernel(m: &Module, op: OpId) -> Result<(), String> {
    Ukernel(op).call(m).map(|_| ())
}

fn infer_scalar(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    match Scalar(op).to(m) {
        Type::Scalar(e) => Ok(vec![Type::Scalar(e)]),
        _ => Err("`to` must be an element type".into()),
    }
}

fn check_at(m: &Module, indices: &[ValueId], at: &[i64]) -> Result<(), String> {
    let fits = at.len() == indices.len() + 1 && indices.iter().all(|&v| *m.ty(v) == Type::Index);
    if fits { Ok(()) } else { Err("`at` needs one entry, and one per index".into()) }
}

fn infer_load(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let view = Load(op);
    check_at(m, &view.indices(m), &view.at(m))?;
    Ok(vec![Type::Scalar(m.storage(buffer(m, view.buf(m))?.elem))])
}

fn verify_store(m: &Module, op: OpId) -> Result<(), String> {
    let view = Store(op);
    check_at(m, &view.indices(m), &view.at(m))?;
    let elem = m.storage(buffer(m, view.buf(m))?.elem);
    if *m.ty(view.value(m)) == Type::Scalar(elem) { Ok(()) } else { Err("value and buffer differ in type".into()) }
}

fn infer_binary(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let view = Binary(op);
    let (a, b) = (m.ty(view.lhs(m)), m.ty(view.rhs(m)));
    let integer = match &*view.op(m) {
        "add" | "sub" | "mul" | "div" | "max" | "min" => false,
        "rem" | "and" | "or" | "xor" => true,
        other => return Err(format!("unknown operation `{other}`")),
    };
    match a {
        Type::Scalar(Elem::F32) if a == b && !integer => Ok(vec![a.clone()]),
        Type::Scalar(elem) if a == b && *elem != Elem::F32 && elem.word().is_some() => Ok(vec![widened(*elem)]),
        _ => Err("needs two scalars of one type, integers for `rem`, `and`, `or` and `xor`".into()),
    }
}

/// The type in which scalars of `elem` are computed.
fn widened(elem: Elem) -> Type {
    Type::Scalar(if elem == Elem::I64 { Elem::I64 } else { Elem::I32 })
}

fn infer_compare(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let view = Compare(op);
    if !matches!(&*view.op(m), "eq" | "lt" | "le") {
        return Err(format!("unknown relation `{}`", view.op(m)));
    }
    match (m.ty(view.lhs(m)), m.ty(view.rhs(m))) {
        (Type::Scalar(a), Type::Scalar(b)) if a == b && a.word().is_some() => Ok(vec![Type::Scalar(Elem::Bool)]),
        _ => Err("needs two scalars of one type".into()),
    }
}

fn infer_select(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let view = Select(op);
    let (yes, no) = (m.ty(view.yes(m)), m.ty(view.no(m)));
    match *m.ty(view.condition(m)) == Type::Scalar(Elem::Bool) && yes == no {
        true => Ok(vec![yes.clone()]),
        false => Err("needs a truth value and two scalars of one type".into()),
    }
}

fn verify_check(m: &Module, op: OpId) -> Result<(), String> {
    let b = buffer(m, Check(op).buf(m))?;
    match b.elem == Elem::I64 && b.origin == 0 && b.bytes >= 16 {
        true => Ok(()),
        false => Err("needs a buffer of two i64".into()),
    }
}

fn verify_watch(m: &Module, op: OpId) -> Result<(), String> {
    let (view, b) = (Watch(op), buffer(m, Watch(op).buf(m))?);
    if b.elem != Elem::F32 {
        return Err("needs a buffer of f32".into());
    }
    let dims = view.dims(m);
    match view.at(m).len() == dims.len() + 1 && dims.iter().all(|&dim| dim >= 0) {
        true => Ok(()),
        false => Err("needs an offset and a stride per dim".into()),
    }
}

fn infer_convert(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    match (m.ty(Convert(op).x(m)), Convert(op).to(m)) {
        (Type::Scalar(_), Type::Scalar(to)) if to.word().is_some() => Ok(vec![Type::Scalar(to)]),
        _ => Err("needs a scalar and a plain element type".into()),
    }
}
