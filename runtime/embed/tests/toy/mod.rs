//! A model made by hand: two steps over an arena, three batch variants, one batched and one batchless input.
//!
//! `t = x + shift` (arena), then `y = t * w[column]` and `sum = Σ t` per item.

#![allow(dead_code)]

use qc_embed::abi::*;
use std::ptr::null;

/// Columns of `x` and `y`.
pub const COLUMNS: usize = 6;

/// The weights.
#[repr(align(64))]
pub struct Weights(pub [f32; COLUMNS]);
pub static WEIGHTS: Weights = Weights([1.0, 2.0, -3.0, 0.5, 4.0, 10.0]);

unsafe extern "C" fn shift<const N: usize>(frame: *const Frame, begin: usize, end: usize, _: *const u64) {
    // SAFETY: the executor passes a frame for batch N and a range within N tasks.
    unsafe {
        let (x, shift) = (*(*frame).io as *const f32, *(*(*frame).io.add(1) as *const f32));
        let t = (*frame).arena as *mut f32;
        assert!(end <= N);
        for i in begin * COLUMNS..end * COLUMNS {
            *t.add(i) = *x.add(i) + shift;
        }
    }
}

unsafe extern "C" fn scale<const N: usize>(frame: *const Frame, begin: usize, end: usize, _: *const u64) {
    // SAFETY: as above.
    unsafe {
        let (t, w) = ((*frame).arena as *const f32, (*frame).weights as *const f32);
        let (y, sum) = (*(*frame).io.add(2) as *mut f32, *(*frame).io.add(3) as *mut f32);
        assert!(end <= N);
        for row in begin..end {
            *sum.add(row) = (0..COLUMNS).map(|c| *t.add(row * COLUMNS + c)).sum();
            for c in 0..COLUMNS {
                *y.add(row * COLUMNS + c) = *t.add(row * COLUMNS + c) * *w.add(c);
            }
        }
    }
}

const fn step(func: StepFn, tasks: u64, name: &'static [u8]) -> Step {
    Step {
        func,
        operands: 0,
        tasks,
        name: name.as_ptr(),
        op: c"quant.test".as_ptr().cast(),
        macs: 6 * tasks,
        weights_bytes: 12,
        data_bytes: 24 * tasks,
    }
}

static STEPS_1: [Step; 2] = [step(shift::<1>, 1, b"shift\0"), step(scale::<1>, 1, b"scale\0")];
static STEPS_4: [Step; 2] = [step(shift::<4>, 4, b"shift\0"), step(scale::<4>, 4, b"scale\0")];
static STEPS_8: [Step; 2] = [step(shift::<8>, 8, b"shift\0"), step(scale::<8>, 8, b"scale\0")];

/// The variant for the tier with this number, or for a feature that no processor has yet, and of one batch, which is 1, 4
/// or 8 where it is run.
pub fn variant(tier: u32, batch: u32) -> Variant {
    let steps = match batch {
        1 => &STEPS_1,
        4 => &STEPS_4,
        _ => &STEPS_8,
    };
    let arena_bytes = batch as u64 * COLUMNS as u64 * 4;
    let shape = |dims: &[i64]| std::array::from_fn(|i| dims.get(i).copied().unwrap_or(0));
    let (n, columns) = (i64::from(batch), COLUMNS as i64);
    let shapes: [[i64; MAX_RANK]; 4] = [shape(&[n, columns]), shape(&[]), shape(&[n, columns]), shape(&[n])];
    let shapes = Box::leak(Box::new(shapes)).as_ptr();
    let features = qc_kernels::Tier::from_number(tier).map_or(1 << 63, |tier| tier.needs().bits());
    Variant {
        features,
        shapes,
        batch: u64::from(batch),
        arena_bytes,
        n_steps: steps.len() as u64,
        steps: steps.as_ptr(),
        operands: null(),
        n_checks: 0,
        checks: null(),
    }
}

/// An f32 tensor; -1 is a dim that differs between variants.
pub fn io(name: &'static [u8], dims: &[i64], batched: bool) -> Io {
    let mut all = [0; MAX_RANK];
    all[..dims.len()].copy_from_slice(dims);
    Io {
        name: name.as_ptr(),
        elem: ELEM_F32,
        rank: dims.len() as u32,
        dims: all,
        bytes_per_item: if dims.contains(&-1) { 0 } else { dims.iter().product::<i64>() as u64 * 4 },
        batched: batched as u32,
        counted: 0,
    }
}

/// A model over the variants given; the tables live for ever.
pub fn model(variants: Vec<Variant>) -> Model {
    let inputs = [io(b"x\0", &[1, COLUMNS as i64], true), io(b"shift\0", &[], false)];
    let outputs = [io(b"y\0", &[1, COLUMNS as i64], true), io(b"sum\0", &[1], true)];
    let variants = Box::leak(variants.into_boxed_slice());
    Model {
        abi_version: ABI_VERSION,
        model_bytes: size_of::<Model>() as u32,
        name: c"toy".as_ptr().cast(),
        json: c"{}".as_ptr().cast(),
        sha256: [7; 32],
        n_inputs: inputs.len() as u64,
        inputs: Box::leak(Box::new(inputs)).as_ptr(),
        n_outputs: outputs.len() as u64,
        outputs: Box::leak(Box::new(outputs)).as_ptr(),
        n_variants: variants.len() as u64,
        variants: if variants.is_empty() { null() } else { variants.as_ptr() },
        weights: (&raw const WEIGHTS).cast(),
        weights_bytes: size_of_val(&WEIGHTS.0) as u64,
        whole_batches: 0,
    }
}

/// What the model computes: `(y, sum)`.
pub fn expected(x: &[f32], shift: f32) -> (Vec<f32>, Vec<f32>) {
    let y = x.iter().enumerate().map(|(i, x)| (x + shift) * WEIGHTS.0[i % COLUMNS]).collect();
    (y, x.chunks(COLUMNS).map(|row| row.iter().map(|x| x + shift).sum()).collect())
}

/// Input values that differ everywhere.
pub fn ramp(batch: usize) -> Vec<f32> {
    (0..batch * COLUMNS).map(|i| i as f32 * 0.25 - 3.0).collect()
}
