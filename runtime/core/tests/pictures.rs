//! What a decoder makes of the odd kinds of pictures.
#![cfg(feature = "pictures")]
#![allow(clippy::unwrap_used)]

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use qc_runtime::pictures::{Picture, Preset, Size};

/// Pixels as they are, at the model's size.
fn raw() -> Preset {
    Preset::named("none").unwrap().clone()
}

/// The planes of a picture, which has this size.
fn planes(bytes: &[u8], width: usize, height: usize) -> Vec<f32> {
    let size = Size { height, width };
    let mut out = vec![0.0; raw().values(size)];
    raw().load_bytes(bytes, size, &mut out).unwrap();
    out
}

/// EXIF with nothing but an orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let entry = [0x12, 1, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0];
    [b"II*\0\x08\0\0\0\x01\0".as_slice(), &entry, &[0; 4]].concat()
}

#[test]
fn pictures_stand_upright() {
    // Left half dark, right half bright; turned clockwise, dark is above.
    let pixels: Vec<u8> = (0..16 * 16).map(|i| if i % 16 < 8 { 20 } else { 220 }).collect();
    let corners = |out: &[f32]| [out[0], out[15], out[15 * 16], out[255]].map(|x| x > 120.0);
    for (orientation, expected) in [
        (1, [false, true, false, true]),
        (2, [true, false, true, false]),
        (3, [true, false, true, false]),
        (6, [false, false, true, true]),
        (8, [true, true, false, false]),
    ] {
        let (mut jpeg, mut png) = (Vec::new(), Vec::new());
        let mut encoder = JpegEncoder::new_with_quality(&mut jpeg, 95);
        encoder.set_exif_metadata(exif(orientation)).unwrap();
        encoder.write_image(&pixels, 16, 16, ExtendedColorType::L8).unwrap();
        assert_eq!(corners(&planes(&jpeg, 16, 16)), expected, "jpeg, orientation {orientation}");
        let mut encoder = PngEncoder::new(&mut png);
        encoder.set_exif_metadata(exif(orientation)).unwrap();
        encoder.write_image(&pixels, 16, 16, ExtendedColorType::L8).unwrap();
        assert_eq!(corners(&planes(&png, 16, 16)), expected, "png, orientation {orientation}");
    }
}

#[test]
fn grey_pictures_have_three_equal_channels() {
    let pixels: Vec<u8> = (0..64).map(|i| i * 3).collect();
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 100).write_image(&pixels, 8, 8, ExtendedColorType::L8).unwrap();
    let out = planes(&jpeg, 8, 8);
    assert!(out[..64] == out[64..128] && out[..64] == out[128..]);
    assert!(out.iter().zip(&pixels).all(|(a, b)| (a - f32::from(*b)).abs() <= 2.0), "{out:?}");
}

/// A JPEG of 8 x 8 pixels in four components of one value each, as Adobe's programs write it: inverted, without a change
/// of colour space. Every coefficient but the first of a block is zero.
fn cmyk(values: [u8; 4]) -> Vec<u8> {
    let mut out = b"\xff\xd8\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0".to_vec();
    out.extend([0xff, 0xdb, 0, 67, 0]);
    out.extend([8; 64]);
    out.extend([0xff, 0xc0, 0, 20, 8, 0, 8, 0, 8, 4, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0, 4, 0x11, 0]);
    // First coefficients: numbers of 7 bits follow the code 00. Others: the code 0 ends the block.
    out.extend([0xff, 0xc4, 0, 20, 0x00, 0, 1]);
    out.extend([0; 14]);
    out.push(7);
    out.extend([0xff, 0xc4, 0, 20, 0x10, 1, 0]);
    out.extend([0; 14]);
    out.push(0);
    out.extend([0xff, 0xda, 0, 14, 4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0]);
    let mut bits = String::new();
    for value in values {
        let difference = i32::from(value) - 128;
        assert!((64..128).contains(&difference.abs()), "{value} needs other than 7 bits");
        let coded = if difference < 0 { difference + 127 } else { difference };
        bits += &format!("00{coded:07b}0");
    }
    for byte in bits.as_bytes().chunks(8) {
        let text = format!("{:1<8}", String::from_utf8_lossy(byte));
        let byte = u8::from_str_radix(&text, 2).unwrap();
        out.push(byte);
        if byte == 0xff {
            out.push(0);
        }
    }
    out.extend([0xff, 0xd9]);
    out
}

#[test]
fn four_colours_become_three() {
    let out = planes(&cmyk([240, 40, 200, 230]), 8, 8);
    for (plane, stored) in out.chunks_exact(64).zip([240.0, 40.0, 200.0]) {
        let expected: f32 = stored * 230.0 / 255.0;
        assert!(plane.iter().all(|x| (x - expected).abs() <= 2.0), "{expected} is {}", plane[0]);
    }
}

#[test]
fn what_is_no_picture_is_refused() {
    let size = Size { height: 8, width: 8 };
    let mut out = vec![0.0; raw().values(size)];
    for bytes in [&b""[..], b"\xff\xd8", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"\x89PNG\r\n\x1a\n"] {
        assert!(raw().load_bytes(bytes, size, &mut out).is_err(), "{bytes:?}");
    }
    let mut large = cmyk([240, 40, 200, 230]);
    let at = large.windows(2).position(|w| w == [0xff, 0xc0]).unwrap() + 5;
    large[at..at + 4].fill(0xff);
    let reason = raw().load_bytes(&large, size, &mut out).unwrap_err();
    assert!(reason.contains("65535 x 65535 pixels are too many"), "{reason}");
}

#[test]
fn strips_that_would_be_scaled_to_millions_of_pixels_are_refused() {
    let cropped = Preset::named("imagenet").unwrap();
    let size = Size { height: 224, width: 224 };
    let mut out = vec![0.0; cropped.values(size)];
    let mut strip = |width: u32| {
        let mut png = Vec::new();
        let pixels = vec![9; 2 * width as usize];
        PngEncoder::new(&mut png).write_image(&pixels, width, 2, ExtendedColorType::L8).unwrap();
        cropped.load_bytes(&png, size, &mut out)
    };
    assert_eq!(strip(40), Ok(()));
    assert_eq!(strip(400), Err("400 x 2 pixels are too narrow a strip to be scaled".into()));
    // The result is small, but not what lies between columns and rows.
    let (mut png, size) = (Vec::new(), Size { height: 8, width: 1000 });
    PngEncoder::new(&mut png).write_image(&[9; 20_000], 1, 20_000, ExtendedColorType::L8).unwrap();
    let refused = raw().load_bytes(&png, size, &mut vec![0.0; raw().values(size)]);
    assert_eq!(refused, Err("1 x 20000 pixels are too narrow a strip to be scaled".into()));
}

#[test]
fn damaged_files_never_panic() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let mut files = vec![std::fs::read(folder.join("pictures/h_cmyk_60x80.jpg")).unwrap()];
    for name in ["progressive_420", "restart_422"] {
        files.push(std::fs::read(folder.join("jpeg").join(format!("{name}.jpg"))).unwrap());
    }
    let mut state = 7u32;
    let mut random = |n: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % n
    };
    let size = Size { height: 8, width: 8 };
    let (mut decoded, mut out) = (0, vec![0.0; raw().values(size)]);
    for round in 0..3000 {
        let mut bytes = files[round % files.len()].clone();
        // Half of the edits are among the markers.
        let end = if round % 2 == 0 { bytes.len() } else { 700.min(bytes.len()) };
        for _ in 0..=random(4) {
            let at = random(end);
            bytes[at] = [0, 1, 0x11, 0x44, 0xff, random(256) as u8][random(6)];
        }
        if random(4) == 0 {
            bytes.truncate(random(bytes.len()));
        }
        decoded += usize::from(raw().load_bytes(&bytes, size, &mut out).is_ok());
    }
    assert!((100..2900).contains(&decoded), "{decoded}");
}

#[test]
fn every_kind_of_jpeg_is_the_same_as_by_libjpeg_turbo() {
    use sha2::{Digest, Sha256};
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/jpeg");
    let list = std::fs::read_to_string(folder.join("expected.txt")).unwrap();
    assert!(list.lines().count() >= 8);
    for line in list.lines() {
        let (name, expected) = line.split_once(' ').unwrap();
        let picture = Picture::decode(&std::fs::read(folder.join(name)).unwrap()).unwrap();
        let hash: String = Sha256::digest(&picture.pixels.data).iter().take(12).map(|b| format!("{b:02x}")).collect();
        assert_eq!(hash, expected, "{name}");
    }
}

#[test]
fn what_decoders_guess_is_refused() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/jpeg");
    let bytes = std::fs::read(folder.join("progressive_420.jpg")).unwrap();
    let scans: Vec<usize> = (0..bytes.len() - 1).filter(|i| bytes[*i..*i + 2] == [0xff, 0xda]).collect();
    let reason = |bytes: &[u8]| Picture::decode(bytes).unwrap_err();
    let (head, last) = bytes.split_at(*scans.last().unwrap());
    let twice = [head, &last[..last.len() - 2], last].concat();
    assert_eq!(reason(&twice), "a scan is of coefficients that others have had, or of none");
    let without = [&bytes[..scans[1]], b"\xff\xd9"].concat();
    assert_eq!(reason(&without), "scans are missing");
    assert_eq!(reason(&bytes[..scans[0] + 20]), "it ends too early");
    // The end of the file alone may be missing.
    assert!(Picture::decode(&bytes[..bytes.len() - 2]).is_ok());
    let bytes = std::fs::read(folder.join("restart_422.jpg")).unwrap();
    let restart = (0..bytes.len()).find(|i| bytes[*i] == 0xff && bytes[*i + 1] == 0xd0).unwrap();
    assert_eq!(reason(&[&bytes[..restart], &bytes[restart + 2..]].concat()), "it ends too early");
    let mut cut = bytes.clone();
    cut[restart + 1] = 0xd9;
    assert_eq!(reason(&cut), "a restart is missing");
    let twelve = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    let (mut deep, mut arithmetic) = (bytes.clone(), bytes);
    deep[twelve + 4] = 12;
    assert_eq!(reason(&deep), "its samples have 12 bits, not 8");
    arithmetic[twelve + 1] = 0xc9;
    assert_eq!(reason(&arithmetic), "it is lossless, hierarchical or coded arithmetically");
}
