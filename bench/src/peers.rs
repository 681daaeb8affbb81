//! Processes that measure: this program for qc, a Python script for the peers.

use crate::Sample;
use qc_compiler::ShapeSpec;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The versions that are compared with.
const REQUIREMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/requirements.txt");
/// The script that measures a peer.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers.py");

/// The Python of a virtual environment that has the peers; makes the environment if there is none.
pub fn environment(dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let python = dir.join("bin/python");
    if !python.exists() {
        eprintln!("installing the peers into {} (about 500 MB)", dir.display());
        succeed(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
        succeed(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r", REQUIREMENTS]))?;
    }
    Ok(python)
}

fn succeed(command: &mut Command) -> Result<(), Box<dyn Error>> {
    match command.status()?.success() {
        true => Ok(()),
        false => Err(format!("{command:?} failed").into()),
    }
}

/// How a measuring process is run.
pub struct Process<'a> {
    /// Seconds to measure.
    pub seconds: f64,
    /// Threads of the engine.
    pub threads: u32,
    /// First core to pin to.
    pub core: usize,
    /// The tier the engine is held to.
    pub cpu: Option<&'a str>,
    /// Shapes of inputs that leave dims open.
    pub shapes: &'a [ShapeSpec],
    /// A Python that has the peers.
    pub python: Option<&'a Path>,
}

impl Process<'_> {
    /// One measurement of `engine` on `model` in a process of its own.
    pub fn run(&self, engine: &str, model: &Path) -> Result<Sample, Box<dyn Error>> {
        let cores = format!("{}-{}", self.core, self.core + self.threads as usize - 1);
        let pinned = Command::new("taskset").arg("--version").output().is_ok();
        let mut words: Vec<String> = if pinned { vec!["taskset".into(), "-c".into(), cores] } else { vec![] };
        let (model, seconds, threads) =
            (model.display().to_string(), self.seconds.to_string(), self.threads.to_string());
        if engine == "qc" {
            words.push(std::env::current_exe()?.display().to_string());
            words.extend(["--worker".into(), model, "-t".into(), seconds, "--threads".into(), threads]);
        } else {
            let python = self.python.ok_or("a peer needs --python or --venv")?;
            words.extend([python.display().to_string(), SCRIPT.into(), engine.into(), model, seconds, threads]);
            words.extend(self.shapes.iter().map(ShapeSpec::to_string));
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env("OMP_NUM_THREADS", self.threads.to_string());
        if let Some(cpu) = self.cpu {
            command.env("ONEDNN_MAX_CPU_ISA", onednn_name(cpu));
        }
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().rfind(|l| l.starts_with('{'));
        let line = line.ok_or_else(|| format!("{engine}: {}", String::from_utf8_lossy(&output.stderr)))?;
        Ok(serde_json::from_str(line)?)
    }
}

/// What oneDNN, which OpenVINO is built on, calls a tier.
fn onednn_name(cpu: &str) -> &str {
    match cpu {
        "scalar" => "SSE41",
        "avx2" => "AVX2",
        "avxvnni" => "AVX2_VNNI",
        "avx512vnni" => "AVX512_CORE_VNNI",
        _ => "DEFAULT",
    }
}
