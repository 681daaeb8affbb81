//! Runs every file below `tests/qir` as a test of its own.

use libtest_mimic::{Arguments, Failed, Trial};
use qc_tests::filetest;

fn main() {
    let folder = filetest::folder();
    let trial = |path: std::path::PathBuf| {
        let name = path.strip_prefix(&folder).unwrap_or(&path).with_extension("").display().to_string();
        Trial::test(name, move || filetest::run(&path).map_err(|e| Failed::from(format!("{}\n{e}", path.display()))))
    };
    let trials = filetest::files().into_iter().map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
