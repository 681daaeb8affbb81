//! The options of Paddle's converters, spelt as there: `save_quant_model.py`, and `save_qat_model.py` before it.
//!
//! What they save is a program of Paddle for oneDNN; what is saved here is a `.so`, under the name that the option has, or as
//! [`SAVED`] in the folder that it names.

use crate::args::{ModelArgs, PrecisionArg, no_paddle_ids};
use crate::failure::{Failure, Outcome};
use clap::Args;
use std::path::{Path, PathBuf};

/// How a compiled model in a folder is called.
pub const SAVED: &str = "model.so";

/// What the converters are told.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "As Paddle's converters spell it")]
pub struct Converter {
    /// The model with fake-quant ops: as MODEL
    #[arg(long = "quant_model_path", value_name = "MODEL", alias = "qat_model_path", conflicts_with_all = ["model", "out"])]
    pub quant_model_path: Option<PathBuf>,
    /// Where the INT8 model goes: OUT.so, or a folder for model.so
    #[arg(long = "int8_model_save_path", value_name = "PATH", requires = "quant_model_path")]
    pub int8_model_save_path: Option<PathBuf>,
    /// Where the same model without its quantization goes, likewise
    #[arg(long = "fp32_model_save_path", value_name = "PATH", requires = "quant_model_path")]
    pub fp32_model_save_path: Option<PathBuf>,
    /// The program's file in the folder of the model
    #[arg(long = "quant_model_filename", value_name = "FILE", requires = "quant_model_path")]
    quant_model_filename: Option<String>,
    /// The file of its parameters there
    #[arg(long = "quant_params_filename", value_name = "FILE", requires = "quant_model_filename")]
    quant_params_filename: Option<String>,
    /// Numbers of nodes of Paddle's graph: nothing, or -1
    #[arg(long = "op_ids_to_skip", value_name = "LIST", allow_hyphen_values = true)]
    op_ids_to_skip: Option<String>,
    /// Not here: --print-ir-tree-dir shows the model after every pass
    #[arg(long = "debug")]
    debug: bool,
}

/// One thing to save.
pub struct Job {
    /// The `.so`.
    pub out: PathBuf,
    /// What is said when it is there; nothing for `-o`.
    pub said: Option<&'static str>,
    /// How it is compiled.
    pub options: ModelArgs,
}

impl Converter {
    /// Refuses what cannot be followed.
    ///
    /// # Errors
    /// A sentence with what does the same.
    pub fn check(&self) -> Outcome {
        no_paddle_ids(self.op_ids_to_skip.as_deref())?;
        if self.int8_model_save_path.is_some() && self.int8_model_save_path == self.fp32_model_save_path {
            return Err(Failure::usage("--int8_model_save_path and --fp32_model_save_path are one path; give two"));
        }
        match self.debug {
            true => Err(Failure::usage(
                "--debug draws Paddle's graphs; --print-ir-tree-dir DIR shows the model after every pass",
            )),
            false => Ok(()),
        }
    }

    /// The model.
    pub fn model(&self) -> Option<PathBuf> {
        let folder = self.quant_model_path.as_ref()?;
        let file = self.quant_model_filename.as_ref().filter(|file| !file.is_empty());
        Some(file.map_or_else(|| folder.clone(), |file| folder.join(file)))
    }

    /// What is to be saved, INT8 first.
    pub fn jobs(&self, options: &ModelArgs) -> Vec<Job> {
        let params = self.quant_params_filename.as_ref().filter(|file| !file.is_empty());
        let params = self.quant_model_path.as_ref().zip(params).map(|(folder, file)| folder.join(file));
        let options = ModelArgs { params: params.or_else(|| options.params.clone()), ..options.clone() };
        let floats = ModelArgs {
            precision: PrecisionArg::Fp32,
            params: options.params.clone(),
            shape: options.shape.clone(),
            constant: options.constant.clone(),
            limits: options.limits.clone(),
            ..ModelArgs::default()
        };
        let int8 = "Success! INT8 model obtained from the Quant model can be found at";
        let fp32 = "Success! FP32 model obtained from the Quant model can be found at";
        let given = [(&self.int8_model_save_path, int8, options), (&self.fp32_model_save_path, fp32, floats)];
        let job = |(path, said, options): (&Option<PathBuf>, _, _)| {
            Some(Job { out: place(path.as_ref()?), said: Some(said), options })
        };
        given.into_iter().filter_map(job).collect()
    }
}

/// The `.so` that a path stands for.
fn place(path: &Path) -> PathBuf {
    match path.extension().is_some_and(|suffix| suffix == "so") {
        true => path.into(),
        false => path.join(SAVED),
    }
}
