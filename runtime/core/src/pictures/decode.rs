//! Bytes of PNG and JPEG files as pixels, in the mode that the file has.

use super::pixels::{Mode, Pixels};
use super::{jpeg, opencv, pillow};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder};
use std::io::Cursor;

/// Most pixels of a picture that is decoded.
const MAX_PIXELS: usize = 1 << 27;
/// Most pixels for every byte of a PNG file: one of one bit per pixel that is all black has some 8000.
const PNG_PIXELS_PER_BYTE: usize = 10_000;
/// Most pixels for every byte of a JPEG file: the first coefficient of 64 pixels takes a bit, whatever the others take.
const JPEG_PIXELS_PER_BYTE: usize = 512;

/// A decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Its pixels as they are stored.
    pub pixels: Pixels,
    /// What their channels are.
    pub mode: Mode,
    /// Its EXIF orientation, 1 to 8; 1 is upright.
    pub orientation: u8,
}

/// Whose formulas make one colour model of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// Pillow.
    Pillow,
    /// OpenCV.
    OpenCv,
}

impl Picture {
    /// Decodes a file.
    ///
    /// # Errors
    /// A sentence, when it is no picture that can be read. Any bytes are safe.
    pub fn decode(bytes: &[u8]) -> Result<Picture, String> {
        match bytes {
            [0xff, 0xd8, ..] => of_jpeg(bytes),
            [0x89, b'P', b'N', b'G', ..] => of_png(bytes),
            _ => Err("its first bytes are of no JPEG or PNG file".into()),
        }
    }

    /// Turns the picture as its EXIF orientation says.
    pub fn upright(self) -> Picture {
        Picture { pixels: self.pixels.oriented(self.orientation), orientation: 1, ..self }
    }
}

/// Red, green and blue of pixels of `mode`; alpha is dropped.
pub fn to_rgb(pixels: Pixels, mode: Mode, library: Library) -> Pixels {
    match mode {
        Mode::Rgb | Mode::Palette => pixels,
        Mode::Rgba => pixels.map(|p| [p[0], p[1], p[2]]),
        Mode::Cmyk if library == Library::OpenCv => pixels.map(opencv::inks),
        Mode::Cmyk => pixels.map(pillow::inks),
        Mode::Bilevel | Mode::Gray | Mode::Gray16 | Mode::GrayAlpha => pixels.map(|p| [p[0]; 3]),
    }
}

/// Luma of pixels of `mode`; alpha is dropped.
pub fn to_gray(pixels: Pixels, mode: Mode, library: Library) -> Pixels {
    match mode {
        Mode::Bilevel | Mode::Gray | Mode::Gray16 => pixels,
        Mode::GrayAlpha => pixels.map(|p| [p[0]]),
        _ => {
            let luma = if library == Library::OpenCv { opencv::luma } else { pillow::luma };
            to_rgb(pixels, mode, library).map(|p| [luma(p[0], p[1], p[2])])
        }
    }
}

/// Refuses pictures of more pixels than are read, or than a file of that size can hold.
fn check_size(bytes: &[u8], (width, height): (u32, u32), per_byte: usize) -> Result<(), String> {
    let pixels = (width as usize).saturating_mul(height as usize);
    if pixels > MAX_PIXELS.min(bytes.len().saturating_mul(per_byte)) {
        return Err(format!("{width} x {height} pixels are too many for its {} bytes", bytes.len()));
    }
    match pixels {
        0 => Err(format!("{width} x {height} pixels are none")),
        _ => Ok(()),
    }
}

fn of_png(bytes: &[u8]) -> Result<Picture, String> {
    let mut decoder = image::codecs::png::PngDecoder::new(Cursor::new(bytes)).map_err(|e| e.to_string())?;
    check_size(bytes, decoder.dimensions(), PNG_PIXELS_PER_BYTE)?;
    // The decoder has read the first chunk, which has these at its end.
    let (depth, colour) = (bytes.get(24).copied(), bytes.get(25).copied());
    // A damaged orientation does not make a picture unreadable.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms).to_exif();
    let picture = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let channels = usize::from(picture.color().channel_count());
    let data: Vec<u8> = match picture {
        DynamicImage::ImageLuma16(p) => p.into_raw().into_iter().map(upper).collect(),
        DynamicImage::ImageLumaA16(p) => p.into_raw().into_iter().map(upper).collect(),
        DynamicImage::ImageRgb16(p) => p.into_raw().into_iter().map(upper).collect(),
        DynamicImage::ImageRgba16(p) => p.into_raw().into_iter().map(upper).collect(),
        other => other.into_bytes(),
    };
    let pixels = Pixels { width, height, channels, data };
    // A transparent colour makes a channel of the decoder's, and none of the picture's.
    let (mode, pixels) = match (colour, depth) {
        (Some(0), depth) => {
            let mode = match depth {
                Some(1) => Mode::Bilevel,
                Some(16) => Mode::Gray16,
                _ => Mode::Gray,
            };
            (mode, pixels.map(|p| [p[0]]))
        }
        (Some(2), _) => (Mode::Rgb, pixels.map(|p| [p[0], p[1], p[2]])),
        (Some(3), _) => (Mode::Palette, pixels.map(|p| [p[0], p[1], p[2]])),
        (Some(4), _) => (Mode::GrayAlpha, pixels),
        _ => (Mode::Rgba, pixels),
    };
    Ok(Picture { pixels, mode, orientation })
}

/// The upper byte of a number of 16 bits.
fn upper(x: u16) -> u8 {
    (x >> 8) as u8
}

fn of_jpeg(bytes: &[u8]) -> Result<Picture, String> {
    check_size(bytes, jpeg::dimensions(bytes)?, JPEG_PIXELS_PER_BYTE)?;
    let jpeg::Decoded { pixels, orientation } = jpeg::decode(bytes)?;
    let (mode, pixels) = match pixels.channels {
        1 => (Mode::Gray, pixels),
        3 => (Mode::Rgb, pixels),
        // Programs store the light that is left over.
        _ => (Mode::Cmyk, pixels.map(|p| [255 - p[0], 255 - p[1], 255 - p[2], 255 - p[3]])),
    };
    Ok(Picture { pixels, mode, orientation })
}
