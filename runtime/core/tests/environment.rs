//! `QC_CPU`, `QC_NUM_THREADS` and `OMP_NUM_THREADS`, each in a process of its own.

#![allow(clippy::unwrap_used)]

#[path = "../../embed/tests/toy/mod.rs"]
mod toy;

use qc_kernels::Tier;
use qc_runtime::{ContextOptions, Predictor};
use std::process::Command;

/// What a context makes of the environment: tier and threads, or the error.
fn child() -> String {
    let variants = vec![toy::variant(Tier::Scalar as u32, 1), toy::variant(Tier::Avx2 as u32, 1)];
    let model = Box::leak(Box::new(toy::model(variants)));
    // SAFETY: the tables live for ever.
    let model = unsafe { Predictor::from_raw(Box::new(()), model) }.unwrap();
    match model.context(&ContextOptions::default()) {
        Ok(context) => format!("{} {}", context.tier(), context.threads()),
        Err(error) => error.to_string(),
    }
}

fn report(variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_environment_counts", "--nocapture"]).env("QC_ENVIRONMENT_TEST_CHILD", "1");
    for name in ["QC_CPU", "QC_NUM_THREADS", "OMP_NUM_THREADS"] {
        command.env_remove(name);
    }
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split("<<").nth(1).unwrap().split(">>").next().unwrap().to_string()
}

#[test]
fn the_environment_counts() {
    if std::env::var_os("QC_ENVIRONMENT_TEST_CHILD").is_some() {
        println!("<<{}>>", child());
        return;
    }
    let best = qc_kernels::host::best(Some(Tier::Avx2)).name();
    assert_eq!(report(&[("QC_NUM_THREADS", "3"), ("OMP_NUM_THREADS", "2")]), format!("{best} 3"));
    assert_eq!(report(&[("OMP_NUM_THREADS", "2"), ("QC_CPU", "scalar")]), "scalar 2");
    assert_eq!(report(&[("OMP_NUM_THREADS", "nonsense"), ("QC_CPU", "avx512vnni")]).split(' ').next(), Some(best));
    assert_eq!(report(&[("QC_NUM_THREADS", "many")]), "QC_NUM_THREADS must be a number from 0 to 256");
    assert!(report(&[("QC_CPU", "AVX2")]).starts_with("QC_CPU is 'AVX2'; known are scalar, avx2"));
}
