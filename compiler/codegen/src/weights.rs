//! Weights of an image: which constants there are, each once, and where they lie.
//!
//! Programs of one model hold most constants in common, as the same tensors; what is equal without being the same is found
//! by its contents. A shared object has them one behind the other. In this process each is a block of its own, which the
//! models that were made with one [`WeightStore`] share.

use crate::image::VariantInput;
use qc_dialects::loops::ConstBuffer;
use qc_embed::abi::{ALIGN_BYTES, SLACK_BYTES};
use qc_ir::{Data, HostTensor, ValueId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Where the constant buffers of a variant lie, from the beginning of the weights.
pub type Places = HashMap<ValueId, i64>;

/// The distinct constants of an image.
#[derive(Default)]
pub struct Weights {
    /// Tensors and their places, ascending.
    items: Vec<(usize, Arc<HostTensor>)>,
    bytes: usize,
    /// Places by address.
    known: HashMap<*const HostTensor, usize>,
    /// Indices of items by a fingerprint of their contents.
    alike: HashMap<(usize, u64), Vec<usize>>,
}

impl Weights {
    /// The weights of all `variants`, and where each constant buffer lies.
    pub fn collect(variants: &[VariantInput<'_>]) -> (Weights, Vec<Places>) {
        let mut weights = Weights::default();
        let mut places = Vec::new();
        for v in variants {
            let m = v.module;
            let mut own = Places::new();
            for &op in m.ops(m.body()) {
                if let Some(data) = ConstBuffer::of(m, op) {
                    let tensor = &m.consts.get(data.value(m)).tensor;
                    let bytes = tensor.len() * m.elem_bytes(tensor.data().elem());
                    own.insert(data.buf(m), weights.place(tensor, bytes) as i64);
                }
            }
            places.push(own);
        }
        (weights, places)
    }

    /// Their length as one block.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The bytes as one block.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.bytes);
        self.append_to(&mut all);
        all
    }

    fn append_to(&self, all: &mut Vec<u8>) {
        let start = all.len();
        for (at, tensor) in &self.items {
            all.resize(start + at, 0);
            append(all, tensor.data());
        }
    }

    fn place(&mut self, tensor: &Arc<HostTensor>, bytes: usize) -> usize {
        if let Some(&at) = self.known.get(&Arc::as_ptr(tensor)) {
            return at;
        }
        let alike = self.alike.entry((bytes, fingerprint(tensor.data()))).or_default();
        let equal = alike.iter().find(|&&i| same_bytes(self.items[i].1.data(), tensor.data()));
        let at = match equal {
            Some(&i) => self.items[i].0,
            None => {
                let at = self.bytes.next_multiple_of(ALIGN_BYTES);
                alike.push(self.items.len());
                self.items.push((at, tensor.clone()));
                self.bytes = at + bytes;
                at
            }
        };
        self.known.insert(Arc::as_ptr(tensor), at);
        at
    }
}

/// Appends the bytes of elements.
fn append(all: &mut Vec<u8>, data: &Data) {
    match data {
        // Packed weights, which are most of all.
        Data::U8(v) => all.extend_from_slice(v),
        other => all.extend(other.to_bytes()),
    }
}

fn same_bytes(a: &Data, b: &Data) -> bool {
    match (a, b) {
        (Data::U8(a), Data::U8(b)) => a == b,
        (Data::I8(a), Data::I8(b)) => a == b,
        (a, b) => a.to_bytes() == b.to_bytes(),
    }
}

/// A number that is the same for the same elements, from some of them.
fn fingerprint(data: &Data) -> u64 {
    const SAMPLES: usize = 64;
    let step = data.len().div_ceil(SAMPLES).max(1);
    let at = (0..data.len()).step_by(step);
    let word = |i: usize| match data {
        Data::F32(v) => u64::from(v[i].to_bits()),
        Data::I8(v) => u64::from(v[i] as u8),
        Data::U8(v) => u64::from(v[i]),
        Data::I32(v) => u64::from(v[i] as u32),
        Data::I64(v) => v[i] as u64,
        Data::Bool(v) => u64::from(v[i]),
    };
    at.fold(0, |h: u64, i| (h ^ word(i)).wrapping_mul(0x9fb2_1c65_1e98_df25).rotate_left(29))
}

/// Bytes at a 64-byte boundary with readable slack on both sides.
pub(crate) struct AlignedBytes {
    storage: Vec<u8>,
    start: usize,
}

impl AlignedBytes {
    /// Room for so many bytes, which `fill` appends.
    fn new(bytes: usize, fill: impl FnOnce(&mut Vec<u8>)) -> AlignedBytes {
        let mut storage: Vec<u8> = Vec::with_capacity(bytes + 2 * SLACK_BYTES + ALIGN_BYTES);
        let first = storage.as_ptr() as usize + SLACK_BYTES;
        let start = SLACK_BYTES + first.next_multiple_of(ALIGN_BYTES) - first;
        storage.resize(start, 0);
        fill(&mut storage);
        storage.resize(start + bytes + SLACK_BYTES, 0);
        AlignedBytes { storage, start }
    }

    fn address(&self) -> usize {
        self.storage.as_ptr().expose_provenance() + self.start
    }
}

/// One constant in memory of this process.
pub struct Block {
    /// Keeps the address by which the store knows it from being used again.
    _tensor: Arc<HostTensor>,
    bytes: AlignedBytes,
}

/// Constants in memory of this process, as long as a model uses them; clones share them.
#[derive(Clone, Default)]
pub struct WeightStore {
    blocks: Arc<Mutex<HashMap<usize, Weak<Block>>>>,
}

/// The constants of a model in memory of this process.
pub struct Placed {
    /// Where the weights begin: offsets of constants count from there.
    pub base: *const u8,
    /// What keeps them there.
    _owner: Owner,
}

/// What keeps weights in memory.
enum Owner {
    /// One block.
    Own { _bytes: AlignedBytes },
    /// Blocks of a store.
    Shared { _blocks: Vec<Arc<Block>> },
}

// SAFETY: the bytes are never written once they are placed, and `base` points into them.
unsafe impl Send for Placed {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Placed {}

impl Placed {
    /// Weights as one block of their own, with the places that they have.
    pub fn alone(weights: &Weights) -> Placed {
        let bytes = AlignedBytes::new(weights.len(), |all| weights.append_to(all));
        Placed { base: bytes.storage[bytes.start..].as_ptr(), _owner: Owner::Own { _bytes: bytes } }
    }
}

impl WeightStore {
    /// Puts weights into memory, and turns their places into distances from one address.
    pub fn place(&self, weights: &Weights, places: &mut [Places]) -> Placed {
        let mut known = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, block| block.strong_count() > 0);
        let mut blocks = Vec::with_capacity(weights.items.len());
        let mut addresses: HashMap<i64, usize> = HashMap::new();
        for (i, (at, tensor)) in weights.items.iter().enumerate() {
            let key = Arc::as_ptr(tensor) as usize;
            let block = known.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
                let end = weights.items.get(i + 1).map_or(weights.bytes, |(next, _)| *next);
                let bytes = AlignedBytes::new(end - at, |all| append(all, tensor.data()));
                let block = Arc::new(Block { _tensor: tensor.clone(), bytes });
                known.insert(key, Arc::downgrade(&block));
                block
            });
            addresses.insert(*at as i64, block.bytes.address());
            blocks.push(block);
        }
        let base = blocks.first().map_or(ALIGN_BYTES, |block| block.bytes.address());
        for at in places.iter_mut().flat_map(HashMap::values_mut) {
            *at = addresses[at].wrapping_sub(base) as i64;
        }
        Placed { base: std::ptr::with_exposed_provenance(base), _owner: Owner::Shared { _blocks: blocks } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_constants_are_one() {
        let mut weights = Weights::default();
        let tensor = |n: usize, x: u8| Arc::new(HostTensor::u8([n], vec![x; n]));
        let first = tensor(100, 1);
        let places =
            [first.clone(), tensor(100, 2), tensor(100, 1), first, tensor(101, 1)].map(|t| weights.place(&t, t.len()));
        assert_eq!(places, [0, 128, 0, 0, 256]);
        assert_eq!((weights.len(), weights.to_bytes().len()), (357, 357));
        assert_eq!(weights.to_bytes()[99..129], [&[1][..], &[0; 28], &[2]].concat());
    }

    #[test]
    fn blocks_are_aligned_and_shared() {
        let store = WeightStore::default();
        let tensors = [100, 64, 7].map(|n: usize| Arc::new(HostTensor::u8([n], (0..n).map(|i| i as u8).collect())));
        let mut weights = Weights::default();
        let offsets = tensors.clone().map(|t| weights.place(&t, t.len()));
        let blocks = |placed: &Placed| match &placed._owner {
            Owner::Shared { _blocks } => _blocks.clone(),
            Owner::Own { .. } => unreachable!(),
        };
        let one = store.place(&weights, &mut []);
        for (block, tensor) in blocks(&one).iter().zip(&tensors) {
            assert_eq!(block.bytes.address() % ALIGN_BYTES, 0);
            let AlignedBytes { storage, start } = &block.bytes;
            assert!(*start >= SLACK_BYTES && storage.len() >= start + tensor.len() + SLACK_BYTES);
            assert_eq!(Some(&storage[*start..start + tensor.len()]), tensor.as_u8());
        }
        let two = store.place(&weights, &mut []);
        assert!(blocks(&one).iter().zip(&blocks(&two)).all(|(a, b)| Arc::ptr_eq(a, b)));
        assert_eq!(two.base as usize % ALIGN_BYTES, 0);
        assert_eq!(offsets, [0, 128, 192]);
        drop((one, two));
        store.place(&Weights::default(), &mut []);
        assert!(store.blocks.lock().unwrap().is_empty());
    }
}
