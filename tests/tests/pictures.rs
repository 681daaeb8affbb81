//! Prepared pictures against the inputs that the reference outputs were made from, where those are at hand.
//!
//! The references were made by Pillow and NumPy: pixels are the same, numbers but for the last bit.
#![allow(clippy::unwrap_used)]

use qc_runtime::pictures::{Preset, Scale, Size};
use qc_tests::golden;

/// Compares the pictures of a folder, in the order of `names`, with array `x` of a file.
fn compare(preset: &str, file: &str, folder: &str, names: &[String], size: usize) {
    let Some(shared) = golden::shared().map(|shared| shared.join("models")) else {
        println!("SKIPPED {}: the pictures are not on this machine (QC_SHARED)", names.len());
        return;
    };
    let x = golden::array(&shared.join("goldens").join(file), "x").unwrap();
    let expected = x.as_f32().unwrap();
    let preset = Preset::named(preset).unwrap();
    let size = Size { height: size, width: size };
    let n = preset.values(size);
    assert_eq!(expected.len(), n * names.len());
    for (name, expected) in names.iter().zip(expected.chunks_exact(n)) {
        let mut out = vec![0.0; n];
        preset.load(&shared.join("images").join(folder).join(name), size, &mut out).unwrap();
        // In steps of the picture's pixels.
        let divisor = if let Scale::Divide(by) = preset.scale { by } else { 1.0 };
        let step = |i: usize| divisor * preset.std[i / (n / preset.channels.count())] as f32;
        let off: Vec<f32> = expected.iter().zip(&out).enumerate().map(|(i, (e, o))| (e - o).abs() * step(i)).collect();
        let worst = off.iter().copied().fold(0.0f32, f32::max);
        assert!(worst <= 1e-4, "{name}: differs by up to {worst} of 255");
    }
}

#[test]
fn imagenet_pictures_are_those_of_the_reference() {
    let list = golden::shared().map(|s| s.join("models/images/nips2017_256_eval_labels.txt"));
    let list = list.map(|path| std::fs::read_to_string(path).unwrap()).unwrap_or_default();
    let names: Vec<String> = list.lines().take(4).map(|l| l.split_whitespace().next().unwrap().to_string()).collect();
    for (preset, file) in [("imagenet", "input_P1.npz"), ("imagenet-tf", "input_P2.npz"), ("caffe-bgr", "input_P3.npz")]
    {
        compare(preset, file, "nips2017_256_jpg", &names, 224);
    }
}

#[test]
fn small_pictures_are_those_of_the_reference() {
    let names = ["airplane", "bird", "deer", "frog"].map(|class| format!("{class}/0000.jpg"));
    compare("cifar10", "input_cifar.npz", "cifar10_test_A", &names, 32);
}
