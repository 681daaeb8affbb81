//! Prepared pictures against the inputs that the reference outputs were made from, where those are at hand.
#![cfg(feature = "pictures")]
#![allow(clippy::unwrap_used)]

use qc_runtime::pictures::{Preset, Size};
use std::path::{Path, PathBuf};

/// The folder with models and data of others, beside the project.
fn shared() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    root.ancestors().map(|dir| dir.join("shared/models")).find(|dir| dir.is_dir())
}

/// Compares the pictures of a folder, in the order of `names`, with array `x` of a file.
fn compare(preset: &str, file: &str, folder: &str, names: &[String], size: usize) {
    let Some(shared) = shared() else {
        eprintln!("skipped: no shared folder");
        return;
    };
    let mut npz = npyz::npz::NpzArchive::open(shared.join("goldens").join(file)).unwrap();
    let expected: Vec<f32> = npz.by_name("x").unwrap().unwrap().into_vec().unwrap();
    let preset = Preset::named(preset).unwrap();
    let size = Size { height: size, width: size };
    let n = preset.values(size);
    assert_eq!(expected.len(), n * names.len());
    for (name, expected) in names.iter().zip(expected.chunks_exact(n)) {
        let mut out = vec![0.0; n];
        preset.load(&shared.join("images").join(folder).join(name), size, &mut out).unwrap();
        let worst = expected.iter().zip(&out).map(|(e, o)| (e - o).abs()).fold(0.0f32, f32::max);
        assert!(worst <= 1e-6, "{name}: differs by {worst}");
    }
}

#[test]
fn imagenet_pictures_are_those_of_the_reference() {
    let Some(shared) = shared() else { return };
    let list = std::fs::read_to_string(shared.join("images/nips2017_256_eval_labels.txt")).unwrap();
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
