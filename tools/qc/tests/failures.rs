//! Bad usage: each mistake gives its exit status and one sentence with the remedy.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Shell, digits};

/// The line, the exit status, and what is on stderr.
const TRANSCRIPTS: &[(&str, i32, &str)] = &[
    ("compile nope.onnx -o x.so", 4, "error: nope.onnx: No such file or directory"),
    (
        "compile text -o x.so",
        3,
        "error: text: not a model that qc reads: the bytes are neither ONNX nor a Paddle program; give the .onnx, \
         .pdmodel or __model__ file",
    ),
    (
        "compile cut.onnx -o x.so",
        3,
        "error: cut.onnx: broken model file: byte 16: field 7 of ModelProto says 45798 bytes, 2980 are left",
    ),
    (
        "compile folder -o x.so",
        3,
        "error: folder: this directory holds no model; expected `__model__`, `model` with `params`, or one `.pdmodel` \
         or `.onnx`",
    ),
    ("compile D/digits.onnx -o /nonexistent/x.so", 4, "error: /nonexistent/x.so: No such file or directory"),
    (
        "compile D/digits.onnx -o x.so --precision int8",
        3,
        "error: the model has no quantization; give ranges from `qc calibrate`, or use --precision auto",
    ),
    (
        "compile D/digits.onnx -o x.so --ranges text",
        3,
        "error: text: not a ranges file of qc calibrate: expected ident at line 1 column 2",
    ),
    ("compile D/digits.onnx -o x.so --ranges nope.json", 4, "error: nope.json: No such file or directory"),
    (
        "compile D/digits.onnx -o x.so --shape y:1x1x8x8",
        3,
        "error: D/digits.onnx: input or output \"y\": the model has no such input; its inputs are image",
    ),
    (
        "compile D/digits.onnx -o x.so --print-ir-after=nope",
        2,
        "error: there is no pass `nope`; `qc opt --list-passes` lists all",
    ),
    (
        "run cut.so -i D/test.npz",
        3,
        "error: cut.so is damaged: it is shorter than when it was written; copy or compile it again",
    ),
    ("run model.so -i x.npy", 4, "error: x.npy: No such file or directory"),
    (
        "run model.so -i D/test.npz --precision fp32",
        2,
        "error: model.so is compiled already; --ranges, --precision, --exact-qdq, --params and --shape are for models",
    ),
    ("run model.so", 2, "error: input 'image' f32 [n, 1, 8, 8] has no data; give it with -i image:FILE.npy"),
    ("run model.so -i text", 4, "error: text: this is neither a .npy nor a .npz file of NumPy"),
    ("run model.so -i bogus:D/test.npz", 2, "error: there is no input 'bogus'; inputs are 'image'"),
    ("run model.so -i short.npy", 4, "error: short.npy: damaged: shorter than its shape [100, 1, 8, 8] says"),
    (
        "run model.so -i flat.npy",
        2,
        "error: input 'image' is f32 [n, 1, 8, 8]; the array has shape [64]; reshape it, the first dimension being the batch",
    ),
    (
        "run model.so --image D/pictures/one.png --preprocess imagenet",
        2,
        "error: preset imagenet makes [n, 3, height, width], which does not fit the model's input [1, 1, 8, 8]",
    ),
    ("run model.so --image nope.png --preprocess digits", 4, "error: nope.png: No such file or directory"),
    (
        "accuracy model.so --labels D/pictures/list.txt",
        2,
        "error: --preprocess is missing: how the model's pictures are prepared; -h lists presets",
    ),
    (
        "accuracy model.so --labels D/classes.txt --preprocess digits",
        4,
        "error: D/classes.txt: `zero` has no class; lines are `<file> <class>`",
    ),
    ("accuracy model.so --data D/weights.npz", 4, "error: D/weights.npz: holds no array 'label' of classes"),
    (
        "calibrate D/digits_qdq.onnx --data D/train.npz -o r.json",
        3,
        "error: D/digits_qdq.onnx: the model is quantized already and needs no ranges; compile it as it is, or calibrate \
         its float original",
    ),
    (
        "calibrate D/digits.onnx --data D/pictures -o r.json",
        2,
        "error: pictures need --preprocess: how they become numbers; -h lists presets",
    ),
    (
        "opt D/digits.onnx --pass-pipeline bogus",
        2,
        "error: --pass-pipeline: unknown pass `bogus`; --list-passes lists all",
    ),
    (
        "opt D/digits.onnx --pass-pipeline plan-memory",
        3,
        "error: pass `plan-memory` needs phase `loops`, not `imported`",
    ),
    ("opt wrong.qir", 3, "error: wrong.qir: 2:1: expected `module`"),
    ("inspect cut.so", 3, "error: cut.so is damaged: it is shorter than when it was written; copy or compile it again"),
    ("inspect nope", 4, "error: nope: No such file or directory"),
];

/// Usage that the parser of the command line refuses: all of these have status 2 and name the argument.
const USAGE: &[(&str, &str)] = &[
    ("", "Usage: qc"),
    ("bogus", "unrecognized subcommand 'bogus'"),
    ("compile", "--out <OUT.so>"),
    ("compile D/digits.onnx -o x.so --target-cpu z80", "known are host, scalar, avx2, avx512vnni, fat"),
    ("compile D/digits.onnx -o x.so --batch 0", "--batch"),
    ("compile D/digits.onnx -o x.so --shape image:1x?x8x8", "only the first dimension, the batch, can be open"),
    ("compile D/digits.onnx -o x.so --precision int4", "[possible values: auto, int8, fp32]"),
    ("run model.so --image D/pictures/one.png", "--preprocess <PRESET>"),
    ("run model.so --image D/pictures/one.png --preprocess bogus", "imagenet, imagenet-tf, caffe-bgr, cifar10"),
    ("bench model.so -t 0", "give more than 0"),
    ("accuracy model.so", "--labels <LIST>"),
];

fn prepared() -> Shell {
    let shell = Shell::new();
    shell.ok("compile D/digits_qdq.onnx -o model.so --target-cpu scalar -q");
    shell.write("text", b"nothing of use\n");
    shell.write("wrong.qir", b"// a comment\nmodel");
    let onnx = std::fs::read(digits().join("digits.onnx")).unwrap();
    shell.write("cut.onnx", &onnx[..3000]);
    let so = shell.read("model.so");
    shell.write("cut.so", &so[..so.len() / 2]);
    shell.write("flat.npy", &npy("(64,)", 64));
    shell.write("short.npy", &npy("(100, 1, 8, 8)", 64));
    std::fs::create_dir(shell.path("folder")).unwrap();
    shell
}

/// A .npy file of zeros.
fn npy(shape: &str, values: usize) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    let padded = format!("{header:<117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((padded.len() as u16).to_le_bytes());
    bytes.extend(padded.into_bytes());
    bytes.resize(bytes.len() + 4 * values, 0);
    bytes
}

#[test]
fn every_mistake_has_its_status_and_sentence() {
    let shell = prepared();
    for (line, status, expected) in TRANSCRIPTS {
        shell.qc(line).fails(*status, expected);
    }
    for (line, part) in USAGE {
        let ran = shell.qc(line);
        assert_eq!(ran.status, 2, "{line}: {}", ran.err);
        assert!(ran.err.contains(part), "{line}: {}", ran.err);
    }
    assert!(!shell.path("x.so").exists() && !shell.path("r.json").exists(), "a failed command leaves nothing");
}

#[test]
fn the_environment_is_checked() {
    let shell = prepared();
    let ran = shell.qc_with("run model.so -i D/test.npz", &[("QC_CPU", "z80")]);
    ran.fails(2, "error: QC_CPU is 'z80'; known are scalar, avx2, avxvnni and avx512vnni");
    let ran = shell.qc_with("bench model.so -t 0.01", &[("QC_NUM_THREADS", "many")]);
    ran.fails(2, "error: QC_NUM_THREADS must be a number from 0 to 256");
}

#[test]
fn a_damaged_shared_object_is_not_executed() {
    let shell = prepared();
    let so = shell.read("model.so");
    for at in (0..so.len()).step_by(so.len() / 40) {
        let mut damaged = so.clone();
        damaged[at] ^= 0x41;
        shell.write("damaged.so", &damaged);
        let ran = shell.qc("run damaged.so -i D/test.npz");
        // Weights are not sealed: a change there changes results only.
        assert!([0, 3].contains(&ran.status), "byte {at}: {} {}", ran.status, ran.err);
    }
}

#[test]
fn help_is_no_failure() {
    let shell = Shell::new();
    for line in ["--help", "compile --help", "run -h", "accuracy --help", "--version"] {
        assert!(!shell.ok(line).is_empty());
    }
}
