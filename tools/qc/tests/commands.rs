//! Commands that succeed, on the shipped example.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Shell, digits, field};

/// The arrays of an .npz file that are f32.
fn npz(bytes: &[u8]) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let arrays = qc_arrays::parse(bytes).unwrap().into_iter();
    arrays.map(|(name, t)| (name.unwrap(), t.dims().to_vec(), t.as_f32().unwrap().to_vec())).collect()
}

#[test]
fn the_first_command_of_the_readme() {
    let shell = Shell::new();
    let text = shell.ok("compile D/digits_qdq.onnx -o model.so");
    for part in ["int8     100.0 % of multiply-accumulates", "prob      Softmax", "kept in f32 for accuracy", "next "] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(shell.path("model.h").is_file());
    let preset = "--preprocess digits --labels D/classes.txt";
    for (picture, class) in [("seven", "seven"), ("eight", "eight"), ("three_2", "three")] {
        let text = shell.ok(&format!("run model.so --image D/pictures/{picture}.png {preset} --topk 3"));
        let best = text.lines().nth(1).unwrap();
        assert!(best.trim_end().ends_with(class), "{text}");
        assert_eq!(text.lines().count(), 4, "{text}");
    }
}

#[test]
fn every_form_of_the_model_reads_digits() {
    let shell = Shell::new();
    shell.ok("calibrate D/digits.onnx --data D/train.npz -o ranges.json");
    for model in [
        "D/digits.onnx",
        "D/digits.onnx --ranges ranges.json",
        "D/digits_qdq.onnx",
        "D/digits_qdq.onnx --exact-qdq",
        "D/paddle_float",
        "D/paddle_qat",
        "D/paddle_qat --precision fp32",
    ] {
        let all = shell.json(&format!("accuracy {model} --data D/test.npz --min-top1 98.5"));
        assert_eq!((all["images"].as_u64(), all["schema"].as_str()), (Some(360), Some("qc.accuracy/1")));
        let few = shell.json(&format!("accuracy {model} --labels D/pictures/list.txt --preprocess digits"));
        assert_eq!(few["top1"].as_f64(), Some(100.0), "{model}");
    }
}

#[test]
fn predictions_are_written_and_compared() {
    let shell = Shell::new();
    shell.ok("accuracy D/digits.onnx --data D/test.npz --predictions float.txt -q");
    let text = String::from_utf8(shell.read("float.txt")).unwrap();
    assert_eq!(text.lines().count(), 360);
    assert!(text.lines().all(|l| l.split(' ').count() == 7), "file, class, five best");
    let all = shell.json("accuracy D/digits_qdq.onnx --data D/test.npz --compare float.txt --min-agreement 98");
    assert_eq!(all["compared"].as_u64(), Some(360));
    let ran = shell.qc("accuracy D/digits_qdq.onnx --data D/test.npz --compare float.txt --min-agreement 100.1");
    assert_eq!(ran.status, 1, "{}", ran.err);
    assert!(ran.err.starts_with("FAILED: agreement"), "{}", ran.err);
    let ran = shell.qc("accuracy D/digits_qdq.onnx --data D/test.npz --min-top1 99.9");
    assert_eq!(ran.status, 1, "{}", ran.err);
}

#[test]
fn results_do_not_depend_on_form_threads_tier_or_batch() {
    let shell = Shell::new();
    shell.ok("compile D/digits_qdq.onnx -o fat.so --target-cpu fat --batch 1,4 -q");
    shell.ok("run fat.so -i D/test.npz -o first.npz --threads 1");
    let first = shell.read("first.npz");
    let arrays = npz(&first);
    assert_eq!((arrays.len(), &arrays[0].0[..], &arrays[0].1[..]), (1, "prob", &[360, 10][..]));
    assert!(arrays[0].2.chunks(10).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-4));
    for (line, cpu) in [
        ("run fat.so -i D/test.npz -o again.npz --threads 2", ""),
        ("run fat.so -i image:D/test.npz -o again.npz", "scalar"),
        ("run fat.so -i D/test.npz -o again.npz", "avx2"),
        ("run fat.so -i D/test.npz -o again.npz", "avxvnni"),
        ("run D/digits_qdq.onnx -i D/test.npz -o again.npz", "avxvnni"),
        ("run D/digits_qdq.onnx -i D/test.npz -o again.npz", ""),
        ("run D/digits_qdq.onnx -i D/test.npz -o again.npz", "scalar"),
    ] {
        let variables: &[(&str, &str)] = if cpu.is_empty() { &[] } else { &[("QC_CPU", cpu)] };
        let ran = shell.qc_with(line, variables);
        assert_eq!(ran.status, 0, "{line} {cpu}\n{}", ran.err);
        assert_eq!(npz(&shell.read("again.npz")), arrays, "{line} {cpu}");
    }
}

#[test]
fn compiling_twice_gives_the_same_bytes() {
    let shell = Shell::new();
    shell.ok("compile D/paddle_qat -o model.so -q");
    let first = (shell.read("model.so"), shell.read("model.h"));
    shell.ok("compile D/paddle_qat -o model.so -q");
    assert!((shell.read("model.so"), shell.read("model.h")) == first);
}

#[test]
fn reports_are_json() {
    let shell = Shell::new();
    let report = shell.json("compile D/digits_qdq.onnx -o model.so --name digits");
    assert_eq!((&report["schema"], &report["name"]), (&"qc.compile/1".into(), &"digits".into()));
    assert_eq!(report["int8_macs"], report["macs"]);
    let ops = report["ops"].as_array().unwrap();
    let softmax = ops.iter().find(|o| o["op_type"] == "Softmax").unwrap();
    assert_eq!(softmax["fate"]["float"], "kept in f32 for accuracy");
    let bench = shell.json("bench model.so -t 0.05 -b 3 --threads 1 --pc");
    assert_eq!((&bench["schema"], &bench["batch"], &bench["threads"]), (&"qc.bench/1".into(), &3.into(), &1.into()));
    for key in ["median_ms", "p90_ms", "p99_ms", "images_per_s", "load_ms", "arena_bytes"] {
        assert!(bench[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert!(bench["median_ms"].as_f64() <= bench["p90_ms"].as_f64());
    assert!(!bench["steps"].as_array().unwrap().is_empty());
    let inspect = shell.json("inspect model.so --show io,ops,memory,tier");
    assert_eq!(inspect["io"]["inputs"][0]["name"], "image");
    assert!(inspect["ops"].as_array().unwrap().len() >= 6);
    let inspect = shell.json("inspect D/digits_qdq.onnx --show io,ops,params,quant,memory,tier");
    assert_eq!(inspect["quant"].as_array().map(|q| !q.is_empty()), Some(true));
    assert_eq!(shell.json("doctor")["schema"], "qc.doctor/1");
    shell.ok("inspect model.so --json=report.json -q");
    assert!(shell.read("report.json").starts_with(b"{"));
}

#[test]
fn ranges_hold_every_tensor_and_how_they_were_made() {
    let shell = Shell::new();
    shell.ok("calibrate D/digits.onnx --data D/train.npz -o all.json -q");
    let all: serde_json::Value = serde_json::from_slice(&shell.read("all.json")).unwrap();
    assert_eq!((&all["samples"], &all["tensors"]["image"]["max"]), (&1437.into(), &1.0.into()));
    shell.ok("calibrate D/digits.onnx --data D/train.npz -o one.json -n 1 --threads 1 -q");
    let one: serde_json::Value = serde_json::from_slice(&shell.read("one.json")).unwrap();
    let names = |r: &serde_json::Value| r["tensors"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&all), names(&one));
    for (name, range) in one["tensors"].as_object().unwrap() {
        let wide = &all["tensors"][name];
        assert!(
            wide["min"].as_f64() <= range["min"].as_f64() && wide["max"].as_f64() >= range["max"].as_f64(),
            "{name}"
        );
    }
    shell.ok("calibrate D/digits.onnx --data D/pictures --preprocess digits -o folder.json -q");
    shell.ok("calibrate D/digits.onnx --data D/pictures/list.txt --preprocess digits -o list.json -q");
    let (folder, list) = (shell.read("folder.json"), shell.read("list.json"));
    assert_eq!(folder, list, "the list names every picture of the folder");
    assert!(String::from_utf8(list).unwrap().contains("digits: Upright Gray"));
}

#[test]
fn passes_can_be_run_one_by_one() {
    let shell = Shell::new();
    let passes = shell.ok("opt --list-passes");
    assert!(passes.contains("fold-batch-norm") && passes.contains("imported") || passes.contains("canonicalize"));
    shell.ok("opt D/digits.onnx -o imported.qir");
    assert!(String::from_utf8(shell.read("imported.qir")).unwrap().contains("graph.batch_norm"));
    shell.ok("opt imported.qir --pass-pipeline canonicalize,const-fold,fold-batch-norm -o folded.qir");
    assert!(!String::from_utf8(shell.read("folded.qir")).unwrap().contains("graph.batch_norm"));
    for phase in ["canonical", "quantized", "fused", "loops", "planned"] {
        let text = shell.ok(&format!("opt D/digits_qdq.onnx --to {phase}"));
        assert!(
            text.starts_with(&format!("module \"digits_qdq.onnx\" phase {phase}")),
            "{}",
            text.lines().next().unwrap()
        );
    }
    let text = shell.ok("opt D/digits_qdq.onnx --to canonical -o a.qir") + &shell.ok("opt a.qir --to fused");
    assert_eq!(text, shell.ok("opt D/digits_qdq.onnx --to fused"));
    let mut replay = b"// pipeline: canonicalize\n".to_vec();
    replay.extend(shell.read("imported.qir"));
    shell.write("replay.qir", &replay);
    shell.write("replay.consts", &shell.read("imported.consts"));
    assert!(shell.ok("opt replay.qir").contains("phase"));
}

#[test]
fn dumps_go_where_they_were_asked_for() {
    let shell = Shell::new();
    let ran =
        shell.qc("compile D/digits_qdq.onnx -o m.so -q --print-ir-after=cse --timing --pass-statistics --check-each");
    assert_eq!((ran.status, ran.out.as_str()), (0, ""), "{}", ran.err);
    assert!(ran.err.contains("after") && ran.err.contains("cse") && ran.err.contains("ms total"), "{}", ran.err);
    shell.ok("compile D/digits_qdq.onnx -o m.so -q --print-ir-tree-dir dumps");
    let mut names: Vec<String> = std::fs::read_dir(shell.path("dumps"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names[0].starts_with("000_import"), "{names:?}");
    assert!(names.iter().any(|n| n.ends_with("_lower-to-loops.qir")), "{names:?}");
}

#[test]
fn inspecting_needs_no_execution() {
    let shell = Shell::new();
    shell.ok("compile D/digits_qdq.onnx -o model.so --target-cpu fat -q");
    let text = shell.ok("inspect model.so");
    let tiers: Vec<&str> = qc_kernels::Tier::ALL.iter().map(|tier| tier.name()).collect();
    assert!(text.contains(&tiers.join(", ")) && text.contains("[n, 1, 8, 8]"), "{text}");
    assert!(digits().join("digits.onnx").is_file());
}

#[test]
fn completions_and_manual_pages() {
    let shell = Shell::new();
    for name in ["bash", "zsh", "fish"] {
        assert!(shell.ok(&format!("completions {name}")).contains("calibrate"), "{name}");
    }
    shell.ok("man pages -q");
    let page = String::from_utf8(shell.read("pages/qc-compile.1")).unwrap();
    assert!(page.contains("qc\\-compile") && page.contains("target\\-cpu"), "{page}");
}

#[test]
fn a_trace_holds_every_step_of_every_run() {
    let shell = Shell::new();
    let bench = shell.json("bench D/digits_qdq.onnx -t 0.02 --threads 1 --pc --export-trace trace.json");
    let trace: serde_json::Value = serde_json::from_slice(&shell.read("trace.json")).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let steps = events.iter().filter(|e| e["cat"].is_string()).count();
    assert_eq!(steps, 10 * bench["steps"].as_array().unwrap().len());
    let runs: Vec<_> = events.iter().filter(|e| e["name"].as_str().is_some_and(|n| n.starts_with("run "))).collect();
    let end = |e: &serde_json::Value| e["ts"].as_f64().unwrap() + e["dur"].as_f64().unwrap();
    assert!(runs.windows(2).all(|two| (end(two[0]) - two[1]["ts"].as_f64().unwrap()).abs() < 1e-6));
}

#[test]
fn what_stays_float_is_chosen_and_what_must_not_is_named() {
    let shell = Shell::new();
    let ran = shell.qc("compile D/digits_qdq.onnx -o x.so --strict-int8");
    assert_eq!(ran.status, 3, "{}", ran.err);
    assert!(ran.err.contains("prob (Softmax): kept in f32 for accuracy"), "{}", ran.err);
    assert!(!shell.path("x.so").exists(), "no partial output");
    shell.ok("compile D/digits_qdq.onnx -o x.so --strict-int8 --keep-fp32 op:softmax");
    let text = shell.ok("compile D/digits_qdq.onnx -o x.so --keep-fp32 op:Conv");
    assert!(text.contains("kept by --keep-fp32"), "{text}");
    let ran = shell.qc("compile D/digits_qdq.onnx -o x.so --keep-fp32 op:Conv --min-int8-macs 90");
    assert_eq!(ran.status, 3, "{}", ran.err);
    assert!(ran.err.starts_with("error: --min-int8-macs 90:"), "{}", ran.err);
    shell.ok("compile D/digits_qdq.onnx -o x.so --min-int8-macs 99.5%");
    let text = shell.ok("compile D/digits_qdq.onnx -o x.so --quantize-ops conv2d");
    assert!(text.contains("not among --quantize-ops"), "{text}");
    for (options, part) in [("--keep-fp32 nothing*", "fits no node"), ("--quantize-ops cnv", "no op type `cnv`")] {
        let ran = shell.qc(&format!("compile D/digits_qdq.onnx -o x.so {options}"));
        assert_eq!(ran.status, 2, "{}", ran.err);
        assert!(ran.err.contains(part), "{}", ran.err);
    }
    shell.ok("accuracy D/digits_qdq.onnx --data D/test.npz --min-top1 98 --keep-fp32 op:Conv");
}

#[test]
fn right_passes_pass_the_search() {
    let shell = Shell::new();
    let text = shell.ok("opt D/digits.onnx --bisect");
    assert!(text.contains("no pass changes the results"), "{text}");
}

#[test]
fn random_models_are_run() {
    let shell = Shell::new();
    let all = shell.json("fuzz --seed 7 --count 8 --keep found");
    assert_eq!((all["schema"].as_str(), all["count"].as_u64()), (Some("qc.fuzz/1"), Some(8)));
    assert_eq!(all["failures"].as_array().map(Vec::len), Some(0), "{all}");
}

/// A model `y = op(x)` on tensors of 1 x 3, with the element types of `x` and `y` in ONNX numbers.
fn model_of_one_op(op: &str, x: u8, y: u8, attribute: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = [1, 3].iter().flat_map(|&d| field(1, &[1 << 3, d])).collect();
    let info = |name: &[u8], elem: u8| {
        let tensor = [vec![1 << 3, elem], field(2, &dims)].concat();
        [field(1, name), field(2, &field(1, &tensor))].concat()
    };
    let node = [field(1, b"x"), field(2, b"y"), field(3, b"n"), field(4, op.as_bytes()), attribute.to_vec()].concat();
    let graph = [field(1, &node), field(2, b"g"), field(11, &info(b"x", x)), field(12, &info(b"y", y))].concat();
    [vec![1 << 3, 8], field(8, &[2 << 3, 13]), field(7, &graph)].concat()
}

#[test]
fn models_with_nothing_to_quantize_go_through_calibration() {
    let shell = Shell::new();
    let (float, int64) = (1, 7);
    let to_float = field(5, &[field(1, b"to"), vec![3 << 3, 1, 0xa0, 1, 2]].concat());
    let samples = |dtype: &str, bytes: usize| {
        let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': (1, 3), }}\n");
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), &vec![0; 3 * bytes]].concat()
    };
    shell.write("f32.npy", &samples("<f4", 4));
    shell.write("i64.npy", &samples("<i8", 8));
    let cases = [
        ("same", model_of_one_op("Identity", float, float, b""), "f32.npy", "0 in every sample: x;"),
        ("ints", model_of_one_op("Identity", int64, int64, b""), "i64.npy", "the model has no float tensors"),
        ("cast", model_of_one_op("Cast", int64, float, &to_float), "i64.npy", "0 in every sample: y;"),
    ];
    for (name, model, data, note) in cases {
        shell.write(&format!("{name}.onnx"), &model);
        let text = shell.ok(&format!("calibrate {name}.onnx --data {data} -o {name}.json"));
        assert!(text.contains(note), "{text}");
        shell.ok(&format!("compile {name}.onnx --ranges {name}.json -o {name}.so"));
        shell.ok(&format!("run {name}.so -i {data}"));
        let refused = shell.qc(&format!("compile {name}.onnx --ranges {name}.json -o no.so --precision int8"));
        assert!(refused.err.contains("no multiply-accumulate of the model can be INT8"), "{}", refused.err);
    }
    let other = shell.qc("compile same.onnx --ranges cast.json -o no.so");
    assert!(other.err.contains("these ranges are of another model"), "{}", other.err);
    let other = shell.qc("compile same.onnx --ranges cast.json --foreign-ranges -o no.so");
    assert!(other.err.contains("names no tensor of this model"), "{}", other.err);
}

#[test]
fn a_tensor_that_was_always_zero_is_not_quantized_and_the_table_says_so() {
    let shell = Shell::new();
    shell.ok("calibrate D/digits.onnx --data D/train.npz -o ranges.json -q");
    let mut ranges: serde_json::Value = serde_json::from_slice(&shell.read("ranges.json")).unwrap();
    ranges["tensors"]["image"] = serde_json::json!({"min": 0.0, "max": 0.0});
    shell.write("dead.json", ranges.to_string().as_bytes());
    let text = shell.ok("compile D/digits.onnx --ranges dead.json -o model.so");
    assert!(text.contains("\"image\" was 0 in every sample, so it has no range"), "{text}");
    // The rest is as it was, and so are the classes.
    let right = |ranges: &str| {
        shell.json(&format!("accuracy D/digits.onnx --data D/test.npz --ranges {ranges}"))["top1"].as_f64().unwrap()
    };
    assert!((right("dead.json") - right("ranges.json")).abs() < 1.0, "{} {}", right("dead.json"), right("ranges.json"));
}

#[test]
fn a_tensor_of_which_8_bits_hold_too_little_is_not_quantized_and_the_table_says_so() {
    let shell = Shell::new();
    shell.ok("calibrate D/digits.onnx --data D/train.npz -o ranges.json -q --threads 1");
    shell.ok("calibrate D/digits.onnx --data D/train.npz -o same.json -q --threads 3");
    assert_eq!(shell.read("ranges.json"), shell.read("same.json"), "threads change no ratio");
    let mut ranges: serde_json::Value = serde_json::from_slice(&shell.read("ranges.json")).unwrap();
    let own = ranges["tensors"]["image"]["snr"].as_f64().unwrap();
    assert!((25.0..60.0).contains(&own), "{own}");
    let mut compile = |snr: serde_json::Value| {
        ranges["tensors"]["image"]["snr"] = snr;
        shell.write("other.json", ranges.to_string().as_bytes());
        shell.ok("compile D/digits.onnx --ranges other.json -o model.so")
    };
    let text = compile(serde_json::json!(5.9));
    assert!(text.contains("8 bits hold too little of \"image\""), "{text}");
    let before = shell.ok("compile D/digits.onnx --ranges ranges.json -o model.so");
    assert!(!before.contains("8 bits hold too little"), "{before}");
    let unknown = compile(serde_json::Value::Null);
    assert!(!unknown.contains("8 bits hold too little"), "{unknown}");
    ranges["tensors"]["image"]["snr"] = serde_json::json!(1e39);
    shell.write("other.json", ranges.to_string().as_bytes());
    let refused = shell.qc("compile D/digits.onnx --ranges other.json -o no.so");
    assert!(refused.err.contains("the `snr` of \"image\" is no finite number"), "{}", refused.err);
}

#[test]
fn islands_are_timed_on_this_machine() {
    let shell = Shell::new();
    shell.ok("calibrate D/digits.onnx --data D/train.npz -o r.json -q");
    let text = shell.ok("compile D/digits.onnx --ranges r.json --guard measured -o m.so");
    assert!(text.contains("guard    ") && text.contains(" islands of integer ops"), "{text}");
    let found = shell.json("compile D/digits.onnx --ranges r.json --guard measured -o m.so")["measured"].clone();
    assert!(found["islands"].as_u64() >= Some(1) && found["ms"].as_f64() > Some(0.0), "{found}");
    // What is kept is kept, and never slower than without.
    assert!(found["ms"].as_f64() <= found["int8_ms"].as_f64(), "{found}");
    assert_eq!(found["slower"].as_u64() == Some(0), found["keep_fp32"].as_array().unwrap().is_empty(), "{found}");
    let text =
        "error: --guard measured is for `qc compile`; give the ops that it tells with --keep-fp32, and --guard none";
    shell.qc("run D/digits.onnx --guard measured -i D/test.npz").fails(2, text);
}
