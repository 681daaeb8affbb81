//! What passes compute from constants alone, kept for the other programs of the same model.
//!
//! A model is compiled once per shape and batch, and most of its constants have nothing to do with either. A program
//! takes part in a memo by its constant pool ([`crate::ConstPool::memo`]). What is computed is named by a text, an op with its
//! attributes, and by the tensors that it is computed from, by address: the memo keeps those alive, so an address is a
//! tensor as long as an entry names it. Results are shared, so that what is computed from them is found as well, and what
//! holds the programs can tell by address that two constants are one.

use crate::tensor::{Data, HostTensor};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A memo; clones share it.
#[derive(Clone, Default)]
pub struct Memo {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Counts programs that were compiled.
    round: u64,
    made: HashMap<Key, Made>,
    /// Tensors by a hash of their contents.
    contents: HashMap<u64, Vec<Kept>>,
}

/// What is computed, and the addresses of what from.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    what: Box<str>,
    from: Box<[usize]>,
}

struct Made {
    results: Vec<Arc<HostTensor>>,
    /// Keeps the addresses of the key from being used again.
    _from: Vec<Arc<HostTensor>>,
    /// The last round in which it was asked for.
    round: u64,
}

struct Kept {
    tensor: Arc<HostTensor>,
    round: u64,
}

/// Tensors of fewer elements are not worth being found by their contents.
const LEAST: usize = 256;

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").finish_non_exhaustive()
    }
}

impl Memo {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is computed as `what` from the tensors `from`: kept, or else made now.
    ///
    /// # Errors
    /// Those of `make`, which are not kept.
    pub fn made<E>(
        &self,
        what: &str,
        from: &[&Arc<HostTensor>],
        make: impl FnOnce() -> Result<Vec<HostTensor>, E>,
    ) -> Result<Vec<Arc<HostTensor>>, E> {
        let from_at = from.iter().map(|t| Arc::as_ptr(t) as usize).collect();
        let key = Key { what: what.into(), from: from_at };
        {
            let mut state = self.lock();
            let round = state.round;
            if let Some(made) = state.made.get_mut(&key) {
                made.round = round;
                return Ok(made.results.clone());
            }
        }
        let results: Vec<Arc<HostTensor>> = make()?.into_iter().map(|t| self.kept(t)).collect();
        let mut state = self.lock();
        let from = from.iter().map(|t| Arc::clone(t)).collect();
        let made = Made { results: results.clone(), _from: from, round: state.round };
        state.made.insert(key, made);
        Ok(results)
    }

    /// As [`Memo::made`], of one tensor that can always be made.
    pub fn one(&self, what: &str, from: &Arc<HostTensor>, make: impl FnOnce() -> HostTensor) -> Arc<HostTensor> {
        let made = self.made(what, &[from], || Ok::<_, std::convert::Infallible>(vec![make()]));
        let mut made = made.unwrap_or_else(|never| match never {});
        made.swap_remove(0)
    }

    /// A tensor, or that of the same contents which is kept.
    pub fn kept(&self, tensor: HostTensor) -> Arc<HostTensor> {
        if tensor.len() < LEAST {
            return Arc::new(tensor);
        }
        let hash = hash(&tensor);
        let mut state = self.lock();
        let round = state.round;
        let same = state.contents.entry(hash).or_default();
        match same.iter_mut().find(|kept| same_bits(&kept.tensor, &tensor)) {
            Some(kept) => {
                kept.round = round;
                kept.tensor.clone()
            }
            None => {
                let tensor = Arc::new(tensor);
                same.push(Kept { tensor: tensor.clone(), round });
                tensor
            }
        }
    }

    /// Ends a round: what was not asked for in it is forgotten, so that a memo for any number of programs holds what they
    /// have in common and what the last of them has for itself.
    pub fn end_round(&self) {
        let mut state = self.lock();
        let round = state.round;
        state.made.retain(|_, made| made.round == round);
        // A result that is still known by what it was made from is not asked for by its contents.
        let in_use = |kept: &Kept| kept.round == round || Arc::strong_count(&kept.tensor) > 1;
        state.contents.values_mut().for_each(|same| same.retain(in_use));
        state.contents.retain(|_, same| !same.is_empty());
        state.made.shrink_to_fit();
        state.contents.shrink_to_fit();
        state.round += 1;
    }
}

/// Whether dims, types and bits are the same.
fn same_bits(a: &HostTensor, b: &HostTensor) -> bool {
    a.dims() == b.dims()
        && match (a.data(), b.data()) {
            (Data::F32(x), Data::F32(y)) => x.iter().zip(y).all(|(x, y)| x.to_bits() == y.to_bits()),
            (x, y) => x == y,
        }
}

/// A hash of dims and bits.
fn hash(t: &HostTensor) -> u64 {
    let mut lanes = Lanes::new(t.dims().iter().map(|&d| d as u64));
    match t.data() {
        Data::F32(v) => lanes.eat(v, |x| u64::from(x.to_bits())),
        Data::I8(v) => lanes.eat_bytes(v, |x| x as u8),
        Data::U8(v) => lanes.eat_bytes(v, |x| x),
        Data::I32(v) => lanes.eat(v, |x| u64::from(x as u32)),
        Data::I64(v) => lanes.eat(v, |x| x as u64),
        Data::Bool(v) => lanes.eat_bytes(v, u8::from),
    }
    lanes.end()
}

/// Eight hashes side by side, so that their multiplications overlap.
struct Lanes([u64; 8]);

impl Lanes {
    fn new(seed: impl Iterator<Item = u64>) -> Lanes {
        let seed = seed.fold(0x9e37_79b9_7f4a_7c15, mix);
        Lanes(std::array::from_fn(|i| mix(seed, i as u64)))
    }

    fn eat<T: Copy>(&mut self, values: &[T], word: impl Fn(T) -> u64) {
        let (chunks, rest) = values.as_chunks::<16>();
        for chunk in chunks {
            for i in 0..8 {
                self.0[i] = mix(self.0[i], word(chunk[2 * i]) | word(chunk[2 * i + 1]).rotate_left(32));
            }
        }
        rest.iter().for_each(|&x| self.0[0] = mix(self.0[0], word(x)));
    }

    fn eat_bytes<T: Copy>(&mut self, values: &[T], byte: impl Fn(T) -> u8) {
        let (chunks, rest) = values.as_chunks::<64>();
        for chunk in chunks {
            for i in 0..8 {
                let word = std::array::from_fn(|b| byte(chunk[8 * i + b]));
                self.0[i] = mix(self.0[i], u64::from_le_bytes(word));
            }
        }
        rest.iter().for_each(|&x| self.0[0] = mix(self.0[0], u64::from(byte(x))));
    }

    fn end(self) -> u64 {
        self.0.into_iter().fold(0, mix)
    }
}

fn mix(h: u64, word: u64) -> u64 {
    let h = (h ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25);
    h ^ h >> 29
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn tensor(n: usize, x: f32) -> HostTensor {
        HostTensor::f32([n], vec![x; n])
    }

    #[test]
    fn what_is_known_is_not_made_again() {
        let memo = Memo::default();
        let (a, b) = (Arc::new(tensor(4, 1.0)), Arc::new(tensor(4, 1.0)));
        let first = memo.one("twice", &a, || tensor(4, 2.0));
        assert!(Arc::ptr_eq(&first, &memo.clone().one("twice", &a, || unreachable!())));
        assert!(!Arc::ptr_eq(&first, &memo.one("twice", &b, || tensor(4, 2.0))), "another tensor");
        assert!(!Arc::ptr_eq(&first, &memo.one("thrice", &a, || tensor(4, 3.0))), "another function");
        let failed: Result<_, &str> = memo.made("fails", &[&a], || Err("no"));
        assert_eq!(failed.unwrap_err(), "no");
        assert!(memo.made("fails", &[&a], || Ok::<_, Infallible>(vec![])).is_ok());
    }

    #[test]
    fn large_tensors_of_the_same_bits_are_one() {
        let memo = Memo::default();
        let one = memo.kept(tensor(1000, 1.0));
        assert!(Arc::ptr_eq(&one, &memo.kept(tensor(1000, 1.0))));
        let others = [tensor(1001, 1.0), HostTensor::f32([10, 100], vec![1.0; 1000]), tensor(1000, f32::NAN)];
        for other in others {
            assert!(!Arc::ptr_eq(&one, &memo.kept(other)));
        }
        assert!(Arc::ptr_eq(&memo.kept(tensor(1000, f32::NAN)), &memo.kept(tensor(1000, f32::NAN))));
        assert!(!Arc::ptr_eq(&memo.kept(tensor(1000, 0.0)), &memo.kept(tensor(1000, -0.0))));
        let bytes = HostTensor::u8([2000], vec![7; 2000]);
        assert!(Arc::ptr_eq(&memo.kept(bytes.clone()), &memo.kept(bytes)));
    }

    #[test]
    fn what_a_round_does_not_ask_for_is_forgotten() {
        let memo = Memo::default();
        let shared = Arc::new(tensor(1000, 1.0));
        for round in 0..3 {
            memo.one("shared", &shared, || tensor(1000, 2.0));
            memo.one("own", &Arc::new(tensor(1000, round as f32)), || tensor(1000, round as f32 + 10.0));
            memo.end_round();
        }
        let state = memo.lock();
        assert_eq!((state.made.len(), state.contents.len()), (2, 2));
    }
}
