//! `qc calibrate`: ranges of a float model's tensors on samples.

use crate::args::{LimitArgs, ModelArgs};
use crate::calibration::CalibrationArgs;
use crate::failure::Outcome;
use crate::paths::Paths;
use crate::samples::SampleArgs;
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_compiler::caches::Cache;
use qc_compiler::{ModelFile, ShapeSpec, write_together};
use std::path::PathBuf;
use std::str::FromStr;

/// Find the ranges of a float model's tensors on sample data.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qc calibrate resnet50.onnx --data pictures/ --preprocess imagenet -n 200 -o ranges.json
  qc calibrate model.pdmodel --data samples.npz -o ranges.json
  qc calibrate encoder.onnx --data lengths/ -o ranges.json        (a file of samples for each length)
  qc calibrate detector.onnx --data samples/ -o ranges.json --target-drop 1%     (and which ops have to stay in f32)
  qc calibrate model.onnx --data samples.npz -o ranges.json --write-cache trt:model.cache
  qc calibrate qdq.onnx --ref float.onnx --data samples/ -o mended.json --target-snr 30    (of a quantized model: what mends it)")]
pub struct Calibrate {
    /// A float model, or with a target one that is quantized
    model: PathBuf,
    #[command(flatten)]
    samples: SampleArgs,
    /// The ranges file
    #[arg(short, long, value_name = "RANGES.json")]
    out: PathBuf,
    /// Write the ranges for another tool, too: `trt` is TensorRT's table, `ort` and `ort-json`, `ort-table`, `ort-flatbuffers` are
    /// ONNX Runtime's files, `paddle` is its dictionary of thresholds
    #[arg(long, value_name = "KIND:FILE", value_parser = CacheFile::from_str)]
    write_cache: Vec<CacheFile>,
    #[command(flatten)]
    how: CalibrationArgs,
    /// Paddle's combined parameters, if not beside the model
    #[arg(long, value_name = "FILE")]
    params: Option<PathBuf>,
    /// Shape of an input, as for `qc compile`
    #[arg(long, value_name = "NAME[DIMS]", value_parser = ShapeSpec::from_str)]
    shape: Vec<ShapeSpec>,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    json: JsonArgs,
}

/// A file of ranges for another tool.
#[derive(Clone, Debug)]
struct CacheFile {
    kind: Cache,
    path: PathBuf,
}

impl FromStr for CacheFile {
    type Err = String;

    fn from_str(text: &str) -> Result<CacheFile, String> {
        let (kind, path) = text.split_once(':').filter(|(_, path)| !path.is_empty()).ok_or("write KIND:FILE")?;
        Ok(CacheFile { kind: kind.parse()?, path: path.into() })
    }
}

impl Calibrate {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        Paths::default()
            .reads([&self.model, &self.samples.data])
            .reads(&self.params)
            .reads(self.how.files())
            .writes([&self.out])
            .writes(self.write_cache.iter().map(|cache| &cache.path))
            .writes(self.json.file())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        let (params, shape, limits) = (self.params.clone(), self.shape.clone(), self.limits.clone());
        let options = ModelArgs { params, shape, limits, ..ModelArgs::default() }.options()?;
        let file = ModelFile::open_within(&self.model, self.params.as_deref(), &options.limits)?;
        self.paths().reads(&file.files_read()).check()?;
        let found = self.how.find(&self.samples, &options, &file, ui)?;
        self.paths().reads(&file.files_read()).check()?;
        let caches: Vec<(&PathBuf, Vec<u8>)> =
            self.write_cache.iter().map(|cache| (&cache.path, cache.kind.write(&found.ranges))).collect();
        let own = (self.out.as_path(), found.ranges.to_json());
        let all = caches.iter().map(|(path, bytes)| (path.as_path(), &bytes[..])).chain([(own.0, own.1.as_bytes())]);
        write_together(&all.collect::<Vec<_>>())?;
        let json = || {
            let mut fields = found.json();
            fields.insert("schema".into(), "qc.calibrate/1".into());
            fields.insert("out".into(), self.out.display().to_string().into());
            fields.into()
        };
        ui.report(&self.json, json, || {
            let out = self.out.display();
            let next = format!("next     qc compile {} -o OUT.so --ranges {out}\n", self.model.display());
            let more = self.write_cache.iter().map(|cache| format!("         {}\n", cache.path.display()));
            found.text(&self.how) + &format!("wrote    {out}\n") + &more.collect::<String>() + &next
        })
    }
}
