//! The image of a compiled model: its step functions and the tables of `qc_embed::abi`, in any Cranelift module.
//!
//! JIT and shared objects differ only in what the module is and in where the weights lie.

use crate::clif::{Base, StepCompiler};
use crate::embed_object::{MODEL_SYMBOL, WEIGHTS_SYMBOL};
use crate::{CodegenError, Target};
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module as CodeModule};
use qc_dialects::loops::{Alloc, Check, ConstBuffer, Parallel, Ukernel};
use qc_dialects::phase::arena_bytes;
use qc_embed::abi::{self, Io, Model, Step, Variant};
use qc_ir::{Deadline, Elem, Module, OpId, ValueId, content_hash};
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
    /// Dims of one batch item.
    pub dims: Vec<usize>,
    /// Whether dim 0 grows with the batch.
    pub batched: bool,
}

/// A planned module with selected kernels.
pub struct VariantInput<'a> {
    /// The program.
    pub module: &'a Module,
    /// What its kernels need of the processor: the needs of a tier.
    pub features: Features,
    /// Shapes of the inputs, then of the outputs. What is bound at run time chooses the variant by those of the inputs.
    pub shapes: &'a [Vec<usize>],
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
    /// How many functions the image will have, one for each step.
    pub fn functions(&self) -> usize {
        let steps = |m: &Module| m.ops(m.body()).filter(|op| Parallel::of(m, **op).is_some()).count();
        self.variants.iter().map(|v| steps(v.module)).sum()
    }
}

/// Packed weights of all variants, each distinct constant once.
#[derive(Default)]
pub struct Weights {
    bytes: Vec<u8>,
    seen: HashMap<u64, Vec<(usize, usize)>>,
}

impl Weights {
    /// The weights of all `variants`, and where each constant buffer lies.
    pub fn collect(variants: &[VariantInput<'_>]) -> (Weights, Vec<HashMap<ValueId, i64>>) {
        let mut weights = Weights::default();
        let mut places = Vec::new();
        for v in variants {
            let m = v.module;
            let mut own = HashMap::new();
            for &op in m.ops(m.body()) {
                if let Some(data) = ConstBuffer::of(m, op) {
                    let at = weights.add(&m.consts.get(data.value(m)).tensor.data().to_bytes());
                    own.insert(data.buf(m), at as i64);
                }
            }
            places.push(own);
        }
        (weights, places)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn add(&mut self, data: &[u8]) -> usize {
        let known = self.seen.entry(content_hash(data)).or_default();
        if let Some(&(at, _)) = known.iter().find(|&&(at, len)| self.bytes[at..at + len] == *data) {
            return at;
        }
        let at = self.bytes.len().next_multiple_of(abi::ALIGN_BYTES);
        self.bytes.resize(at, 0);
        self.bytes.extend_from_slice(data);
        known.push((at, data.len()));
        at
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
    let mut kernels = HashMap::new();
    let mut tables = Tables { module, strings: BTreeMap::new(), count: 0 };
    let mut variants = Table::new(size_of::<Variant>() * input.variants.len());
    for (n, (v, places)) in input.variants.iter().zip(places).enumerate() {
        let bases = bases(v.module, places);
        let tier = Tier::from_needs(v.features.bits()).map_or("other", Tier::name);
        let mut steps = Vec::new();
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
                dump: dump.as_deref_mut(),
            };
            steps.push((op, compiler.compile(op, &name)?));
        }
        let (table, shapes) = (tables.steps(v.module, &steps)?, tables.shapes(v.shapes)?);
        let checks: Vec<Check> = v.module.ops(v.module.body()).filter_map(|&op| Check::of(v.module, op)).collect();
        let base = n * size_of::<Variant>();
        variants.data(base + offset_of!(Variant, shapes), shapes);
        variants.u64(base + offset_of!(Variant, features), v.features.bits());
        variants.u64(base + offset_of!(Variant, arena_bytes), arena_bytes(v.module) as u64);
        variants.u64(base + offset_of!(Variant, n_steps), steps.len() as u64);
        variants.data(base + offset_of!(Variant, steps), table);
        variants.u64(base + offset_of!(Variant, n_checks), checks.len() as u64);
        variants.data(base + offset_of!(Variant, checks), tables.checks(v.module, &checks)?);
    }
    let variants = tables.define(variants)?;
    tables.model(input, variants, weights_bytes)
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

    fn steps(&mut self, m: &Module, steps: &[(OpId, FuncId)]) -> Result<DataId, CodegenError> {
        let mut table = Table::new(size_of::<Step>() * steps.len());
        for (n, &(op, function)) in steps.iter().enumerate() {
            let nodes: Vec<&str> = m.locs.nodes(m.loc(op)).iter().map(|node| &*node.name).collect();
            let (name, kind) = (self.string(&nodes.join("+"))?, self.string(&kind(m, op))?);
            let base = n * size_of::<Step>();
            table.functions.push((base + offset_of!(Step, func), function));
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
            let (what, node) = (self.string(&check.what(m))?, self.string(&check.node(m))?);
            table.u64(base + offset_of!(abi::Check, offset), offset);
            table.u64(base + offset_of!(abi::Check, size), check.size(m) as u64);
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

    fn ports(&mut self, ports: &[Port]) -> Result<DataId, CodegenError> {
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
            for (d, &dim) in port.dims.iter().enumerate() {
                table.u64(base + offset_of!(Io, dims) + 8 * d, dim as u64);
            }
            let bytes = port.dims.iter().product::<usize>() * abi::ELEM_BYTES[elem as usize];
            table.u64(base + offset_of!(Io, bytes_per_item), bytes as u64);
            table.u32(base + offset_of!(Io, batched), u32::from(port.batched));
        }
        self.define(table)
    }

    fn model(&mut self, input: &ImageInput<'_>, variants: DataId, weights: usize) -> Result<DataId, CodegenError> {
        let (inputs, outputs) = (self.ports(input.inputs)?, self.ports(input.outputs)?);
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
