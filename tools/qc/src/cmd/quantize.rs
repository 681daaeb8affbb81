//! `qc quantize`: a model as ONNX with quantize/dequantize pairs, or its optimized floats, for other engines.

use crate::args::{ModelArgs, PrecisionArg};
use crate::calibration::{Calibrated, CalibrationArgs};
use crate::failure::{Failure, Outcome};
use crate::paths::Paths;
use crate::samples::{SampleArgs, TakeArgs};
use crate::table::bytes;
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_compiler::{CompileOptions, Compiler, ModelFile, Portable, Precision, check_output, write_together};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// How the name of an ONNX model ends.
const SUFFIX: &str = "onnx";

/// Write a model as ONNX with quantize/dequantize pairs, which ONNX Runtime and OpenVINO run as integers.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qc calibrate resnet50.onnx --data pictures/ --preprocess imagenet -o ranges.json
  qc quantize resnet50.onnx --ranges ranges.json -o resnet50_qdq.onnx
  qc quantize resnet50.onnx --data pictures/ --preprocess imagenet -n 200 -o resnet50_qdq.onnx
  qc quantize detector.onnx --data samples/ --target-drop 1% -o detector_qdq.onnx     (and the fewest ops in f32 that this takes)
  qc quantize mobilenet/ -o mobilenet.onnx --precision fp32      (floats, without the quantization of the model)")]
pub struct Quantize {
    /// An .onnx or .pdmodel file, or a Paddle directory
    model: PathBuf,
    /// The ONNX file; weights of more than 2 GiB are written to OUT.onnx.data beside it
    #[arg(short, long, value_name = "OUT.onnx")]
    out: PathBuf,
    #[command(flatten)]
    options: ModelArgs,
    /// Samples to calibrate on, as for `qc calibrate`, instead of --ranges
    #[arg(long, value_name = "SRC")]
    data: Option<PathBuf>,
    #[command(flatten)]
    take: TakeArgs,
    #[command(flatten)]
    how: CalibrationArgs,
    /// Write the ranges that were found, too
    #[arg(long, value_name = "RANGES.json", requires = "data")]
    save_ranges: Option<PathBuf>,
    /// The batch of the file; without it any, unless items of a batch meet in the model
    #[arg(long, value_name = "N", help_heading = "Compilation", value_parser = clap::value_parser!(u16).range(1..))]
    batch: Option<u16>,
    #[command(flatten)]
    json: JsonArgs,
}

impl Quantize {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        let read = std::iter::once(&self.model).chain(self.options.files()).chain(&self.data);
        let written = [&self.out, &data_file(&self.out)];
        Paths::default().reads(read).writes(written).writes(&self.save_ranges).writes(self.json.file())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        if self.out.extension().is_none_or(|suffix| suffix != SUFFIX) {
            let text = format!(
                "what is written is ONNX, whose name must end in .onnx; `qc compile` writes .so: {}",
                self.out.display()
            );
            return Err(Failure::usage(text));
        }
        self.options.none_that_compile()?;
        check_output(&self.out)?;
        let mut options = self.options.options()?;
        let file = self.options.open(&self.model, &options)?;
        let found = self.calibrate(&mut options, &file, ui)?;
        let beside = data_file(&self.out);
        let name = beside.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let (portable, dims) = self.portable(&options, &file, &name)?;
        self.paths().reads(&file.files_read()).check()?;
        let model = (self.out.as_path(), &portable.written.model[..]);
        let data = portable.written.data.as_ref().map(|data| (beside.as_path(), &data[..]));
        let ranges = found.as_ref().map(|found| found.ranges.to_json());
        let saved = self.save_ranges.as_deref().zip(ranges.as_ref()).map(|(to, ranges)| (to, ranges.as_bytes()));
        write_together(&[model].into_iter().chain(data).chain(saved).collect::<Vec<_>>())?;
        let json = || {
            let mut value = self.json(&portable);
            value["dims"] = dims.clone().into();
            value["calibration"] = found.as_ref().map(|found| found.json()).into();
            value
        };
        ui.report(&self.json, json, || {
            let calibrated = found.as_ref().map_or(String::new(), |found| found.text(&self.how));
            calibrated + &self.text(&portable, dims.as_deref(), &beside)
        })
    }

    /// The model as ONNX; where its own dims are open, at those of the first sample, which are told.
    fn portable(
        &self,
        options: &CompileOptions,
        file: &ModelFile,
        data_file: &str,
    ) -> Outcome<(Portable, Option<String>)> {
        let batch = self.batch.map(usize::from);
        let own = Compiler::new(options.clone()).portable(file, batch, data_file);
        let Some(samples) = self.samples().filter(|_| own.is_err()) else { return Ok((own?, None)) };
        let compiler = samples.compiler_of_first(options, file)?;
        let one =
            |(name, dims): &(Option<String>, Vec<usize>)| format!("{}{dims:?}", name.as_deref().unwrap_or_default());
        let dims = compiler.options().data.iter().map(one).collect::<Vec<_>>().join(", ");
        Ok((compiler.portable(file, batch, data_file)?, Some(dims)))
    }

    /// What ranges are found on.
    fn samples(&self) -> Option<SampleArgs> {
        Some(SampleArgs { data: self.data.clone()?, take: self.take.clone() })
    }

    /// Finds ranges on samples, if there are some, and gives them to the options.
    fn calibrate(&self, options: &mut CompileOptions, file: &ModelFile, ui: Ui) -> Outcome<Option<Calibrated>> {
        let Some(samples) = self.samples() else {
            let text = "-n, --preprocess, --threads and their kin are for samples; give --data";
            return if self.take.any() { Err(Failure::usage(text)) } else { Ok(None) };
        };
        if options.ranges.is_some() {
            return Err(Failure::usage(
                "--ranges are found already, and --data is to find some; leave one of them out",
            ));
        }
        if options.precision == Precision::Fp32 {
            return Err(Failure::usage("--data has no use with --precision fp32; leave one of them out"));
        }
        let found = self.how.find(&samples, options, file, ui)?;
        options.ranges = Some(found.ranges.clone());
        Ok(Some(found))
    }

    fn json(&self, portable: &Portable) -> Value {
        let [products, integer] = portable.products;
        json!({
            "schema": "qc.quantize/1",
            "out": self.out,
            "file_bytes": portable.written.model.len(),
            "data_bytes": portable.written.data.as_ref().map(Vec::len),
            "pairs": portable.pairs,
            "products": products,
            "integer_products": integer,
            "batch": portable.fixed_batch.as_ref().map(|(batch, _)| batch),
            "why_one_batch": portable.fixed_batch.as_ref().map(|(_, why)| why),
        })
    }

    fn text(&self, portable: &Portable, dims: Option<&str>, beside: &Path) -> String {
        let [products, integer] = portable.products;
        let mut text = match self.options.precision {
            PrecisionArg::Fp32 => format!("floats   {products} convolutions and matrix products\n"),
            _ => {
                format!("int8     {integer} of {products} convolutions and matrix products; {} pairs\n", portable.pairs)
            }
        };
        if let Some((batch, why)) = &portable.fixed_batch {
            text += &format!("note     for batch {batch} only: {why}\n");
        }
        if let Some(dims) = dims {
            text += &format!("note     for the shape of the first sample only: {dims}; --shape states another one\n");
        }
        let size = bytes(portable.written.model.len() as u64);
        text += &format!("wrote    {}  {size}\n", self.out.display());
        if let Some(data) = &portable.written.data {
            text += &format!("         {}  {}\n", beside.display(), bytes(data.len() as u64));
        }
        text
    }
}

/// The file of weights beside a model.
fn data_file(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_os_string();
    name.push(".data");
    name.into()
}
