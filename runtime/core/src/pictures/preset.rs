//! What is done to a picture, as data: a row per published recipe.

use super::decode::Library;
use super::opencv::Interpolation;
use super::pillow::{Filter, Order};
use super::tensorflow::Centers;
use super::{PictureError, Size};
use std::borrow::Cow;
use std::fmt;

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

/// Where the dim of channels stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `[channels, height, width]`.
    Chw,
    /// `[height, width, channels]`.
    Hwc,
}

/// How files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// As Pillow converts: an EXIF orientation is not applied. Gray of 16 bits is refused, as Pillow cuts it off at 255.
    Pillow,
    /// As Pillow, but resized and cropped in the file's own mode, and converted then.
    PillowOwnMode,
    /// As OpenCV reads: an EXIF orientation is applied; of 16 bits, the upper 8 count.
    OpenCv,
    /// Pillow's formulas; an EXIF orientation is applied; of 16 bits, the upper 8 count.
    Upright,
}

impl Reading {
    /// Whether an EXIF orientation is applied.
    pub fn orients(self) -> bool {
        matches!(self, Reading::OpenCv | Reading::Upright)
    }

    /// Whose formulas convert colours.
    pub fn library(self) -> Library {
        if self == Reading::OpenCv { Library::OpenCv } else { Library::Pillow }
    }
}

/// How sizes of 8-bit pixels change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resampling {
    /// Pillow's `resize`.
    Pillow(Filter, Order),
    /// OpenCV's `resize`.
    OpenCv(Interpolation),
    /// TensorFlow's `resize_bilinear` on floats. There is no crop behind it.
    TensorFlow(Centers),
}

/// The length of a short side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Short {
    /// This many times the longer side of the model's input, as a fraction.
    Ratio(usize, usize),
    /// Pixels.
    Pixels(usize),
}

/// How the sides of a picture whose short side is known are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sides {
    /// Each is multiplied by `short / min`, and rounded half to even.
    Rounded,
    /// The long side is `short * long / min` without its fraction; a picture that has that size stays as it is.
    Truncated,
}

/// Which side of a text is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounded {
    /// The longer side is this at most.
    Longer,
    /// The shorter side is this at least.
    Shorter,
}

/// What size a picture gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Its own.
    Keep,
    /// Its own; the model's is cut out.
    Cut,
    /// The model's, without regard to proportions.
    Stretch,
    /// That of a short side; the model's is cut out.
    ShortSide(Short, Sides),
    /// The part of its centre with this many thousandths of its sides, stretched to the model's.
    Centre(usize),
    /// The largest within the model's, padded with grey of 114.
    Letterbox {
        /// Whether small pictures grow.
        grow: bool,
        /// Whether padding is on all sides alike, rather than on the right and below.
        centred: bool,
        /// Where it is given, padding is no more than what makes the sides multiples of it.
        stride: Option<usize>,
    },
    /// Sides that are multiples of 32, after one is bounded.
    TextBox(Bounded, usize),
    /// The model's height; zeros on the right, after numbers were made of pixels, fill its width.
    TextLine,
}

/// Where a cut begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crop {
    /// At half of what is left over, without its fraction.
    Floor,
    /// At half of what is left over, rounded half to even. A smaller picture is padded with zeros first.
    HalfEven,
}

/// What a byte is multiplied by, in f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// It is divided by this.
    Divide(f32),
    /// It is multiplied by this.
    Multiply(f32),
}

/// How means and deviations are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steps {
    /// In f32.
    F32,
    /// Each step in f64, rounded to f32.
    F64,
}

/// How a picture becomes numbers: read, resized, cut, `(x * scale - mean) / std` per channel in the model's order.
#[derive(Debug, Clone, PartialEq)]
pub struct Preset {
    /// Its name.
    pub name: Cow<'static, str>,
    /// What it is for, one line.
    pub summary: &'static str,
    /// How files are read.
    pub reading: Reading,
    /// Channels and their order.
    pub channels: Channels,
    /// What size the picture gets.
    pub fit: Fit,
    /// How it gets it.
    pub resampling: Resampling,
    /// Where the model's size is cut out; of a short side, or of the picture itself.
    pub crop: Crop,
    /// What bytes are multiplied by.
    pub scale: Scale,
    /// Subtracted after that.
    pub mean: [f64; 3],
    /// Divisor after that.
    pub std: [f64; 3],
    /// In which precision both are.
    pub steps: Steps,
    /// Where the dim of channels stands.
    pub layout: Layout,
    /// The size of the model's input where no model says it.
    pub size: Option<Size>,
}

const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const STD: [f64; 3] = [0.229, 0.224, 0.225];
const BILINEAR: Resampling = Resampling::Pillow(Filter::Bilinear, Order::Pillow12);
const CV_LINEAR: Resampling = Resampling::OpenCv(Interpolation::Linear);

/// A square.
const fn square(side: usize) -> Option<Size> {
    Some(Size { height: side, width: side })
}

/// Bytes as they are.
const RAW: Preset = Preset {
    name: Cow::Borrowed("none"),
    summary: "RGB as stored, 0 to 255, scaled to the input's size; EXIF applied",
    reading: Reading::Upright,
    channels: Channels::Rgb,
    fit: Fit::Stretch,
    resampling: BILINEAR,
    crop: Crop::Floor,
    scale: Scale::Divide(1.0),
    mean: [0.0; 3],
    std: [1.0; 3],
    steps: Steps::F32,
    layout: Layout::Chw,
    size: None,
};

/// torchvision's classifiers.
const TORCH: Preset = Preset {
    name: Cow::Borrowed("imagenet"),
    summary: "torchvision's classifiers: short side 256, Pillow's bilinear, centre crop 224, RGB, mean and std",
    reading: Reading::Pillow,
    fit: Fit::ShortSide(Short::Ratio(256, 224), Sides::Truncated),
    crop: Crop::HalfEven,
    scale: Scale::Divide(255.0),
    mean: MEAN,
    std: STD,
    size: square(224),
    ..RAW
};

const GRAY: Preset = Preset {
    name: Cow::Borrowed("gray"),
    summary: "one channel, 0 to 1, scaled to the input's size; EXIF applied",
    channels: Channels::Gray,
    scale: Scale::Divide(255.0),
    ..RAW
};

const KERAS: Preset = Preset {
    name: Cow::Borrowed("keras-tf"),
    summary: "Keras, mode tf: 224 x 224 by Pillow's nearest, RGB, -1 to 1, channels behind",
    reading: Reading::Pillow,
    resampling: Resampling::Pillow(Filter::Nearest, Order::Pillow12),
    scale: Scale::Divide(127.5),
    mean: [1.0; 3],
    layout: Layout::Hwc,
    size: square(224),
    ..RAW
};

const SLIM: Preset = Preset {
    name: Cow::Borrowed("tf-slim"),
    summary: "TensorFlow 1's slim: centre of 0.875, bilinear from the corner, RGB, -1 to 1, channels behind",
    reading: Reading::Pillow,
    fit: Fit::Centre(875),
    resampling: Resampling::TensorFlow(Centers::Corner),
    scale: Scale::Multiply(1.0 / 255.0),
    mean: [0.5; 3],
    std: [0.5; 3],
    layout: Layout::Hwc,
    size: square(224),
    ..RAW
};

const YOLO: Preset = Preset {
    name: Cow::Borrowed("yolo"),
    summary: "YOLO's letterbox: 640 x 640, padded with 114 on all sides, RGB, 0 to 1; OpenCV's linear, EXIF applied",
    reading: Reading::OpenCv,
    fit: Fit::Letterbox { grow: true, centred: true, stride: None },
    resampling: CV_LINEAR,
    scale: Scale::Divide(255.0),
    size: square(640),
    ..RAW
};

const TEXT_BOX: Preset = Preset {
    name: Cow::Borrowed("ppocr-det"),
    summary: "PP-OCR's detection: shorter side 736 at least, multiples of 32, BGR, mean and std; EXIF applied",
    reading: Reading::OpenCv,
    channels: Channels::Bgr,
    fit: Fit::TextBox(Bounded::Shorter, 736),
    resampling: CV_LINEAR,
    scale: Scale::Multiply(1.0 / 255.0),
    mean: MEAN,
    std: STD,
    ..RAW
};

/// All presets.
pub const PRESETS: &[Preset] = &[
    TORCH,
    Preset {
        name: Cow::Borrowed("imagenet-torch-v2"),
        summary: "torchvision's second weights: short side 232, else as imagenet",
        fit: Fit::ShortSide(Short::Ratio(232, 224), Sides::Truncated),
        ..TORCH
    },
    Preset {
        name: Cow::Borrowed("imagenet-torch-bicubic"),
        summary: "torchvision's EfficientNet B0: Pillow's bicubic, else as imagenet",
        resampling: Resampling::Pillow(Filter::Bicubic, Order::Pillow12),
        ..TORCH
    },
    Preset {
        name: Cow::Borrowed("inception"),
        summary: "torchvision's Inception: short side 342, centre crop 299, else as imagenet",
        fit: Fit::ShortSide(Short::Ratio(342, 299), Sides::Truncated),
        size: square(299),
        ..TORCH
    },
    Preset {
        name: Cow::Borrowed("imagenet-paddle"),
        summary: "full_ILSVRC2012_val_preprocess.py: short side 256 by Pillow's Lanczos, centre crop 224, RGB, mean and std",
        reading: Reading::PillowOwnMode,
        fit: Fit::ShortSide(Short::Ratio(256, 224), Sides::Rounded),
        resampling: Resampling::Pillow(Filter::Lanczos, Order::Pillow12),
        crop: Crop::Floor,
        steps: Steps::F64,
        ..TORCH
    },
    Preset {
        name: Cow::Borrowed("paddleclas"),
        summary: "PaddleClas: short side 256 by OpenCV's linear, centre crop 224, RGB, mean and std; EXIF applied",
        reading: Reading::OpenCv,
        fit: Fit::ShortSide(Short::Ratio(256, 224), Sides::Rounded),
        resampling: CV_LINEAR,
        crop: Crop::Floor,
        scale: Scale::Multiply(1.0 / 255.0),
        ..TORCH
    },
    Preset {
        name: Cow::Borrowed("imagenet-tf"),
        summary: "short side 256, centre crop 224, RGB, -1 to 1",
        scale: Scale::Divide(1.0),
        mean: [127.5; 3],
        std: [127.5; 3],
        ..TORCH
    },
    Preset {
        name: Cow::Borrowed("caffe-bgr"),
        summary: "Caffe's ImageNet classifiers: short side 256, centre crop 224, BGR, 0 to 255 less the mean",
        channels: Channels::Bgr,
        scale: Scale::Divide(1.0),
        mean: [103.94, 116.78, 123.68],
        std: [1.0; 3],
        ..TORCH
    },
    KERAS,
    Preset {
        name: Cow::Borrowed("keras-torch"),
        summary: "Keras, mode torch: 224 x 224 by Pillow's nearest, RGB, mean and std, channels behind",
        scale: Scale::Divide(255.0),
        mean: MEAN,
        std: STD,
        ..KERAS
    },
    Preset {
        name: Cow::Borrowed("keras-caffe"),
        summary: "Keras, mode caffe: 224 x 224 by Pillow's nearest, BGR, 0 to 255 less the mean, channels behind",
        channels: Channels::Bgr,
        scale: Scale::Divide(1.0),
        mean: [103.939, 116.779, 123.68],
        ..KERAS
    },
    SLIM,
    Preset {
        name: Cow::Borrowed("tf2-slim"),
        summary: "the same with TensorFlow 2's bilinear from the centres of pixels",
        resampling: Resampling::TensorFlow(Centers::Half),
        ..SLIM
    },
    YOLO,
    Preset {
        name: Cow::Borrowed("yolo-auto"),
        summary: "YOLO's letterbox of any shape: 640, padded to multiples of 32, else as yolo",
        fit: Fit::Letterbox { grow: true, centred: true, stride: Some(32) },
        ..YOLO
    },
    Preset {
        name: Cow::Borrowed("yolo-no-growth"),
        summary: "YOLO's letterbox for validation: small pictures are padded only, else as yolo",
        fit: Fit::Letterbox { grow: false, centred: true, stride: None },
        ..YOLO
    },
    TEXT_BOX,
    Preset {
        name: Cow::Borrowed("ppocr-det-max"),
        summary: "PP-OCR's detection: longer side 960 at most, else as ppocr-det",
        fit: Fit::TextBox(Bounded::Longer, 960),
        ..TEXT_BOX
    },
    Preset {
        name: Cow::Borrowed("ppocr-rec"),
        summary: "PP-OCR's recognition: 48 x 320, zeros on the right, BGR, -1 to 1; OpenCV's linear, EXIF applied",
        fit: Fit::TextLine,
        scale: Scale::Divide(255.0),
        mean: [0.5; 3],
        std: [0.5; 3],
        size: Some(Size { height: 48, width: 320 }),
        ..TEXT_BOX
    },
    Preset {
        name: Cow::Borrowed("cifar10"),
        summary: "small pictures with ImageNet's mean and std: no crop, RGB; EXIF applied",
        scale: Scale::Divide(255.0),
        mean: MEAN,
        std: STD,
        size: square(32),
        ..RAW
    },
    GRAY,
    Preset { name: Cow::Borrowed("digits"), summary: "the same as gray, 8 x 8", size: square(8), ..GRAY },
    Preset {
        name: Cow::Borrowed("mnist"),
        summary: "one channel, 0 to 255, no crop, 28 x 28; EXIF applied",
        scale: Scale::Divide(1.0),
        size: square(28),
        ..GRAY
    },
    RAW,
];

impl Preset {
    /// The preset called `name`.
    pub fn named(name: &str) -> Option<&'static Preset> {
        PRESETS.iter().find(|p| p.name == name)
    }

    /// The size of pictures for an input of this shape.
    ///
    /// # Errors
    /// [`PictureError::Shape`] when the input has not the preset's layout and channels.
    pub fn size_of(&self, shape: &[usize]) -> Result<Size, PictureError> {
        let dims = match (self.layout, shape) {
            (Layout::Chw, &[_, c, height, width]) | (Layout::Hwc, &[_, height, width, c]) => Some((c, height, width)),
            _ => None,
        };
        match dims {
            Some((c, height, width)) if c == self.channels.count() && height > 0 && width > 0 => {
                Ok(Size { height, width })
            }
            _ => {
                let (n, layout) = (self.channels.count(), self.layout);
                Err(PictureError::Shape { preset: self.name.to_string(), channels: n, layout, found: shape.to_vec() })
            }
        }
    }

    /// Number of values of one picture.
    pub fn values(&self, size: Size) -> usize {
        self.channels.count() * size.height * size.width
    }

    /// What each byte of channel `c` of the model becomes.
    pub(super) fn numbers(&self, c: usize) -> Vec<f32> {
        let (mean, std) = (self.mean[c], self.std[c]);
        let scaled = |x: u8| match self.scale {
            Scale::Divide(by) => f32::from(x) / by,
            Scale::Multiply(by) => f32::from(x) * by,
        };
        (0..=255).map(|x| self.normalized(scaled(x), mean, std)).collect()
    }

    /// A scaled value less the mean, divided by the deviation.
    pub(super) fn normalized(&self, x: f32, mean: f64, std: f64) -> f32 {
        match self.steps {
            Steps::F32 => (x - mean as f32) / std as f32,
            Steps::F64 => (f64::from((f64::from(x) - mean) as f32) / std) as f32,
        }
    }
}

impl fmt::Display for Preset {
    /// All that the preset does, in one line: what a ranges file and a compiled model record.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (fit, crop) = match self.fit {
            Fit::Keep => ("own size".to_string(), None),
            Fit::Cut => ("own size".to_string(), Some(self.crop)),
            Fit::Stretch => ("scaled to the input".to_string(), None),
            Fit::ShortSide(short, sides) => {
                let short = match short {
                    Short::Ratio(a, b) => format!("{a}/{b} of the input"),
                    Short::Pixels(n) => n.to_string(),
                };
                (format!("short side {short} ({sides:?})"), Some(self.crop))
            }
            Fit::Centre(thousandths) => {
                (format!("centre of {} scaled to the input", thousandths as f64 / 1000.0), None)
            }
            Fit::Letterbox { grow, centred, stride } => {
                let mut text = "letterbox".to_string();
                text += if grow { "" } else { " without growth" };
                text += if centred { "" } else { " at the corner" };
                text += &stride.map_or_else(String::new, |n| format!(" to multiples of {n}"));
                (text, None)
            }
            Fit::TextBox(Bounded::Longer, n) => (format!("longer side {n} at most, multiples of 32"), None),
            Fit::TextBox(Bounded::Shorter, n) => (format!("shorter side {n} at least, multiples of 32"), None),
            Fit::TextLine => ("height of the input, zeros on the right".to_string(), None),
        };
        let resampling = match self.resampling {
            Resampling::Pillow(filter, Order::Pillow12) => format!("Pillow {filter:?}"),
            Resampling::Pillow(filter, Order::Pillow13) => format!("Pillow 13 {filter:?}"),
            Resampling::OpenCv(interpolation) => format!("OpenCV {interpolation:?}"),
            Resampling::TensorFlow(centers) => format!("TensorFlow bilinear {centers:?}"),
        };
        let crop = crop.map_or_else(String::new, |crop| format!(", centre crop ({crop:?})"));
        let scale = match self.scale {
            Scale::Divide(by) => format!("x / {by}"),
            Scale::Multiply(by) => format!("x * {by}"),
        };
        let n = self.channels.count();
        let (mean, std) = (&self.mean[..n], &self.std[..n]);
        let steps = if self.steps == Steps::F64 { " in f64" } else { "" };
        let (reading, channels, layout) = (self.reading, self.channels, self.layout);
        write!(f, "{}: {reading:?} {channels:?}, {fit} by {resampling}{crop}, ", self.name)?;
        write!(f, "({scale} - {mean:?}) / {std:?}{steps}, {layout:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for p in PRESETS {
            assert_eq!(Preset::named(&p.name), Some(p));
        }
        assert_eq!(Preset::named("imagenet-2"), None);
    }

    #[test]
    fn inputs_that_are_no_pictures_are_refused() {
        assert!(TORCH.size_of(&[1, 1, 8, 8]).is_err());
        assert!(TORCH.size_of(&[1, 3]).is_err());
        assert_eq!(TORCH.size_of(&[1, 3, 4, 5]).ok(), Some(Size { height: 4, width: 5 }));
        assert_eq!(KERAS.size_of(&[1, 4, 5, 3]).ok(), Some(Size { height: 4, width: 5 }));
        assert!(KERAS.size_of(&[1, 3, 4, 5]).is_err());
    }
}
