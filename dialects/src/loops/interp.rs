//! The loop interpreter: steps, loops and scalar code as written, kernels by their plain reference loops.
//!
//! Every access is checked: a write outside a buffer, or a read before it or further behind it than the agreed slack, is an error. The
//! tasks of a step run one by one, last first, so that a step whose tasks depend on each other gives wrong results here.

use super::{
    Arith, Binary, Call, Check, Compare, ConstBuffer, Convert, For, Index, Load, Parallel, Scalar, Select, Store,
    Ukernel, Watch,
};
use crate::graph::IntFunction;
use qc_ir::{Attr, Data, Diag, Elem, HostTensor, Module, OpId, RegionId, Type, ValueId};
use qc_kernels::reference::{self, ArgValue, Args, Memory, Ptr};
use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::HashMap;

/// Bytes behind a buffer that kernels may read.
pub const SLACK_BYTES: i64 = 64;

#[derive(Clone, Copy, Debug)]
enum Num {
    Index(i64),
    Float(f32),
    Int(i64),
}

struct Buffers {
    bytes: Vec<Vec<u8>>,
    fault: Cell<Option<Ptr>>,
}

impl Buffers {
    fn read<const N: usize>(&self, p: Ptr) -> [u8; N] {
        let buffer = self.bytes.get(p.buf as usize);
        let inside = usize::try_from(p.offset).ok().and_then(|at| buffer?.get(at..)?.first_chunk::<N>());
        if let Some(bytes) = inside {
            return *bytes;
        }
        let len = buffer.map_or(0, Vec::len) as i64;
        if buffer.is_none() || p.offset < 0 || p.offset + N as i64 > len + SLACK_BYTES {
            self.fault.set(Some(p));
        }
        // What lies in the slack never matters; a value that would show in a result makes a mistake visible.
        let one = |i: usize| usize::try_from(p.offset + i as i64).ok().and_then(|at| buffer?.get(at).copied());
        std::array::from_fn(|i| one(i).unwrap_or(0xa5))
    }

    fn write<const N: usize>(&mut self, p: Ptr, value: [u8; N]) {
        let at = usize::try_from(p.offset).ok();
        let place = at.and_then(|at| self.bytes.get_mut(p.buf as usize)?.get_mut(at..)?.first_chunk_mut::<N>());
        match place {
            Some(place) => *place = value,
            None => self.fault.set(Some(p)),
        }
    }
}

impl Memory for Buffers {
    fn u8(&self, p: Ptr) -> u8 {
        self.read::<1>(p)[0]
    }
    fn i8(&self, p: Ptr) -> i8 {
        self.read::<1>(p)[0] as i8
    }
    fn i32(&self, p: Ptr) -> i32 {
        i32::from_le_bytes(self.read(p))
    }
    fn f32(&self, p: Ptr) -> f32 {
        f32::from_le_bytes(self.read(p))
    }
    fn set_u8(&mut self, p: Ptr, value: u8) {
        self.write(p, [value]);
    }
    fn set_i32(&mut self, p: Ptr, value: i32) {
        self.write(p, value.to_le_bytes());
    }
    fn set_f32(&mut self, p: Ptr, value: f32) {
        self.write(p, value.to_le_bytes());
    }
}

struct Interp<'m> {
    m: &'m Module,
    memory: Buffers,
    places: HashMap<ValueId, u32>,
    numbers: HashMap<ValueId, Num>,
    watched: Vec<HostTensor>,
}

/// Runs the main function of a module in the loop dialect; gives its outputs, then the tensors that are watched.
///
/// # Errors
/// Wrong inputs, an access outside a buffer, or an op that cannot be run.
pub fn run(m: &Module, inputs: &[HostTensor]) -> Result<Vec<HostTensor>, Diag> {
    let body = m.body();
    let args = m.args(body).to_vec();
    let outputs = m.main().map_or(0, |f| f.outputs.len());
    if args.len() != inputs.len() + outputs {
        let wanted = args.len().saturating_sub(outputs);
        return Err(Diag::error(format!("the model takes {wanted} inputs, not {}", inputs.len())));
    }
    let memory = Buffers { bytes: Vec::new(), fault: Cell::new(None) };
    let mut interp = Interp { m, memory, places: HashMap::new(), numbers: HashMap::new(), watched: Vec::new() };
    for (i, &arg) in args.iter().enumerate() {
        let ty = m.ty(arg).buffer().ok_or_else(|| Diag::bug("an argument is no buffer"))?;
        let bytes = match inputs.get(i) {
            Some(t) if t.dims() == &ty.dims[..] => t.data().to_bytes(),
            Some(t) => return Err(Diag::error(format!("input {i} has shape {:?}, not {:?}", t.dims(), ty.dims))),
            None => vec![0; ty.bytes],
        };
        interp.add(arg, bytes);
    }
    interp.region(body)?;
    let result = |&v: &ValueId| {
        let ty = m.ty(v).buffer()?;
        let data = Data::from_bytes(m.storage(ty.elem), &interp.memory.bytes[interp.places[&v] as usize])?;
        HostTensor::new(ty.dims.to_vec(), data)
    };
    let results: Option<Vec<_>> = args[inputs.len()..].iter().map(result).collect();
    let results = results.ok_or_else(|| Diag::bug("an output buffer does not match its type"))?;
    Ok([results, interp.watched].concat())
}

impl Interp<'_> {
    fn add(&mut self, v: ValueId, bytes: Vec<u8>) {
        self.places.insert(v, self.memory.bytes.len() as u32);
        self.memory.bytes.push(bytes);
    }

    fn region(&mut self, region: RegionId) -> Result<(), Diag> {
        for &op in self.m.ops(region) {
            self.op(op).map_err(|e| Diag::error(format!("{}: {e}", self.m.def(op).name)).at(self.m.loc(op)))?;
            if let Some(p) = self.memory.fault.take() {
                let text = format!("{}: access at byte {} of buffer {}", self.m.def(op).name, p.offset, p.buf);
                return Err(Diag::bug(text).at(self.m.loc(op)));
            }
        }
        Ok(())
    }

    fn index(&self, v: ValueId) -> Result<i64, String> {
        match self.numbers.get(&v) {
            Some(Num::Index(i)) => Ok(*i),
            _ => Err("an index has no value".into()),
        }
    }

    fn address(&self, buf: ValueId, base: i64, indices: &[ValueId], factors: &[i64]) -> Result<Ptr, String> {
        let origin = super::buffer(self.m, buf)?.origin as i64;
        let place = *self.places.get(&buf).ok_or("a buffer has no memory")?;
        let mut offset = origin + base;
        for (&v, f) in indices.iter().zip(factors) {
            offset += self.index(v)? * f;
        }
        Ok(Ptr { buf: place, offset })
    }

    fn op(&mut self, op: OpId) -> Result<(), String> {
        let m = self.m;
        if let Some(call) = Ukernel::of(m, op) {
            return self.kernel(&call.call(m)?);
        }
        if let Some(step) = Parallel::of(m, op) {
            return self.step(op, step.tasks(m));
        }
        if let Some(view) = For::of(m, op) {
            let (lo, hi, step) = (self.index(view.lo(m))?, self.index(view.hi(m))?, view.step(m));
            let region = m.regions(op)[0];
            let mut i = lo;
            while i < hi {
                self.numbers.insert(m.args(region)[0], Num::Index(i));
                self.region(region).map_err(|d| d.message)?;
                i += step;
            }
            return Ok(());
        }
        if let Some(view) = ConstBuffer::of(m, op) {
            let c = m.consts.get(view.value(m));
            let fields = view.pack(m);
            let bytes =
                if fields.is_empty() { c.tensor.data().to_bytes() } else { super::pack::packed(&fields, &c.tensor)? };
            self.add(view.buf(m), bytes);
            return Ok(());
        }
        if m.is(op, super::Alloc::DEF) {
            let v = m.result(op);
            let bytes = super::buffer(m, v)?.bytes;
            // Not zero: nothing may rely on fresh memory.
            self.add(v, vec![0xcd; bytes]);
            return Ok(());
        }
        if let Some(check) = Check::of(m, op) {
            return self.check(check);
        }
        if let Some(watch) = Watch::of(m, op) {
            return self.watch(watch);
        }
        self.scalar(op)
    }

    fn check(&self, op: Check) -> Result<(), String> {
        let p = self.address(op.buf(self.m), 0, &[], &[])?;
        let [found, value] = [p, p.plus(8)].map(|p| i64::from_le_bytes(self.memory.read(p)));
        match found {
            0 => Ok(()),
            _ => Err(format!("{} holds {value}, which is no {}", op.what(self.m), op.rule(self.m))),
        }
    }

    fn watch(&mut self, op: Watch) -> Result<(), String> {
        let (dims, at) = (op.dims(self.m), op.at(self.m));
        let dims: Vec<usize> = dims.iter().map(|&dim| dim as usize).collect();
        let first = self.address(op.buf(self.m), at[0], &[], &[])?;
        let element = |indices: Vec<usize>| {
            let offset: i64 = indices.iter().zip(&at[1..]).map(|(&i, stride)| i as i64 * stride).sum();
            self.memory.f32(first.plus(offset))
        };
        let values = qc_ir::indices(&dims).map(element).collect();
        self.watched.push(HostTensor::f32(dims.clone(), values));
        Ok(())
    }

    fn step(&mut self, op: OpId, tasks: i64) -> Result<(), String> {
        let region = self.m.regions(op)[0];
        let [begin, end] = self.m.args(region)[..] else { return Err("needs two arguments".into()) };
        let chunk = (tasks / 16).max(1);
        let mut hi = tasks;
        while hi > 0 {
            let lo = (hi - chunk).max(0);
            self.numbers.insert(begin, Num::Index(lo));
            self.numbers.insert(end, Num::Index(hi));
            self.region(region).map_err(|d| d.message)?;
            hi = lo;
        }
        Ok(())
    }

    fn kernel(&mut self, call: &Call) -> Result<(), String> {
        let mut args = Args::new(call.family);
        let mut set = |name: &str, value: ArgValue| args.set(name, value).map_err(|_| format!("no field `{name}`"));
        for (name, buf, base, factors) in &call.pointers {
            set(name, ArgValue::Ptr(self.address(*buf, *base, &call.indices, factors)?))?;
        }
        for (name, v) in &call.dynamic {
            set(name, ArgValue::Int(self.index(*v)?))?;
        }
        for (name, value) in &call.constant {
            let value = match value {
                Attr::Int(x) => ArgValue::Int(*x),
                Attr::Float(x) => ArgValue::F32(*x as f32),
                _ => return Err(format!("field `{name}` must be a number")),
            };
            set(name, value)?;
        }
        reference::run_variant(call.family, call.variant, &args, &mut self.memory);
        Ok(())
    }

    fn number(&self, v: ValueId) -> Result<Num, String> {
        self.numbers.get(&v).copied().ok_or_else(|| "a scalar has no value".into())
    }

    fn scalar(&mut self, op: OpId) -> Result<(), String> {
        let m = self.m;
        let value = if let Some(view) = Index::of(m, op) {
            Num::Index(view.value(m))
        } else if let Some(view) = Arith::of(m, op) {
            Num::Index(arith(&view.op(m), self.index(view.lhs(m))?, self.index(view.rhs(m))?)?)
        } else if let Some(view) = Scalar::of(m, op) {
            match view.to(m) {
                Type::Scalar(Elem::F32) => Num::Float(view.value(m) as f32),
                _ => Num::Int(view.value(m) as i64),
            }
        } else if let Some(view) = Load::of(m, op) {
            self.load(view)?
        } else if let Some(view) = Store::of(m, op) {
            return self.store(view);
        } else if let Some(view) = Binary::of(m, op) {
            binary(&view.op(m), m.ty(m.result(op)), self.number(view.lhs(m))?, self.number(view.rhs(m))?)?
        } else if let Some(view) = Compare::of(m, op) {
            compare(&view.op(m), self.number(view.lhs(m))?, self.number(view.rhs(m))?)?
        } else if let Some(view) = Select::of(m, op) {
            match self.number(view.condition(m))? {
                Num::Int(0) => self.number(view.no(m))?,
                _ => self.number(view.yes(m))?,
            }
        } else if let Some(view) = Convert::of(m, op) {
            convert(self.number(view.x(m))?, &view.to(m))?
        } else {
            return Err("cannot be run".into());
        };
        self.numbers.insert(m.result(op), value);
        Ok(())
    }

    fn load(&self, view: Load) -> Result<Num, String> {
        let m = self.m;
        let at = view.at(m);
        let p = self.address(view.buf(m), at[0], &view.indices(m), &at[1..])?;
        Ok(match m.storage(super::buffer(m, view.buf(m))?.elem) {
            Elem::F32 => Num::Float(self.memory.f32(p)),
            Elem::I32 => Num::Int(i64::from(self.memory.i32(p))),
            Elem::I64 => Num::Int(i64::from_le_bytes(self.memory.read(p))),
            Elem::I8 => Num::Int(i64::from(self.memory.i8(p))),
            Elem::U8 | Elem::Bool | Elem::Quant(_) => Num::Int(i64::from(self.memory.u8(p))),
        })
    }

    fn store(&mut self, view: Store) -> Result<(), String> {
        let m = self.m;
        let at = view.at(m);
        let p = self.address(view.buf(m), at[0], &view.indices(m), &at[1..])?;
        let int = match self.number(view.value(m))? {
            Num::Float(x) => {
                self.memory.set_f32(p, x);
                return Ok(());
            }
            Num::Int(x) | Num::Index(x) => x,
        };
        match m.storage(super::buffer(m, view.buf(m))?.elem) {
            Elem::I64 => self.memory.write(p, int.to_le_bytes()),
            Elem::F32 | Elem::I32 => self.memory.set_i32(p, int as i32),
            Elem::I8 | Elem::U8 | Elem::Bool | Elem::Quant(_) => self.memory.set_u8(p, int as u8),
        }
        Ok(())
    }
}

fn arith(op: &str, a: i64, b: i64) -> Result<i64, String> {
    Ok(match op {
        "add" => a.wrapping_add(b),
        "sub" => a.wrapping_sub(b),
        "mul" => a.wrapping_mul(b),
        "div" => a.checked_div_euclid(b).ok_or("division by zero")?,
        "min" => a.min(b),
        "max" => a.max(b),
        _ => return Err(format!("unknown operation `{op}`")),
    })
}

fn binary(op: &str, ty: &Type, a: Num, b: Num) -> Result<Num, String> {
    match (a, b) {
        (Num::Float(x), Num::Float(y)) => Ok(match op {
            "add" => Num::Float(x + y),
            "sub" => Num::Float(x - y),
            "mul" => Num::Float(x * y),
            "div" => Num::Float(x / y),
            "max" => Num::Float(reference::maximum(x, y)),
            "min" => Num::Float(reference::minimum(x, y)),
            _ => return Err(format!("unknown operation `{op}`")),
        }),
        (Num::Int(x), Num::Int(y)) => {
            let wide = IntFunction::from_word(op)?.value(x, y);
            Ok(Num::Int(if *ty == Type::Scalar(Elem::I32) { i64::from(wide as i32) } else { wide }))
        }
        _ => Err("operands differ in type".into()),
    }
}

fn compare(op: &str, a: Num, b: Num) -> Result<Num, String> {
    let ordering = match (a, b) {
        (Num::Float(x), Num::Float(y)) => x.partial_cmp(&y),
        (Num::Int(x), Num::Int(y)) => Some(x.cmp(&y)),
        _ => return Err("operands differ in type".into()),
    };
    let holds = match op {
        "eq" => ordering.is_some_and(Ordering::is_eq),
        "lt" => ordering.is_some_and(Ordering::is_lt),
        "le" => ordering.is_some_and(Ordering::is_le),
        _ => return Err(format!("unknown relation `{op}`")),
    };
    Ok(Num::Int(i64::from(holds)))
}

fn convert(x: Num, to: &Type) -> Result<Num, String> {
    let Type::Scalar(to) = to else { return Err("`to` must be an element type".into()) };
    Ok(match (x, to) {
        (Num::Float(x), Elem::F32) => Num::Float(x),
        (Num::Int(x), Elem::F32) => Num::Float(x as f32),
        (Num::Float(x), Elem::I64) => Num::Int(x as i64),
        (Num::Float(x), Elem::I32) => Num::Int(i64::from(x as i32)),
        (Num::Float(x), Elem::U8) => Num::Int(i64::from(x as u8)),
        (Num::Float(x), Elem::I8) => Num::Int(i64::from(x as i8)),
        (Num::Float(x), Elem::Bool) => Num::Int(i64::from(x != 0.0)),
        (Num::Int(x), Elem::I64) => Num::Int(x),
        (Num::Int(x), Elem::I32) => Num::Int(i64::from(x as i32)),
        (Num::Int(x), Elem::U8) => Num::Int(i64::from(x as u8)),
        (Num::Int(x), Elem::I8) => Num::Int(i64::from(x as i8)),
        (Num::Int(x), Elem::Bool) => Num::Int(i64::from(x != 0)),
        (Num::Index(_), _) | (_, Elem::Quant(_)) => return Err("cannot be converted".into()),
    })
}
