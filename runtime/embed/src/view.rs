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
        let ios = self.ios().find_map(io_contradiction);
        ios.or_else(|| self.variants().iter().find_map(|v| self.variant_contradiction(v)))
            .or_else(|| self.shapes_contradiction())
    }

    fn variant_contradiction(&self, v: &Variant) -> Option<&'static str> {
        match v {
            Variant { shapes, .. } if shapes.is_null() && self.ios().count() > 0 => Some("a variant without shapes"),
            v if !(0..self.ios().count()).all(|i| self.fits(v, i)) => {
                Some("a variant whose shapes are not the model's")
            }
            Variant { n_checks: 1.., checks, .. } if checks.is_null() => Some("checks without an address"),
            Variant { n_steps: 1.., steps, .. } if steps.is_null() => Some("steps without an address"),
            Variant { arena_bytes, .. } if *arena_bytes > isize::MAX as u64 / 2 => Some("an impossible arena"),
            _ => None,
        }
    }

    /// Whether the shape of tensor `index` in a variant is one that the model declares.
    fn fits(&self, v: &Variant, index: usize) -> bool {
        let (Some(io), Some(item)) = (self.ios().nth(index), self.item(v, index)) else { return false };
        let declared = &io.dims[..io.rank as usize];
        let mut dims = declared.iter().zip(&item);
        dims.all(|(&known, &dim)| known == dim || (known == -1 && dim >= 0)) && self.bytes(v, index).is_some()
    }

    /// Items of a batch that is dealt out have the same results in all variants of a shape.
    fn shapes_contradiction(&self) -> Option<&'static str> {
        if self.whole_batches() {
            return None;
        }
        let outputs = self.inputs().len()..self.ios().count();
        let differs = |v: &Variant| {
            let first = self.variants().iter().find(|first| self.same_shape(first, v));
            first.is_some_and(|first| outputs.clone().any(|i| self.item(first, i) != self.item(v, i)))
        };
        self.variants().iter().any(differs).then_some("variants of one shape with different results")
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

    /// Whether dim 0 of tensor `index` in a variant counts the items of its batch. Outputs of whole batches need not grow
    /// with the batch.
    fn is_dealt(&self, index: usize, io: &Io) -> bool {
        io.batched != 0 && (index < self.inputs().len() || !self.whole_batches())
    }

    /// Shape of tensor `index`, inputs first, for one item of a variant's batch; what is beyond its rank is 0. None when the
    /// variant's shape holds no whole items, which that of a checked model does.
    pub fn item(&self, variant: &Variant, index: usize) -> Option<[i64; MAX_RANK]> {
        let io = self.ios().nth(index)?;
        let mut item = [0; MAX_RANK];
        let shape = self.shape(variant, index);
        item.get_mut(..shape.len())?.copy_from_slice(shape);
        if self.is_dealt(index, io) {
            let batch = i64::try_from(variant.batch).ok().filter(|&n| n > 0)?;
            let all = shape.first().copied().filter(|&n| n > 0 && n % batch == 0)?;
            item[0] = all / batch;
        }
        Some(item)
    }

    /// Whether two variants differ in features and batch only.
    pub fn same_shape(&self, a: &Variant, b: &Variant) -> bool {
        (0..self.inputs().len()).all(|i| self.item(a, i) == self.item(b, i))
    }

    /// Bytes of tensor `index`, inputs first, in one call of a variant; none when they exceed the address space.
    fn bytes(&self, variant: &Variant, index: usize) -> Option<usize> {
        let elem = *ELEM_BYTES.get(self.ios().nth(index)?.elem as usize)?;
        let product = |n: usize, &dim: &i64| n.checked_mul(usize::try_from(dim).ok()?);
        let bytes = self.shape(variant, index).iter().try_fold(elem, product)?;
        (bytes <= isize::MAX as usize).then_some(bytes)
    }

    /// Bytes of one item of tensor `index`, inputs first, at the shape of a variant of a checked model.
    pub fn item_bytes(&self, variant: &Variant, index: usize) -> usize {
        let dealt = self.ios().nth(index).is_some_and(|io| self.is_dealt(index, io));
        self.bytes(variant, index).unwrap_or(0) / if dealt { variant.batch.max(1) as usize } else { 1 }
    }

    /// Shape of tensor `index`, inputs first, at `batch` items of the shape of `variant`; none when the batch has to be run
    /// whole and no variant of this shape and these features does.
    pub fn shape_at(&self, variant: &Variant, index: usize, batch: usize) -> Option<[i64; MAX_RANK]> {
        let io = self.ios().nth(index)?;
        if self.is_dealt(index, io) {
            let mut shape = self.item(variant, index)?;
            shape[0] = shape[0].checked_mul(i64::try_from(batch).ok()?)?;
            return Some(shape);
        }
        if io.batched == 0 {
            return self.item(variant, index);
        }
        let own =
            |v: &&Variant| v.batch == batch as u64 && v.features == variant.features && self.same_shape(v, variant);
        self.item(self.variants().iter().find(own)?, index)
    }

    /// Bytes of tensor `index`, inputs first, at `batch` items of the shape of `variant`; none when they exceed the address
    /// space, or as [`ModelView::shape_at`].
    pub fn bytes_at(&self, variant: &Variant, index: usize, batch: usize) -> Option<usize> {
        let io = self.ios().nth(index)?;
        let elem = *ELEM_BYTES.get(io.elem as usize)?;
        let product = |n: usize, &dim: &i64| n.checked_mul(usize::try_from(dim).ok()?);
        let shape = self.shape_at(variant, index, batch)?;
        let bytes = shape[..io.rank as usize].iter().try_fold(elem, product)?;
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
}

fn io_contradiction(io: &Io) -> Option<&'static str> {
    let Some(&elem_bytes) = ELEM_BYTES.get(io.elem as usize) else { return Some("an unknown element type") };
    let Some(dims) = io.dims.get(..io.rank as usize) else { return Some("a rank above 8") };
    let open = dims.contains(&-1);
    let product = |n: u64, &dim: &i64| n.checked_mul(u64::try_from(dim).ok()?);
    let bytes = if open { Some(0) } else { dims.iter().try_fold(elem_bytes as u64, product) };
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
