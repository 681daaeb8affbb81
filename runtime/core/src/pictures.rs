//! Pictures as inputs of a model: decoding, cropping and scaling, normalizing. Needs the feature `pictures`.
//!
//! A [`Preset`] says how the picture's pixels become numbers. Its size follows the model's input, which is
//! `[n, channels, height, width]` in f32.
//!
//! ```no_run
//! # fn f(context: &mut qc_runtime::Context) -> Result<(), Box<dyn std::error::Error>> {
//! use qc_runtime::pictures::Preset;
//! let preset = Preset::named("imagenet").ok_or("no such preset")?;
//! let input = &context.inputs()[0];
//! let size = preset.size_of(&input.shape)?;
//! preset.load("cat.jpg".as_ref(), size, context.input_mut(0, 1)?)?;
//! # Ok(()) }
//! ```

use image::imageops::{FilterType, crop_imm, resize};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder};
use std::fmt;
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Most pixels of a picture that is decoded.
const MAX_PIXELS: usize = 1 << 27;
/// Most pixels of a picture that is scaled: a strip whose short side becomes a model's is long.
const MAX_SCALED_PIXELS: usize = 1 << 23;
/// Most pixels for every byte of a PNG file: one of one bit per pixel that is all black has some 8000.
const PNG_PIXELS_PER_BYTE: usize = 10_000;
/// Most pixels for every byte of a JPEG file: the first coefficient of 64 pixels takes a bit, whatever the others take.
const JPEG_PIXELS_PER_BYTE: usize = 512;

/// Which channels the model sees, in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel: luma.
    Gray,
}

impl Channels {
    /// Their number.
    pub const fn count(self) -> usize {
        match self {
            Channels::Rgb | Channels::Bgr => 3,
            Channels::Gray => 1,
        }
    }
}

/// How a picture of any size becomes one of the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// The short side is scaled to 256/224 of the model's, the centre is cut out.
    CenterCrop,
    /// The whole picture is scaled, without regard to its proportions.
    Stretch,
}

/// How pixels become numbers: `(x / divide - mean) / std` in f32, per channel in the model's order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// What it is for, one line.
    pub summary: &'static str,
    /// Channels and their order.
    pub channels: Channels,
    /// How the picture gets its size.
    pub fit: Fit,
    /// Divisor of the 8-bit values.
    pub divide: f32,
    /// Subtracted after that.
    pub mean: [f32; 3],
    /// Divisor after that.
    pub std: [f32; 3],
}

const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

const RAW: Preset = Preset {
    name: "none",
    summary: "RGB as stored, 0 to 255, scaled to the input's size",
    channels: Channels::Rgb,
    fit: Fit::Stretch,
    divide: 1.0,
    mean: [0.0; 3],
    std: [1.0; 3],
};

/// All presets.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "imagenet",
        summary: "PyTorch's and Paddle's ImageNet classifiers: short side 256, centre crop 224, RGB, mean and std",
        fit: Fit::CenterCrop,
        divide: 255.0,
        mean: IMAGENET_MEAN,
        std: IMAGENET_STD,
        ..RAW
    },
    Preset {
        name: "imagenet-tf",
        summary: "TensorFlow's and Keras's ImageNet classifiers: short side 256, centre crop 224, RGB, -1 to 1",
        fit: Fit::CenterCrop,
        mean: [127.5; 3],
        std: [127.5; 3],
        ..RAW
    },
    Preset {
        name: "caffe-bgr",
        summary: "Caffe's ImageNet classifiers: short side 256, centre crop 224, BGR, 0 to 255 less the mean",
        channels: Channels::Bgr,
        fit: Fit::CenterCrop,
        mean: [103.94, 116.78, 123.68],
        ..RAW
    },
    Preset {
        name: "cifar10",
        summary: "small pictures with ImageNet's mean and std: no crop, RGB",
        divide: 255.0,
        mean: IMAGENET_MEAN,
        std: IMAGENET_STD,
        ..RAW
    },
    Preset { name: "gray", summary: "one channel, 0 to 1, no crop", channels: Channels::Gray, divide: 255.0, ..RAW },
    Preset { name: "digits", summary: "the same as gray", channels: Channels::Gray, divide: 255.0, ..RAW },
    Preset { name: "mnist", summary: "one channel, 0 to 255, no crop", channels: Channels::Gray, ..RAW },
    RAW,
];

/// Why a picture is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file holds no picture that can be decoded.
    #[error("{} is no picture that can be read: {reason}; JPEG and PNG can", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        reason: String,
    },
    /// The model's input is no picture of the preset's kind.
    #[error("preset {preset} makes [n, {channels}, height, width], which does not fit the model's input {found:?}")]
    Shape {
        /// The preset.
        preset: &'static str,
        /// The channels it makes.
        channels: usize,
        /// The input's shape.
        found: Vec<usize>,
    },
}

/// Height and width in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Preset {
    /// The preset called `name`.
    pub fn named(name: &str) -> Option<&'static Preset> {
        PRESETS.iter().find(|p| p.name == name)
    }

    /// The size of pictures for an input of this shape.
    ///
    /// # Errors
    /// [`PictureError::Shape`] when the input is not `[n, channels, height, width]` with the preset's channels.
    pub fn size_of(&self, shape: &[usize]) -> Result<Size, PictureError> {
        match *shape {
            [_, c, height, width] if c == self.channels.count() && height > 0 && width > 0 => {
                Ok(Size { height, width })
            }
            _ => Err(PictureError::Shape { preset: self.name, channels: self.channels.count(), found: shape.to_vec() }),
        }
    }

    /// Number of values of one picture.
    pub fn values(&self, size: Size) -> usize {
        self.channels.count() * size.height * size.width
    }

    /// Decodes the file at `path` and prepares it into `out`. Pictures stand upright: an EXIF orientation is applied.
    ///
    /// # Errors
    /// When the file cannot be read or decoded.
    ///
    /// # Panics
    /// When `out` does not have [`Preset::values`] elements.
    pub fn load(&self, path: &Path, size: Size, out: &mut [f32]) -> Result<(), PictureError> {
        let bytes = std::fs::read(path).map_err(|source| PictureError::Io { path: path.into(), source })?;
        self.load_bytes(&bytes, size, out).map_err(|reason| PictureError::Decode { path: path.into(), reason })
    }

    /// Decodes the bytes of a file and prepares the picture into `out`.
    ///
    /// # Errors
    /// A sentence, when they are no picture that can be read. Any bytes are safe.
    ///
    /// # Panics
    /// When `out` does not have [`Preset::values`] elements.
    pub fn load_bytes(&self, bytes: &[u8], size: Size, out: &mut [f32]) -> Result<(), String> {
        let picture = decode(bytes)?;
        let (width, height) = scaled((picture.width(), picture.height()), size);
        if self.fit == Fit::CenterCrop && pixels(width, height) > MAX_SCALED_PIXELS {
            let (w, h) = (picture.width(), picture.height());
            return Err(format!("{w} x {h} pixels are too narrow a strip to be scaled"));
        }
        self.prepare(&picture, size, out);
        Ok(())
    }

    /// Prepares a decoded picture into `out`, channel by channel.
    ///
    /// # Panics
    /// When `out` does not have [`Preset::values`] elements.
    pub fn prepare(&self, picture: &DynamicImage, size: Size, out: &mut [f32]) {
        assert_eq!(out.len(), self.values(size), "the buffer must hold exactly one picture");
        let pixels = match self.channels {
            Channels::Rgb | Channels::Bgr => self.fitted(&picture.to_rgb8(), size),
            Channels::Gray => self.fitted(&picture.to_luma8(), size),
        };
        let n = self.channels.count();
        for (channel, plane) in out.chunks_exact_mut(size.height * size.width).enumerate() {
            let stored = if self.channels == Channels::Bgr { 2 - channel } else { channel };
            let number = |x: u8| (f32::from(x) / self.divide - self.mean[channel]) / self.std[channel];
            let numbers: Vec<f32> = (0..=255).map(number).collect();
            for (value, pixel) in plane.iter_mut().zip(pixels.chunks_exact(n)) {
                *value = numbers[usize::from(pixel[stored])];
            }
        }
    }

    /// The pixels of the picture at the model's size, rows of interleaved channels.
    fn fitted<P>(&self, picture: &image::ImageBuffer<P, Vec<u8>>, size: Size) -> Vec<u8>
    where
        P: image::Pixel<Subpixel = u8> + 'static,
    {
        let (width, height) = (size.width as u32, size.height as u32);
        match self.fit {
            Fit::Stretch if picture.dimensions() == (width, height) => picture.as_raw().clone(),
            Fit::Stretch => resize(picture, width, height, FilterType::Triangle).into_raw(),
            Fit::CenterCrop => {
                let (w, h) = scaled(picture.dimensions(), size);
                let center = |p: &image::ImageBuffer<P, Vec<u8>>| {
                    crop_imm(p, (w - width) / 2, (h - height) / 2, width, height).to_image().into_raw()
                };
                if picture.dimensions() == (w, h) {
                    center(picture)
                } else {
                    center(&resize(picture, w, h, FilterType::Triangle))
                }
            }
        }
    }
}

/// Decodes a JPEG or PNG file, upright as its EXIF orientation says.
fn decode(bytes: &[u8]) -> Result<DynamicImage, String> {
    let reader = image::ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    let mut decoder = reader.into_decoder().map_err(|e| e.to_string())?;
    let (width, height) = decoder.dimensions();
    check_size(bytes, width as usize, height as usize)?;
    // A damaged orientation does not make a picture unreadable.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// Refuses pictures of more pixels than are read, or than a file of that size can hold.
fn check_size(bytes: &[u8], width: usize, height: usize) -> Result<(), String> {
    let per_byte = if bytes.starts_with(b"\xff\xd8") { JPEG_PIXELS_PER_BYTE } else { PNG_PIXELS_PER_BYTE };
    let possible = bytes.len().saturating_mul(per_byte);
    if width.saturating_mul(height) > MAX_PIXELS.min(possible) {
        return Err(format!("{width} x {height} pixels are too many for its {} bytes", bytes.len()));
    }
    Ok(())
}

fn pixels(width: u32, height: u32) -> usize {
    (width as usize).saturating_mul(height as usize)
}

/// Width and height of a picture of `dimensions` before its centre is cut out.
fn scaled(dimensions: (u32, u32), size: Size) -> (u32, u32) {
    let (width, height) = (f64::from(dimensions.0.max(1)), f64::from(dimensions.1.max(1)));
    let short = (size.height.max(size.width) as f64 * 256.0 / 224.0).round();
    let factor = short / width.min(height);
    let at_least = |x: f64, least: usize| ((x * factor).round() as u32).max(least as u32);
    (at_least(width, size.width), at_least(height, size.height))
}

impl fmt::Display for Preset {
    /// All that the preset does, in one line: what a ranges file records.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let fit = match self.fit {
            Fit::CenterCrop => "short side 256/224 of the input, centre crop",
            Fit::Stretch => "scaled to the input",
        };
        let n = self.channels.count();
        let (mean, std) = (&self.mean[..n], &self.std[..n]);
        write!(f, "{}: {:?}, {fit}, (x / {} - {mean:?}) / {std:?}", self.name, self.channels, self.divide)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for p in PRESETS {
            assert_eq!(Preset::named(p.name), Some(p));
        }
        assert_eq!(Preset::named("imagenet-2"), None);
    }

    #[test]
    fn a_wide_picture_is_scaled_by_its_short_side() {
        let size = Size { height: 224, width: 224 };
        assert_eq!(scaled((512, 256), size), (512, 256));
        assert_eq!(scaled((1000, 500), size), (512, 256));
        assert_eq!(scaled((1, 1), size), (256, 256));
        assert_eq!(scaled((300, 400), Size { height: 32, width: 64 }), (73, 97));
    }

    #[test]
    fn channels_are_in_the_models_order() {
        let mut picture = image::RgbImage::new(2, 1);
        picture.put_pixel(0, 0, image::Rgb([1, 2, 3]));
        picture.put_pixel(1, 0, image::Rgb([4, 5, 6]));
        let size = Size { height: 1, width: 2 };
        let mut out = [0.0; 6];
        RAW.prepare(&picture.clone().into(), size, &mut out);
        assert_eq!(out, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let bgr = Preset { channels: Channels::Bgr, mean: [3.0, 2.0, 1.0], std: [1.0, 1.0, 3.0], ..RAW };
        bgr.prepare(&picture.into(), size, &mut out);
        assert_eq!(out, [0.0, 3.0, 0.0, 3.0, 0.0, 1.0]);
    }

    #[test]
    fn the_centre_is_cut_out() {
        let mut picture = image::GrayImage::new(256, 256);
        picture.put_pixel(16, 16, image::Luma([255]));
        picture.put_pixel(239, 239, image::Luma([51]));
        let preset = Preset { channels: Channels::Gray, fit: Fit::CenterCrop, divide: 255.0, ..RAW };
        let mut out = vec![0.0; 224 * 224];
        preset.prepare(&picture.into(), Size { height: 224, width: 224 }, &mut out);
        assert_eq!((out[0], out[224 * 224 - 1], out.iter().filter(|x| **x != 0.0).count()), (1.0, 0.2, 2));
    }

    #[test]
    fn inputs_that_are_no_pictures_are_refused() {
        assert!(PRESETS[0].size_of(&[1, 1, 8, 8]).is_err());
        assert!(PRESETS[0].size_of(&[1, 3]).is_err());
        assert_eq!(PRESETS[0].size_of(&[1, 3, 4, 5]).ok(), Some(Size { height: 4, width: 5 }));
    }
}
