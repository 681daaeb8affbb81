//! A model compiled by hand with Cranelift: `y[i] = x[i] + w[i % 4]` for f32 items of 4, batches 1 and 4.

#![allow(dead_code)]

use cranelift_codegen::ir::{AbiParam, InstBuilder, MemFlagsData, Signature, condcodes::IntCC, types};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};
use qc_codegen::{Target, elf, embed_object};
use qc_embed::abi::{ABI_VERSION, ELEM_F32, Frame, Io, Model, Step, Variant};
use qc_runtime::Elem;
use qc_runtime::note::{IoNote, Note, OpNote};
use std::mem::offset_of;

/// Floats per item.
pub const ITEM: usize = 4;

/// Weights of the toy model.
pub const WEIGHTS: [f32; ITEM] = [10.0, 20.0, -30.0, 0.25];

/// What the toy model computes.
pub fn expected(x: &[f32]) -> Vec<f32> {
    x.iter().enumerate().map(|(i, x)| x + WEIGHTS[i % ITEM]).collect()
}

/// Weights as bytes.
pub fn weights() -> Vec<u8> {
    WEIGHTS.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// Compilation of one toy object.
pub struct Toy {
    pub module: ObjectModule,
    context: FunctionBuilderContext,
}

impl Toy {
    pub fn new() -> Toy {
        let mut flags = settings::builder();
        flags.set("is_pic", "true").unwrap();
        flags.set("opt_level", "speed").unwrap();
        let isa = cranelift_native::builder().unwrap().finish(settings::Flags::new(flags)).unwrap();
        let mut builder = ObjectBuilder::new(isa, "toy", default_libcall_names()).unwrap();
        builder.per_function_section(true).per_data_object_section(true);
        Toy { module: ObjectModule::new(builder), context: FunctionBuilderContext::new() }
    }

    /// Signature of functions of `n` pointers without result.
    pub fn signature(&self, n: usize) -> Signature {
        let mut signature = self.module.make_signature();
        signature.params.resize(n, AbiParam::new(types::I64));
        signature
    }

    /// A step. With `copies`, it first copies its input to the arena by a near call of `memcpy`, which is the library's
    /// and so needs a stub; without, it makes a far call of a function of the embedded object.
    pub fn step(&mut self, name: &str, copies: bool) -> FuncId {
        let signature = self.signature(4);
        let id = self.module.declare_function(name, Linkage::Local, &signature).unwrap();
        let mut cx = self.module.make_context();
        cx.func.signature = signature;
        let (callee, arguments) = if copies { ("memcpy", 3) } else { ("qc_model_abi", 0) };
        let callee = self.module.declare_function(callee, Linkage::Import, &self.signature(arguments)).unwrap();
        let callee = self.module.declare_func_in_func(callee, &mut cx.func);
        cx.func.dfg.ext_funcs[callee].colocated = copies;
        let mut b = FunctionBuilder::new(&mut cx.func, &mut self.context);
        let (entry, head, body, exit) = (b.create_block(), b.create_block(), b.create_block(), b.create_block());
        b.append_block_params_for_function_params(entry);
        b.append_block_param(head, types::I64);
        b.switch_to_block(entry);
        let [frame, begin, end, _] = *b.block_params(entry) else { unreachable!() };
        let trusted = MemFlagsData::trusted();
        let load =
            |b: &mut FunctionBuilder, base, offset: usize| b.ins().load(types::I64, trusted, base, offset as i32);
        let arena = load(&mut b, frame, offset_of!(Frame, arena));
        let weights = load(&mut b, frame, offset_of!(Frame, weights));
        let io = load(&mut b, frame, offset_of!(Frame, io));
        let (mut x, y) = (load(&mut b, io, 0), load(&mut b, io, 8));
        let bytes = 4 * ITEM as i64;
        if copies {
            let count = b.ins().isub(end, begin);
            let count = b.ins().imul_imm_u(count, bytes);
            let from = b.ins().imul_imm_u(begin, bytes);
            let (to, from) = (b.ins().iadd(arena, from), b.ins().iadd(x, from));
            b.ins().call(callee, &[to, from, count]);
            x = arena;
        } else {
            b.ins().call(callee, &[]);
        }
        b.ins().jump(head, &[begin.into()]);
        b.switch_to_block(head);
        let i = b.block_params(head)[0];
        let more = b.ins().icmp(IntCC::UnsignedLessThan, i, end);
        b.ins().brif(more, body, &[], exit, &[]);
        b.switch_to_block(body);
        let offset = b.ins().imul_imm_u(i, bytes);
        let (from, to) = (b.ins().iadd(x, offset), b.ins().iadd(y, offset));
        // Data of callers is aligned to elements only.
        let unaligned = MemFlagsData::new();
        let value = b.ins().load(types::F32X4, unaligned, from, 0);
        let weight = b.ins().load(types::F32X4, unaligned, weights, 0);
        let sum = b.ins().fadd(value, weight);
        b.ins().store(unaligned, sum, to, 0);
        let next = b.ins().iadd_imm_u(i, 1);
        b.ins().jump(head, &[next.into()]);
        b.switch_to_block(exit);
        b.ins().return_(&[]);
        b.seal_all_blocks();
        b.finalize(self.module.target_config());
        self.module.define_function(id, &mut cx).unwrap();
        id
    }

    /// A read-only data object with addresses in it.
    pub fn data(&mut self, name: &str, bytes: Vec<u8>, addresses: &[(usize, Address)]) -> DataId {
        let linkage = if name == embed_object::MODEL_SYMBOL { Linkage::Export } else { Linkage::Local };
        let id = self.module.declare_data(name, linkage, false, false).unwrap();
        let mut data = DataDescription::new();
        data.define(bytes.into());
        data.set_align(8);
        for (offset, address) in addresses {
            match *address {
                Address::Data(target) => {
                    let value = self.module.declare_data_in_data(target, &mut data);
                    data.write_data_addr(*offset as u32, value, 0);
                }
                Address::Func(target) => {
                    let value = self.module.declare_func_in_data(target, &mut data);
                    data.write_function_addr(*offset as u32, value);
                }
            }
        }
        self.module.define_data(id, &data).unwrap();
        id
    }

    /// A NUL-terminated string.
    pub fn text(&mut self, symbol: &str, text: &str) -> DataId {
        self.data(symbol, format!("{text}\0").into_bytes(), &[])
    }

    pub fn finish(self) -> Vec<u8> {
        self.module.finish().emit().unwrap()
    }
}

/// What a field of a table is the address of.
#[derive(Clone, Copy)]
pub enum Address {
    Data(DataId),
    Func(FuncId),
}

/// The bytes of a table whose addresses are null.
fn bytes_of<T>(table: &T) -> Vec<u8> {
    // SAFETY: tables of the binary interface have no padding (their sizes are the sums of their fields'), and `table` is
    // readable for its size.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(table).cast::<u8>(), size_of::<T>()) }.to_vec()
}

/// The toy model's object, whose metadata is `json`.
pub fn object(json: &str) -> Vec<u8> {
    let mut toy = Toy::new();
    let (plain, copying) = (toy.step("step_add", false), toy.step("step_copy_add", true));
    let unused = toy.step("step_unused", false);
    let _ = unused;
    let (step_name, op) = (toy.text("n_step", "add1"), toy.text("n_op", "quant.add"));
    // The function's address is not null in any table; it is filled in by the loader.
    let zeroed = |bytes: usize| vec![0u8; bytes];
    let step = |toy: &mut Toy, symbol: &str, func, tasks: u64| {
        let mut bytes = zeroed(size_of::<Step>());
        bytes[offset_of!(Step, tasks)..][..8].copy_from_slice(&tasks.to_le_bytes());
        let addresses = [
            (offset_of!(Step, func), Address::Func(func)),
            (offset_of!(Step, name), Address::Data(step_name)),
            (offset_of!(Step, op), Address::Data(op)),
        ];
        toy.data(symbol, bytes, &addresses)
    };
    let steps_1 = step(&mut toy, "steps_1", copying, 1);
    let steps_4 = step(&mut toy, "steps_4", plain, 4);
    let mut variants = Vec::new();
    let mut addresses = Vec::new();
    for (n, (batch, steps)) in [(1, steps_1), (4, steps_4)].into_iter().enumerate() {
        let (null, shapes) = (std::ptr::null(), std::ptr::null());
        let arena_bytes = batch as u64 * 4 * ITEM as u64;
        let shape = [i64::from(batch), ITEM as i64, 0, 0, 0, 0, 0, 0].map(i64::to_le_bytes).concat();
        let table = toy.data(&format!("shapes_{batch}"), [shape.clone(), shape].concat(), &[]);
        addresses.push((n * size_of::<Variant>() + offset_of!(Variant, steps), Address::Data(steps)));
        addresses.push((n * size_of::<Variant>() + offset_of!(Variant, shapes), Address::Data(table)));
        variants.extend(bytes_of(&Variant {
            features: qc_kernels::Tier::Scalar.needs().bits(),
            shapes,
            batch: batch as u64,
            arena_bytes,
            n_steps: 1,
            steps: null,
            operands: std::ptr::null(),
            n_checks: 0,
            checks: std::ptr::null(),
        }));
    }
    let variants = toy.data("variants", variants, &addresses);
    let io = |toy: &mut Toy, symbol: &str, name: &str| {
        let name = toy.text(&format!("n_{symbol}"), name);
        let mut dims = [0; 8];
        dims[..2].copy_from_slice(&[1, ITEM as i64]);
        let io = Io {
            name: std::ptr::null(),
            elem: ELEM_F32,
            rank: 2,
            dims,
            bytes_per_item: 4 * ITEM as u64,
            batched: 1,
            counted: 0,
        };
        toy.data(symbol, bytes_of(&io), &[(offset_of!(Io, name), Address::Data(name))])
    };
    let (inputs, outputs) = (io(&mut toy, "inputs", "x"), io(&mut toy, "outputs", "y"));
    let (name, json) = (toy.text("n_model", "toy"), toy.text("n_json", json));
    let weights_symbol = embed_object::WEIGHTS_SYMBOL;
    let weights = toy.module.declare_data(weights_symbol, Linkage::Import, false, false).unwrap();
    let model = Model {
        abi_version: ABI_VERSION,
        model_bytes: size_of::<Model>() as u32,
        name: std::ptr::null(),
        json: std::ptr::null(),
        sha256: [0xab; 32],
        n_inputs: 1,
        inputs: std::ptr::null(),
        n_outputs: 1,
        outputs: std::ptr::null(),
        n_variants: 2,
        variants: std::ptr::null(),
        weights: std::ptr::null(),
        weights_bytes: 4 * ITEM as u64,
        whole_batches: 0,
    };
    let addresses = [
        (offset_of!(Model, name), Address::Data(name)),
        (offset_of!(Model, json), Address::Data(json)),
        (offset_of!(Model, inputs), Address::Data(inputs)),
        (offset_of!(Model, outputs), Address::Data(outputs)),
        (offset_of!(Model, variants), Address::Data(variants)),
        (offset_of!(Model, weights), Address::Data(weights)),
    ];
    toy.data(embed_object::MODEL_SYMBOL, bytes_of(&model), &addresses);
    toy.finish()
}

/// The toy model's note.
pub fn note() -> Note {
    let io = |name: &str| IoNote {
        name: name.into(),
        elem: Elem::F32,
        shape: vec![1, ITEM as i64],
        batched: true,
        shapes: Default::default(),
        choices: Vec::new(),
        counted: None,
    };
    Note {
        format: ABI_VERSION,
        name: "toy".into(),
        generator: "qc test".into(),
        tiers: vec!["scalar".into()],
        batches: vec![1, 4],
        whole_batches: None,
        model_sha256: "ab".repeat(32),
        options: Default::default(),
        inputs: vec![io("x")],
        outputs: vec![io("y")],
        ops: vec![OpNote { name: "add1".into(), op: "quant.add".into(), kernel: None, macs: 0, steps: 1 }],
        weights_bytes: 4 * ITEM as u64,
    }
}

/// Links objects with the embedded one.
pub fn link(object: &[u8], note: &str, weights: &[u8]) -> Result<Vec<u8>, elf::LinkError> {
    let target = Target::host().unwrap();
    let [kernels, executor] = target.objects;
    elf::link(&elf::LinkInput {
        target,
        objects: &[object, kernels, executor],
        weights,
        exports: &embed_object::exports("toy"),
        imports: target.imports,
        note,
        soname: "toy.so",
    })
}

/// The toy model as a shared object.
pub fn shared_object() -> Vec<u8> {
    let note = serde_json::to_string(&note()).unwrap();
    link(&object(&note), &note, &weights()).unwrap()
}
