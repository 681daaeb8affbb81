//! The constant pool: tensors that ops refer to by id, each stored once.

use crate::id::ConstId;
use crate::memo::Memo;
use crate::tensor::HostTensor;
use crate::types::TensorTy;
use id_arena::Arena;
use std::collections::HashMap;
use std::sync::Arc;

/// One constant.
#[derive(Clone, Debug)]
pub struct Const {
    /// Name in the text form, unique in the pool.
    pub name: Box<str>,
    /// Type; its element may be quantized, the tensor then holds the stored integers.
    pub ty: TensorTy,
    /// The elements, shared between clones of a module.
    pub tensor: Arc<HostTensor>,
}

/// All constants of a module.
#[derive(Clone, Debug, Default)]
pub struct ConstPool {
    consts: Arena<Const, ConstId>,
    names: HashMap<Box<str>, ConstId>,
    /// By name, the number that the next constant of that name may get.
    next: HashMap<Box<str>, usize>,
    /// What is known of constants that are computed from others, shared with other modules of the same model.
    pub memo: Memo,
}

impl ConstPool {
    /// Adds a constant; a name that is taken gets a number appended, or another number than it ends with: names that grow
    /// with every constant made from another would take quadratic memory.
    pub fn add(&mut self, name: &str, ty: TensorTy, tensor: Arc<HostTensor>) -> ConstId {
        let mut unique: Box<str> = name.into();
        if self.names.contains_key(&unique) {
            // The next number is kept by name: counting from one each time takes quadratic time.
            let numbered = name.rsplit_once('.').filter(|(_, end)| end.bytes().all(|b| b.is_ascii_digit()));
            let base = numbered.map_or(name, |(base, _)| base);
            let n = self.next.entry(base.into()).or_insert(1);
            while self.names.contains_key(&unique) {
                unique = format!("{base}.{n}").into();
                *n += 1;
            }
        }
        let id = self.consts.alloc(Const { name: unique.clone(), ty, tensor });
        self.names.insert(unique, id);
        id
    }

    /// The constant of an id.
    pub fn get(&self, id: ConstId) -> &Const {
        &self.consts[id]
    }

    /// All constants, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Const> {
        self.consts.iter().map(|(_, c)| c)
    }

    /// The constant of a name.
    pub fn by_name(&self, name: &str) -> Option<ConstId> {
        self.names.get(name).copied()
    }
}

/// 64-bit FNV-1a of `bytes`, the name under which a dump's sidecar file keeps a large constant.
pub fn content_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
