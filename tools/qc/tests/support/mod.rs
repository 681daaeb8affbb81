//! Runs the command line as a user does.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A directory to work in, gone with the value.
pub struct Shell {
    pub dir: tempfile::TempDir,
}

/// What a command did.
pub struct Ran {
    pub line: String,
    pub status: i32,
    pub out: String,
    pub err: String,
}

/// A field of bytes in protobuf; they are less than 16 KiB.
pub fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let (low, high) = (bytes.len() % 128, u8::try_from(bytes.len() / 128).unwrap());
    let length = if high == 0 { vec![low as u8] } else { vec![low as u8 | 128, high] };
    [&[number << 3 | 2][..], &length, bytes].concat()
}

/// An ONNX model of one op on `x`, whose result is `y`; dims are below 128.
pub fn one_op(op: &str, x: &[u8], y: &[u8]) -> Vec<u8> {
    let dim = |n: u8| field(1, &[8, n]);
    let value = |name: &str, dims: &[u8]| {
        let shape: Vec<u8> = dims.iter().flat_map(|n| dim(*n)).collect();
        let tensor = [vec![8, 1], field(2, &shape)].concat();
        [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
    };
    let node = [field(1, b"x"), field(2, b"y"), field(3, b"n"), field(4, op.as_bytes())].concat();
    let graph = [field(1, &node), field(2, b"g"), field(11, &value("x", x)), field(12, &value("y", y))].concat();
    [vec![8, 8], field(7, &graph), field(8, &[16, 13])].concat()
}

/// A .npy file of elements of this NumPy type, `dims` written as Python does.
pub fn npy(dtype: &str, dims: &str, elements: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {dims}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.into_bytes());
    bytes.extend(elements);
    bytes
}

/// The shipped example.
pub fn digits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits")
}

impl Shell {
    pub fn new() -> Shell {
        Shell { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// Runs a line; `D/` stands for the example's folder.
    pub fn qc(&self, line: &str) -> Ran {
        self.qc_with(line, &[])
    }

    pub fn qc_with(&self, line: &str, variables: &[(&str, &str)]) -> Ran {
        let digits = digits();
        let word = |w: &str| w.replace("D/", &format!("{}/", digits.display()));
        let words: Vec<String> = line.split_whitespace().map(word).collect();
        self.words_with(&words, variables)
    }

    /// Runs words, which may hold spaces.
    pub fn words(&self, words: &[&str]) -> Ran {
        self.words_with(&words.iter().map(|w| w.to_string()).collect::<Vec<_>>(), &[])
    }

    fn words_with(&self, words: &[String], variables: &[(&str, &str)]) -> Ran {
        let (digits, line) = (digits(), words.join(" "));
        let mut command = Command::new(env!("CARGO_BIN_EXE_qc"));
        command.current_dir(self.dir.path()).args(words).stdin(Stdio::null());
        for name in ["QC_CPU", "QC_NUM_THREADS", "OMP_NUM_THREADS", "QC_CONFIG"] {
            command.env_remove(name);
        }
        // Crash reports of tests that provoke one stay in the test's directory.
        // The configuration of the user who runs the tests is not that of the tests.
        command.env("XDG_CONFIG_HOME", self.dir.path());
        let done = command.env("TMPDIR", self.dir.path()).envs(variables.iter().copied()).output().unwrap();
        let text = |bytes: &[u8]| {
            let digits = format!("{}/", digits.display());
            String::from_utf8_lossy(bytes).replace(&digits, "D/")
        };
        Ran {
            line: line.to_string(),
            status: done.status.code().unwrap_or(-1),
            out: text(&done.stdout),
            err: text(&done.stderr),
        }
    }

    /// Runs a line that must succeed and returns what it printed.
    pub fn ok(&self, line: &str) -> String {
        let ran = self.qc(line);
        assert_eq!(ran.status, 0, "{line}\n{}{}", ran.out, ran.err);
        ran.out
    }

    /// Runs a line that must succeed and parses its report.
    pub fn json(&self, line: &str) -> serde_json::Value {
        serde_json::from_str(&self.ok(&format!("{line} --json"))).unwrap()
    }
}

impl Ran {
    /// Asserts status and the exact text on stderr.
    pub fn fails(&self, status: i32, expected: &str) {
        assert_eq!((self.status, self.err.trim_end()), (status, expected), "{}", self.line);
    }
}
