//! Models: made in this process, or loaded from a shared object.

use crate::loaded::Loaded;
use crate::note::{self, Check};
use crate::{Context, ContextOptions, IoInfo, LoadError, RunError};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use qc_embed::abi::{ABI_VERSION, Api, ENTRY_SYMBOL, Model};
use qc_embed::text::Text;
use qc_embed::view::ModelView;
use qc_kernels::{Tier, host};
use std::any::Any;
use std::collections::BTreeSet;
use std::ffi::{CStr, c_void};
use std::path::Path;
use std::sync::Arc;

/// A compiled model. Clones are cheap and share the model; it is unloaded when the last clone and context are gone.
#[derive(Clone)]
pub struct Predictor {
    pub(crate) shared: Arc<Shared>,
}

/// The statement that the user of this program named a file to be run, knowing that it is native code.
#[derive(Debug, Clone, Copy)]
pub struct TrustOfUser;

/// What all contexts of a model use.
pub(crate) struct Shared {
    pub(crate) api: Api,
    pub(crate) model: ModelView<'static>,
    pub(crate) inputs: Vec<IoInfo>,
    pub(crate) outputs: Vec<IoInfo>,
    pub(crate) name: String,
    json: String,
    /// Whether the model's executor is that of this process.
    pub(crate) in_process: bool,
    /// Keeps the code and the tables alive; declared last, so dropped last.
    _owner: Box<dyn Any + Send + Sync>,
}

impl std::fmt::Debug for Predictor {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Predictor").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

impl Predictor {
    /// Wraps a model whose code is in this process; `owner` keeps it there.
    ///
    /// # Errors
    /// [`LoadError::Tables`] when the tables contradict themselves.
    ///
    /// # Safety
    /// `model` and everything it points at, code included, are valid until `owner` is dropped, and the code keeps the
    /// contract of `qc_embed::abi`.
    pub unsafe fn from_raw(owner: Box<dyn Any + Send + Sync>, model: *const Model) -> Result<Predictor, LoadError> {
        // SAFETY: promised by the caller.
        unsafe { Self::new(owner, qc_embed::api::api(model), true) }
    }

    /// Loads a model from a shared object. All of the file is checked first, without executing anything: origin, damage,
    /// format, and whether this CPU can run it.
    ///
    /// # Errors
    /// See [`LoadError`].
    ///
    /// # Safety
    /// The file holds native code that runs with the rights of this process: it must come from a trusted source and must
    /// not be changed while it is in use. (Replacing it by renaming another file over it is fine.)
    pub unsafe fn load(path: &Path) -> Result<Predictor, LoadError> {
        // SAFETY: promised by the caller.
        unsafe { Self::load_checked(path, Check::All) }
    }

    /// As [`Predictor::load`], checking as much of the file as `how` says: weights need not be read before the first
    /// run when the caller knows that the file is whole.
    ///
    /// # Errors
    /// See [`LoadError`].
    ///
    /// # Safety
    /// As [`Predictor::load`].
    pub unsafe fn load_checked(path: &Path, how: Check) -> Result<Predictor, LoadError> {
        let (file, checked) = note::check_code(path)?;
        check_tiers(path, &checked.note.tiers)?;
        let system = |e: libloading::Error| LoadError::System { path: path.into(), reason: e.to_string() };
        // A bare file name would make the system search its library path.
        let absolute = std::path::absolute(path).map_err(|source| LoadError::Io { path: path.into(), source })?;
        // SAFETY: promised by the caller; models have no initializers.
        let library = unsafe { Library::open(Some(absolute), RTLD_NOW | RTLD_LOCAL) }.map_err(system)?;
        type Entry = unsafe extern "C" fn() -> *const Api;
        // SAFETY: the seal says that we wrote the file, and our files export the entry with this type.
        let entry = unsafe { library.get::<Entry>(ENTRY_SYMBOL.as_bytes()) }.map_err(system)?;
        // SAFETY: as above, and the library outlives what was found of it.
        let loaded = unsafe { Loaded::with(*entry as *const c_void, &file) };
        let loaded = loaded.filter(|loaded| loaded.seal() == Some(checked.seal));
        let Some(loaded) = loaded else { return Err(LoadError::Replaced { path: path.into() }) };
        if how == Check::All {
            note::check_weights(path, checked.seal, &file, &loaded)?;
        }
        // SAFETY: as above; a null pointer is not dereferenced.
        let api = unsafe { entry().as_ref() };
        match api {
            Some(api) if api.abi_version == ABI_VERSION && api.api_bytes as usize == size_of::<Api>() => {
                // SAFETY: the table is part of the library, which the predictor keeps loaded.
                unsafe { Self::new(Box::new(library), *api, false) }
            }
            _ => Err(LoadError::Tables { reason: "its function table has another version".into() }),
        }
    }

    /// As [`Predictor::load`], where the promise was made by a person: a program that was asked, by the one whose rights
    /// it has, to run this very file. Libraries should use [`Predictor::load`] and make the promise themselves.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load_named_by_user(path: &Path, how: Check, _: TrustOfUser) -> Result<Predictor, LoadError> {
        // SAFETY: whoever made the `TrustOfUser` says that the user named this file to be run.
        unsafe { Self::load_checked(path, how) }
    }

    /// # Safety
    /// As [`Predictor::from_raw`], for the model of `api`.
    unsafe fn new(owner: Box<dyn Any + Send + Sync>, api: Api, in_process: bool) -> Result<Predictor, LoadError> {
        let mut reason = [0u8; 256];
        // SAFETY: promised by the caller. The view lives in `Shared`, next to the owner of the tables.
        let view = unsafe { ModelView::<'static>::new(api.model, &mut Text::new(&mut reason)) };
        let model = view.map_err(|_| {
            let reason = CStr::from_bytes_until_nul(&reason).map_or("", |text| text.to_str().unwrap_or(""));
            LoadError::Tables { reason: reason.to_string() }
        })?;
        let infos = |first: usize, ios: &[qc_embed::abi::Io]| {
            ios.iter().enumerate().map(|(i, io)| IoInfo::new(&model, first + i, io)).collect::<Option<Vec<_>>>()
        };
        let (Some(inputs), Some(outputs)) = (infos(0, model.inputs()), infos(model.inputs().len(), model.outputs()))
        else {
            return Err(LoadError::Tables { reason: "a tensor has an impossible shape".into() });
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (name, json) = (text(model.name()), text(model.json()));
        let shared = Shared { api, model, inputs, outputs, name, json, in_process, _owner: owner };
        Ok(Predictor { shared: Arc::new(shared) })
    }

    /// Makes a context: memory and threads for one caller.
    ///
    /// # Errors
    /// [`RunError::Refused`] when an option or environment variable is malformed, the CPU cap leaves no tier, or memory
    /// is short.
    pub fn context(&self, options: &ContextOptions) -> Result<Context, RunError> {
        Context::new(self.shared.clone(), options)
    }

    /// Name of the model.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Metadata as JSON; see [`crate::Note`].
    pub fn json(&self) -> &str {
        &self.shared.json
    }

    /// SHA-256 of the source model.
    pub fn sha256(&self) -> [u8; 32] {
        self.shared.model.raw().sha256
    }

    /// Inputs in model order.
    pub fn inputs(&self) -> &[IoInfo] {
        &self.shared.inputs
    }

    /// Outputs in model order.
    pub fn outputs(&self) -> &[IoInfo] {
        &self.shared.outputs
    }

    /// The code that exists: pairs of tier name and batch size, in model order.
    pub fn variants(&self) -> Vec<(&'static str, u32)> {
        let model = &self.shared.model;
        model.variants().iter().map(|v| (crate::tier::name_of_needs(v.features), v.batch as u32)).collect()
    }

    /// The batches the model runs, ascending; none when it runs any.
    pub fn whole_batches(&self) -> Option<Vec<usize>> {
        let model = &self.shared.model;
        let batches = || model.variants().iter().map(|v| v.batch as usize).collect::<BTreeSet<_>>();
        model.whole_batches().then(|| batches().into_iter().collect())
    }

    /// The batch to run where `wanted` is asked for: that one if the model runs it, else the next smaller one that it
    /// runs, else its smallest.
    pub fn batch_near(&self, wanted: usize) -> usize {
        match self.whole_batches() {
            None => wanted,
            Some(all) => all.iter().rfind(|&&b| b <= wanted).or(all.first()).copied().unwrap_or(1),
        }
    }
}

/// Refuses a model none of whose tiers this CPU has.
///
/// # Errors
/// [`LoadError::TierMismatch`] with `path`.
pub fn check_tiers(path: &Path, tiers: &[String]) -> Result<(), LoadError> {
    let known = |name: &String| Tier::from_name(name);
    if tiers.iter().filter_map(known).any(host::has) {
        return Ok(());
    }
    let least = tiers.iter().min_by_key(|name| known(name).map_or(usize::MAX, Tier::rank));
    Err(LoadError::TierMismatch {
        path: path.into(),
        needed: least.map_or("no tier at all", |tier| tier.as_str()).to_string(),
        found: host::best(None).name().to_string(),
    })
}
