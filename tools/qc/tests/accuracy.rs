//! `qc accuracy`: several models side by side, other metrics than top-1, and the options of Paddle's testers.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use qc_ir::HostTensor;
use serde_json::Value;
use std::path::Path;
use support::{Shell, digits, one_op};

/// A shell with arrays in files.
fn with(files: &[(&str, &[(&str, HostTensor)])]) -> Shell {
    let shell = Shell::new();
    for (file, arrays) in files {
        let arrays: Vec<(String, HostTensor)> = arrays.iter().map(|(name, t)| (name.to_string(), t.clone())).collect();
        shell.write(file, &qc_arrays::write(&arrays).unwrap());
    }
    shell
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} in {value:#}"))
}

#[test]
fn a_model_is_compared_with_its_floats_and_its_emulation() {
    let shell = Shell::new();
    let line = "accuracy D/digits_qdq.onnx --ref D/digits.onnx --qat D/digits_qdq.onnx --data D/test.npz";
    let found = shell.json(&format!("{line} --max-drop 1 --predictions int8.txt"));
    let names: Vec<&str> = (0..3).map(|i| found["models"][i]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ref", "qat", "model"]);
    for (at, alone) in [(0, "D/digits.onnx"), (1, "D/digits_qdq.onnx --emulate-qat"), (2, "D/digits_qdq.onnx")] {
        let alone = shell.json(&format!("accuracy {alone} --data D/test.npz"));
        assert_eq!(found["models"][at]["top1"], alone["top1"]);
        assert_eq!(found["models"][at]["top5"], alone["top5"]);
    }
    // The drop is that of the percentages, and lies in its interval; agreement is that of stored predictions.
    let drop = number(&found, "/models/2/against/drop");
    assert!((drop - (number(&found, "/models/0/top1") - number(&found, "/top1"))).abs() < 1e-9);
    let [low, high] = [0, 1].map(|i| number(&found, &format!("/models/2/against/interval/{i}")));
    assert!(low < drop && drop < high && high - low < 5.0, "{low} {drop} {high}");
    shell.ok("accuracy D/digits.onnx --data D/test.npz --predictions float.txt -q");
    let stored = shell.json("accuracy D/digits_qdq.onnx --data D/test.npz --compare float.txt");
    assert_eq!(stored["agreement"], found["models"][2]["against"]["agreement"]);
    assert!(number(&found, "/against_qat/agreement") >= 99.0);
    for at in 0..3 {
        assert!(number(&found, &format!("/models/{at}/median_ms")) > 0.0);
        assert!(number(&found, &format!("/models/{at}/samples_per_s")) > 0.0);
    }
    let text = shell.ok(line);
    for part in ["agreement", "95 % interval", "ms/run", "samples/s", "model against qat: agreement"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A drop that no model can keep: it would have to win a hundred points.
    let ran = shell.qc(&format!("{line} --max-drop=-100"));
    assert!(ran.status == 1 && ran.err.starts_with("FAILED: top-1 drops by "), "{}", ran.err);
    assert!(ran.err.contains("(95 %: ") && ran.err.contains("more than -100"), "{}", ran.err);
    let ran = shell.qc(&format!("{line} --min-agreement 100.1"));
    assert!(ran.status == 1 && ran.err.contains("is below 100.1 %"), "{}", ran.err);
}

#[test]
fn forms_may_be_compiled_and_of_any_batch() {
    let shell = Shell::new();
    shell.ok("compile D/digits.onnx -o float.so -q");
    shell.ok("compile D/digits_qdq.onnx -o int8.so -q");
    shell.ok("compile D/digits_qdq.onnx -o seven.so --shape image[7,1,8,8] -q");
    let line = "--ref float.so --data D/test.npz";
    let found = shell.json(&format!("accuracy int8.so {line}"));
    let fixed = shell.json(&format!("accuracy --model seven.so {line} --batch 5 --threads 3"));
    assert_eq!(found["models"][0]["top1"], fixed["models"][0]["top1"]);
    // 360 pictures are no multiple of 7: the last run is filled up, and what is filled up does not count.
    assert_eq!((&found["top1"], &found["images"]), (&fixed["top1"], &fixed["images"]));
    let ran = shell.qc("accuracy int8.so --qat int8.so --data D/test.npz");
    ran.fails(2, "error: int8.so is compiled already, so its pairs cannot be computed as written; give the model that it was compiled of");
    let ran = shell.qc("accuracy D/digits_qdq.onnx --qat D/digits.onnx --data D/test.npz");
    let text = "warning: D/digits.onnx: states no scale for any tensor, so what is emulated of it are its floats\n";
    assert_eq!((ran.status, &*ran.err), (0, text));
}

#[test]
fn metrics_of_numbers_need_another_model_and_no_labels() {
    let (image, labels) = (digits().join("test.npz"), "label");
    let arrays = qc_arrays::parse(&std::fs::read(image).unwrap()).unwrap();
    let images = arrays.into_iter().find(|(name, _)| name.as_deref() != Some(labels)).unwrap().1;
    let shell = with(&[("plain.npz", &[("image", images)])]);
    let line = "accuracy D/digits_qdq.onnx --ref D/digits.onnx --data plain.npz";
    let cosine = shell.json(&format!("{line} --metric cosine --max-drop 1"));
    assert!((99.0..100.0).contains(&number(&cosine, "/cosine")), "{cosine:#}");
    assert!((number(&cosine, "/against/drop") - (100.0 - number(&cosine, "/cosine"))).abs() < 1e-9);
    let snr = shell.json(&format!("{line} --metric snr"));
    assert!((15.0..80.0).contains(&number(&snr, "/snr")), "{snr:#}");
    shell.qc(line).fails(4, "error: plain.npz: holds no array 'label' of classes");
}

#[test]
fn f1_is_the_mean_over_classes() {
    let scores = [[9., 0., 0.], [9., 0., 0.], [0., 9., 0.], [0., 9., 0.]].concat();
    let data = [("x", HostTensor::f32([4, 3], scores)), ("label", HostTensor::i64([4], vec![0, 0, 0, 1]))];
    let shell = with(&[("d.npz", &data)]);
    shell.write("m.onnx", &one_op("Relu", &[1, 3], &[1, 3]));
    let found = shell.json("accuracy m.onnx --data d.npz --metric f1");
    // Class 0 has 2 TP and 1 FN, class 1 has 1 TP and 1 FP.
    assert!((number(&found, "/f1") - 50.0 * (4.0 / 5.0 + 2.0 / 3.0)).abs() < 1e-9, "{found:#}");
    assert_eq!(number(&found, "/top1"), 75.0);
}

#[test]
fn sequences_are_decoded_and_compared_as_a_whole() {
    let step = |place: usize| (0..3).map(move |i| if i == place { 1.0 } else { 0.5 });
    let scores: Vec<f32> = [1, 1, 0, 1, 2, 2, 2, 0, 0, 0, 0, 0].into_iter().flat_map(step).collect();
    // Steps 1 1 0 1 are the sequence 1 1, steps 2 2 2 0 are 2, and no symbol is the empty sequence.
    let labels = HostTensor::i64([3, 2], vec![1, 1, 2, 1, -1, -1]);
    let data = [("x", HostTensor::f32([3, 4, 3], scores)), ("label", labels)];
    let shell = with(&[("d.npz", &data)]);
    shell.write("m.onnx", &one_op("Relu", &[1, 4, 3], &[1, 4, 3]));
    let found = shell.json("accuracy m.onnx --data d.npz --metric ctc --predictions p.txt");
    assert!((number(&found, "/ctc") - 200.0 / 3.0).abs() < 1e-9, "{found:#}");
    assert_eq!(String::from_utf8(shell.read("p.txt")).unwrap(), "0 1 1 1\n1 2 2\n2 \n");
    // With another blank, 0 is a symbol.
    let found = shell.json("accuracy m.onnx --data d.npz --metric ctc --blank 2");
    assert_eq!(number(&found, "/ctc"), 0.0);
    shell.qc("accuracy m.onnx --data d.npz --metric ctc --blank 3").fails(
        2,
        "error: output 'y' is f32 [1, 4, 3]; --metric ctc needs [n, steps, scores] with --blank below scores",
    );
    // Each step is an answer for the other metrics; labels below 0 are padding.
    let labels = HostTensor::i64([3, 4], vec![1, 1, 0, -1, 2, 2, 1, -1, 0, -1, -1, -1]);
    let shell = with(&[("d.npz", &[data[0].clone(), ("label", labels)])]);
    shell.write("m.onnx", &one_op("Relu", &[1, 4, 3], &[1, 4, 3]));
    assert!((number(&shell.json("accuracy m.onnx --data d.npz"), "/top1") - 600.0 / 7.0).abs() < 1e-9);
}

#[test]
fn lines_of_the_comparison_scripts_run_as_they_are_spelt() {
    let shell = Shell::new();
    let line = "accuracy --quant_model=D/paddle_qat --fp32_model=D/paddle_float --infer_data=D/test.npz --batch_size=50 --batch_num=2 \
                --skip_batch_num=1 --acc_diff_threshold=0.02 --ops_to_quantize=conv2d,pool2d --op_ids_to_skip=-1 \
                --targets=quant,int8,fp32";
    let said = shell.ok(line);
    for part in [
        "pictures   100",
        "--- Performance summary ---\nFP32: avg fps: ",
        "--- Accuracy summary ---\nAccepted top1 accuracy drop threshold: 0.02. (condition: (Quant_top1_acc - INT8_top1_acc) <= threshold",
        "\nFP32: avg top1 accuracy: 0.",
        "\nQuant: avg top1 accuracy: 0.",
        "\nINT8: avg top1 accuracy: 0.",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let two =
        shell.json("accuracy --qat_model D/paddle_qat --infer_data D/test.npz --targets quant,int8 --batch_num 0");
    assert_eq!((&two["images"], two["models"].as_array().unwrap().len()), (&Value::from(360), 2));
    assert_eq!(two["models"][0]["name"], "qat");
    let one = shell.json("accuracy --quant_model D/paddle_qat --infer_data D/test.npz --targets int8");
    assert_eq!((one.get("models"), &one["top1"]), (None, &two["top1"]));
    // Both accuracies must be above a half, as the scripts assert: the labels are shifted by one here.
    let ran = shell.qc(
        "accuracy --quant_model=D/paddle_qat --infer_data=D/test.npz --acc_diff_threshold=1 --class-offset 1 --targets quant,int8",
    );
    assert!(ran.status == 4 && ran.err.contains("the model's classes are -1 to 8"), "{}", ran.err);
    let labels: String = (0..360).map(|i| format!("{}\n", i % 10)).collect();
    shell.write("wrong.txt", labels.as_bytes());
    let line = "accuracy --quant_model=D/paddle_qat --infer_data=D/test.npz --labels=wrong.txt --acc_diff_threshold=1";
    let ran = shell.qc(line);
    assert!(ran.status == 1 && ran.err.starts_with("FAILED: accuracy 0."), "{}", ran.err);
    assert!(ran.err.contains("of Quant; --acc_diff_threshold 1 and both above 0.5 were asked for"), "{}", ran.err);
}

#[test]
fn lines_of_the_converters_and_the_sample_tester_run_as_they_are_spelt() {
    let shell = Shell::new();
    let said = shell
        .ok("compile --quant_model_path=D/paddle_qat --int8_model_save_path=out/int8 --fp32_model_save_path=out/fp32 \
         --ops_to_quantize=conv2d,pool2d");
    assert!(
        said.contains("Success! INT8 model obtained from the Quant model can be found at out/int8/model.so\n"),
        "{said}"
    );
    assert!(
        said.contains("Success! FP32 model obtained from the Quant model can be found at out/fp32/model.so\n"),
        "{said}"
    );
    let said = shell.ok(
        "accuracy --infer_model=out/int8 --infer_data=D/test.npz --batch_size=10 --num_threads=1 --iterations=3 --warmup_iter=2 \
         --with_accuracy_layer=false --use_analysis=true --use_profile=false",
    );
    for part in [
        "====== num of threads: 1 ======\n====== batch size: 10, iterations: 3\n",
        "number of samples: 30",
        "\nTop1 accuracy: ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let ran = shell.qc("accuracy --infer_model=out/fp32 --infer_data=D/test.npz --iterations=1 --use_profile");
    assert!(ran.status == 0 && ran.err.contains("ms in steps"), "{}", ran.err);
    // The older names, a file as the place, and the names of files in the folder of the model.
    let names = if Path::new(&digits().join("paddle_qat/__model__")).is_file() { "__model__" } else { "model.pdmodel" };
    let line = format!(
        "compile --qat_model_path D/paddle_qat --quant_model_filename {names} --int8_model_save_path q.so --quantized_ops= -q"
    );
    shell.ok(&line);
    assert!(shell.path("q.so").is_file() && shell.path("q.h").is_file());
    let same = "compile --quant_model_path D/paddle_qat --int8_model_save_path new --fp32_model_save_path new";
    shell.qc(same).fails(2, "error: --int8_model_save_path and --fp32_model_save_path are one path; give two");
    assert_eq!(shell.qc("compile --quant_model_path none --int8_model_save_path new").status, 4);
    assert!(!shell.path("new").exists());
}

#[test]
fn lists_of_types_are_for_many_models() {
    let shell = Shell::new();
    // The lists of the documents: neither has all of its types in this model.
    let float = |list: &str| {
        let found = shell.json(&format!("compile D/digits_qdq.onnx -o m.so --quantize-ops={list}"));
        let macs = number(&found, "/macs");
        1.0 - number(&found, "/int8_macs") / macs
    };
    assert_eq!((float("conv2d,pool2d,fc"), float("")), (0.0, 0.0));
    let (convolutions, products) = (float("conv2d,pool2d"), float("fc,reshape2,transpose2,matmul"));
    assert!(convolutions > 0.0 && products > 0.5 && (convolutions + products - 1.0).abs() < 1e-9);
    let ran = shell.qc("compile D/digits_qdq.onnx -o m.so --quantize-ops conv3,fc");
    ran.fails(2, "error: --quantize-ops: there is no op type `conv3`");
}

#[test]
fn text_of_tensors_has_its_labels_beside() {
    let shell = Shell::new();
    shell.write("m.onnx", &one_op("Relu", &[1, 3], &[1, 3]));
    shell.write("t.txt", b"2 1 3:0.5 2 0;1 2:7 7\n2 1 3:0 0 1.5;1 2:7 7\n\n");
    shell.write("l.txt", b"1\n0\n");
    let said = shell.ok("accuracy --infer_model m.onnx --infer_data t.txt --labels l.txt --batch_num 0");
    assert!(said.contains("pictures   2") && said.contains("top-1      50.00 %"), "{said}");
    shell.write("all.txt", "3\n".repeat(360).as_bytes());
    let line = "accuracy --quant_model D/paddle_qat --infer_data D/test.npz --labels all.txt --targets quant,int8";
    let said = shell.ok(line);
    assert!(said.contains("INT8: avg predictions"), "{said}");
}

/// Files, a line, and what it says.
const REFUSED: &[(&str, &str, i32, &str)] = &[
    ("2 1 3:1 2\n", "T", 4, "t.txt: line 1: `2 1 3` is no shape of the 2 numbers behind it"),
    ("2 1 3:1 2 x\n", "T", 4, "t.txt: line 1: a field holds something else than numbers: invalid float literal"),
    (
        "2 1 3:1 2 3\n2 1 2:1 2\n",
        "T",
        4,
        "t.txt: line 2: the shape is [1, 2], that of the first line [1, 3]; pad all lines to one shape, since a model is compiled for it",
    ),
    ("2 1 3:1 2 3\n2 1 3:1 2 3;1 1:1\n", "T", 4, "t.txt: line 2: 2 fields, where the first line has 1"),
    ("2 1 3:1.5 2 3\n", "T", 4, "l.txt: holds 2 lines for 1 samples; give one for each"),
    ("2 1 3:1 nan 3\n2 1 3:1 2 3\n", "T", 4, "t.txt: sample `0` holds NaN; repair it or leave it out"),
    (
        "2 1 3:1.5 2 3\n2 1 3:1 2 3\n",
        "T --metric cosine",
        2,
        "--metric cosine and snr compare outputs; give the model to compare with by --ref or --qat",
    ),
    (
        "",
        "accuracy m.onnx --data d.npz --max-drop 1",
        2,
        "--max-drop is a drop against another model; give it by --ref or --qat",
    ),
    ("", "accuracy m.onnx --data d.npz --min-agreement 1", 2, "--min-agreement needs --compare, --ref or --qat"),
    (
        "",
        "accuracy m.onnx --data d.npz --ref m.onnx --metric snr --max-drop 1",
        2,
        "--max-drop is in points of a percentage; --metric snr is in decibels",
    ),
    ("", "accuracy m.onnx --data d.npz --metric f1 --min-top1 1", 2, "--min-top1 and --compare are for --metric top1"),
    ("", "accuracy m.onnx --data d.npz --topk 5 --min-top1 1", 2, "--min-top1 needs 1 among --topk"),
    (
        "",
        "accuracy m.onnx --ref m.onnx --data d.npz --metric snr --predictions p.txt",
        2,
        "--predictions writes classes; --metric cosine and snr have none",
    ),
    (
        "",
        "accuracy m.onnx --data d.npz --targets quant",
        2,
        "none of the --targets has a model; quant and int8 are of --quant_model, fp32 of --fp32_model",
    ),
    (
        "",
        "accuracy m.onnx --data d.npz --op_ids_to_skip 3,4",
        2,
        "--op_ids_to_skip numbers the nodes of Paddle's graph, which exist there only; name them by --keep-fp32 NODE, as `qc check -v` lists them",
    ),
    (
        "",
        "compile m.onnx -o m.so --op_ids_to_skip 3,4",
        2,
        "--op_ids_to_skip numbers the nodes of Paddle's graph, which exist there only; name them by --keep-fp32 NODE, as `qc check -v` lists them",
    ),
    (
        "",
        "accuracy m.onnx --data d.npz --debug",
        2,
        "--debug draws Paddle's graphs; `qc opt` shows a model after every pass",
    ),
    (
        "",
        "compile m.onnx -o m.so --debug",
        2,
        "--debug draws Paddle's graphs; --print-ir-tree-dir DIR shows the model after every pass",
    ),
    (
        "",
        "accuracy m.onnx --data d.npz --acc_diff_threshold 2",
        2,
        "--acc_diff_threshold is a difference of accuracies from 0 to 1; --max-drop takes points",
    ),
    (
        "",
        "accuracy m.onnx --data d.npz --acc_diff_threshold 0.1",
        2,
        "--acc_diff_threshold needs --quant_model, --qat or --ref to compare with",
    ),
    (
        "",
        "accuracy m.onnx --data floats.npz",
        4,
        "floats.npz: array 'label' holds F32 [2]; classes are integers, [n] or [n, steps]",
    ),
    ("", "accuracy m.onnx --data empty.npz", 4, "empty.npz: holds no samples"),
    ("", "accuracy m.onnx --data nan.npz", 4, "nan.npz: sample `1` holds NaN; repair it or leave it out"),
    (
        "",
        "accuracy m.onnx --data beyond.npz",
        4,
        "beyond.npz: `1` is of class 3; the model's classes are 0 to 2; --class-offset says where they begin",
    ),
    ("", "accuracy m.onnx --data d.npz --labels t.txt", 4, "t.txt: holds no labels; give one line for each sample"),
    (
        "one\n",
        "accuracy m.onnx --data d.npz --labels t.txt",
        4,
        "t.txt: line 1: `one` is no integer and no sequence of them",
    ),
    (
        "",
        "accuracy log.onnx --data negative.npz",
        3,
        "log.onnx: output 'y' of sample `0` holds NaN, so none of its classes is the best; `qc run` shows all outputs, and `qc compare` which op breaks",
    ),
    ("", "accuracy m.onnx --data d.npz --ref none.onnx", 4, "none.onnx: No such file or directory"),
    ("", "accuracy m.onnx --data none.npz", 4, "none.npz: No such file or directory"),
];

#[test]
fn what_cannot_be_answered_is_refused_and_nothing_is_written() {
    let x = |values: [f32; 6]| HostTensor::f32([2, 3], values.to_vec());
    let plain = [1., 2., 3., 3., 2., 1.];
    let label = |values: [i64; 2]| HostTensor::i64([2], values.to_vec());
    let none = HostTensor::i64([0], Vec::new());
    let shell = with(&[
        ("d.npz", &[("x", x(plain)), ("label", label([0, 1]))]),
        ("floats.npz", &[("x", x(plain)), ("label", HostTensor::f32([2], vec![0., 1.]))]),
        ("empty.npz", &[("x", HostTensor::f32([0, 3], Vec::new())), ("label", none)]),
        ("nan.npz", &[("x", x([1., 2., 3., f32::NAN, 2., 1.])), ("label", label([0, 1]))]),
        ("beyond.npz", &[("x", x(plain)), ("label", label([0, 3]))]),
        ("negative.npz", &[("x", x([-1., 2., 3., 3., 2., 1.])), ("label", label([0, 1]))]),
    ]);
    shell.write("m.onnx", &one_op("Relu", &[1, 3], &[1, 3]));
    shell.write("log.onnx", &one_op("Log", &[1, 3], &[1, 3]));
    shell.write("l.txt", b"1\n0\n");
    for (text, line, status, said) in REFUSED {
        shell.write("t.txt", text.as_bytes());
        let line =
            line.replacen("T", "accuracy m.onnx --data t.txt --labels l.txt", usize::from(line.starts_with('T')));
        let ran = shell.qc(&line);
        ran.fails(*status, &format!("error: {said}"));
        assert!(ran.out.is_empty() && !shell.path("p.txt").exists() && !shell.path("m.so").exists(), "{line}");
    }
}
