//! What a compilation can be told.

use crate::batch::Data;
use crate::ranges::Ranges;
use qc_frontend::ShapeSpec;
use qc_ir::{HostTensor, Limits, ManagerOptions};
use qc_kernels::Tier;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Which arithmetic is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Precision {
    /// INT8 where the model or the ranges say how, f32 elsewhere.
    #[default]
    Auto,
    /// As `Auto`, but a model without any quantization is an error.
    Int8,
    /// f32 everywhere; quantization in the model is removed.
    Fp32,
}

/// The instruction tiers an artefact holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum TargetCpu {
    /// The best one of this machine.
    #[default]
    Host,
    /// This one.
    Tier(Tier),
    /// All; the best is chosen when the artefact is loaded.
    Fat,
}

impl TargetCpu {
    /// The target called `word`.
    ///
    /// # Errors
    /// A sentence that lists the words.
    pub fn parse(word: &str) -> Result<TargetCpu, String> {
        match word {
            "host" => Ok(TargetCpu::Host),
            "fat" => Ok(TargetCpu::Fat),
            _ => match Tier::from_name(word) {
                Some(tier) => Ok(TargetCpu::Tier(tier)),
                _ => {
                    let names: Vec<&str> = Tier::ALL.iter().map(|t| t.name()).collect();
                    Err(format!("unknown target CPU `{word}`; known are host, {}, fat", names.join(", ")))
                }
            },
        }
    }

    /// The tiers, lowest first.
    pub fn tiers(&self) -> Vec<Tier> {
        match self {
            TargetCpu::Host => vec![qc_kernels::host::best(None)],
            TargetCpu::Tier(tier) => vec![*tier],
            TargetCpu::Fat => Tier::ALL.to_vec(),
        }
    }
}

/// The tiers of this machine, lowest first.
pub fn here() -> Vec<Tier> {
    Tier::ALL.iter().copied().filter(|&tier| qc_kernels::host::has(tier)).collect()
}

/// Whether integer arithmetic must pay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Guard {
    /// Ops whose conversions cost more than integers win stay float, by the cost model of `float-islands`.
    #[default]
    NeverSlower,
    /// Everything that can be is INT8.
    None,
}

/// Where formats come from besides the model and ranges.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Quantize {
    /// From nowhere.
    #[default]
    Given,
    /// From each run: products with constant weights are integer, the rows of their left sides in formats of their own.
    Dynamic,
    /// From weights alone: those of products and large tables are stored as s8, and computed with in f32.
    Weights,
}

/// What a residual addition takes of a convolution or product.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sums {
    /// What it has before it is rounded.
    #[default]
    Fused,
    /// 8 bits, as other engines do that run the pairs of a file; biases are rounded as in the file, too.
    Rounded,
}

/// How a model is compiled.
#[derive(Clone, Debug, Default)]
pub struct CompileOptions {
    /// Arithmetic.
    pub precision: Precision,
    /// Ranges of activations, for float models.
    pub ranges: Option<Ranges>,
    /// Where other formats come from.
    pub quantize: Quantize,
    /// Instruction tiers.
    pub target: TargetCpu,
    /// Compute every quantize/dequantize pair as written, with floats between them: for comparison with a reference.
    pub exact_qdq: bool,
    /// What residual additions take.
    pub sums: Sums,
    /// What stays f32: patterns with `*` and `?` on names of nodes, or `op:TYPE` for all nodes of a type.
    pub keep_fp32: Vec<String>,
    /// Types of ops that are quantized; empty for all.
    pub quantize_ops: Vec<String>,
    /// Whether integer arithmetic must pay. Without effect with `strict_int8`.
    pub guard: Guard,
    /// Any op that is float without having been asked for by name or type is an error.
    pub strict_int8: bool,
    /// Percentage of multiply-accumulates that must be INT8; less is an error.
    pub min_int8_macs: Option<f64>,
    /// Batch sizes with code of their own; empty for the default. A model whose items are not independent gets code for
    /// all batches from 1 to 8 besides.
    pub batches: Vec<usize>,
    /// Shapes of the arrays that the model is going to be run with: a model whose items are not independent gets code for
    /// their batch only. They also say what dims are that the model leaves open and `shapes` does not state.
    pub data: Data,
    /// Shapes of inputs, and sizes of named dims: every combination gets code of its own.
    pub shapes: Vec<ShapeSpec>,
    /// Values of inputs that are constants, by name: the model is compiled for them, and has these inputs no more.
    pub values: BTreeMap<String, HostTensor>,
    /// Where Paddle's combined parameters are, if not beside the model.
    pub params: Option<PathBuf>,
    /// Name of the model, the prefix of its exported functions; the file's stem by default.
    pub name: Option<String>,
    /// What the model may ask for. They do not change what a model becomes, so the artefact does not record them.
    pub limits: Limits,
    /// What the pass manager does besides running passes.
    pub manager: ManagerOptions,
}

/// Numbers of a constant input that an artefact records.
const RECORDED: usize = 16;

impl CompileOptions {
    /// The options that differ from the defaults, as the artefact records them.
    pub fn record(&self) -> BTreeMap<String, String> {
        let mut record = BTreeMap::new();
        match self.precision {
            Precision::Auto => {}
            Precision::Int8 => {
                record.insert("precision".into(), "int8".into());
            }
            Precision::Fp32 => {
                record.insert("precision".into(), "fp32".into());
            }
        }
        for (name, items) in [("keep-fp32", &self.keep_fp32), ("quantize-ops", &self.quantize_ops)] {
            if !items.is_empty() {
                record.insert(name.into(), items.join(", "));
            }
        }
        if self.guard == Guard::None {
            record.insert("guard".into(), "none".into());
        }
        match self.quantize {
            Quantize::Given => {}
            Quantize::Dynamic => {
                record.insert("quantize".into(), "dynamic".into());
            }
            Quantize::Weights => {
                record.insert("quantize".into(), "weights".into());
            }
        }
        if self.sums == Sums::Rounded {
            record.insert("sums".into(), "rounded".into());
        }
        if self.exact_qdq {
            record.insert("exact-qdq".into(), "true".into());
        }
        if !self.shapes.is_empty() {
            let shapes: Vec<String> = self.shapes.iter().map(ShapeSpec::to_string).collect();
            record.insert("shape".into(), shapes.join(" "));
        }
        if !self.values.is_empty() {
            let number = |t: &HostTensor, i: usize| {
                t.int(i).map_or_else(|| t.as_f32().map_or(0.0, |v| v[i]).to_string(), |n| n.to_string())
            };
            let one = |(name, t): (&String, &HostTensor)| {
                let numbers: Vec<String> = (0..t.len().min(RECORDED)).map(|i| number(t, i)).collect();
                format!("{name}={}{}", numbers.join(","), if t.len() > RECORDED { ",.." } else { "" })
            };
            record.insert("input".into(), self.values.iter().map(one).collect::<Vec<_>>().join(" "));
        }
        if let Some(r) = &self.ranges {
            record.insert("ranges".into(), format!("{} over {} samples", r.method, r.samples));
            record.extend(r.preprocess.iter().map(|recipe| ("preprocess".into(), recipe.clone())));
        }
        record
    }
}
