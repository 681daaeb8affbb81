//! Constants that were decoded from a model's files, kept for further imports of the same model.

use qc_ir::HostTensor;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parameters by name.
pub(crate) type Params = BTreeMap<String, Arc<HostTensor>>;

/// The decoded constants of one model; clones share them. A model is imported once per shape and batch, and its constants
/// are the same tensors every time.
#[derive(Clone, Default)]
pub struct Constants {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    named: HashMap<Box<str>, Arc<HostTensor>>,
    params: Option<Params>,
}

impl fmt::Debug for Constants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constants").finish_non_exhaustive()
    }
}

impl Constants {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The constant `name`, which `read` decodes when it is asked for first.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) fn read<E>(
        &self,
        name: &str,
        read: impl FnOnce() -> Result<HostTensor, E>,
    ) -> Result<Arc<HostTensor>, E> {
        if let Some(known) = self.lock().named.get(name) {
            return Ok(known.clone());
        }
        let tensor = Arc::new(read()?);
        self.lock().named.insert(name.into(), tensor.clone());
        Ok(tensor)
    }

    /// A constant that a node holds, or the equal one that an import before had under this name.
    pub(crate) fn keep(&self, name: &str, tensor: Arc<HostTensor>) -> Arc<HostTensor> {
        let mut state = self.lock();
        match state.named.get(name) {
            Some(known) => {
                if **known == *tensor {
                    known.clone()
                } else {
                    tensor
                }
            }
            None => {
                state.named.insert(name.into(), tensor.clone());
                tensor
            }
        }
    }

    /// All parameters of a model that are read together.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) fn params<E>(
        &self,
        read: impl FnOnce() -> Result<BTreeMap<String, HostTensor>, E>,
    ) -> Result<Params, E> {
        if let Some(known) = &self.lock().params {
            return Ok(known.clone());
        }
        let params: Params = read()?.into_iter().map(|(name, t)| (name, Arc::new(t))).collect();
        self.lock().params = Some(params.clone());
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_is_decoded_once() {
        let constants = Constants::default();
        let tensor = |x: f32| HostTensor::f32([1], vec![x]);
        let first = constants.read("w", || Ok::<_, ()>(tensor(1.0))).unwrap();
        assert!(Arc::ptr_eq(&first, &constants.clone().read("w", || Err(())).unwrap()));
        assert!(Arc::ptr_eq(&first, &constants.keep("w", Arc::new(tensor(1.0)))));
        assert_eq!(constants.keep("w", Arc::new(tensor(2.0))).as_f32(), Some(&[2.0][..]), "another one of that name");
        assert_eq!(constants.read("v", || Err(7)), Err(7));
    }
}
