//! The shipped examples, as a user would build and run them: a shared object without a compiler's help, then C, C++ and
//! Python on top of it. What the machine lacks is skipped, counted and printed.
#![allow(clippy::unwrap_used)]

use qc_compiler::{CompileOptions, Compiler, ContextOptions, TargetCpu, write_artefact};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn exists(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
}

fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A picture with the value `(x + y) % 17 / 16` at each pixel, and what the JIT says about it.
fn expected(model: &Path) -> (Vec<u8>, usize) {
    let compiled = Compiler::new(CompileOptions::default()).compile(model).unwrap();
    let predictor = compiled.jit().unwrap();
    let mut context = predictor.context(&ContextOptions::default()).unwrap();
    let input = context.input_mut::<f32>(0, 1).unwrap();
    for (i, x) in input.iter_mut().enumerate() {
        *x = ((i / 8 + i % 8) % 17) as f32 / 16.0;
    }
    let bytes = input.iter().flat_map(|x| x.to_le_bytes()).collect();
    context.run().unwrap();
    let scores = context.output::<f32>(0).unwrap();
    let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
    (bytes, best)
}

#[test]
fn examples_predict_what_the_jit_predicts() {
    let dir = tempfile::tempdir().unwrap();
    let model = root().join("examples/digits/digits_qdq.onnx");
    let options = CompileOptions { name: Some("digits".into()), target: TargetCpu::Fat, ..CompileOptions::default() };
    let so = dir.path().join("digits.so");
    write_artefact(&Compiler::new(options).compile(&model).unwrap(), &so).unwrap();
    let (picture, class) = expected(&model);
    let file = dir.path().join("picture.f32");
    std::fs::write(&file, picture).unwrap();
    let mut outputs = Vec::new();
    let mut skipped = 0;
    for (compiler, standard, source) in [("cc", "-std=c99", "c/predict.c"), ("c++", "-std=c++17", "cpp/predict.cpp")] {
        if !exists(compiler) {
            skipped += 1;
            continue;
        }
        let program = dir.path().join(format!("predict_{compiler}"));
        let mut command = Command::new(compiler);
        command.args([standard, "-Wall", "-Wextra", "-Werror", "-pedantic", "-I"]).arg(dir.path());
        command.arg(root().join("examples").join(source)).arg(&so).arg("-Wl,-rpath,$ORIGIN");
        stdout(command.arg("-o").arg(&program));
        outputs.push(stdout(Command::new(&program).arg(&file)));
    }
    if exists("python3") {
        let script = root().join("examples/python/predict.py");
        outputs.push(stdout(Command::new("python3").arg(script).arg(&so).arg(&file)));
    } else {
        skipped += 1;
    }
    for output in &outputs {
        assert!(output.starts_with(&format!("class {class}, ")), "{output}");
        assert_eq!(output, &outputs[0]);
    }
    if exists("python3") {
        // As a user runs it: in the folder of the model, on the shipped array.
        let mut command = Command::new("python3");
        command.arg(root().canonicalize().unwrap().join("examples/python/predict.py")).arg("digits.so");
        command.arg(root().canonicalize().unwrap().join("examples/digits/seven.f32")).current_dir(dir.path());
        assert!(stdout(&mut command).starts_with("class 7, "));
    }
    if skipped > 0 {
        println!("SKIPPED {skipped}: cc, c++ or python3 is missing");
    }
}
