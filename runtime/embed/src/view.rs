//! Slices over a model's tables, checked once.

use crate::abi::*;
use crate::text::{Text, c_bytes};

/// A model whose tables have been checked; everything it gives out lives as long as the model is loaded.
#[derive(Debug, Clone, Copy)]
pub struct ModelView<'m> {
    model: &'m Model,
}

impl<'m> ModelView<'m> {
    /// Checks version, counts, element types, sizes and alignments.
    ///
    /// # Errors
    /// [`Status::NullPointer`] or [`Status::BadModel`], with the reason in `why`.
    ///
    /// # Safety
    /// `model` is null or points at a table of [`ABI_VERSION`] and size as it claims, whose pointers and counts hold.
    pub unsafe fn new(model: *const Model, why: &mut Text) -> Result<Self, Status> {
        if model.is_null() {
            why.str("the model is a null pointer");
            return Err(Status::NullPointer);
        }
        // SAFETY: the version comes first in every version of the table.
        let version = unsafe { (*model).abi_version };
        if version != ABI_VERSION {
            why.str("the model has tables of version ").number(version as u64);
            why.str(", this executor reads version ").number(ABI_VERSION as u64);
            return Err(Status::BadModel);
        }
        // SAFETY: as above; the second field is the size.
        if unsafe { (*model).model_bytes } as usize != size_of::<Model>() {
            why.str("the model's table has an unexpected size");
            return Err(Status::BadModel);
        }
        // SAFETY: version and size match this definition.
        let view = ModelView { model: unsafe { &*model } };
        match view.contradiction() {
            None => Ok(view),
            Some(reason) => {
                why.str("the model's tables contradict themselves: ").str(reason);
                Err(Status::BadModel)
            }
        }
    }

    fn contradiction(&self) -> Option<&'static str> {
        let m = self.model;
        let lists = [
            (m.n_inputs, m.inputs.is_null()),
            (m.n_outputs, m.outputs.is_null()),
            (m.n_variants, m.variants.is_null()),
            (m.weights_bytes, m.weights.is_null()),
        ];
        if lists.iter().any(|&(n, null)| n > 0 && null) {
            return Some("a list without an address");
        }
        if m.n_variants == 0 {
            return Some("no variant");
        }
        if !(m.weights as usize).is_multiple_of(ALIGN_BYTES) {
            return Some("misaligned weights");
        }
        self.ios().find_map(io_contradiction).or_else(|| {
            self.variants().iter().find_map(|v| match v {
                Variant { shapes, .. } if shapes.is_null() && self.ios().count() > 0 => {
                    Some("a variant without shapes")
                }
                v if self.items(v).is_none() => Some("a variant whose inputs are no batch of the model's"),
                Variant { n_checks: 1.., checks, .. } if checks.is_null() => Some("checks without an address"),
                Variant { n_steps: 1.., steps, .. } if steps.is_null() => Some("steps without an address"),
                Variant { arena_bytes, .. } if *arena_bytes > isize::MAX as u64 / 2 => Some("an impossible arena"),
                _ => None,
            })
        })
    }

    /// The table itself.
    pub fn raw(&self) -> &'m Model {
        self.model
    }

    /// Inputs in model order.
    pub fn inputs(&self) -> &'m [Io] {
        // SAFETY: the model promises `n_inputs` entries.
        unsafe { list(self.model.inputs, self.model.n_inputs) }
    }

    /// Outputs in model order.
    pub fn outputs(&self) -> &'m [Io] {
        // SAFETY: the model promises `n_outputs` entries.
        unsafe { list(self.model.outputs, self.model.n_outputs) }
    }

    /// Inputs, then outputs.
    fn ios(&self) -> impl Iterator<Item = &'m Io> + use<'m> {
        self.inputs().iter().chain(self.outputs())
    }

    /// Whether a batch is run whole, by the variant of just that batch.
    pub fn whole_batches(&self) -> bool {
        self.model.whole_batches != 0
    }

    /// Shape of tensor `index`, inputs first, for one call of a variant of this model.
    pub fn shape(&self, variant: &Variant, index: usize) -> &'m [i64] {
        let n = self.inputs().len() + self.outputs().len();
        // SAFETY: variants are made by the code generator, which promises a shape for every input and output.
        let all = unsafe { list(variant.shapes, n as u64) };
        match (all.get(index), self.ios().nth(index)) {
            (Some(shape), Some(io)) => shape.get(..io.rank as usize).unwrap_or(&[]),
            _ => &[],
        }
    }

    /// Batch items that one call of a variant of this model computes, at least 1: what the shapes of its inputs say. None
    /// when they are no batch of the model's inputs, which no variant of a checked model is.
    pub fn items(&self, variant: &Variant) -> Option<usize> {
        let inputs = self.inputs();
        // SAFETY: variants are made by the code generator, which promises a shape for every input and output.
        let shapes: &[[i64; MAX_RANK]] = unsafe { list(variant.shapes, inputs.len() as u64) };
        let mut items = None;
        for (io, shape) in inputs.iter().zip(shapes) {
            let (dims, shape) = (io.dims.get(..io.rank as usize)?, shape.get(..io.rank as usize)?);
            if io.batched == 0 {
                if dims != shape {
                    return None;
                }
                continue;
            }
            let ((one, rest), (all, others)) = (dims.split_first()?, shape.split_first()?);
            let fits = rest == others && *one > 0 && *all > 0 && all.checked_rem(*one) == Some(0);
            let own = all.checked_div(*one).filter(|own| fits && items.is_none_or(|known| known == *own))?;
            items = Some(own);
        }
        usize::try_from(items.unwrap_or(1)).ok()
    }

    /// Bytes of tensor `index`, inputs first, at `batch` items; none when they exceed the address space, or when the
    /// batch has to be run whole and no variant with these features does.
    pub fn bytes_at(&self, index: usize, batch: usize, features: u64) -> Option<usize> {
        let io = self.ios().nth(index)?;
        if !self.whole_batches() || index < self.inputs().len() || io.batched == 0 {
            return io.bytes_at(batch);
        }
        let variant = self.variants().iter().find(|v| v.features == features && self.items(v) == Some(batch))?;
        let elem = *ELEM_BYTES.get(io.elem as usize)?;
        let product = |n: usize, &dim: &i64| n.checked_mul(usize::try_from(dim).ok()?);
        let bytes = self.shape(variant, index).iter().try_fold(elem, product)?;
        (bytes <= isize::MAX as usize).then_some(bytes)
    }

    /// Variants in model order.
    pub fn variants(&self) -> &'m [Variant] {
        // SAFETY: the model promises `n_variants` entries.
        unsafe { list(self.model.variants, self.model.n_variants) }
    }

    /// The model's name.
    pub fn name(&self) -> &'m [u8] {
        // SAFETY: strings of a model are NUL-terminated.
        unsafe { c_bytes(self.model.name) }
    }

    /// The model's metadata as JSON.
    pub fn json(&self) -> &'m [u8] {
        // SAFETY: strings of a model are NUL-terminated.
        unsafe { c_bytes(self.model.json) }
    }
}

impl Variant {
    /// The program of a variant that belongs to a checked model.
    pub fn program(&self) -> &[Step] {
        // SAFETY: variants are made by the code generator, which promises `n_steps` entries.
        unsafe { list(self.steps, self.n_steps) }
    }
}

impl Io {
    /// The tensor's name.
    pub fn name_bytes(&self) -> &[u8] {
        // SAFETY: strings of a model are NUL-terminated.
        unsafe { c_bytes(self.name) }
    }

    /// Bytes of the tensor at `batch` items; none when they exceed the address space.
    pub fn bytes_at(&self, batch: usize) -> Option<usize> {
        let items = if self.batched != 0 { batch } else { 1 };
        usize::try_from(self.bytes_per_item).ok()?.checked_mul(items).filter(|&bytes| bytes <= isize::MAX as usize)
    }
}

fn io_contradiction(io: &Io) -> Option<&'static str> {
    let Some(&elem_bytes) = ELEM_BYTES.get(io.elem as usize) else { return Some("an unknown element type") };
    let Some(dims) = io.dims.get(..io.rank as usize) else { return Some("a rank above 8") };
    let bytes = dims.iter().try_fold(elem_bytes as u64, |n, &dim| n.checked_mul(u64::try_from(dim).ok()?));
    if bytes != Some(io.bytes_per_item) { Some("a size that differs from the shape") } else { None }
}

/// # Safety
/// `base` points at `len` entries that live as long as `'m`, or `len` is 0.
pub(crate) unsafe fn list<'m, T>(base: *const T, len: u64) -> &'m [T] {
    if len == 0 {
        return &[];
    }
    // SAFETY: promised by the caller.
    unsafe { core::slice::from_raw_parts(base, len as usize) }
}
