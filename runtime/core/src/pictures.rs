//! Pictures as inputs of a model: decoding, resizing and cutting, numbers. Needs the feature `pictures`.
//!
//! A [`Preset`] says how the picture's pixels become numbers, with the arithmetic of the library that the recipe was made
//! with. Its size follows the model's input, which is f32, `[n, channels, height, width]` or `[n, height, width, channels]`.
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

mod decode;
mod jpeg;
pub mod opencv;
pub mod pillow;
mod pixels;
mod prepare;
mod preset;
pub mod tensorflow;

pub use decode::{Library, Picture, to_gray, to_rgb};
pub use pixels::{Mode, Pixels};
pub use prepare::Prepared;
pub use preset::{
    Bounded, Channels, Crop, Fit, Layout, PRESETS, Preset, Reading, Resampling, Scale, Short, Sides, Steps,
};

use std::path::{Path, PathBuf};

/// Height and width in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

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
    /// The picture cannot be prepared as the preset says.
    #[error("{} cannot be prepared: {reason}", path.display())]
    Prepare {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The model's input is no picture of the preset's kind.
    #[error("preset {preset} makes {}, which does not fit the model's input {found:?}", dims(*channels, *layout))]
    Shape {
        /// The preset.
        preset: String,
        /// The channels it makes.
        channels: usize,
        /// Where they stand.
        layout: Layout,
        /// The input's shape.
        found: Vec<usize>,
    },
}

/// The shape that a preset makes, in words.
fn dims(channels: usize, layout: Layout) -> String {
    match layout {
        Layout::Chw => format!("[n, {channels}, height, width]"),
        Layout::Hwc => format!("[n, height, width, {channels}]"),
    }
}

impl Preset {
    /// Decodes the file at `path` and prepares it, for a model's `size` or for that which the preset itself gives.
    ///
    /// # Errors
    /// When the file cannot be read, decoded or prepared.
    pub fn read(&self, path: &Path, size: Option<Size>) -> Result<Prepared, PictureError> {
        let bytes = std::fs::read(path).map_err(|source| PictureError::Io { path: path.into(), source })?;
        let picture = Picture::decode(&bytes).map_err(|reason| PictureError::Decode { path: path.into(), reason })?;
        self.prepare(picture, size).map_err(|reason| PictureError::Prepare { path: path.into(), reason })
    }

    /// Decodes the file at `path` and prepares it into `out`.
    ///
    /// # Errors
    /// As [`Preset::read`], and when the picture gets another size than the model's.
    ///
    /// # Panics
    /// When `out` does not have [`Preset::values`] elements.
    pub fn load(&self, path: &Path, size: Size, out: &mut [f32]) -> Result<(), PictureError> {
        let prepared = self.read(path, Some(size))?;
        let stored = self.store(&prepared, size, out);
        stored.map_err(|reason| PictureError::Prepare { path: path.into(), reason })
    }

    /// Decodes the bytes of a file and prepares the picture into `out`.
    ///
    /// # Errors
    /// A sentence, when they are no picture that can be used. Any bytes are safe.
    ///
    /// # Panics
    /// When `out` does not have [`Preset::values`] elements.
    pub fn load_bytes(&self, bytes: &[u8], size: Size, out: &mut [f32]) -> Result<(), String> {
        let prepared = self.prepare(Picture::decode(bytes)?, Some(size))?;
        self.store(&prepared, size, out)
    }

    fn store(&self, prepared: &Prepared, size: Size, out: &mut [f32]) -> Result<(), String> {
        assert_eq!(out.len(), self.values(size), "the buffer must hold exactly one picture");
        if prepared.size != size {
            let (own, wanted) = (prepared.size, size);
            return Err(format!(
                "it becomes {} x {} rows and columns, the model takes {} x {}; compile the model for that shape",
                own.height, own.width, wanted.height, wanted.width
            ));
        }
        out.copy_from_slice(&prepared.values);
        Ok(())
    }
}
