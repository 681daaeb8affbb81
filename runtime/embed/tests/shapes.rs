//! Models of several shapes: `y[n, S] = x[n, S] + shift[S]` for S of 2 and 5, with code for the batches 1 and 4.

#![allow(clippy::unwrap_used)]

mod toy;

use qc_embed::abi::*;
use qc_embed::api::api;
use qc_embed::host::tiers;
use std::ffi::CStr;
use std::ptr::{null, null_mut};

unsafe extern "C" fn add<const S: usize>(frame: *const Frame, begin: usize, end: usize, _: *const u64) {
    // SAFETY: the executor passes a frame for this shape and a range within its batch.
    unsafe {
        let io = (*frame).io;
        let (x, shift, y) = (*io as *const f32, *io.add(1) as *const f32, *io.add(2) as *mut f32);
        for i in begin * S..end * S {
            *y.add(i) = *x.add(i) + *shift.add(i % S);
        }
    }
}

fn variant(func: StepFn, batch: u64, columns: i64) -> Variant {
    let step = Step {
        func,
        operands: 0,
        tasks: batch,
        name: c"add".as_ptr().cast(),
        op: c"test".as_ptr().cast(),
        macs: 0,
        weights_bytes: 0,
        data_bytes: 0,
    };
    let shape = |dims: &[i64]| std::array::from_fn(|i| dims.get(i).copied().unwrap_or(0));
    let n = batch as i64;
    let shapes: [[i64; MAX_RANK]; 3] = [shape(&[n, columns]), shape(&[columns]), shape(&[n, columns])];
    Variant {
        features: qc_kernels::Tier::Scalar.needs().bits(),
        shapes: Box::leak(Box::new(shapes)).as_ptr(),
        batch,
        arena_bytes: 64 * columns as u64,
        n_steps: 1,
        steps: Box::leak(Box::new([step])).as_ptr(),
        operands: null(),
        n_checks: 0,
        checks: null(),
    }
}

/// A model with these variants, which live for ever.
fn model(variants: Vec<Variant>) -> &'static Model {
    let inputs = [toy::io(b"x\0", &[1, -1], true), toy::io(b"shift\0", &[-1], false)];
    let outputs = [toy::io(b"y\0", &[1, -1], true)];
    Box::leak(Box::new(Model {
        n_inputs: 2,
        inputs: Box::leak(Box::new(inputs)).as_ptr(),
        n_outputs: 1,
        outputs: Box::leak(Box::new(outputs)).as_ptr(),
        ..toy::model(variants)
    }))
}

fn two_shapes() -> &'static Model {
    model(vec![variant(add::<2>, 1, 2), variant(add::<2>, 4, 2), variant(add::<5>, 1, 5), variant(add::<5>, 4, 5)])
}

struct Cx {
    api: Api,
    raw: *mut Context,
}

impl Cx {
    fn new(model: &'static Model) -> Cx {
        let (api, mut raw) = (api(model), null_mut());
        let scalar = tiers().next().expect("the scalar tier");
        let options = Options { threads: 2, cpu: scalar.name.as_ptr(), ..Options::new() };
        // SAFETY: the model is valid and lives for ever.
        assert_eq!(unsafe { (api.create)(model, &mut raw, &options) }, 0);
        Cx { api, raw }
    }

    fn bind(&self, index: usize, data: &[f32], dims: &[i64]) -> i32 {
        // SAFETY: the context lives; the tests keep the data as long as it is bound.
        unsafe { (self.api.bind_input_shape)(self.raw, index, data.as_ptr().cast(), dims.as_ptr(), dims.len()) }
    }

    fn run(&self) -> i32 {
        // SAFETY: the tests keep what they bind.
        unsafe { (self.api.run)(self.raw) }
    }

    fn result(&self) -> (Vec<i64>, Vec<f32>) {
        let mut dims = [0; MAX_RANK];
        // SAFETY: the context lives, and its output is as large as it says.
        unsafe {
            assert_eq!((self.api.shape)(self.raw, 2, &mut dims), 0);
            let data: *const f32 = (self.api.output)(self.raw, 0).cast();
            (dims[..2].to_vec(), std::slice::from_raw_parts(data, (dims[0] * dims[1]) as usize).to_vec())
        }
    }

    fn error(&self) -> &str {
        // SAFETY: the context lives.
        unsafe { CStr::from_ptr((self.api.last_error)(self.raw)) }.to_str().unwrap()
    }
}

impl Drop for Cx {
    fn drop(&mut self) {
        // SAFETY: made once, destroyed once.
        unsafe { (self.api.destroy)(self.raw) }
    }
}

fn status(code: i32) -> Status {
    Status::from_code(code).unwrap()
}

/// Runs every batch of a shape.
fn runs(cx: &Cx, columns: usize, batch: usize) {
    let x: Vec<f32> = (0..batch * columns).map(|i| i as f32).collect();
    let shift: Vec<f32> = (0..columns).map(|i| 100.0 * i as f32).collect();
    assert_eq!(cx.bind(0, &x, &[batch as i64, columns as i64]), 0, "{}", cx.error());
    assert_eq!(cx.bind(1, &shift, &[columns as i64]), 0, "{}", cx.error());
    assert_eq!(cx.run(), 0, "{}", cx.error());
    let expected: Vec<f32> = x.iter().enumerate().map(|(i, x)| x + shift[i % columns]).collect();
    assert_eq!(cx.result(), (vec![batch as i64, columns as i64], expected));
}

#[test]
fn a_run_takes_the_variants_of_the_bound_shape() {
    let cx = Cx::new(two_shapes());
    for batch in [1, 3, 9, 2] {
        for columns in [5, 2] {
            runs(&cx, columns, batch);
        }
    }
}

#[test]
fn a_batch_goes_on_in_the_shape_that_was_stated() {
    let cx = Cx::new(two_shapes());
    runs(&cx, 5, 1);
    let x = [1.0; 15];
    // SAFETY: the data lives until the end of the test.
    assert_eq!(unsafe { (cx.api.bind_input)(cx.raw, 0, x.as_ptr().cast(), 3) }, 0);
    assert_eq!(cx.bind(1, &[0.0; 5], &[5]), 0);
    assert_eq!((cx.run(), cx.result()), (0, (vec![3, 5], x.to_vec())));
}

#[test]
fn other_shapes_are_refused_with_those_that_exist() {
    let cx = Cx::new(two_shapes());
    let data = [0.0; 64];
    let cases: [(&[i64], &str); 6] = [
        (&[1, 3], "[1, 3]"),
        (&[0, 2], "[0, 2]"),
        (&[2], "[2]"),
        (&[-4, 5], "[-4, 5]"),
        (&[], "[]"),
        (&[1, 2, 1], "[1, 2, 1]"),
    ];
    for (dims, text) in cases {
        assert_eq!(status(cx.bind(0, &data, dims)), Status::BadShape);
        assert_eq!(cx.error(), format!("input 'x' has shape {text}; this model runs [n, 2], [n, 5]"));
    }
    assert_eq!(status(cx.bind(1, &data, &[4])), Status::BadShape);
    assert_eq!(cx.error(), "input 'shift' has shape [4]; this model runs [2], [5]");
    // SAFETY: the context lives; the data is long enough for any batch asked for.
    unsafe {
        assert_eq!(status((cx.api.bind_input)(cx.raw, 0, data.as_ptr().cast(), 1)), Status::BadShape);
        assert_eq!(cx.error(), "input 'x' has several shapes; bind an input with its shape first: [n, 2], [n, 5]");
        assert!((cx.api.input)(cx.raw, 0, 1).is_null() && (cx.api.output)(cx.raw, 0).is_null());
        let out = data.as_ptr().cast_mut().cast();
        assert_eq!(status((cx.api.bind_output)(cx.raw, 0, out, 1)), Status::BadShape);
        assert_eq!(status((cx.api.shape)(cx.raw, 2, &mut [0; MAX_RANK])), Status::Unbound);
        assert_eq!(status((cx.api.bind_input_shape)(cx.raw, 0, out, null(), 2)), Status::NullPointer);
    }
    assert_ne!(cx.run(), 0);
    runs(&cx, 2, 1);
}

#[test]
fn inputs_of_two_shapes_are_refused_by_the_run() {
    let cx = Cx::new(two_shapes());
    runs(&cx, 2, 1);
    let x = [1.0; 5];
    assert_eq!(cx.bind(0, &x, &[1, 5]), 0);
    assert_eq!(status(cx.run()), Status::BadShape);
    assert_eq!(cx.error(), "input 'shift' is bound with shape [2]; with the last bound input belongs [5]");
    // An output of the host's that was bound for another shape would be written beyond its end.
    let mut y = [0.0f32; 2];
    let cx = Cx::new(two_shapes());
    runs(&cx, 2, 1);
    // SAFETY: two numbers fit the shape in use.
    assert_eq!(unsafe { (cx.api.bind_output)(cx.raw, 0, y.as_mut_ptr().cast(), 1) }, 0);
    assert_eq!((cx.bind(0, &x, &[1, 5]), cx.bind(1, &x, &[5])), (0, 0));
    assert_eq!(status(cx.run()), Status::BadShape);
    assert!(cx.error().starts_with("output 'y' is bound with shape [n, 2]"), "{}", cx.error());
    assert_eq!(y, [0.0; 2]);
}

#[test]
fn tables_that_contradict_themselves_are_refused() {
    let refused = |variants: Vec<Variant>, text: &str| {
        let (model, mut raw, mut why) = (model(variants), null_mut(), [0u8; 200]);
        let options = Options { error_text: why.as_mut_ptr().cast(), error_text_bytes: why.len(), ..Options::new() };
        // SAFETY: the tables are valid enough to be checked.
        assert_eq!(status(unsafe { (api(model).create)(model, &mut raw, &options) }), Status::BadModel);
        let why = CStr::from_bytes_until_nul(&why).unwrap().to_str().unwrap();
        assert!(why.contains(text), "{why}");
    };
    let shaped = |shapes: [[i64; 2]; 3], batch: u64| {
        let full = shapes.map(|s| [s[0], s[1], 0, 0, 0, 0, 0, 0]);
        Variant { shapes: Box::leak(Box::new(full)).as_ptr(), ..variant(add::<2>, batch, 2) }
    };
    let not_ours = "a variant whose shapes are not the model's";
    refused(vec![shaped([[2, 2], [2, 0], [2, 2]], 0)], not_ours);
    refused(vec![shaped([[3, 2], [2, 0], [2, 2]], 2)], not_ours);
    refused(vec![shaped([[2, 2], [2, 0], [4, 2]], 2)], not_ours);
    refused(vec![shaped([[2, 2], [2, 0], [2, i64::MAX / 2]], 2)], not_ours);
    refused(vec![shaped([[2, 2], [-2, 0], [2, 2]], 2)], not_ours);
    let differ = vec![shaped([[2, 2], [2, 0], [2, 2]], 2), shaped([[1, 2], [2, 0], [1, 3]], 1)];
    refused(differ, "variants of one shape with different results");
}

#[test]
fn a_context_moves_from_model_to_model() {
    let cx = Cx::new(model(vec![variant(add::<2>, 1, 2)]));
    runs(&cx, 2, 3);
    let adopt = |model: &'static Model| {
        // SAFETY: the models live for ever.
        status(unsafe { (cx.api.adopt)(cx.raw, model) })
    };
    assert_eq!(adopt(model(vec![variant(add::<5>, 1, 5), variant(add::<5>, 4, 5)])), Status::Ok);
    assert_eq!(status(cx.run()), Status::Unbound);
    runs(&cx, 5, 6);
    let other = Box::leak(Box::new(toy::model(vec![toy::variant(0, 1)])));
    assert_eq!(adopt(other), Status::BadModel);
    assert_eq!(cx.error(), "the model has other inputs or outputs");
    let elsewhere = Variant { features: 1 << 63, ..variant(add::<2>, 1, 2) };
    assert_eq!(adopt(model(vec![elsewhere])), Status::TierUnsupported);
    runs(&cx, 5, 1);
}
