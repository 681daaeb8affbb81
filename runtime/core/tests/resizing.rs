//! Decoding, resizing and presets against what Pillow and OpenCV made of the same pictures, by hash. Some pictures are
//! part of the repository (`goldens`), all are in `QC_SHARED`.
#![cfg(feature = "pictures")]
#![allow(clippy::unwrap_used)]

use qc_runtime::pictures::opencv::{self, Interpolation};
use qc_runtime::pictures::pillow::{self, Filter, Order};
use qc_runtime::pictures::{
    Bounded, Fit, Library, Mode, PRESETS, Picture, Pixels, Preset, Resampling, Short, Sides, Size, to_gray, to_rgb,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// What was compared.
#[derive(Default)]
struct Tally {
    equal: usize,
    different: Vec<String>,
}

impl Tally {
    fn compare(&mut self, name: &str, bytes: &[u8], expected: &Value) {
        let Some(expected) = expected.as_str().or_else(|| expected["sha256_24"].as_str()) else { return };
        let hash: String = Sha256::digest(bytes).iter().take(12).map(|b| format!("{b:02x}")).collect();
        match hash == expected {
            true => self.equal += 1,
            false => self.different.push(name.to_string()),
        }
    }

    fn floats(&mut self, name: &str, values: &[f32], expected: &Value) {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.compare(name, &bytes, expected);
    }
}

/// Files with recorded results: those here, and all.
fn recorded() -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")];
    let shared = std::env::var_os("QC_SHARED").map(|dir| PathBuf::from(dir).join("spec/models/preprocess"));
    match shared.filter(|dir| dir.is_dir()) {
        Some(dir) => folders.push(dir),
        None => println!("SKIPPED 2: the whole set of pictures is not on this machine (QC_SHARED)"),
    }
    let files = |dir: PathBuf| {
        let files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        files.into_iter().filter(|p| p.extension().is_some_and(|e| e == "json"))
    };
    let mut files: Vec<PathBuf> = folders.into_iter().flat_map(files).collect();
    files.sort();
    files
}

/// A picture as it was given to presets: red, green and blue as Pillow converts.
struct Given {
    own: Picture,
    rgb: Pixels,
}

fn given(path: &Path) -> Given {
    let bytes = std::fs::read(path).unwrap();
    let own = Picture::decode(&bytes).unwrap();
    let rgb = match own.mode {
        // Pillow cuts off at 255, which no preset here does.
        Mode::Gray16 => {
            let wide = image::load_from_memory(&bytes).unwrap().into_luma16();
            let data = wide.pixels().flat_map(|p| [p.0[0].min(255) as u8; 3]).collect();
            Pixels { channels: 3, data, ..own.pixels.clone() }
        }
        mode => to_rgb(own.pixels.clone(), mode, Library::Pillow),
    };
    Given { own, rgb }
}

fn size_in(key: &str) -> Option<(usize, usize)> {
    let (width, height) = key.rsplit('_').next()?.split_once('x')?;
    Some((width.parse().ok()?, height.parse().ok()?))
}

/// The result of resizing that a key names.
fn resized(given: &Given, key: &str, order: Order) -> Option<Pixels> {
    let rgb = || given.rgb.clone();
    if key == "cv_linear_half" {
        return Some(opencv::resize(rgb(), (given.rgb.width / 2, given.rgb.height / 2), Interpolation::Linear));
    }
    let size = size_in(key)?;
    let words: Vec<&str> = key.split('_').collect();
    let filter = |name| {
        let all = [Filter::Nearest, Filter::Box, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos];
        all.into_iter().find(|f| format!("{f:?}").to_lowercase() == name)
    };
    match words[..] {
        ["pil", name, _] => Some(pillow::resize(rgb(), size, filter(name)?, order)),
        ["pil", "native", name, _] if given.own.mode != Mode::Gray16 && given.own.mode != Mode::Palette => {
            Some(pillow::resize_mode(given.own.pixels.clone(), given.own.mode, size, filter(name)?, order))
        }
        ["cv", name, _] => {
            let all = [Interpolation::Nearest, Interpolation::Linear, Interpolation::Area];
            let kind = all.into_iter().find(|i| format!("{i:?}").to_lowercase() == name)?;
            Some(opencv::resize(rgb(), size, kind))
        }
        _ => None,
    }
}

/// The conversion that a key names.
fn converted(given: &Given, key: &str) -> Option<Vec<u8>> {
    let Picture { pixels, mode, orientation } = given.own.clone();
    let wide = mode == Mode::Gray16;
    match key {
        "pil_convert_rgb" => Some(given.rgb.data.clone()),
        "pil_native" if !wide && mode != Mode::Palette => Some(pixels.data),
        "pil_convert_l" if !wide => Some(to_gray(pixels, mode, Library::Pillow).data),
        "pil_exif_transpose_rgb" => Some(given.rgb.clone().oriented(orientation).data),
        "cv_color" | "cv_color_ignore_orientation" => {
            let bgr = to_rgb(pixels, mode, Library::OpenCv).map(|p| [p[2], p[1], p[0]]);
            Some(if key == "cv_color" { bgr.oriented(orientation) } else { bgr }.data)
        }
        _ => None,
    }
}

fn preset(name: &str) -> Preset {
    Preset::named(name).unwrap().clone()
}

/// The preset of a key, the size of its input, and whether it sees the file's own mode.
fn preset_of(key: &str) -> Option<(Preset, Option<Size>, bool)> {
    let square = |side| Some(Size { height: side, width: side });
    let box_of = |bounded, limit| Preset { fit: Fit::TextBox(bounded, limit), ..preset("ppocr-det") };
    Some(match key {
        "paddle_val" => (preset("imagenet-paddle"), None, true),
        "paddleclas_256_224" => (preset("paddleclas"), None, false),
        "torchvision_256_224_bilinear" => (preset("imagenet"), None, false),
        "torchvision_232_224_bilinear" => (preset("imagenet-torch-v2"), None, false),
        "torchvision_342_299_bilinear" => (preset("inception"), None, false),
        "torchvision_256_224_bicubic" => (preset("imagenet-torch-bicubic"), None, false),
        "letterbox_320" => (preset("yolo"), square(320), false),
        "letterbox_320_auto" => (preset("yolo-auto"), square(320), false),
        "letterbox_416x640_noup" => (preset("yolo-no-growth"), Some(Size { height: 416, width: 640 }), false),
        "ocr_det_max_96" => (box_of(Bounded::Longer, 96), None, false),
        "ocr_det_max_960" => (preset("ppocr-det-max"), None, false),
        "ocr_det_min_736" => (preset("ppocr-det"), None, false),
        "ocr_rec_48x320" => (preset("ppocr-rec"), None, false),
        "keras_224_nearest" => (preset("keras-tf"), None, false),
        _ => return None,
    })
}

fn in_order(preset: Preset, order: Order) -> Preset {
    let resampling = match preset.resampling {
        Resampling::Pillow(filter, _) => Resampling::Pillow(filter, order),
        other => other,
    };
    Preset { resampling, ..preset }
}

/// Compares a preset's pixels and numbers. Those of OpenCV were recorded on upright pictures in Pillow's colours.
fn compare_preset(tally: &mut Tally, name: &str, given: &Given, expected: &Value, order: Order) {
    let key = name.rsplit(' ').next().unwrap();
    let Some((preset, size, own_mode)) = preset_of(key) else { return };
    let rgb = Picture { pixels: given.rgb.clone(), mode: Mode::Rgb, orientation: 1 };
    let picture = if own_mode { given.own.clone() } else { rgb };
    // What was recorded of texts has no padding of the smallest pictures.
    let small = matches!(preset.fit, Fit::TextBox(..)) && given.rgb.width + given.rgb.height < 64;
    if own_mode && picture.mode == Mode::Gray16 || small {
        return;
    }
    let prepared = in_order(preset.clone(), order).prepare(picture.clone(), size).unwrap();
    let mut pixels = prepared.pixels.unwrap();
    if key.starts_with("ocr") {
        pixels = pixels.map(|p| [p[2], p[1], p[0]]);
    }
    tally.compare(&format!("{name} u8"), &pixels.data, &expected["u8"]);
    tally.floats(&format!("{name} f32"), &prepared.values, &expected["f32"]);
    for mode in ["tf", "torch", "caffe"].iter().filter(|_| key.starts_with("keras")) {
        let preset = Preset::named(&format!("keras-{mode}")).unwrap();
        let values = preset.prepare(picture.clone(), size).unwrap().values;
        tally.floats(&format!("{name} {mode}"), &values, &expected[*mode]);
    }
}

#[test]
fn every_recorded_result_is_the_same_byte_for_byte() {
    for file in recorded() {
        let all: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let order = if all["pillow"].as_str().unwrap().starts_with("13") { Order::Pillow13 } else { Order::Pillow12 };
        let (mut tally, mut jpeg) = (Tally::default(), Tally::default());
        for (name, results) in all["pictures"].as_object().unwrap() {
            let given = given(&file.parent().unwrap().join("pictures").join(name));
            let tally = if name.ends_with("jpg") { &mut jpeg } else { &mut tally };
            for (key, expected) in results.as_object().unwrap() {
                let name = format!("{name} {key}");
                let bytes = converted(&given, key).or_else(|| resized(&given, key, order).map(|p| p.data));
                match bytes {
                    Some(bytes) => tally.compare(&name, &bytes, expected),
                    None => compare_preset(tally, &name, &given, expected, order),
                }
            }
        }
        println!("{}: {} equal, JPEG {}", file.display(), tally.equal, jpeg.equal);
        assert!(tally.different.is_empty(), "{} differ: {:?}", tally.different.len(), tally.different);
        assert!(jpeg.different.is_empty(), "{} differ: {:?}", jpeg.different.len(), jpeg.different);
        assert!(tally.equal > 150 && jpeg.equal > 40);
    }
}

#[test]
fn the_smallest_texts_are_padded_below_and_on_the_right() {
    let picture = Picture { pixels: Pixels::filled(40, 20, 3, 255), mode: Mode::Rgb, orientation: 1 };
    let preset = Preset { fit: Fit::TextBox(Bounded::Longer, 960), ..preset("ppocr-det") };
    let pixels = preset.prepare(picture, None).unwrap().pixels.unwrap();
    // 40 x 32 becomes 32 x 32, of which 12 rows are padding.
    assert_eq!((pixels.width, pixels.height), (32, 32));
    assert!(pixels.row(19).iter().all(|x| *x == 255) && pixels.row(20).iter().all(|x| *x == 0));
}

#[test]
fn gray_of_16_bits_is_never_cut_off() {
    let picture = Picture { pixels: Pixels::filled(4, 4, 1, 200), mode: Mode::Gray16, orientation: 1 };
    let size = Some(Size { height: 4, width: 4 });
    let reason = preset("imagenet").prepare(picture.clone(), size).unwrap_err();
    assert!(reason.starts_with("it is gray of 16 bits"), "{reason}");
    assert!(preset("gray").prepare(picture, size).unwrap().values.iter().all(|x| *x == 200.0 / 255.0));
}

#[test]
fn presets_say_what_they_do() {
    let texts: Vec<String> =
        PRESETS.iter().map(|p| Preset { name: Cow::Borrowed(""), ..p.clone() }.to_string()).collect();
    for (i, text) in texts.iter().enumerate() {
        let same = texts.iter().position(|other| other == text).unwrap();
        let named = [&*PRESETS[same].name, &*PRESETS[i].name];
        assert!(same == i || named == ["gray", "digits"], "{named:?} are the same: {text}");
    }
    let preset = Preset { fit: Fit::ShortSide(Short::Pixels(30), Sides::Rounded), ..preset("imagenet-paddle") };
    let text = "imagenet-paddle: PillowOwnMode Rgb, short side 30 (Rounded) by Pillow Lanczos, centre crop (Floor), \
                (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225] in f64, Chw";
    assert_eq!(preset.to_string(), text);
}
