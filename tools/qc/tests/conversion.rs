//! `qc data`: Paddle's tool and its bytes, the forms that data has, and what is said of bad data.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use support::{Shell, digits, field, npy, one_op};

/// Pictures with the results of others, which belong to the runtime's tests.
fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtime/core/tests/goldens/pictures")
}

/// A shell with the pictures of the example in folders of classes, and a list of them.
fn classes() -> Shell {
    let shell = Shell::new();
    for (class, name) in [("a", "one"), ("a", "two"), ("b", "three"), ("c", "four")] {
        std::fs::create_dir_all(shell.path(&format!("val/{class}"))).unwrap();
        let file = format!("{name}.png");
        std::fs::copy(digits().join("pictures").join(&file), shell.path(&format!("val/{class}/{file}"))).unwrap();
    }
    shell.write("list.txt", b"a/one.png 1\na/two.png 2\nb/three.png 3\n");
    shell
}

/// The SHA-256 of bytes.
fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A file in Paddle's binary form.
fn bin(count: i64, pictures: &[f32], labels: &[i64]) -> Vec<u8> {
    let mut bytes = count.to_le_bytes().to_vec();
    bytes.extend(pictures.iter().flat_map(|x| x.to_le_bytes()));
    bytes.extend(labels.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

/// A model of pictures of 3 x 2 x 2 whose scores are the picture's numbers, as ONNX.
fn identity() -> Vec<u8> {
    one_op("Flatten", &[1, 3, 2, 2], &[1, 12])
}

#[test]
fn paddles_tool_is_spelt_as_there_and_writes_its_bytes() {
    let shell = Shell::new();
    std::fs::create_dir(shell.path("val")).unwrap();
    for name in ["f_palette_70x52.png", "h_cmyk_60x80.jpg"] {
        std::fs::copy(goldens().join(name), shell.path("val").join(name)).unwrap();
    }
    shell.write("val/val_list.txt", b"f_palette_70x52.png 101\nh_cmyk_60x80.jpg 102\n");
    let said = shell.ok("data convert --local --data_dir=val --label_list=val_list.txt --output_file=out.bin");
    assert_eq!(said, "Success! The user data output binary file can be found at: val/out.bin\n");
    let bytes = shell.read("val/out.bin");
    assert_eq!(bytes.len(), 8 + 2 * (3 * 224 * 224 * 4 + 8));
    // The hashes of the numbers that the script made of these pictures.
    let text = std::fs::read_to_string(goldens().join("../expected_pillow10.4.0_opencv4.10.0.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    let each = 3 * 224 * 224 * 4;
    for (i, name) in ["f_palette_70x52.png", "h_cmyk_60x80.jpg"].iter().enumerate() {
        let sum = sha256(&bytes[8 + i * each..8 + (i + 1) * each]);
        assert_eq!(&sum[..24], expected["pictures"][name]["paddle_val"]["f32"].as_str().unwrap(), "{name}");
    }
    assert_eq!(bytes[8 + 2 * each..], [101i64.to_le_bytes(), 102i64.to_le_bytes()].concat());
    shell.ok("data convert val/val_list.txt --preprocess imagenet-paddle -o again.bin");
    assert!(shell.read("again.bin") == bytes);
    shell.ok("data convert --local --data_dir val --data_dim 32");
    assert_eq!(shell.read("val/imagenet_small.bin").len(), 8 + 2 * (3 * 32 * 32 * 4 + 8));
    let ran = shell.qc("data convert --local");
    ran.fails(2, "error: Once set --local, user need to provide the --data_dir");
}

#[test]
fn files_of_paddles_tool_are_the_same_byte_for_byte() {
    let shared = std::env::var_os("QC_SHARED").map(|dir| PathBuf::from(dir).join("spec/models"));
    let Some(shared) = shared.filter(|dir| dir.is_dir()) else {
        println!("SKIPPED 2: files that Paddle's script wrote are not on this machine (QC_SHARED)");
        return;
    };
    let shell = Shell::new();
    for (folder, file) in [("preprocess", "paddle.bin"), ("val_bin", "imagenet_small.bin")] {
        let dir = shared.join(folder);
        let out = shell.path(file);
        // Paths that are absolute are not in the folder.
        let options = format!("--data_dir {} --output_file {}", dir.display(), out.display());
        shell.ok(&format!("data convert --local {options}"));
        assert!(shell.read(file) == std::fs::read(dir.join(file)).unwrap(), "{file}");
    }
}

#[test]
fn data_goes_from_form_to_form() {
    let shell = classes();
    let small = "--preprocess none --size 2";
    shell.ok(&format!("data convert val {small} -o folders.npz -q"));
    let report = shell.json("data head folders.npz -n 9");
    let labels: Vec<&str> = report["samples"]
        .as_array()
        .unwrap()
        .iter()
        .skip(4)
        .map(|s| &s["values"])
        .map(|v| v.as_str().unwrap())
        .collect();
    assert_eq!(labels, ["0.000000", "0.000000", "1.000000", "2.000000"], "{report}");
    shell.ok(&format!("data convert list.txt --image-dir val {small} -o list.bin -q"));
    shell.ok("data convert list.bin -n 2 -o two.npz -q");
    shell.ok("data convert two.npz -o two.bin -q");
    let (all, two) = (shell.read("list.bin"), shell.read("two.bin"));
    assert_eq!((two.len(), all.len()), (8 + 2 * 56, 8 + 3 * 56));
    assert!(two[8..8 + 2 * 48] == all[8..8 + 2 * 48] && two[104..] == all[152..168]);
    // A tensor of ONNX: f32 [1, 3, 2, 2], raw.
    let values: Vec<u8> = (0..12).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let tensor = [&[10, 4, 1, 3, 2, 2, 16, 1][..], &field(8, b"x"), &field(9, &values)].concat();
    std::fs::create_dir_all(shell.path("pb/test_data_set_0")).unwrap();
    shell.write("pb/test_data_set_0/input_0.pb", &tensor);
    shell.write("pb/test_data_set_0/output_0.pb", &tensor);
    shell.ok("data convert pb/test_data_set_0/input_0.pb -o one.npz -q");
    shell.ok("data convert pb -o same.npz -q");
    assert!(shell.read("one.npz") == shell.read("same.npz"));
    let report = shell.json("data info pb/test_data_set_0/input_0.pb");
    assert_eq!(report["arrays"][0]["shape"], serde_json::json!([1, 3, 2, 2]));
    shell.write("identity.onnx", &identity());
    let ran = shell.ok("run identity.onnx -i pb/test_data_set_0/input_0.pb");
    assert!(ran.contains("11.000000"), "{ran}");
    assert_eq!(shell.json("calibrate identity.onnx --data pb -o r.json")["samples"], 1);
}

#[test]
fn a_bin_file_is_data_of_accuracy_and_calibration() {
    let shell = Shell::new();
    shell.write("identity.onnx", &identity());
    let picture = |best: usize| (0..12).map(move |i| if i == best { 9.0 } else { 0.5 });
    let pictures: Vec<f32> = [3, 5, 7].into_iter().flat_map(picture).collect();
    shell.write("val.bin", &bin(3, &pictures, &[3, 5, 0]));
    let report = shell.json("accuracy identity.onnx --data val.bin --batch 2");
    assert_eq!((report["images"].as_u64(), report["top1"].as_f64().map(f64::round)), (Some(3), Some(67.0)));
    assert_eq!(shell.json("calibrate identity.onnx --data val.bin -o r.json -n 2")["samples"], 2);
    let ran = shell.qc("accuracy identity.onnx --data val.bin --preprocess none");
    ran.fails(2, "error: --preprocess is for pictures; arrays are taken as they are");
    shell.write("val.bin", &bin(3, &pictures, &[3, 12, 0]));
    let text =
        "error: val.bin: `#1` is of class 12; the model's classes are 0 to 11; --class-offset says where they begin";
    shell.qc("accuracy identity.onnx --data val.bin").fails(4, text);
    shell.write("large.bin", &bin(1, &[1.0; 27], &[0]));
    let text = "error: large.bin: its pictures are 3 x 3 x 3, input 'x' is f32 [1, 3, 2, 2]; make it again for that size \
                with `qc data convert`";
    shell.qc("accuracy identity.onnx --data large.bin").fails(4, text);
    assert_eq!(shell.qc("calibrate identity.onnx --data large.bin -o no.json").status, 4);
    assert!(!shell.path("no.json").exists());
}

#[test]
fn holes_are_told_and_never_counted() {
    let shell = Shell::new();
    shell.write("identity.onnx", &identity());
    let mut pictures = vec![1.0; 36];
    pictures[12..24].fill(0.0);
    shell.write("val.bin", &bin(3, &pictures, &[3, 0, 5]));
    let text = "error: val.bin: picture 1 of 3 is nothing but zeros: its file was missing when this one was made; get it and \
                make this one again";
    for line in [
        "data info val.bin",
        "data convert val.bin -o out.npz",
        "accuracy identity.onnx --data val.bin",
        "calibrate identity.onnx --data val.bin -o out.json",
    ] {
        shell.qc(line).fails(4, text);
    }
    assert!(shell.qc("data info val.bin").out.contains("holes    1 pictures of zeros"));
    assert!(!shell.path("out.npz").exists() && !shell.path("out.json").exists());
    assert_eq!(shell.qc("data convert val.bin -n 1 -o out.npz").status, 0);
}

/// Lines on bad data, the exit status, and what is said; `SMALL` stands for options that fit most of them.
const BAD: &[(&str, i32, &str)] = &[
    ("data convert empty --preprocess none -o out.npz", 4, "empty: the folder holds no .jpg, .jpeg or .png file"),
    ("data convert empty.txt --preprocess none -o out.npz", 4, "empty.txt: the list has no line `<file> <label>`"),
    (
        "data convert cut.bin -o out.npz",
        4,
        "cut.bin: 3 pictures of one size do not take its 64 bytes (of 3 x 224 x 224 they take 1806368): it is cut off or \
             no such file; make it again with `qc data convert`",
    ),
    ("data info none.bin", 4, "none.bin: the count of pictures is 0; make it again with `qc data convert`"),
    ("data info short.bin", 4, "short.bin: 3 bytes hold no count of pictures; make it again with `qc data convert`"),
    (
        "data convert missing.txt SMALL",
        4,
        "val/a/nine.png: there is no such file; --image-dir says where a list's files are, or take its line out",
    ),
    (
        "data convert bad.txt SMALL",
        4,
        "val/bad.png is no picture that can be read: its first bytes are of no JPEG or PNG file; JPEG and PNG can",
    ),
    (
        "data convert unlabelled.txt SMALL",
        4,
        "unlabelled.txt: has no classes, which a .bin needs; give a list of `<file> <class>`, or write .npz",
    ),
    (
        "data convert list.txt --classes 3 SMALL",
        4,
        "list.txt: `b/three.png` is of class 3; classes are 0 to 2; correct its class",
    ),
    (
        "data convert list.txt --image-dir val -o out.npz",
        2,
        "pictures need --preprocess: how they become numbers; -h lists presets",
    ),
    (
        "data convert list.txt --image-dir val --preprocess none -o out.npz",
        4,
        "val/a/one.png cannot be prepared: preset none has no size of its own; give one",
    ),
    (
        "data convert list.txt --image-dir val --preprocess gray --size 2 -o out.bin",
        4,
        "list.txt: a .bin holds pictures of 3 x D x D numbers, not [1, 2, 2]; write .npz",
    ),
    (
        "data convert gray16.txt --image-dir val --preprocess imagenet -o out.bin",
        4,
        "val/gray16.png cannot be prepared: it is gray of 16 bits, of which Pillow would keep the values below 256 only; \
             save it with 8 bits, or use a preset that reads as OpenCV does",
    ),
    ("data convert empty.npy -o out.npz", 4, "empty.npy: holds no samples; give an array whose first dim counts them"),
    ("data convert list.txt --preprocess none -o out.txt", 2, "out.txt: results are called .npz or .bin"),
    (
        "data convert odd.npy -o out.npz --preprocess none",
        2,
        "--preprocess is for pictures; numbers are taken as they are",
    ),
    (
        "data convert odd.npy -o out.bin",
        4,
        "odd.npy: has no classes, which a .bin needs; give a list of `<file> <class>`, or write .npz",
    ),
];

#[test]
fn bad_data_gets_a_sentence_and_no_result() {
    let shell = classes();
    std::fs::create_dir(shell.path("empty")).unwrap();
    shell.write("empty.txt", b"# nothing\n");
    shell.write("cut.bin", &bin(3, &[1.0; 12], &[1]));
    shell.write("none.bin", &bin(0, &[], &[]));
    shell.write("short.bin", b"abc");
    shell.write("missing.txt", b"a/one.png 1\na/nine.png 2\n");
    shell.write("bad.txt", b"a/one.png 1\nbad.png 2\n");
    shell.write("bad.png", b"no picture");
    shell.write("val/bad.png", b"no picture");
    shell.write("unlabelled.txt", b"a/one.png\n");
    shell.write("empty.npy", &npy("<f4", "(0, 3, 2, 2)", &[]));
    shell.write("bad.pb", b"\x0a\x99");
    shell.write("odd.npy", &npy("<f4", "(1, 2, 2)", &[0; 16]));
    let gray = goldens().join("g_gray16_50x41.png");
    std::fs::copy(gray, shell.path("val/gray16.png")).unwrap();
    shell.write("gray16.txt", b"gray16.png 0\n");
    let small = "--image-dir val --preprocess none --size 2 -o out.bin";
    for (line, status, text) in BAD {
        let line = &line.replace("SMALL", small);
        shell.qc(line).fails(*status, &format!("error: {text}"));
        assert!(!shell.path("out.npz").exists() && !shell.path("out.bin").exists(), "{line}");
    }
    let ran = shell.qc("data convert bad.pb -o out.npz");
    assert!(ran.status == 4 && ran.err.starts_with("error: bad.pb: no tensor of ONNX: "), "{}", ran.err);
    let left = std::fs::read_dir(shell.dir.path()).unwrap().flatten();
    let left: Vec<_> = left.map(|e| e.file_name()).filter(|n| n.to_string_lossy().starts_with(".qc-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_recipe_is_recorded_and_another_one_is_told() {
    let shell = Shell::new();
    shell.ok("calibrate D/digits.onnx --data D/pictures --preprocess digits -o r.json -q");
    shell.ok("compile D/digits.onnx --ranges r.json -o m.so -q");
    let report = shell.json("inspect m.so");
    assert!(report.to_string().contains("digits: Upright Gray"), "{report}");
    let line = "--image D/pictures/one.png --preprocess";
    assert_eq!(shell.qc(&format!("run m.so {line} gray")).err, "");
    let told = shell.qc(&format!("run m.so {line} mnist")).err;
    let expected = "warning: the model's ranges are of pictures prepared otherwise\n  there  digits: Upright Gray, scaled to the \
                    input by Pillow Bilinear, (x / 255 - [0.0]) / [1.0], Chw\n  here   mnist: Upright Gray, scaled to the input \
                    by Pillow Bilinear, (x / 1 - [0.0]) / [1.0], Chw\n";
    assert_eq!(told, expected);
    let line = "compare D/digits.onnx --ranges r.json --data D/pictures --preprocess";
    assert!(shell.qc(&format!("{line} mnist")).err.starts_with("warning: the model's ranges are of pictures prepared"));
    assert!(!shell.qc(&format!("{line} digits")).err.contains("prepared otherwise"));
    let ran = shell.qc("accuracy m.so --data D/pictures/list.txt --preprocess digits --mean 0.5");
    assert!(ran.status == 0 && ran.err.contains("  here   digits*: "), "{}", ran.err);
    shell.write("p.toml", b"preset = \"digits\"\n");
    assert_eq!(shell.qc("accuracy m.so --data D/pictures/list.txt --preprocess p.toml").err, "");
    shell.write("p.toml", b"preset = \"digits\"\nmeans = [1]\n");
    let ran = shell.qc("accuracy m.so --data D/pictures/list.txt --preprocess p.toml");
    assert!(ran.status == 4 && ran.err.starts_with("error: p.toml: unknown field `means`"), "{}", ran.err);
}
