//! What methods of calibration make of samples, from the command line.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use support::{Shell, digits};

/// The training pictures of the digits network, as an .npy file; `change` may change the values of sample 7.
fn pictures(shell: &Shell, name: &str, change: fn(f32) -> f32) {
    let arrays = qc_arrays::parse(&std::fs::read(digits().join("train.npz")).unwrap()).unwrap();
    let (_, x) = arrays.into_iter().find(|(_, t)| t.dims().len() == 4).unwrap();
    let mut values = x.as_f32().unwrap().to_vec();
    values[7 * 64..8 * 64].iter_mut().for_each(|x| *x = change(*x));
    let dims: String = x.dims().iter().map(|d| format!("{d}, ")).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    shell.write(name, &support::npy("<f4", &format!("({dims})"), &bytes));
}

fn top1(shell: &Shell, ranges: &str) -> f64 {
    shell.ok(&format!("compile D/digits.onnx --ranges {ranges} -o m.so -q"));
    shell.json("accuracy m.so --data D/test.npz")["top1"].as_f64().unwrap()
}

#[test]
fn one_sample_out_of_proportion_does_not_take_all() {
    let shell = Shell::new();
    pictures(&shell, "good.npy", |x| x);
    pictures(&shell, "bad.npy", |x| x * 300.0);
    shell.ok("calibrate D/digits.onnx --data good.npy -o good.json -q");
    let right = top1(&shell, "good.json");
    let with = |method: &str| {
        shell.ok(&format!("calibrate D/digits.onnx --data bad.npy -o {method}.json -q --method {method}"));
        top1(&shell, &format!("{method}.json"))
    };
    assert!(with("minmax") < right - 5.0);
    for method in ["auto", "percentile:99", "hist:99", "avg", "mse"] {
        assert!(with(method) > right - 2.0, "{method}");
    }
}

#[test]
fn a_file_says_how_it_was_made_and_what_it_leaves_out() {
    let shell = Shell::new();
    let said = shell.ok("calibrate D/digits.onnx --data D/train.npz -o r.json --method percentile:99.5");
    assert!(said.contains("percentile:99.5") && said.contains("clipped  "), "{said}");
    let file: Value = serde_json::from_slice(&shell.read("r.json")).unwrap();
    assert_eq!(file["method"], "percentile:99.5");
    let tensors = file["tensors"].as_object().unwrap();
    let clipped: Vec<&Value> = tensors.values().filter(|t| !t["seen"].is_null()).collect();
    assert!(!clipped.is_empty());
    for t in clipped {
        let [low, high] = [0, 1].map(|i| t["seen"][i].as_f64().unwrap());
        assert!(t["min"].as_f64() >= Some(low) && t["max"].as_f64() <= Some(high), "{t}");
    }
    shell.ok("calibrate D/digits.onnx --data D/train.npz -o all.json -q --method minmax");
    assert!(!String::from_utf8(shell.read("all.json")).unwrap().contains("seen"));
}

#[test]
fn methods_are_the_same_for_all_threads() {
    let shell = Shell::new();
    for row in qc_compiler::METHODS {
        let make = |file: &str, threads: usize| {
            let name = row.name;
            shell.ok(&format!(
                "calibrate D/digits.onnx --data D/train.npz -n 40 -o {file} -q --method {name} --threads {threads}"
            ));
            shell.read(file)
        };
        assert_eq!(make("one.json", 1), make("three.json", 3), "{}", row.name);
    }
}

#[test]
fn unknown_methods_and_percentages_are_refused() {
    let shell = Shell::new();
    for (method, why) in [
        ("best", "methods are auto, minmax, "),
        ("minmax:99", "minmax takes no percentage"),
        ("percentile:101", "`101` is no percentage of 50 to 100"),
    ] {
        let ran = shell.qc(&format!("calibrate D/digits.onnx --data D/train.npz -o r.json --method {method}"));
        assert_eq!(ran.status, 2, "{}", ran.err);
        assert!(ran.err.contains(why), "{}", ran.err);
        assert!(!shell.path("r.json").exists());
    }
}

#[test]
fn the_fewest_ops_that_have_to_be_floats_are_found_and_kept() {
    let shell = Shell::new();
    let line = "calibrate D/digits.onnx --data D/train.npz -n 40 -o r.json";
    let plain = shell.json(&format!("{line} --target-snr 10"));
    let without = plain["score_without"].as_f64().unwrap();
    assert_eq!(plain["keep_fp32"].as_array().unwrap().len(), 0);
    let target = without + 3.0;
    let found = shell.json(&format!("{line} --target-snr {target}"));
    let kept = found["keep_fp32"].as_array().unwrap().len();
    // One or two ops: the nodes that they stand for, and what reads a tensor whose format is at fault.
    for form in ["int8", "mixed", "f32"] {
        assert!(found["ms"][form].as_f64().is_some_and(|ms| ms > 0.0), "{form}: {found}");
    }
    assert!((1..=6).contains(&kept) && found["score"].as_f64().unwrap() >= target, "{found}");
    // The file says so, and what is compiled with it is that model.
    let file: Value = serde_json::from_slice(&shell.read("r.json")).unwrap();
    assert_eq!(file["keep_fp32"], found["keep_fp32"]);
    let text = shell.ok("compile D/digits.onnx --ranges r.json -o m.so");
    assert!(text.contains("--keep-fp32"), "{text}");
    let compared = shell.json("compare D/digits.onnx --ranges r.json --data D/train.npz -n 40");
    assert!(compared["outputs"][0]["sqnr"].as_f64().unwrap() >= target - 0.1, "{compared}");
}

#[test]
fn what_is_best_on_the_samples_is_taken() {
    let shell = Shell::new();
    let line = "calibrate D/digits.onnx --data D/train.npz -n 40 -o best.json --best";
    let found = shell.json(line);
    let tried = found["best"]["tried"].as_array().unwrap();
    let best = tried.iter().filter(|t| t["what"] != "corrected biases").map(|t| t["score"].as_f64().unwrap());
    let best = best.fold(f64::NEG_INFINITY, f64::max);
    // A method alone is what it is among the others, and what is taken is the best of them or better.
    let score = |ranges: &str| {
        let compared = shell.json(&format!("compare D/digits.onnx --ranges {ranges} --data D/train.npz -n 40"));
        compared["outputs"][0]["sqnr"].as_f64().unwrap()
    };
    assert!(score("best.json") >= best - 1e-6, "{found}");
    for t in tried.iter().filter(|t| t["what"] != "corrected biases") {
        let method = t["what"].as_str().unwrap();
        shell.ok(&format!("calibrate D/digits.onnx --data D/train.npz -n 40 -o one.json -q --method {method}"));
        assert!((score("one.json") - t["score"].as_f64().unwrap()).abs() < 1e-6, "{method}: {found}");
    }
    for (option, why) in
        [("--method minmax", "cannot be used with"), ("--target-snr 9 --metric top1", "cannot be used")]
    {
        let ran = shell.qc(&format!("{line} {option}"));
        assert!(ran.status == 2 && ran.err.contains(why), "{option}: {}", ran.err);
    }
    let by = shell.json(&format!("{line} --metric cosine"));
    assert_eq!(by["best"]["metric"], "cosine", "{by}");
    let ran = shell.qc("calibrate D/digits.onnx --data D/train.npz -n 40 -o no.json --metric top1");
    ran.fails(2, "error: --metric is for --target-drop and --best; give one of them, or leave it out");
}

#[test]
fn methods_are_refused_for_a_model_that_has_its_ranges() {
    let shell = Shell::new();
    for option in ["--best", "--method minmax"] {
        let line = format!("calibrate D/digits_qdq.onnx --data D/train.npz -n 8 -o r.json --target-snr 20 {option}");
        let ran = shell.qc(&line);
        assert_eq!(ran.status, 2, "{}", ran.err);
        assert!(ran.err.contains("is quantized already, and --method and --best"), "{}", ran.err);
        assert!(!shell.path("r.json").exists());
    }
}

#[test]
fn samples_in_files_of_their_own_are_those_of_one_file() {
    let shell = Shell::new();
    let arrays = qc_arrays::parse(&std::fs::read(digits().join("train.npz")).unwrap()).unwrap();
    let (_, x) = arrays.into_iter().find(|(_, t)| t.dims().len() == 4).unwrap();
    let values = x.as_f32().unwrap();
    std::fs::create_dir(shell.path("all")).unwrap();
    for i in 0..12 {
        let bytes: Vec<u8> = values[i * 64..(i + 1) * 64].iter().flat_map(|x| x.to_le_bytes()).collect();
        shell.write(&format!("all/{i:02}.npy"), &support::npy("<f4", "(1, 1, 8, 8, )", &bytes));
    }
    // Files of several samples, the last of which is not needed whole.
    std::fs::create_dir(shell.path("few")).unwrap();
    for i in 0..3 {
        let bytes: Vec<u8> = values[i * 5 * 64..(i + 1) * 5 * 64].iter().flat_map(|x| x.to_le_bytes()).collect();
        shell.write(&format!("few/{i}.npy"), &support::npy("<f4", "(5, 1, 8, 8, )", &bytes));
    }
    shell.ok("calibrate D/digits.onnx --data few -n 12 -o few.json -q --threads 2");
    shell.ok("calibrate D/digits.onnx --data all -o many.json -q --threads 3");
    shell.ok("calibrate D/digits.onnx --data D/train.npz -n 12 -o one.json -q --threads 1");
    assert_eq!(shell.read("many.json"), shell.read("one.json"));
    assert_eq!(shell.read("few.json"), shell.read("one.json"));
}

#[test]
fn a_target_that_is_not_reached_in_time_is_said() {
    let shell = Shell::new();
    let said = shell.ok("calibrate D/digits.onnx --data D/train.npz -n 8 -o r.json --target-snr 500 --budget 0s");
    assert!(said.contains("note     500.00 dB was not reached: the time was up"), "{said}");
    assert!(
        said.contains("time     ") && said.contains(" ms in INT8, ") && said.contains("; the first sample"),
        "{said}"
    );
    let ran = shell.qc("calibrate D/digits.onnx --data D/train.npz -n 8 -o s.json --target-drop 1% --metric snr");
    assert_eq!(ran.status, 2, "{}", ran.err);
    assert!(!shell.path("s.json").exists());
}

#[test]
fn caches_of_other_tools_are_written_and_taken() {
    let shell = Shell::new();
    let kinds = ["trt", "ort", "ort-json", "ort-table", "ort-flatbuffers", "paddle"];
    let caches: Vec<String> = kinds.iter().map(|kind| format!("--write-cache {kind}:{kind}.cache")).collect();
    let said = shell.ok(&format!("calibrate D/digits.onnx --data D/train.npz -o r.json {}", caches.join(" ")));
    assert!(said.contains("         paddle.cache"), "{said}");
    let right = top1(&shell, "r.json");
    for kind in kinds {
        // What is known of signs makes a range of a threshold, so no bit is lost behind a ReLU.
        let found = top1(&shell, &format!("{kind}.cache"));
        assert!((found - right).abs() <= 0.5, "{kind}: {found} {right}");
    }
    let both = ["r.json", "ort.cache"].map(|ranges| {
        shell.ok(&format!("run D/digits.onnx --ranges {ranges} -i D/test.npz -o {ranges}.npz -q"));
        shell.read(&format!("{ranges}.npz"))
    });
    assert_eq!(both[0], both[1]);
    shell.write("bad.cache", b"TRT-8XXX-EntropyCalibration2\nconv0: word\n");
    let text = "error: bad.cache: line 2: the scale is not 8 hex digits";
    shell.qc("compile D/digits.onnx --ranges bad.cache -o m.so").fails(3, text);
    for (cache, why) in [("tflite:x.cache", "kinds are trt"), ("trt:", "KIND:FILE"), ("trt:r.json", "r.json")] {
        let ran = shell.qc(&format!("calibrate D/digits.onnx --data D/train.npz -n 4 -o r.json --write-cache {cache}"));
        assert!(ran.status == 2 && ran.err.contains(why), "{cache}: {}", ran.err);
    }
}

#[test]
fn a_command_may_be_the_judge() {
    let shell = Shell::new();
    let [model, data] = ["digits.onnx", "train.npz"].map(|name| digits().join(name).display().to_string());
    let run = |command: &str, options: &[&str]| {
        let command = format!("cmd:{command}");
        let words = ["calibrate", &model, "--data", &data, "-n", "4", "-o", "r.json", "--metric", &command];
        shell.words(&[&words, options].concat())
    };
    // Nothing but the floats themselves is right, to the bit.
    let same = "cmp -s {outputs} {right} && echo 100 || echo 50";
    let ran = run(same, &["--target-drop", "1"]);
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(ran.out.contains("cmd      50.00 with everything in INT8, 100.00 with "), "{}", ran.out);
    assert!(!ran.out.contains("was not reached"), "{}", ran.out);
    let ran = run(same, &["--best"]);
    assert!(ran.out.contains("best     cmd: auto 50.00, minmax 50.00"), "{}", ran.out);
    std::fs::remove_file(shell.path("r.json")).unwrap();
    for (command, why) in [("echo 1", "has to name {outputs}"), ("echo {outputs}", "prints no number in its last line")]
    {
        let ran = run(command, &["--target-drop", "1"]);
        assert!(ran.status == 2 && ran.err.contains(why), "{}", ran.err);
        assert!(!shell.path("r.json").exists());
    }
}

#[test]
fn classes_of_samples_are_what_top1_goes_by() {
    let shell = Shell::new();
    let search = |list: &str| {
        shell.write("list.txt", list.as_bytes());
        let options = "--preprocess digits --target-drop 0 --metric top1 --budget 0s";
        format!("calibrate D/digits.onnx --data list.txt --image-dir D/pictures -o r.json {options}")
    };
    let score = |list: &str| {
        let found = shell.json(&search(list));
        assert_eq!(found["target_reached"], true, "{found}");
        found["score_without"].as_f64().unwrap()
    };
    let own = String::from_utf8(std::fs::read(digits().join("pictures/list.txt")).unwrap()).unwrap();
    let with = |of: fn(usize) -> usize| -> String {
        let one = |line: &str| {
            let (file, class) = line.rsplit_once(' ').unwrap();
            format!("{file} {}\n", of(class.parse().unwrap()))
        };
        own.lines().map(one).collect()
    };
    assert_eq!(score(&with(|class| class)), 100.0);
    // Classes that no model gives: the floats are as far below as the integers, so nothing is dropped.
    assert_eq!(score(&with(|class| (class + 1) % 10)), 0.0);
    shell.qc(&search("eight.png 10\n")).fails(4, "error: list.txt: has class 10, and the model scores classes 0 to 9");
}
