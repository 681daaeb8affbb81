//! The image of a compiled model: its step functions and the tables of `qc_embed::abi`, in any Cranelift module.
//!
//! JIT and shared objects differ only in what the module is and in where the weights lie.

use crate::clif::{Base, StepCompiler};
use crate::embed_object::{MODEL_SYMBOL, WEIGHTS_SYMBOL};
use crate::functions::Functions;
use crate::{CodegenError, Target};
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module as CodeModule};
use qc_dialects::loops::{Alloc, Check, ConstBuffer, Parallel, Ukernel};
use qc_dialects::phase::arena_bytes;
use qc_embed::abi::{self, Io, Model, Step, Variant};
use qc_ir::{Counted, Deadline, Elem, Module, OpId, ValueId};
use qc_kernels::{Features, Tier, table};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::{offset_of, size_of};

/// One input or output.
#[derive(Clone, Debug)]
pub struct Port {
    /// Name in the model.
    pub name: String,
    /// Element type.
    pub elem: Elem,
    /// Dims of one batch item, of the first shape where there are several.
    pub dims: Vec<usize>,
    /// Whether dim 0 grows with the batch.
    pub batched: bool,
    /// Of an output, how much of it a run fills, if that differs from run to run.
    pub counted: Option<Counted>,
}

/// A planned module with selected kernels.
pub struct VariantInput<'a> {
    /// The program.
    pub module: &'a Module,
    /// What its kernels need of the processor: the needs of a tier.
    pub features: Features,
    /// Shapes of the inputs, then of the outputs. What is bound at run time chooses the variant by those of the inputs.
    pub shapes: &'a [Vec<usize>],
    /// Items of a batch that a call computes.
    pub batch: usize,
}

/// Everything an image is made from.
pub struct ImageInput<'a> {
    /// What the code is made for.
    pub target: &'a Target,
    /// Name of the model, also the prefix of exported functions.
    pub name: &'a str,
    /// Metadata, the text of `.note.qc`.
    pub json: &'a str,
    /// Hash of the source model.
    pub sha256: [u8; 32],
    /// Inputs in model order.
    pub inputs: &'a [Port],
    /// Outputs in model order.
    pub outputs: &'a [Port],
    /// Whether a batch is run whole, by the variant of just that batch.
    pub whole_batches: bool,
    /// Programs by features and shapes.
    pub variants: &'a [VariantInput<'a>],
    /// When code has to be there.
    pub deadline: Deadline,
}

impl ImageInput<'_> {
    /// Dims of one item of port `index`, inputs first; -1 where they differ between variants.
    fn declared(&self, index: usize, port: &Port) -> Vec<i64> {
        let dealt = port.batched && (index < self.inputs.len() || !self.whole_batches);
        let item = |v: &VariantInput<'_>| -> Vec<i64> {
            let shape = v.shapes.get(index).map_or(&[][..], Vec::as_slice);
            let rows = |d: usize| if d == 0 && dealt { v.batch.max(1) } else { 1 };
            shape.iter().enumerate().map(|(d, &n)| (n / rows(d)) as i64).collect()
        };
        let mut items = self.variants.iter().map(item);
        let mut dims = items.next().unwrap_or_else(|| port.dims.iter().map(|&n| n as i64).collect());
        for other in items {
            dims.iter_mut().zip(other).filter(|(dim, n)| **dim != *n).for_each(|(dim, _)| *dim = -1);
        }
        dims
    }

    /// How many functions the image will have at most, one for each step.
    pub fn functions(&self) -> usize {
        let steps = |m: &Module| m.ops(m.body()).filter(|op| Parallel::of(m, **op).is_some()).count();
        self.variants.iter().map(|v| steps(v.module)).sum()
    }
}

/// Places of all buffers of one variant.
fn bases(m: &Module, weights: &HashMap<ValueId, i64>) -> HashMap<ValueId, Base> {
    let mut bases: HashMap<ValueId, Base> = weights.iter().map(|(v, at)| (*v, Base::Weights(*at))).collect();
    for (i, &v) in m.args(m.body()).iter().enumerate() {
        bases.insert(v, Base::Io(i));
    }
    for &op in m.ops(m.body()) {
        if let Some(alloc) = Alloc::of(m, op) {
            bases.insert(alloc.buf(m), Base::Arena(alloc.offset(m)));
        }
    }
    bases
}

/// Puts functions and tables into `module` and returns the model's table.
///
/// # Errors
/// Loop code that cannot be compiled, a deadline that has passed, or a failure inside Cranelift.
pub fn define<T: CodeModule>(
    module: &mut T,
    input: &ImageInput<'_>,
    places: &[HashMap<ValueId, i64>],
    weights_bytes: usize,
    mut dump: Option<&mut String>,
) -> Result<DataId, CodegenError> {
    let (mut kernels, mut functions) = (HashMap::new(), Functions::default());
    let mut tables = Tables { module, strings: BTreeMap::new(), count: 0 };
    let mut variants = Table::new(size_of::<Variant>() * input.variants.len());
    for (n, (v, places)) in input.variants.iter().zip(places).enumerate() {
        let bases = bases(v.module, places);
        let tier = Tier::from_needs(v.features.bits()).map_or("other", Tier::name);
        let (mut steps, mut operands) = (Vec::new(), Vec::new());
        for &op in v.module.ops(v.module.body()) {
            if Parallel::of(v.module, op).is_none() {
                continue;
            }
            input.deadline.check()?;
            let name = format!("step_{tier}_{n}_{}", steps.len());
            let mut compiler = StepCompiler {
                module: &mut *tables.module,
                m: v.module,
                bases: &bases,
                kernels: &mut kernels,
                functions: &mut functions,
                dump: dump.as_deref_mut(),
            };
            let (function, own) = compiler.compile(op, &name)?;
            steps.push(Code { op, function, operands: operands.len() });
            operands.extend(own);
        }
        let (table, shapes) = (tables.steps(v.module, &steps)?, tables.shapes(v.shapes)?);
        let checks: Vec<Check> = v.module.ops(v.module.body()).filter_map(|&op| Check::of(v.module, op)).collect();
        let base = n * size_of::<Variant>();
        variants.data(base + offset_of!(Variant, shapes), shapes);
        variants.u64(base + offset_of!(Variant, features), v.features.bits());
        variants.u64(base + offset_of!(Variant, batch), v.batch as u64);
        variants.u64(base + offset_of!(Variant, arena_bytes), arena_bytes(v.module) as u64);
        variants.u64(base + offset_of!(Variant, n_steps), steps.len() as u64);
        variants.data(base + offset_of!(Variant, steps), table);
        variants.data(base + offset_of!(Variant, operands), tables.words(&operands)?);
        variants.u64(base + offset_of!(Variant, n_checks), checks.len() as u64);
        variants.data(base + offset_of!(Variant, checks), tables.checks(v.module, &checks)?);
    }
    let variants = tables.define(variants)?;
    tables.model(input, variants, weights_bytes)
}

/// The code of a step.
struct Code {
    op: OpId,
    function: FuncId,
    /// Where its operands begin among those of the variant.
    operands: usize,
}

/// Bytes with addresses to be filled in.
struct Table {
    bytes: Vec<u8>,
    data: Vec<(usize, DataId)>,
    functions: Vec<(usize, FuncId)>,
}

impl Table {
    fn new(len: usize) -> Table {
        Table { bytes: vec![0; len], data: Vec::new(), functions: Vec::new() }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    fn data(&mut self, at: usize, id: DataId) {
        self.data.push((at, id));
    }
}

struct Tables<'a, T: CodeModule> {
    module: &'a mut T,
    strings: BTreeMap<String, DataId>,
    count: usize,
}

impl<T: CodeModule> Tables<'_, T> {
    fn define(&mut self, table: Table) -> Result<DataId, CodegenError> {
        let name = format!("table_{}", self.count);
        self.count += 1;
        let id = self.module.declare_data(&name, Linkage::Local, false, false)?;
        self.define_as(id, table)
    }

    fn define_as(&mut self, id: DataId, table: Table) -> Result<DataId, CodegenError> {
        let mut data = DataDescription::new();
        data.define(table.bytes.into());
        data.set_align(16);
        for (at, other) in table.data {
            let reference = self.module.declare_data_in_data(other, &mut data);
            data.write_data_addr(at as u32, reference, 0);
        }
        for (at, function) in table.functions {
            let reference = self.module.declare_func_in_data(function, &mut data);
            data.write_function_addr(at as u32, reference);
        }
        self.module.define_data(id, &data)?;
        Ok(id)
    }

    /// A NUL-terminated string; equal strings are one.
    fn string(&mut self, text: &str) -> Result<DataId, CodegenError> {
        if let Some(&id) = self.strings.get(text) {
            return Ok(id);
        }
        let mut table = Table::new(0);
        table.bytes.extend(text.bytes().filter(|&b| b != 0).chain([0]));
        let id = self.define(table)?;
        self.strings.insert(text.to_string(), id);
        Ok(id)
    }

    fn words(&mut self, words: &[u64]) -> Result<DataId, CodegenError> {
        let mut table = Table::new(0);
        table.bytes.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        self.define(table)
    }

    fn steps(&mut self, m: &Module, steps: &[Code]) -> Result<DataId, CodegenError> {
        let mut table = Table::new(size_of::<Step>() * steps.len());
        for (n, &Code { op, function, operands }) in steps.iter().enumerate() {
            let nodes: Vec<&str> = m.locs.nodes(m.loc(op)).iter().map(|node| &*node.name).collect();
            let (name, kind) = (self.string(&nodes.join("+"))?, self.string(&kind(m, op))?);
            let base = n * size_of::<Step>();
            table.functions.push((base + offset_of!(Step, func), function));
            table.u64(base + offset_of!(Step, operands), operands as u64);
            table.u64(base + offset_of!(Step, tasks), Parallel(op).tasks(m) as u64);
            table.data(base + offset_of!(Step, name), name);
            table.data(base + offset_of!(Step, op), kind);
            table.u64(base + offset_of!(Step, macs), Parallel(op).macs(m) as u64);
            let (weights, data) = traffic(m, op);
            table.u64(base + offset_of!(Step, weights_bytes), weights);
            table.u64(base + offset_of!(Step, data_bytes), data);
        }
        self.define(table)
    }

    fn checks(&mut self, m: &Module, checks: &[Check]) -> Result<DataId, CodegenError> {
        let mut table = Table::new(size_of::<abi::Check>() * checks.len());
        for (n, check) in checks.iter().enumerate() {
            let base = n * size_of::<abi::Check>();
            let offset = Alloc::producing(m, check.buf(m)).map(|alloc| alloc.offset(m) as u64);
            let offset = offset.ok_or_else(|| CodegenError::LoopCode("a check of what is not in the arena".into()))?;
            let (what, rule) = (self.string(&check.what(m))?, self.string(&check.rule(m))?);
            let node = self.string(&check.node(m))?;
            table.u64(base + offset_of!(abi::Check, offset), offset);
            table.data(base + offset_of!(abi::Check, rule), rule);
            table.data(base + offset_of!(abi::Check, what), what);
            table.data(base + offset_of!(abi::Check, node), node);
        }
        self.define(table)
    }

    fn shapes(&mut self, shapes: &[Vec<usize>]) -> Result<DataId, CodegenError> {
        let mut table = Table::new(8 * abi::MAX_RANK * shapes.len());
        for (n, shape) in shapes.iter().enumerate() {
            // A port of a higher rank is refused with its name.
            for (d, &dim) in shape.iter().take(abi::MAX_RANK).enumerate() {
                table.u64(8 * (n * abi::MAX_RANK + d), dim as u64);
            }
        }
        self.define(table)
    }

    /// The ports, of which the first is number `first`, inputs first.
    fn ports(&mut self, input: &ImageInput<'_>, ports: &[Port], first: usize) -> Result<DataId, CodegenError> {
        let mut table = Table::new(size_of::<Io>() * ports.len());
        for (n, port) in ports.iter().enumerate() {
            if port.dims.len() > abi::MAX_RANK {
                return Err(CodegenError::Port { name: port.name.clone(), reason: "has more than 8 dims" });
            }
            let elem = match port.elem {
                Elem::F32 => abi::ELEM_F32,
                Elem::U8 | Elem::Bool => abi::ELEM_U8,
                Elem::I8 => abi::ELEM_I8,
                Elem::I32 => abi::ELEM_I32,
                Elem::I64 => abi::ELEM_I64,
                Elem::Quant(_) => {
                    return Err(CodegenError::Port { name: port.name.clone(), reason: "is quantized" });
                }
            };
            let base = n * size_of::<Io>();
            let name = self.string(&port.name)?;
            table.data(base + offset_of!(Io, name), name);
            table.u32(base + offset_of!(Io, elem), elem);
            table.u32(base + offset_of!(Io, rank), port.dims.len() as u32);
            let dims = input.declared(first + n, port);
            for (d, &dim) in dims.iter().take(abi::MAX_RANK).enumerate() {
                table.u64(base + offset_of!(Io, dims) + 8 * d, dim as u64);
            }
            let elements: u64 = if dims.contains(&-1) { 0 } else { dims.iter().product::<i64>() as u64 };
            let bytes = elements * abi::ELEM_BYTES[elem as usize] as u64;
            table.u64(base + offset_of!(Io, bytes_per_item), bytes);
            table.u32(base + offset_of!(Io, batched), u32::from(port.batched));
            let counted = port.counted.map_or(0, |c| (c.by as u32 + 1) | (c.axis as u32) << 16);
            table.u32(base + offset_of!(Io, counted), counted);
        }
        self.define(table)
    }

    fn model(&mut self, input: &ImageInput<'_>, variants: DataId, weights: usize) -> Result<DataId, CodegenError> {
        let inputs = self.ports(input, input.inputs, 0)?;
        let outputs = self.ports(input, input.outputs, input.inputs.len())?;
        let (name, json) = (self.string(input.name)?, self.string(input.json)?);
        let weights_id = self.module.declare_data(WEIGHTS_SYMBOL, Linkage::Import, false, false)?;
        let mut table = Table::new(size_of::<Model>());
        table.u32(offset_of!(Model, abi_version), abi::ABI_VERSION);
        table.u32(offset_of!(Model, model_bytes), size_of::<Model>() as u32);
        table.data(offset_of!(Model, name), name);
        table.data(offset_of!(Model, json), json);
        table.put(offset_of!(Model, sha256), &input.sha256);
        table.u64(offset_of!(Model, n_inputs), input.inputs.len() as u64);
        table.data(offset_of!(Model, inputs), inputs);
        table.u64(offset_of!(Model, n_outputs), input.outputs.len() as u64);
        table.data(offset_of!(Model, outputs), outputs);
        table.u64(offset_of!(Model, n_variants), input.variants.len() as u64);
        table.data(offset_of!(Model, variants), variants);
        table.data(offset_of!(Model, weights), weights_id);
        table.u64(offset_of!(Model, weights_bytes), weights as u64);
        table.u64(offset_of!(Model, whole_batches), u64::from(input.whole_batches));
        let id = self.module.declare_data(MODEL_SYMBOL, Linkage::Export, false, false)?;
        self.define_as(id, table)
    }
}

/// What a step does: the family of its first kernel, or scalar loops.
/// Bytes of the constants, and of the other buffers, that a step touches; each buffer counts once.
fn traffic(m: &Module, op: OpId) -> (u64, u64) {
    let inside = m.regions(op).iter().flat_map(|&r| m.walk(r));
    let buffers: BTreeSet<_> =
        inside.flat_map(|o| m.operands(o).iter().flatten().copied().collect::<Vec<_>>()).collect();
    let (mut weights, mut data) = (0, 0);
    for v in buffers {
        let Some(buffer) = m.ty(v).buffer() else { continue };
        let constant = m.producer(v).is_some_and(|p| ConstBuffer::of(m, p).is_some());
        *(if constant { &mut weights } else { &mut data }) += buffer.bytes as u64;
    }
    (weights, data)
}

fn kind(m: &Module, op: OpId) -> String {
    let first = m.regions(op).iter().flat_map(|&r| m.walk(r)).find_map(|o| Ukernel::of(m, o));
    match first.and_then(|k| table::by_name(&k.kernel(m))) {
        Some(row) => format!("{}.{}", row.family.name(), row.variant.name()),
        None => "scalar".into(),
    }
}
