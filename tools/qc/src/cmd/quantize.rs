//! `qc quantize`: a model as ONNX with quantize/dequantize pairs, or its optimized floats, for other engines.

use crate::args::{ModelArgs, PrecisionArg};
use crate::failure::{Failure, Outcome};
use crate::paths::Paths;
use crate::table::bytes;
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_compiler::{Compiler, Portable, check_output, write_together};
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
  qc quantize mobilenet/ -o mobilenet.onnx --precision fp32      (floats, without the quantization of the model)")]
pub struct Quantize {
    /// An .onnx or .pdmodel file, or a Paddle directory
    model: PathBuf,
    /// The ONNX file; weights of more than 2 GiB are written to OUT.onnx.data beside it
    #[arg(short, long, value_name = "OUT.onnx")]
    out: PathBuf,
    #[command(flatten)]
    options: ModelArgs,
    /// The batch of the file; without it any, unless items of a batch meet in the model
    #[arg(long, value_name = "N", help_heading = "Compilation", value_parser = clap::value_parser!(u16).range(1..))]
    batch: Option<u16>,
    #[command(flatten)]
    json: JsonArgs,
}

impl Quantize {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        let read = std::iter::once(&self.model).chain(self.options.files());
        Paths::default().reads(read).writes([&self.out, &data_file(&self.out)]).writes(self.json.file())
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
        let options = self.options.options()?;
        let file = self.options.open(&self.model, &options)?;
        let beside = data_file(&self.out);
        let name = beside.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let portable = Compiler::new(options).portable(&file, self.batch.map(usize::from), &name)?;
        self.paths().reads(&file.files_read()).check()?;
        let model = (self.out.as_path(), &portable.written.model[..]);
        let data = portable.written.data.as_ref().map(|data| (beside.as_path(), &data[..]));
        write_together(&[model].into_iter().chain(data).collect::<Vec<_>>())?;
        ui.report(&self.json, || self.json(&portable), || self.text(&portable, &beside))
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

    fn text(&self, portable: &Portable, beside: &Path) -> String {
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
