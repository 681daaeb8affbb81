//! Bad usage: each mistake gives its exit status and one sentence with the remedy.

#![allow(clippy::unwrap_used)]

mod support;

use qc_runtime::note::{SEAL_BYTES, Seal};
use support::{Shell, digits};

/// The line, the exit status, and what is on stderr.
const TRANSCRIPTS: &[(&str, i32, &str)] = &[
    ("compile nope.onnx -o x.so", 4, "error: nope.onnx: No such file or directory"),
    (
        "compile text -o x.so",
        3,
        "error: text: not a model that qc reads: the bytes are neither ONNX nor a Paddle program; give the .onnx, \
         .pdmodel, .json or __model__ file",
    ),
    (
        "compile cut.onnx -o x.so",
        3,
        "error: cut.onnx: broken model file: byte 16: field 7 of ModelProto says 45798 bytes, 2980 are left",
    ),
    (
        "compile folder -o x.so",
        3,
        "error: folder: this directory holds no model; expected `__model__`, `model` with `params`, a `.json` with \
         `.pdiparams`, or one `.pdmodel` or `.onnx`",
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
        "error: text: not a ranges file of qc calibrate, nor a calibration cache: expected ident at line 1 column 2",
    ),
    (
        "compile D/digits_qdq.onnx -o x.so --exact-qdq --keep-fp32 op:Conv",
        2,
        "error: --keep-fp32 has no use with --exact-qdq, which computes every op in floats; leave one of them out",
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
        "error: model.so is compiled already; --ranges, --precision, --quantize, --exact-qdq, --sums, --keep-fp32, --quantize-ops, --guard, --strict-int8, --min-int8-macs, --params, --shape and --constant are for models",
    ),
    ("run model.so", 2, "error: input 'image' f32 [n, 1, 8, 8] has no data; give it with -i image:FILE.npy"),
    ("run model.so -i text", 4, "error: text: this is neither a .npy nor a .npz file of NumPy"),
    ("run model.so -i bogus:D/test.npz", 2, "error: there is no input 'bogus'; inputs are 'image'"),
    (
        "run model.so -i short.npy",
        4,
        "error: short.npy: damaged: the file is shorter than its shape [100, 1, 8, 8] says",
    ),
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
    ("compile D/digits.onnx -o x.so --target-cpu z80", "known are host, scalar, avx2, "),
    ("compile D/digits.onnx -o x.so --batch 0", "--batch"),
    ("compile D/digits.onnx -o x.so --shape image:1x?x8x8", "only the first dimension, the batch, can be open"),
    ("compile D/digits.onnx -o x.so --precision int4", "[possible values: auto, int8, fp32]"),
    ("run model.so --image D/pictures/one.png", "--preprocess <PRESET|FILE.toml>"),
    ("run model.so --image D/pictures/one.png --preprocess bogus", "imagenet-tf, caffe-bgr, keras-tf"),
    ("bench model.so -t 0", "give more than 0"),
    ("accuracy model.so", "--data <SRC>"),
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

/// A .npy file of zeros in f32.
fn npy(shape: &str, values: usize) -> Vec<u8> {
    npy_of("<f4", shape, values)
}

/// A .npy file of zeros, as many as `words` of four bytes hold.
fn npy_of(ty: &str, shape: &str, words: usize) -> Vec<u8> {
    support::npy(ty, shape, &vec![0; 4 * words])
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

/// Damaged, incomplete and foreign models: the line, the exit status, and what is on stderr. `?` stands for anything.
const DAMAGE: &[(&str, i32, &str)] = &[
    (
        "compile short -o x.so",
        3,
        "error: short/__model__: parameter \"c1_w\" (float32 [?], ? bytes): byte ?: ? bytes of float32 [?], ? bytes are \
         needed, ? are left",
    ),
    (
        "compile missing -o x.so",
        3,
        "error: missing/__model__: parameter \"c1_w\" (float32 [?], ? bytes): the file does not exist",
    ),
    (
        "compile cut_params -o x.so",
        3,
        "error: cut_params/model: ? things keep this model from being imported\n  parameter \"?\" (float32 [?], ? bytes): ",
    ),
    (
        "compile surplus -o x.so",
        3,
        "error: surplus/model: parameter \"byte ? of the parameter file\" (float32 [?], ? bytes): no variable of the \
         program claims this tensor; program and parameters do not belong together",
    ),
    (
        "compile foreign.onnx -o x.so",
        3,
        "error: foreign.onnx: node \"?\" (?): this operator is not supported; export the model without it, or report \
         the need for it (README.md of qc says where)",
    ),
    (
        "run foreign.onnx -i D/test.npz -o y.npz",
        3,
        "error: foreign.onnx: node \"?\" (?): this operator is not supported; ?",
    ),
    (
        "run cpu.so -i D/test.npz -o y.npz",
        3,
        "error: cpu.so needs tensor, this CPU offers ?; compile it with --target-cpu ?, or fat for all",
    ),
    (
        "inspect version.so --show io",
        3,
        "error: version.so has format 9, this version of qc reads format ?; compile the model again",
    ),
    (
        "run version.so -i D/test.npz -o y.npz",
        3,
        "error: version.so has format 9, this version of qc reads format ?; compile the model again",
    ),
    (
        "bench version.so",
        3,
        "error: version.so has format 9, this version of qc reads format ?; compile the model again",
    ),
    (
        "run arm.so -i D/test.npz -o y.npz",
        3,
        "error: arm.so is not a compiled model: it is not an x86-64 shared object",
    ),
    (
        "check cpu.so",
        3,
        "error: cpu.so needs tensor, this CPU offers ?; compile it with --target-cpu ?, or fat for all",
    ),
    (
        "run model.so -i ints.npy -o y.npz",
        2,
        "error: input 'image' is f32; the array holds I64; convert it with NumPy's astype",
    ),
    (
        "run model.so -i wide.npy -o y.npz",
        2,
        "error: input 'image' is f32 [n, 1, 8, 8]; the array has shape [1, 1, 8, 9]; reshape it, the first dimension being the batch",
    ),
    ("run model.so -i D/test.npz -o /nonexistent/y.npz", 4, "error: /nonexistent/y.npz: No such file or directory"),
    ("compile pipe -o x.so", 3, "error: pipe: this is neither a regular file nor a folder"),
];

/// A folder of the example with changes.
fn copied(shell: &Shell, from: &str, to: &str) {
    std::fs::create_dir(shell.path(to)).unwrap();
    for entry in std::fs::read_dir(digits().join(from)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, shell.path(to).join(path.file_name().unwrap())).unwrap();
    }
}

/// `bytes` with `old` replaced by `new` of the same length, and, for compiled models, sealed again.
fn patched(bytes: &[u8], old: &str, new: &str) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut out = bytes.to_vec();
    let at = bytes.windows(old.len()).position(|w| w == old.as_bytes()).unwrap();
    out[at..at + old.len()].copy_from_slice(new.as_bytes());
    if bytes.starts_with(b"\x7fELF") {
        let seal = out.windows(4).position(|w| w == b"qc\0\0").unwrap() + 4;
        let covered = Seal::from_bytes(&out[seal..seal + SEAL_BYTES]).unwrap().covered_bytes;
        Seal::write(&mut out, seal, covered as usize);
    }
    out
}

fn damaged() -> Shell {
    let shell = prepared();
    let cut = |path: &str, by: usize| {
        let bytes = shell.read(path);
        shell.write(path, &bytes[..bytes.len() - by]);
    };
    copied(&shell, "paddle_qat", "short");
    cut("short/c1_w", 10);
    copied(&shell, "paddle_qat", "missing");
    std::fs::remove_file(shell.path("missing/c1_w")).unwrap();
    copied(&shell, "paddle_float", "cut_params");
    cut("cut_params/params", 20_000);
    copied(&shell, "paddle_float", "surplus");
    let params = [shell.read("surplus/params"), std::fs::read(digits().join("paddle_qat/c1_w")).unwrap()].concat();
    shell.write("surplus/params", &params);
    let onnx = std::fs::read(digits().join("digits.onnx")).unwrap();
    shell.write("foreign.onnx", &patched(&onnx, "MaxPool", "MinPool"));
    let so = shell.read("model.so");
    shell.write("cpu.so", &patched(&so, "\"tiers\":[\"scalar\"]", "\"tiers\":[\"tensor\"]"));
    shell.write("version.so", &patched(&so, &format!("\"format\":{}", qc_embed::abi::ABI_VERSION), "\"format\":9"));
    let mut arm = so.clone();
    arm[18] = 183;
    shell.write("arm.so", &arm);
    shell.write("ints.npy", &npy_of("<i8", "(1, 1, 8, 8)", 128));
    shell.write("wide.npy", &npy("(1, 1, 8, 9)", 72));
    assert!(std::process::Command::new("mkfifo").arg(shell.path("pipe")).status().unwrap().success());
    shell
}

#[test]
fn damaged_and_foreign_models_are_told_from_each_other() {
    let shell = damaged();
    for (line, status, pattern) in DAMAGE {
        let ran = shell.qc(line);
        assert_eq!(ran.status, *status, "{line}: {}", ran.err);
        assert!(like(&ran.err, pattern), "{line}: {}", ran.err);
        for left in ["x.so", "x.h", "y.npz"] {
            assert!(!shell.path(left).exists(), "{line} leaves {left}");
        }
    }
    let hidden = std::fs::read_dir(shell.dir.path()).unwrap().filter_map(|e| e.ok()?.file_name().into_string().ok());
    assert_eq!(hidden.filter(|name| name.starts_with(".qc-")).count(), 0, "no temporary file is left");
    shell.ok("compile D/digits_qdq.onnx -o avx2.so --target-cpu avx2 -q");
    let ran = shell.qc_with("run avx2.so -i D/test.npz -o y.npz", &[("QC_CPU", "scalar")]);
    assert!(ran.status != 0 && ran.err.contains("needs avx2") && !shell.path("y.npz").exists(), "{}", ran.err);
}

#[test]
fn check_lists_all_problems_at_once() {
    let shell = damaged();
    let onnx = std::fs::read(digits().join("digits.onnx")).unwrap();
    let twice = patched(&patched(&onnx, "MaxPool", "MinPool"), "Softmax", "Loftmax");
    shell.write("foreign.onnx", &twice);
    let ran = shell.qc("check foreign.onnx");
    ran.fails(
        3,
        "foreign.onnx: 2 problems keep this model from being compiled".replace("foreign", "error: foreign").as_str(),
    );
    assert!(ran.out.contains("MinPool") && ran.out.contains("Loftmax") && ran.out.contains("remedy"), "{}", ran.out);
    let ran = shell.qc("check foreign.onnx --json -q");
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.status, report["ok"].as_bool()), (3, Some(false)));
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["problems"][0]["kind"], "node");
    let ran = shell.qc("check missing");
    assert!(ran.status == 3 && ran.out.contains("c1_w") && ran.out.contains("does not exist"), "{}", ran.out);
    let report = shell.json("check D/digits.onnx");
    assert_eq!((report["ok"].as_bool(), report["int8_macs"].as_u64()), (Some(true), Some(0)));
    assert!(report["float"].as_array().unwrap().iter().all(|o| !o["reason"].as_str().unwrap().is_empty()));
    assert!(shell.ok("check D/digits_qdq.onnx").contains("can be compiled"));
    assert!(shell.ok("check model.so").contains("as it was written"));
    shell.qc("check nope.onnx").fails(4, "error: nope.onnx: No such file or directory");
    assert_eq!(shell.qc("check D/digits.onnx --limit nodes=2").status, 5);
}

#[test]
fn doctor_says_what_would_be_chosen() {
    let shell = Shell::new();
    let report = shell.json("doctor");
    let tiers: Vec<&str> = report["tiers"].as_array().unwrap().iter().filter_map(|t| t.as_str()).collect();
    assert!(tiers.contains(&report["tier"].as_str().unwrap()), "{report}");
    assert!(report["threads"].as_u64() >= Some(1) && report["cores"].as_u64() >= Some(1), "{report}");
    let text = shell.ok("doctor");
    for part in ["CPU", "affinity", "quota", "tier", "threads"] {
        assert!(text.contains(part), "{text}");
    }
    let ran = shell.qc_with("doctor", &[("QC_NUM_THREADS", "3"), ("QC_CPU", "scalar")]);
    assert!(ran.out.contains("3, by QC_NUM_THREADS") && ran.out.contains("scalar"), "{}", ran.out);
    assert!(shell.qc_with("doctor", &[("QC_CPU", "z80")]).out.contains("no tier"));
}

/// Each limit: what the command is told, and what it answers. `?` stands for any number.
const LIMITS: &[(&str, &str)] = &[
    ("D/digits.onnx --limit file=1K", "D/digits.onnx: the file has ? bytes; the limit `file` is 1024 bytes"),
    ("D/digits.onnx --limit nodes=3", "D/digits.onnx: the number of nodes is ?; the limit `nodes` is 3"),
    ("D/paddle_qat --limit tensors=3", "D/paddle_qat/__model__: the number of tensors is ?; the limit `tensors` is 3"),
    (
        "wide.onnx --limit inputs=3",
        "wide.onnx: beyond two for each and one for 32 bytes of the model, nodes like Sum and Concat have inputs: ?; \
         the limit `inputs` is 3",
    ),
    ("D/digits.onnx --limit rank=3", "D/digits.onnx: the tensor \"?\" has a rank of 4; the limit `rank` is 3"),
    (
        "D/digits.onnx --limit elements=63",
        "D/digits.onnx: the tensor \"?\" has elements: ?; the limit `elements` is 63",
    ),
    (
        "D/paddle_qat --limit params=1K",
        "D/paddle_qat/__model__: the files beside the model have ? bytes; the limit `params` is 1024 bytes",
    ),
    ("D/digits.onnx --limit params=1K", "D/digits.onnx: the constants have ? bytes; the limit `params` is 1024 bytes"),
    (
        "deep.json --limit depth=20",
        "deep.json: JSON objects and lists are nested to a depth of 64; the limit `depth` is 20",
    ),
    ("D/digits.onnx --timeout 0s", "D/digits.onnx: compiling may need 1 s; the limit `time` is 0 s"),
    (
        "D/digits.onnx --max-memory 64",
        "digits.onnx: the compiled model needs working memory of ? bytes; the limit `memory` is 64 bytes",
    ),
    (
        "D/digits.onnx --limit artefact=1K",
        "digits.onnx: the shared object would need ? bytes; the limit `artefact` is 1024 bytes",
    ),
    (
        "D/digits.onnx --limit artefact=100K",
        "digits: the shared object has ? bytes; the limit `artefact` is 102400 bytes",
    ),
];

/// Whether `text` is `pattern` with something for every `?`.
fn like(text: &str, pattern: &str) -> bool {
    let mut rest = text;
    pattern.split('?').enumerate().all(|(i, part)| match (i, rest.find(part)) {
        (_, Some(at)) if i > 0 || at == 0 => {
            rest = &rest[at + part.len()..];
            true
        }
        _ => false,
    })
}

/// An ONNX model that adds its input `x` of two floats a hundred times, in one node.
fn wide() -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let (low, high) = (bytes.len() as u8 | 0x80, (bytes.len() >> 7) as u8);
        [&[number << 3 | 2, low, high][..], bytes].concat()
    };
    let float_tensor = [&[8, 1][..], &field(2, &field(1, &[8, 2]))].concat();
    let port = |name: &[u8]| [field(1, name), field(2, &field(1, &float_tensor))].concat();
    let node = [field(1, b"x").repeat(100), field(2, b"y"), field(4, b"Sum")].concat();
    let graph = [field(1, &node), field(2, b"g"), field(11, &port(b"x")), field(12, &port(b"y"))].concat();
    [&[8, 8][..], &field(7, &graph), &field(8, &[0x10, 13])].concat()
}

#[test]
fn every_limit_has_status_5_and_names_the_option_that_raises_it() {
    let shell = prepared();
    let json = format!("{{\"magic\": \"pir\", \"base_code\": {}{}}}", "[".repeat(63), "]".repeat(63));
    shell.write("deep.json", json.as_bytes());
    shell.write("wide.onnx", &wide());
    for (args, pattern) in LIMITS {
        let ran = shell.qc(&format!("compile {args} -o x.so"));
        let name = pattern.split('`').nth(1).unwrap();
        let expected = format!("error: {pattern}; raise it with --limit {name}=");
        assert_eq!(ran.status, 5, "{args}: {}", ran.err);
        assert!(like(&ran.err, &expected), "{args}: {}", ran.err);
        assert!(!shell.path("x.so").exists() && !shell.path("x.h").exists(), "{args}");
        // What the sentence says is what helps, but for the time and for what is measured again later or for a batch.
        let raised = ran.err.trim_end().rsplit(' ').next().unwrap();
        if !matches!(name, "time" | "artefact" | "depth" | "memory" | "elements" | "params") {
            shell.ok(&format!("compile {args} --limit {raised} -o y.so -q"));
        }
    }
    let ran = shell.qc("compile D/digits.onnx -o x.so --limit bogus=1");
    assert!(ran.status == 2 && ran.err.contains("limits are file, nodes, tensors, inputs"), "{}", ran.err);
}

#[test]
fn the_environment_is_checked() {
    let shell = prepared();
    let ran = shell.qc_with("run model.so -i D/test.npz", &[("QC_CPU", "z80")]);
    let names: Vec<&str> = qc_kernels::Tier::ALL.iter().map(|tier| tier.name()).collect();
    let (last, others) = names.split_last().unwrap();
    ran.fails(2, &format!("error: QC_CPU is 'z80'; known are {} and {last}", others.join(", ")));
    let ran = shell.qc_with("bench model.so -t 0.01", &[("QC_NUM_THREADS", "many")]);
    ran.fails(2, "error: QC_NUM_THREADS must be a number from 0 to 256");
}

#[test]
fn any_damaged_byte_of_a_shared_object_is_noticed() {
    let shell = prepared();
    let so = shell.read("model.so");
    for at in (0..so.len()).step_by(so.len() / 40) {
        let mut damaged = so.clone();
        damaged[at] ^= 0x41;
        shell.write("damaged.so", &damaged);
        let ran = shell.qc("run damaged.so -i D/test.npz");
        assert_eq!(ran.status, 3, "byte {at}: {}", ran.err);
        // Without its first bytes it is no shared object at all.
        assert!(at == 0 || ran.err.starts_with("error: damaged.so is"), "byte {at}: {}", ran.err);
        assert_eq!(shell.qc("inspect damaged.so").status, 3);
    }
}

#[test]
fn help_is_no_failure() {
    let shell = Shell::new();
    for line in ["--help", "compile --help", "run -h", "accuracy --help", "--version"] {
        assert!(!shell.ok(line).is_empty());
    }
}
