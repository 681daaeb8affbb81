//! Runs compiled models: loading, contexts, inputs and outputs.
//!
//! A [`Predictor`] is a model, made by the compiler in this process or loaded from a `.so`; it is shared freely. A
//! [`Context`] is one caller of it, with memory and threads of its own. Both kinds of model run on the same executor,
//! `qc-embed`, through the same table of functions.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use qc_runtime::{ContextOptions, Predictor};
//! // SAFETY: the file comes from a trusted source.
//! let model = unsafe { Predictor::load("resnet50.so".as_ref())? };
//! let mut context = model.context(&ContextOptions::default())?;
//! context.input_mut::<f32>("image", 1)?.fill(0.5);
//! context.run()?;
//! let prob: &[f32] = context.output("prob")?;
//! # Ok(())
//! # }
//! ```

mod context;
mod digest;
mod elem;
mod error;
mod io;
mod loaded;
pub mod note;
#[cfg(feature = "pictures")]
pub mod pictures;
mod predictor;
mod profile;
mod tier;

pub use context::{Call, Context, ContextOptions};
pub use elem::{Elem, Element};
pub use error::{LoadError, RunError};
pub use io::{IoInfo, Key};
pub use note::{Check, Note, inspect};
pub use predictor::{Predictor, TrustOfUser, check_tiers};
pub use profile::{Profile, ProfileRow};
