//! What commands say of the data they are given, and what they say at all.

#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;
use support::{Shell, digits};

/// A .npy file of f32.
fn npy(dims: &[usize], values: &[f32]) -> Vec<u8> {
    let dims: String = dims.iter().map(|d| format!("{d}, ")).collect();
    let values: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    support::npy("<f4", &format!("({dims})"), &values)
}

/// `n` samples for the digits network, all different.
fn samples(n: usize) -> Vec<f32> {
    (0..n * 64).map(|i| ((i * 37 % 101) as f32 / 100.0) * (1.0 + (i / 64) as f32 * 0.02)).collect()
}

#[test]
fn samples_that_make_bad_ranges_are_named() {
    let shell = Shell::new();
    let said = |values: Vec<f32>| {
        shell.write("x.npy", &npy(&[values.len() / 64, 1, 8, 8], &values));
        let ran = shell.qc("calibrate D/digits.onnx --data x.npy -o r.json");
        assert_eq!(ran.status, 0, "{}", ran.err);
        ran.err
    };
    assert_eq!(said(samples(20)), "");
    let changed = |from: usize, to: usize, change: fn(f32) -> f32| {
        let mut values = samples(20);
        values[from..to].iter_mut().for_each(|x| *x = change(*x));
        values
    };
    let text = said(changed(7 * 64, 8 * 64, |x| x * 1000.0));
    assert!(
        text.starts_with("warning: 1 of 20 samples are out of all proportion") && text.ends_with(": #7\n"),
        "{text}"
    );
    let text = said(changed(5 * 64 + 3, 5 * 64 + 4, |_| f32::NAN));
    assert_eq!(text, "warning: 1 of 20 samples hold NaN or infinite values, which count for nothing: #5\n");
    let text = said(changed(64, 3 * 64, |_| 0.0));
    assert_eq!(text, "warning: 2 of 20 samples are nothing but zeros: #1, #2\n");
    assert_eq!(said(samples(1)), "warning: 1 sample says little about the values of a model; use a hundred\n");
    shell.write("x.npy", &npy(&[2, 1, 8, 8], &samples(2)));
    assert_eq!(shell.qc("calibrate D/digits.onnx --data x.npy -o r.json -q").err, "");
    let report = shell.json("calibrate D/digits.onnx --data x.npy -o r.json");
    assert_eq!(report["warnings"].as_array().unwrap().len(), 1);
}

#[test]
fn files_of_a_folder_that_are_no_pictures_are_named() {
    let shell = Shell::new();
    std::fs::create_dir(shell.path("pictures")).unwrap();
    for name in ["one", "two", "three", "four"] {
        let file = format!("{name}.png");
        std::fs::copy(digits().join("pictures").join(&file), shell.path("pictures").join(file)).unwrap();
    }
    let line = "calibrate D/digits.onnx --data pictures --preprocess digits -o r.json";
    assert_eq!(shell.qc(line).err, "");
    shell.write("pictures/a.webp", b"RIFF");
    shell.write("pictures/b.txt", b"");
    let text = "warning: a.webp and 1 more: no .jpg, .jpeg or .png file, not read\n";
    assert_eq!(shell.qc(line).err, text);
}

#[test]
fn classes_beyond_those_of_the_model_are_refused() {
    let shell = Shell::new();
    let accuracy = |list: &str, options: &str| {
        shell.write("list.txt", list.as_bytes());
        shell
            .qc(&format!("accuracy D/digits.onnx --data list.txt --image-dir D/pictures --preprocess digits {options}"))
    };
    let ran = accuracy("one.png 1\ntwo.png 10\n", "");
    let text = "`two.png` is of class 10; the model's classes are 0 to 9; --class-offset says where they begin";
    ran.fails(4, &format!("error: list.txt: {text}"));
    let text = "`one.png` is of class 9; the model's classes are -1 to 8; --class-offset says where they begin";
    accuracy("one.png 9\n", "--class-offset 1").fails(4, &format!("error: list.txt: {text}"));
    let ran = accuracy("\u{feff}one.png 1\r\ntwo.png 2\r\n", "");
    assert!(ran.status == 0 && ran.out.contains("pictures   2"), "{}{}", ran.out, ran.err);
    let quiet = accuracy("one.png 1\n", "-q").out;
    assert!(quiet.contains("top-1      100.00 %"), "{quiet}");
    shell.write("names.txt", b"zero\none\n");
    let ran = shell.qc("run D/digits.onnx --image D/pictures/one.png --preprocess digits --class-names names.txt");
    assert_eq!((ran.status, &*ran.err), (0, "warning: --class-names has 2 names, the model 10 classes\n"));
}

#[test]
fn options_keep_their_older_spellings() {
    let shell = Shell::new();
    let line = "accuracy D/digits.onnx --labels D/pictures/list.txt --images D/pictures --preprocess digits";
    assert!(shell.ok(line).contains("top-1"));
    shell.ok("run D/digits.onnx --image D/pictures/one.png --preprocess digits --labels D/classes.txt");
    shell.ok("calibrate D/digits.onnx --data D/pictures/list.txt --images D/pictures --preprocess digits -o r.json -q");
    shell.write("qc.toml", b"[accuracy]\nlabels = \"none.txt\"\n");
    assert!(shell.ok(line).contains("top-1"), "the command line counts");
}

#[test]
fn arrays_in_another_order_get_the_advice_that_helps() {
    let shell = Shell::new();
    let advice = |dims: &[usize]| {
        shell.write("x.npy", &npy(dims, &vec![0.0; dims.iter().product()]));
        shell.qc("run D/digits.onnx -i x.npy --shape image[?,1,8,8]").err
    };
    let last = advice(&[2, 8, 8, 1]);
    assert!(last.contains("its channels are last; transpose it: x.transpose(0, 3, 1, 2)"), "{last}");
    let alone = advice(&[8, 8, 1]);
    assert!(alone.contains("transpose it: x.transpose(2, 0, 1)[None]"), "{alone}");
    assert!(advice(&[1, 8, 8]).contains("add the batch with x[None]"));
    assert!(advice(&[64]).contains("reshape it, the first dimension being the batch"));
}

#[test]
fn half_floats_are_read() {
    let shell = Shell::new();
    let values: Vec<u8> = (0..64u16).flat_map(|i| half_of(i).to_le_bytes()).collect();
    let header = "{'descr': '<f2', 'fortran_order': False, 'shape': (1, 1, 8, 8), }\n";
    let head = [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
    shell.write("half.npy", &[head, values].concat());
    shell.write("x.npy", &npy(&[1, 1, 8, 8], &(0..64).map(|i| i as f32).collect::<Vec<_>>()));
    shell.ok("run D/digits.onnx -i half.npy -o half.npz -q");
    shell.ok("run D/digits.onnx -i x.npy -o x.npz -q");
    assert!(shell.read("half.npz") == shell.read("x.npz"));
}

/// A whole number below 2048 in the binary format of 16 bits.
fn half_of(n: u16) -> u16 {
    let Some(exponent) = n.checked_ilog2() else { return 0 };
    (exponent as u16 + 15) << 10 | (n << (10 - exponent)) & 0x3ff
}

#[test]
fn a_fixed_batch_counts() {
    let shell = Shell::new();
    let line = "bench D/digits_qdq.onnx --shape image[4,1,8,8] -t 0.02 --threads 1";
    assert_eq!(shell.json(line)["batch"], 4);
    assert_eq!(shell.json("bench D/digits_qdq.onnx -b 3 -t 0.02 --threads 1")["batch"], 3);
}

#[test]
fn ranges_belong_to_a_model() {
    let shell = Shell::new();
    shell.ok("calibrate D/digits.onnx --data D/train.npz -o r.json -q");
    let ran = shell.qc("compile D/paddle_float --ranges r.json -o x.so");
    assert!(ran.status == 3 && ran.err.contains("r.json: these ranges are of another model"), "{}", ran.err);
    let ran = shell.qc("compile D/digits_qdq.onnx --ranges r.json --foreign-ranges -o x.so");
    ran.fails(2, "error: the model is quantized already, and ranges are for float models; leave --ranges out");
}

#[test]
fn what_was_read_and_written_is_said() {
    let shell = Shell::new();
    let ran = shell.qc("run D/digits.onnx -i D/test.npz -o y.npz");
    assert_eq!((ran.status, &*ran.err), (0, "wrote    y.npz  prob\n"));
    assert_eq!(shell.qc("run D/digits.onnx -i D/test.npz -o y.npz -q").err, "");
    shell.write("qc.toml", b"[inspect]\nshow = \"io\"\n");
    assert_eq!(shell.qc("inspect D/digits.onnx -v").err, "options  from qc.toml\n");
    assert_eq!(shell.qc("inspect D/digits.onnx").err, "");
    assert_eq!(shell.ok("help compile"), shell.ok("compile --help"));
}

#[test]
fn pipes_are_refused_at_once() {
    let shell = Shell::new();
    assert!(Command::new("mkfifo").arg(shell.path("pipe")).status().unwrap().success());
    for line in ["check pipe", "inspect pipe", "run pipe", "opt pipe", "bench pipe"] {
        shell.qc(line).fails(3, "error: pipe: this is neither a regular file nor a folder");
    }
}

#[test]
fn a_folder_is_searched_by_the_usual_names() {
    let shell = Shell::new();
    std::fs::create_dir(shell.path("net")).unwrap();
    std::fs::copy(digits().join("paddle_float/model"), shell.path("net/__model__")).unwrap();
    std::fs::copy(digits().join("paddle_float/params"), shell.path("net/params")).unwrap();
    shell.ok("check net");
}
