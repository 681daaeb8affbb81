//! Arguments that several commands share.

use crate::failure::{Failure, Outcome};
use clap::{Args, ValueEnum};
use qc_compiler::{CompileOptions, Guard, ModelFile, Precision, Quantize, Ranges, ShapeSpec, Sums};
use qc_ir::{HostTensor, Limits, ManagerOptions, Select};
use qc_runtime::Check;
use std::path::PathBuf;
use std::str::FromStr;

/// An input that is a constant.
#[derive(Clone, Debug)]
pub struct InputValue {
    /// The input.
    pub name: String,
    /// Its elements; those of several are a list.
    pub value: HostTensor,
}

impl FromStr for InputValue {
    type Err = String;

    /// Reads `NAME=NUMBER` or `NAME=NUMBER,NUMBER,..`; `true` and `false` are 1 and 0.
    fn from_str(text: &str) -> Result<InputValue, String> {
        let (name, values) = text.split_once('=').ok_or("expected NAME=VALUE, such as sr=16000")?;
        let words: Vec<&str> = values.split(',').map(str::trim).collect();
        let dims = if words.len() == 1 { Vec::new() } else { vec![words.len()] };
        let int = |word: &&str| match *word {
            "true" => Some(1),
            "false" => Some(0),
            word => word.parse::<i64>().ok(),
        };
        let wrong = || format!("`{values}` is no number and no list of numbers");
        let value = match words.iter().map(int).collect::<Option<Vec<i64>>>() {
            Some(ints) => HostTensor::i64(dims, ints),
            None => {
                let floats = words.iter().map(|w| w.parse::<f32>().ok()).collect::<Option<Vec<f32>>>();
                HostTensor::f32(dims, floats.ok_or_else(wrong)?)
            }
        };
        if name.is_empty() {
            Err("the input's name is missing".into())
        } else {
            Ok(InputValue { name: name.into(), value })
        }
    }
}

/// Which arithmetic to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum PrecisionArg {
    /// INT8 where the model or the ranges say how, f32 elsewhere
    #[default]
    Auto,
    /// As auto, but a model without quantization is an error
    Int8,
    /// f32 everywhere; quantization in the model is removed
    Fp32,
}

/// What is quantized besides what the model and ranges say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum QuantizeArg {
    /// Nothing
    #[default]
    Given,
    /// Products with constant weights, by the ranges of a run
    Dynamic,
    /// Weights of products and large tables alone; sums stay floats
    Weights,
}

/// What a residual addition takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum SumsArg {
    /// What the convolution or product in front has before it is rounded
    #[default]
    Fused,
    /// 8 bits; biases are rounded to units of the accumulator, too
    Rounded,
}

/// Whether integers must pay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum GuardArg {
    /// Yes, by a model of costs
    #[default]
    NeverSlower,
    /// No: INT8 wherever it is possible
    None,
    /// Yes, by times on this machine; for `qc compile`, which tells the ops as rules for other machines
    Measured,
}

/// Reads `0.5` or `0.5%`.
pub fn percentage(text: &str) -> Result<f64, String> {
    let value: Option<f64> = text.trim_end_matches('%').parse().ok();
    value.filter(|p| (0.0..=100.0).contains(p)).ok_or_else(|| format!("`{text}` is no percentage from 0 to 100"))
}

/// How a model is to be compiled.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Compilation")]
pub struct ModelArgs {
    /// Ranges of activations from `qc calibrate`, or a calibration cache of ONNX Runtime, TensorRT or Paddle, to compute a float model
    /// in INT8
    #[arg(long, value_name = "FILE")]
    pub ranges: Option<PathBuf>,
    /// Take ranges that were found on another model: tensors are matched by name alone
    #[arg(long, requires = "ranges")]
    pub foreign_ranges: bool,
    /// Arithmetic
    #[arg(long, value_enum, default_value_t)]
    pub precision: PrecisionArg,
    /// What is quantized besides what the model and ranges say: `dynamic` multiplies by constant weights in INT8, the rows
    /// of the other side quantized by the ranges that they have in a run; `weights` stores constants in INT8 and computes
    /// in f32, for models that memory binds
    #[arg(long, value_enum, default_value_t)]
    pub quantize: QuantizeArg,
    /// Compute every quantize/dequantize pair of the model as written, with floats between them: what an unoptimized
    /// reference computes, and Paddle of a graph with fake-quant ops, at the speed of floats
    #[arg(long, visible_alias = "emulate-qat")]
    pub exact_qdq: bool,
    /// What a residual addition takes of the convolution or product in front: `rounded` is what ONNX Runtime and OpenVINO
    /// compute of the file that `qc quantize` writes
    #[arg(long, value_enum, default_value_t)]
    pub sums: SumsArg,
    /// Keep nodes in f32: a pattern with * and ? on names of nodes, op:TYPE for all nodes of a type, or @FILE with one a
    /// line
    #[arg(long, value_name = "GLOB|op:TYPE", alias = "skip-nodes")]
    pub keep_fp32: Vec<String>,
    /// Quantize ops of these types only, as conv2d,Gemm; types are the model's or those of `qc opt`
    #[arg(long, value_name = "TYPE,...", value_delimiter = ',',
          aliases = ["ops-to-quantize", "ops_to_quantize", "quantized_ops"])]
    pub quantize_ops: Vec<String>,
    /// Whether ops stay float whose conversions would cost more than integers win
    #[arg(long, value_enum, default_value_t)]
    pub guard: GuardArg,
    /// Fail with status 3 and name every op that is not INT8; those of --keep-fp32 and not of --quantize-ops are meant
    #[arg(long)]
    pub strict_int8: bool,
    /// Fail with status 3 when less than PCT percent of the multiply-accumulates are INT8
    #[arg(long, value_name = "PCT", value_parser = percentage)]
    pub min_int8_macs: Option<f64>,
    /// Paddle's combined parameters, if not beside the model
    #[arg(long, value_name = "FILE")]
    pub params: Option<PathBuf>,
    /// Shape of an input, as x[?,3,224,224] or x=?,3,224,224; ? is the batch. Dims may be {320,640}, 32..960:32 (960 is part
    /// of it), or names, as in ids[?,S={16,128}] and mask[?,S]: a name is one size wherever it stands, and S={16,128} gives a
    /// name of the model its sizes. Every combination gets code of its own
    #[arg(long, value_name = "NAME[DIMS]", value_parser = ShapeSpec::from_str)]
    pub shape: Vec<ShapeSpec>,
    /// Make an input a constant, as sr=16000 or axes=0,-1: the model is compiled for that value and has the input no more
    #[arg(long, value_name = "NAME=VALUE", value_parser = InputValue::from_str)]
    pub constant: Vec<InputValue>,
    /// Of a .so, check everything but the weights before running it, which saves reading them twice
    #[arg(long)]
    pub skip_weights_check: bool,
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// What a model may ask for.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Raise or lower a limit: file, nodes, tensors, inputs, rank, elements, params, depth, time, memory, artefact or variants;
    /// exit status 5 says that a model goes beyond one. Bytes and counts take K, M, G; times s, m, h
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = limit)]
    limits: Vec<String>,
    /// As --limit time=TIME: how long compiling may take
    #[arg(long, value_name = "TIME", value_parser = limit_of_time)]
    timeout: Option<String>,
    /// As --limit memory=BYTES: working memory that the compiled model may need
    #[arg(long, value_name = "BYTES", value_parser = limit_of_memory)]
    max_memory: Option<String>,
}

fn limit(text: &str) -> Result<String, String> {
    Limits::default().set(text).map(|()| text.to_string())
}

fn limit_of_time(text: &str) -> Result<String, String> {
    limit(&format!("time={text}"))
}

fn limit_of_memory(text: &str) -> Result<String, String> {
    limit(&format!("memory={text}"))
}

impl LimitArgs {
    /// The limits; of the short options and `--limit`, the latter counts.
    pub fn limits(&self) -> Outcome<Limits> {
        let mut limits = Limits::default();
        for text in self.timeout.iter().chain(&self.max_memory).chain(&self.limits) {
            limits.set(text).map_err(Failure::usage)?;
        }
        Ok(limits)
    }
}

impl ModelArgs {
    /// Whether anything is given, which makes sense for models only.
    fn any(&self) -> bool {
        let none = ModelArgs::default();
        self.ranges.is_some()
            || self.precision != none.precision
            || self.quantize != none.quantize
            || self.exact_qdq
            || self.sums != none.sums
            || !self.keep_fp32.is_empty()
            || !types(&self.quantize_ops).is_empty()
            || self.guard != none.guard
            || self.strict_int8
            || self.min_int8_macs.is_some()
            || self.params.is_some()
            || !self.shape.is_empty()
            || !self.constant.is_empty()
    }

    /// The files that the options name.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.ranges.iter().chain(&self.params)
    }

    /// Refuses options of the compiler for a model that is compiled already.
    pub fn none_for(&self, compiled: &std::path::Path) -> Outcome {
        if self.any() {
            let text = "is compiled already; --ranges, --precision, --quantize, --exact-qdq, --sums, --keep-fp32, --quantize-ops, --guard, \
                        --strict-int8, --min-int8-macs, --params, --shape and --constant are for models";
            return Err(Failure::usage(format!("{} {text}", compiled.display())));
        }
        Ok(())
    }

    /// Refuses what decides how pairs are computed, for a command that writes them.
    pub fn none_that_compile(&self) -> Outcome {
        let choices = [
            ("--quantize", self.quantize != QuantizeArg::default()),
            ("--exact-qdq", self.exact_qdq),
            ("--sums", self.sums != SumsArg::default()),
            ("--guard", self.guard != GuardArg::default()),
            ("--strict-int8", self.strict_int8),
            ("--min-int8-macs", self.min_int8_macs.is_some()),
        ];
        match choices.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Failure::usage(format!(
                "{name} says how a model is computed, and this command writes it; leave it out"
            ))),
            None => Ok(()),
        }
    }

    /// Refuses what decides between integers and floats beside `--exact-qdq`, under which every op computes in floats.
    fn exact_alone(&self) -> Outcome {
        let choices = [
            ("--ranges", self.ranges.is_some()),
            ("--precision", self.precision != PrecisionArg::Auto),
            ("--quantize", self.quantize != QuantizeArg::default()),
            ("--sums", self.sums != SumsArg::default()),
            ("--keep-fp32", !self.keep_fp32.is_empty()),
            ("--quantize-ops", !types(&self.quantize_ops).is_empty()),
            ("--guard", self.guard != GuardArg::default()),
            ("--strict-int8", self.strict_int8),
            ("--min-int8-macs", self.min_int8_macs.is_some()),
        ];
        match choices.iter().find(|(_, given)| self.exact_qdq && *given) {
            Some((name, _)) => {
                let text = "has no use with --exact-qdq, which computes every op in floats; leave one of them out";
                Err(Failure::usage(format!("{name} {text}")))
            }
            None => Ok(()),
        }
    }

    /// Reads the model at `path`; `options` are those of [`ModelArgs::options`].
    pub fn open(&self, path: &std::path::Path, options: &CompileOptions) -> Outcome<ModelFile> {
        let file = ModelFile::open_within(path, options.params.as_deref(), &options.limits)?;
        if let (Some(from), Some(ranges), false) = (&self.ranges, &options.ranges, self.foreign_ranges) {
            ranges.check_model(from, &file)?;
        }
        Ok(file)
    }

    /// How much of a `.so` is checked before it is loaded.
    pub fn check(&self) -> Check {
        if self.skip_weights_check { Check::Code } else { Check::All }
    }

    /// The options of the compiler; reads the ranges file.
    pub fn options(&self) -> Outcome<CompileOptions> {
        if self.guard == GuardArg::Measured {
            let text =
                "--guard measured is for `qc compile`; give the ops that it tells with --keep-fp32, and --guard none";
            return Err(Failure::usage(text));
        }
        self.options_to_measure()
    }

    /// As [`ModelArgs::options`], for a command that does what `--guard measured` asks for.
    pub fn options_to_measure(&self) -> Outcome<CompileOptions> {
        if self.skip_weights_check {
            return Err(Failure::usage("--skip-weights-check is for a compiled .so"));
        }
        let precision = match self.precision {
            PrecisionArg::Auto => Precision::Auto,
            PrecisionArg::Int8 => Precision::Int8,
            PrecisionArg::Fp32 => Precision::Fp32,
        };
        self.exact_alone()?;
        let ranges = self.ranges.as_deref().map(Ranges::read).transpose()?;
        if ranges.is_some() && precision == Precision::Fp32 {
            return Err(Failure::usage("--ranges has no use with --precision fp32; leave one of them out"));
        }
        if self.quantize != QuantizeArg::Given && precision == Precision::Fp32 {
            return Err(Failure::usage("--quantize has no use with --precision fp32; leave one of them out"));
        }
        Ok(CompileOptions {
            precision,
            ranges,
            quantize: match self.quantize {
                QuantizeArg::Given => Quantize::Given,
                QuantizeArg::Dynamic => Quantize::Dynamic,
                QuantizeArg::Weights => Quantize::Weights,
            },
            exact_qdq: self.exact_qdq,
            sums: match self.sums {
                SumsArg::Fused => Sums::Fused,
                SumsArg::Rounded => Sums::Rounded,
            },
            keep_fp32: kept(&self.keep_fp32)?,
            quantize_ops: types(&self.quantize_ops),
            guard: match self.guard {
                GuardArg::NeverSlower => Guard::NeverSlower,
                // What is measured decides instead of the model of costs.
                GuardArg::None | GuardArg::Measured => Guard::None,
            },
            strict_int8: self.strict_int8,
            min_int8_macs: self.min_int8_macs,
            shapes: self.shape.clone(),
            values: self.constant.iter().map(|v| (v.name.clone(), v.value.clone())).collect(),
            params: self.params.clone(),
            limits: self.limits.limits()?,
            ..CompileOptions::default()
        })
    }
}

/// Refuses numbers of nodes, which Paddle gives to those of its own graph.
pub fn no_paddle_ids(given: Option<&str>) -> Outcome {
    match given.map_or("", str::trim) {
        "" | "-1" => Ok(()),
        _ => Err(Failure::usage(
            "--op_ids_to_skip numbers the nodes of Paddle's graph, which exist there only; name them by --keep-fp32 NODE, as \
             `qc check -v` lists them",
        )),
    }
}

/// The types of a list; one that is empty names none.
fn types(given: &[String]) -> Vec<String> {
    given.iter().map(|item| item.trim().to_string()).filter(|item| !item.is_empty()).collect()
}

/// The patterns of `--keep-fp32`, with those of files in the place of their names.
fn kept(given: &[String]) -> Outcome<Vec<String>> {
    let mut all = Vec::new();
    for item in given {
        let Some(path) = item.strip_prefix('@').map(std::path::Path::new) else {
            all.push(item.clone());
            continue;
        };
        let text = crate::pictures::read_text(path)?;
        all.extend(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_string));
    }
    Ok(all)
}

/// What the pass manager does besides running passes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Debugging the compiler")]
pub struct DebugArgs {
    /// Print the module before PASS, or before every pass
    #[arg(long, value_name = "PASS", num_args = 0..=1, require_equals = true, default_missing_value = "",
          value_delimiter = ',', alias = "mlir-print-ir-before")]
    pub print_ir_before: Option<Vec<String>>,
    /// Print the module after PASS
    #[arg(long, value_name = "PASS", num_args = 0..=1, require_equals = true, default_missing_value = "",
          value_delimiter = ',', alias = "mlir-print-ir-after")]
    pub print_ir_after: Option<Vec<String>>,
    /// Print the module after every pass
    #[arg(long, alias = "mlir-print-ir-after-all")]
    pub print_ir_after_all: bool,
    /// Print what changed after every pass that changed something
    #[arg(long, alias = "mlir-print-ir-after-change")]
    pub print_ir_after_change: bool,
    /// Write the module after every pass to a file in DIR
    #[arg(long, value_name = "DIR", alias = "mlir-print-ir-tree-dir")]
    pub print_ir_tree_dir: Option<PathBuf>,
    /// Print the time of every pass
    #[arg(long, alias = "mlir-timing")]
    pub timing: bool,
    /// Print the ops before and after every pass and what its patterns did
    #[arg(long, alias = "mlir-pass-statistics")]
    pub pass_statistics: bool,
    /// Run the interpreter around every pass and stop at the first that changes results
    #[arg(long)]
    pub check_each: bool,
    /// Verify the module after every pass
    #[arg(long)]
    pub verify_each: bool,
    /// Apply at most N rewrites, to search for a guilty one
    #[arg(long, value_name = "N")]
    pub rewrite_limit: Option<usize>,
    /// Where to keep the module before a pass that fails; a temporary file by default
    #[arg(long, value_name = "FILE", alias = "mlir-pass-pipeline-crash-reproducer")]
    pub crash_reproducer: Option<PathBuf>,
}

impl DebugArgs {
    /// The file that is written if a pass fails.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.crash_reproducer.iter()
    }

    /// The options of the pass manager.
    pub fn manager(&self) -> Outcome<ManagerOptions> {
        let select = |names: &Option<Vec<String>>| -> Outcome<Select> {
            let Some(names) = names else { return Ok(Select::None) };
            if names.iter().all(String::is_empty) {
                return Ok(Select::All);
            }
            match names.iter().find(|n| qc_passes::ALL.iter().all(|p| p.name != **n)) {
                None => Ok(Select::These(names.clone())),
                Some(name) => {
                    Err(Failure::usage(format!("there is no pass `{name}`; `qc opt --list-passes` lists all")))
                }
            }
        };
        let print_after = if self.print_ir_after_all { Select::All } else { select(&self.print_ir_after)? };
        let defaults = ManagerOptions::default();
        Ok(ManagerOptions {
            print_before: select(&self.print_ir_before)?,
            print_after,
            print_after_change: self.print_ir_after_change,
            tree: self.print_ir_tree_dir.is_some(),
            timing: self.timing,
            statistics: self.pass_statistics,
            verify_each: self.verify_each || defaults.verify_each,
            check_each: self.check_each,
            rewrite_limit: self.rewrite_limit.unwrap_or(defaults.rewrite_limit),
            deadline: None,
        })
    }
}
