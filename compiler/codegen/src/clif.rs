//! One step of loop code to one function in Cranelift's IR.
//!
//! ```text
//! fn step(frame: *const Frame, begin: usize, end: usize, operands: *const u64)
//! ```
//!
//! Where buffers lie, and the scales and zero points of a call, are read from `operands`, in the order in which they are used.
//! So steps that differ in nothing else are one function (`functions.rs`).
//!
//! The arguments of each kernel call live in a stack slot of their own. Constant fields are stored once, at the top of
//! the function; a call stores the fields that move and passes the slot's address.

use crate::CodegenError;
use crate::functions::{Body, Functions};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32, I8, I32, I64};
use cranelift_codegen::ir::{
    self, AbiParam, BlockArg, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Value, stackslot::StackSize,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{FuncId, Linkage, Module as CodeModule};
use qc_dialects::loops::{
    Alloc, Arith, Binary, Call, Compare, ConstBuffer, Convert, For, Index, Load, Scalar, Select, Store, Ukernel, buffer,
};
use qc_ir::{Attr, Elem, Module, OpId, RegionId, Type, ValueId};
use qc_kernels::args::FieldKind;
use qc_kernels::table;
use std::collections::HashMap;

/// Where a buffer's memory starts.
#[derive(Clone, Copy, Debug)]
pub enum Base {
    /// Offset in the arena.
    Arena(i64),
    /// Offset in the weights.
    Weights(i64),
    /// Index of an input or output.
    Io(usize),
}

/// Compiles the steps of one module.
pub struct StepCompiler<'a, T: CodeModule> {
    /// What is being filled with functions.
    pub module: &'a mut T,
    /// The planned module.
    pub m: &'a Module,
    /// Where buffers lie.
    pub bases: &'a HashMap<ValueId, Base>,
    /// Imported kernels by symbol.
    pub kernels: &'a mut HashMap<String, FuncId>,
    /// What was compiled before.
    pub functions: &'a mut Functions,
    /// Receives the text of every function, if wanted.
    pub dump: Option<&'a mut String>,
}

impl<T: CodeModule> StepCompiler<'_, T> {
    /// Compiles step `op`, as function `name` if no other step has the same code. Gives the function and the step's operands.
    ///
    /// # Errors
    /// An op that loop code may not hold, or a failure inside Cranelift.
    pub fn compile(&mut self, op: OpId, name: &str) -> Result<(FuncId, Vec<u64>), CodegenError> {
        let mut cx = self.module.make_context();
        cx.func.signature.params.extend([AbiParam::new(I64); 4]);
        let mut builder_cx = FunctionBuilderContext::new();
        let config = self.module.target_config();
        let builder = FunctionBuilder::new(&mut cx.func, &mut builder_cx);
        let (values, bases, operands) = (HashMap::new(), HashMap::new(), Vec::new());
        let mut f = StepFunction { c: self, b: builder, values, bases, operands };
        f.build(op)?;
        let operands = std::mem::take(&mut f.operands);
        f.b.finalize(config);
        let body = Body::of(&cx.func);
        let known = self.functions.get(&body).copied();
        if let Some(dump) = &mut self.dump {
            let text = known.map_or_else(|| cx.func.display().to_string(), |id| format!("; the code of {id}"));
            dump.push_str(&format!("; {name}, operands {operands:x?}\n{text}\n"));
        }
        if let Some(id) = known {
            return Ok((id, operands));
        }
        let id = self.module.declare_function(name, Linkage::Local, &cx.func.signature)?;
        self.module.define_function(id, &mut cx)?;
        self.functions.insert(body, id);
        Ok((id, operands))
    }

    fn kernel(&mut self, row: &str) -> Result<FuncId, CodegenError> {
        let symbol = format!("qc_k_{row}");
        if let Some(&id) = self.kernels.get(&symbol) {
            return Ok(id);
        }
        let mut signature = self.module.make_signature();
        signature.params.push(AbiParam::new(I64));
        let id = self.module.declare_function(&symbol, Linkage::Import, &signature)?;
        self.kernels.insert(symbol, id);
        Ok(id)
    }
}

struct StepFunction<'c, 'a, 'f, T: CodeModule> {
    c: &'c mut StepCompiler<'a, T>,
    b: FunctionBuilder<'f>,
    values: HashMap<ValueId, Value>,
    /// Addresses by name.
    bases: HashMap<&'static str, Value>,
    /// What is read from the table of operands, in order.
    operands: Vec<u64>,
}

/// Offsets in `qc_embed::abi::Frame`.
const ARENA: i32 = std::mem::offset_of!(qc_embed::abi::Frame, arena) as i32;
const WEIGHTS: i32 = std::mem::offset_of!(qc_embed::abi::Frame, weights) as i32;
const IO: i32 = std::mem::offset_of!(qc_embed::abi::Frame, io) as i32;

fn bug(message: impl Into<String>) -> CodegenError {
    CodegenError::LoopCode(message.into())
}

impl<T: CodeModule> StepFunction<'_, '_, '_, T> {
    fn build(&mut self, op: OpId) -> Result<(), CodegenError> {
        let entry = self.b.create_block();
        self.b.append_block_params_for_function_params(entry);
        self.b.switch_to_block(entry);
        let [frame, begin, end, operands] = [0, 1, 2, 3].map(|i| self.b.block_params(entry)[i]);
        self.bases.insert("operands", operands);
        let trusted = MemFlagsData::trusted();
        for (name, offset) in [("arena", ARENA), ("weights", WEIGHTS), ("io", IO)] {
            let v = self.b.ins().load(I64, trusted, frame, offset);
            self.bases.insert(name, v);
        }
        let region = self.c.m.regions(op)[0];
        let args = self.c.m.args(region);
        self.values.insert(args[0], begin);
        self.values.insert(args[1], end);
        // All argument structs get their constant fields here, outside of any loop.
        let mut slots = HashMap::new();
        for inner in self.c.m.walk(region) {
            if let Some(call) = Ukernel::of(self.c.m, inner) {
                slots.insert(inner, self.argument_slot(&call.call(self.c.m).map_err(bug)?)?);
            }
        }
        self.region(region, &slots)?;
        self.b.ins().return_(&[]);
        self.b.seal_all_blocks();
        Ok(())
    }

    fn argument_slot(&mut self, call: &Call) -> Result<ir::StackSlot, CodegenError> {
        let size = call.family.args_size();
        let slot =
            self.b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, size as StackSize, 4));
        for field in call.family.fields() {
            let set = call.constant.iter().find(|(n, _)| **n == *field.name).map(|(_, a)| a);
            let moves =
                call.pointers.iter().any(|p| p.0 == field.name) || call.dynamic.iter().any(|d| d.0 == field.name);
            if moves {
                continue;
            }
            let value = match (field.kind, set) {
                (FieldKind::F32, Some(Attr::Float(x))) => self.operand(F32, u64::from((*x as f32).to_bits())),
                (FieldKind::F32, None) => self.b.ins().f32const(0.0f32),
                (FieldKind::I32, Some(Attr::Int(x))) => self.operand(I32, u64::from(*x as i32 as u32)),
                (FieldKind::I32, None) => self.b.ins().iconst(I32, 0),
                (FieldKind::Usize, Some(Attr::Int(x))) => self.b.ins().iconst(I64, *x),
                (FieldKind::Usize | FieldKind::PtrIn | FieldKind::PtrOut, None) => self.b.ins().iconst(I64, 0),
                (kind, Some(a)) => return Err(bug(format!("field {} of kind {kind:?} set to {a:?}", field.name))),
            };
            self.b.ins().stack_store(I64, value, slot, field.offset as i32);
        }
        Ok(slot)
    }

    /// A constant that is no part of the code.
    fn operand(&mut self, ty: ir::Type, bits: u64) -> Value {
        let at = 8 * self.operands.len() as i32;
        self.operands.push(bits);
        let flags = MemFlagsData::trusted().with_readonly().with_can_move();
        self.b.ins().load(ty, flags, self.bases["operands"], at)
    }

    fn region(&mut self, region: RegionId, slots: &HashMap<OpId, ir::StackSlot>) -> Result<(), CodegenError> {
        for &op in self.c.m.ops(region) {
            self.op(op, slots)?;
        }
        Ok(())
    }

    fn value(&self, v: ValueId) -> Result<Value, CodegenError> {
        self.values.get(&v).copied().ok_or_else(|| bug("a value is used before it is defined"))
    }

    /// Origin of `buf` plus `base` plus the moves.
    fn address(
        &mut self,
        buf: ValueId,
        base: i64,
        indices: &[ValueId],
        factors: &[i64],
    ) -> Result<Value, CodegenError> {
        let origin = buffer(self.c.m, buf).map_err(bug)?.origin as i64;
        let place = *self.c.bases.get(&buf).ok_or_else(|| bug("a buffer has no place"))?;
        let (start, offset) = match place {
            Base::Arena(at) => (self.bases["arena"], at),
            Base::Weights(at) => (self.bases["weights"], at),
            Base::Io(i) => {
                let io = self.bases["io"];
                (self.b.ins().load(I64, MemFlagsData::trusted(), io, 8 * i as i32), 0)
            }
        };
        let offset = self.operand(I64, (offset + origin + base) as u64);
        let mut address = self.b.ins().iadd(start, offset);
        for (&v, &f) in indices.iter().zip(factors).filter(|(_, f)| **f != 0) {
            let index = self.value(v)?;
            let bytes = self.b.ins().imul_imm_s(index, f);
            address = self.b.ins().iadd(address, bytes);
        }
        Ok(address)
    }

    fn op(&mut self, op: OpId, slots: &HashMap<OpId, ir::StackSlot>) -> Result<(), CodegenError> {
        let m = self.c.m;
        if let Some(view) = Ukernel::of(m, op) {
            let slot = *slots.get(&op).ok_or_else(|| bug("a call has no argument slot"))?;
            return self.call(view, slot);
        }
        if let Some(view) = For::of(m, op) {
            return self.for_loop(view, slots);
        }
        if m.is(op, Alloc::DEF) || m.is(op, ConstBuffer::DEF) {
            return Err(bug("buffers are declared outside of steps"));
        }
        self.scalar(op)
    }

    fn call(&mut self, view: Ukernel, slot: ir::StackSlot) -> Result<(), CodegenError> {
        let m = self.c.m;
        let call = view.call(m).map_err(bug)?;
        let row = table::by_name(&view.kernel(m)).ok_or_else(|| bug("no kernel was selected"))?;
        let offset = |name: &str| call.family.field(name).map(|f| f.offset as i32).ok_or_else(|| bug("unknown field"));
        for (name, buf, base, factors) in &call.pointers {
            let address = self.address(*buf, *base, &call.indices, factors)?;
            self.b.ins().stack_store(I64, address, slot, offset(name)?);
        }
        for (name, v) in &call.dynamic {
            let value = self.value(*v)?;
            self.b.ins().stack_store(I64, value, slot, offset(name)?);
        }
        let id = self.c.kernel(row.name)?;
        let callee = self.c.module.declare_func_in_func(id, self.b.func);
        let pointer = self.b.ins().stack_addr(I64, slot, 0);
        self.b.ins().call(callee, &[pointer]);
        Ok(())
    }

    fn for_loop(&mut self, view: For, slots: &HashMap<OpId, ir::StackSlot>) -> Result<(), CodegenError> {
        let m = self.c.m;
        let (lo, hi) = (self.value(view.lo(m))?, self.value(view.hi(m))?);
        let [header, body, exit] = std::array::from_fn(|_| self.b.create_block());
        self.b.append_block_param(header, I64);
        self.b.ins().jump(header, &[BlockArg::Value(lo)]);
        self.b.switch_to_block(header);
        let i = self.b.block_params(header)[0];
        let more = self.b.ins().icmp(IntCC::SignedLessThan, i, hi);
        self.b.ins().brif(more, body, &[], exit, &[]);
        self.b.switch_to_block(body);
        let region = m.regions(view.0)[0];
        self.values.insert(m.args(region)[0], i);
        self.region(region, slots)?;
        let next = self.b.ins().iadd_imm_s(i, view.step(m));
        self.b.ins().jump(header, &[BlockArg::Value(next)]);
        self.b.switch_to_block(exit);
        Ok(())
    }

    fn scalar(&mut self, op: OpId) -> Result<(), CodegenError> {
        let m = self.c.m;
        let value = if let Some(view) = Index::of(m, op) {
            self.b.ins().iconst(I64, view.value(m))
        } else if let Some(view) = Arith::of(m, op) {
            self.arith(view)?
        } else if let Some(view) = Scalar::of(m, op) {
            match register(m.ty(view.out(m)))? {
                F32 => self.b.ins().f32const(view.value(m) as f32),
                I64 => self.b.ins().iconst(I64, view.value(m) as i64),
                _ => self.b.ins().iconst(I32, i64::from(view.value(m) as i32 as u32)),
            }
        } else if let Some(view) = Load::of(m, op) {
            let at = view.at(m);
            let address = self.address(view.buf(m), at[0], &view.indices(m), &at[1..])?;
            let flags = MemFlagsData::new();
            match m.storage(buffer(m, view.buf(m)).map_err(bug)?.elem) {
                Elem::F32 => self.b.ins().load(F32, flags, address, 0),
                Elem::I32 => self.b.ins().load(I32, flags, address, 0),
                Elem::I64 => self.b.ins().load(I64, flags, address, 0),
                Elem::I8 => self.b.ins().sload8(I32, flags, address, 0),
                Elem::U8 | Elem::Bool | Elem::Quant(_) => self.b.ins().uload8(I32, flags, address, 0),
            }
        } else if let Some(view) = Store::of(m, op) {
            let at = view.at(m);
            let address = self.address(view.buf(m), at[0], &view.indices(m), &at[1..])?;
            let value = self.value(view.value(m))?;
            match m.storage(buffer(m, view.buf(m)).map_err(bug)?.elem) {
                Elem::I8 | Elem::U8 | Elem::Bool | Elem::Quant(_) => {
                    self.b.ins().istore8(MemFlagsData::new(), value, address, 0)
                }
                Elem::F32 | Elem::I32 | Elem::I64 => self.b.ins().store(MemFlagsData::new(), value, address, 0),
            };
            return Ok(());
        } else if let Some(view) = Binary::of(m, op) {
            self.binary(view)?
        } else if let Some(view) = Compare::of(m, op) {
            self.compare(view)?
        } else if let Some(view) = Select::of(m, op) {
            let condition = self.value(view.condition(m))?;
            let (yes, no) = (self.value(view.yes(m))?, self.value(view.no(m))?);
            self.b.ins().select(condition, yes, no)
        } else if let Some(view) = Convert::of(m, op) {
            self.convert(view)?
        } else {
            return Err(bug(format!("{} cannot be compiled", m.def(op).name)));
        };
        self.values.insert(m.result(op), value);
        Ok(())
    }

    fn arith(&mut self, view: Arith) -> Result<Value, CodegenError> {
        let m = self.c.m;
        let (a, b) = (self.value(view.lhs(m))?, self.value(view.rhs(m))?);
        Ok(match &*view.op(m) {
            "add" => self.b.ins().iadd(a, b),
            "sub" => self.b.ins().isub(a, b),
            "mul" => self.b.ins().imul(a, b),
            // Indices are never negative here, so floor and truncation agree.
            "div" => self.b.ins().sdiv(a, b),
            "min" => self.b.ins().smin(a, b),
            "max" => self.b.ins().smax(a, b),
            other => return Err(bug(format!("unknown operation `{other}`"))),
        })
    }

    fn binary(&mut self, view: Binary) -> Result<Value, CodegenError> {
        let m = self.c.m;
        let (a, b) = (self.value(view.lhs(m))?, self.value(view.rhs(m))?);
        let ty = register(m.ty(view.out(m)))?;
        Ok(match (&*view.op(m), ty == F32) {
            ("add", true) => self.b.ins().fadd(a, b),
            ("sub", true) => self.b.ins().fsub(a, b),
            ("mul", true) => self.b.ins().fmul(a, b),
            ("div", true) => self.b.ins().fdiv(a, b),
            ("max", true) => {
                let larger = self.b.ins().fcmp(FloatCC::GreaterThan, a, b);
                self.first_or_nan(larger, a, b)
            }
            ("min", true) => {
                let smaller = self.b.ins().fcmp(FloatCC::LessThan, a, b);
                self.first_or_nan(smaller, a, b)
            }
            ("add", false) => self.b.ins().iadd(a, b),
            ("sub", false) => self.b.ins().isub(a, b),
            ("mul", false) => self.b.ins().imul(a, b),
            ("div" | "rem", false) => self.quotient(&view.op(m), ty, a, b),
            ("and", false) => self.b.ins().band(a, b),
            ("or", false) => self.b.ins().bor(a, b),
            ("xor", false) => self.b.ins().bxor(a, b),
            ("max", false) => self.b.ins().smax(a, b),
            ("min", false) => self.b.ins().smin(a, b),
            (other, _) => return Err(bug(format!("`{other}` of this type cannot be compiled"))),
        })
    }

    /// The quotient of integers, or what it leaves, without traps: by 0 both are 0, and by -1 the quotient is the negated
    /// dividend.
    fn quotient(&mut self, word: &str, ty: ir::Type, a: Value, b: Value) -> Value {
        let (zero, one) = (self.b.ins().iconst(ty, 0), self.b.ins().iconst(ty, 1));
        let by_zero = self.b.ins().icmp_imm_s(IntCC::Equal, b, 0);
        let by_minus_one = self.b.ins().icmp_imm_s(IntCC::Equal, b, -1);
        let special = self.b.ins().bor(by_zero, by_minus_one);
        let divisor = self.b.ins().select(special, one, b);
        let negated = self.b.ins().ineg(a);
        let (usual, of_minus_one) = match word {
            "div" => (self.b.ins().sdiv(a, divisor), negated),
            _ => (self.b.ins().srem(a, divisor), zero),
        };
        let value = self.b.ins().select(by_minus_one, of_minus_one, usual);
        self.b.ins().select(by_zero, zero, value)
    }

    fn compare(&mut self, view: Compare) -> Result<Value, CodegenError> {
        let m = self.c.m;
        let (a, b) = (self.value(view.lhs(m))?, self.value(view.rhs(m))?);
        let holds = match (&*view.op(m), register(m.ty(view.lhs(m)))? == F32) {
            ("eq", true) => self.b.ins().fcmp(FloatCC::Equal, a, b),
            ("lt", true) => self.b.ins().fcmp(FloatCC::LessThan, a, b),
            ("le", true) => self.b.ins().fcmp(FloatCC::LessThanOrEqual, a, b),
            ("eq", false) => self.b.ins().icmp(IntCC::Equal, a, b),
            ("lt", false) => self.b.ins().icmp(IntCC::SignedLessThan, a, b),
            ("le", false) => self.b.ins().icmp(IntCC::SignedLessThanOrEqual, a, b),
            (other, _) => return Err(bug(format!("unknown relation `{other}`"))),
        };
        Ok(self.b.ins().uextend(I32, holds))
    }

    /// `a` where `first` holds or where it is NaN, else `b`.
    fn first_or_nan(&mut self, first: Value, a: Value, b: Value) -> Value {
        let nan = self.b.ins().fcmp(FloatCC::Unordered, a, a);
        let first = self.b.ins().bor(first, nan);
        self.b.ins().select(first, a, b)
    }

    fn convert(&mut self, view: Convert) -> Result<Value, CodegenError> {
        let m = self.c.m;
        let x = self.value(view.x(m))?;
        let from = register(m.ty(view.x(m)))?;
        let Type::Scalar(to) = view.to(m) else { return Err(bug("`to` must be an element type")) };
        Ok(match (from, to) {
            (F32, Elem::F32) => x,
            (I64, Elem::F32) => self.b.ins().fcvt_from_sint(F32, x),
            (_, Elem::F32) => self.b.ins().fcvt_from_sint(F32, x),
            (F32, Elem::I64) => self.b.ins().fcvt_to_sint_sat(I64, x),
            (F32, Elem::I32) => self.b.ins().fcvt_to_sint_sat(I32, x),
            (F32, Elem::U8 | Elem::I8) => {
                let (lo, hi) = if to == Elem::U8 { (0, 255) } else { (-128, 127) };
                let wide = self.b.ins().fcvt_to_sint_sat(I32, x);
                let (lo, hi) = (self.b.ins().iconst(I32, i64::from(lo as u32)), self.b.ins().iconst(I32, hi));
                let low = self.b.ins().smax(wide, lo);
                self.b.ins().smin(low, hi)
            }
            (F32, Elem::Bool) => {
                let zero = self.b.ins().f32const(0.0f32);
                let set = self.b.ins().fcmp(FloatCC::NotEqual, x, zero);
                self.b.ins().uextend(I32, set)
            }
            (I64, Elem::I64) => x,
            (_, Elem::I64) => self.b.ins().sextend(I64, x),
            (_, Elem::Bool) => {
                let set = self.b.ins().icmp_imm_s(IntCC::NotEqual, x, 0);
                self.b.ins().uextend(I32, set)
            }
            (from, Elem::I32 | Elem::U8 | Elem::I8) => {
                let word = if from == I64 { self.b.ins().ireduce(I32, x) } else { x };
                match to {
                    Elem::I32 => word,
                    Elem::U8 => self.b.ins().band_imm_u(word, 255),
                    _ => {
                        let byte = self.b.ins().ireduce(I8, word);
                        self.b.ins().sextend(I32, byte)
                    }
                }
            }
            (_, Elem::Quant(_)) => return Err(bug("cannot convert to a quantized element")),
        })
    }
}

/// The register type of a scalar: small integers are held in 32 bits.
fn register(ty: &Type) -> Result<ir::Type, CodegenError> {
    match ty {
        Type::Index | Type::Scalar(Elem::I64) => Ok(I64),
        Type::Scalar(Elem::F32) => Ok(F32),
        Type::Scalar(_) => Ok(I32),
        _ => Err(bug("not a scalar")),
    }
}
