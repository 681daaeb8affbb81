//! Batches, bindings and errors of the executor, over a model made by hand.

#![allow(clippy::unwrap_used)]

mod toy;

use core::ffi::{CStr, c_char, c_void};
use qc_embed::abi::*;
use qc_embed::api::api;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI64, Ordering};
use toy::{COLUMNS, expected, ramp};

const SCALAR: u32 = qc_kernels::Tier::Scalar as u32;
const AVX2: u32 = qc_kernels::Tier::Avx2 as u32;

/// A context that is destroyed at the end of a test.
struct Cx {
    api: Api,
    context: *mut Context,
}

impl Cx {
    fn new(model: &'static Model, threads: u32) -> Cx {
        let options = Options { threads, ..Options::new() };
        let api = api(model);
        let mut context = null_mut();
        // SAFETY: the model is valid and lives for ever.
        assert_eq!(unsafe { (api.create)(api.model, &mut context, &options) }, 0);
        Cx { api, context }
    }

    fn bind(&self, index: usize, data: &[f32], batch: usize) -> i32 {
        // SAFETY: tests keep the data alive until the last run.
        unsafe { (self.api.bind_input)(self.context, index, data.as_ptr().cast(), batch) }
    }

    fn run(&self) -> i32 {
        // SAFETY: everything bound is alive.
        unsafe { (self.api.run)(self.context) }
    }

    fn output(&self, index: usize, len: usize) -> Vec<f32> {
        // SAFETY: the output holds `len` values of the bound batch.
        unsafe { std::slice::from_raw_parts((self.api.output)(self.context, index).cast::<f32>(), len).to_vec() }
    }

    fn error(&self) -> String {
        // SAFETY: the text ends in NUL.
        unsafe { CStr::from_ptr((self.api.last_error)(self.context)) }.to_str().unwrap().to_string()
    }

    fn info(&self) -> ContextInfo {
        let mut info = ContextInfo::default();
        // SAFETY: valid pointers.
        assert_eq!(unsafe { (self.api.info)(self.context, &mut info) }, 0);
        info
    }
}

impl Drop for Cx {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once.
        unsafe { (self.api.destroy)(self.context) }
    }
}

fn leak(model: Model) -> &'static Model {
    Box::leak(Box::new(model))
}

fn scalar(batches: &[u32]) -> &'static Model {
    leak(toy::model(batches.iter().map(|&batch| toy::variant(SCALAR, batch)).collect()))
}

#[test]
fn any_batch_is_served_by_the_variants_that_exist() {
    for (batches, least) in [(&[1, 4, 8][..], 1), (&[8, 1], 1), (&[4], 4), (&[8, 4], 4)] {
        for threads in 1..=4 {
            let cx = Cx::new(scalar(batches), threads);
            for batch in least..40 {
                let (x, shift) = (ramp(batch), [1.5]);
                assert_eq!(cx.bind(0, &x, batch), 0);
                assert_eq!(cx.bind(1, &shift, 1), 0);
                assert_eq!(cx.run(), 0, "{}", cx.error());
                let (y, sum) = expected(&x, 1.5);
                assert_eq!(cx.output(0, batch * COLUMNS), y, "variants {batches:?} threads {threads} batch {batch}");
                assert_eq!(cx.output(1, batch), sum);
            }
        }
    }
}

#[test]
fn profile_counts_each_step_of_each_variant() {
    let cx = Cx::new(scalar(&[1, 4, 8]), 2);
    let (x, shift) = (ramp(21), [0.0]);
    assert_eq!((cx.bind(0, &x, 21), cx.bind(1, &shift, 1)), (0, 0));
    let mut times = vec![StepTime::default(); cx.info().profile_len as usize];
    for _ in 0..3 {
        // SAFETY: the profile has the length the context reports.
        assert_eq!(unsafe { (cx.api.run_profiled)(cx.context, times.as_mut_ptr(), times.len()) }, 0);
    }
    // 21 = 8 + 8 + 4 + 1, three times.
    assert_eq!(times.iter().map(|t| t.calls).collect::<Vec<_>>(), [3, 3, 3, 3, 6, 6]);
    // SAFETY: a wrong length is refused before anything is written.
    let status = unsafe { (cx.api.run_profiled)(cx.context, times.as_mut_ptr(), 1) };
    assert_eq!(Status::from_code(status), Some(Status::BadOption));
    assert!(cx.error().contains("1 entries given; it has 6"), "{}", cx.error());
}

#[test]
fn bound_outputs_receive_the_result_and_let_go() {
    let cx = Cx::new(scalar(&[1, 4]), 1);
    let (x, shift) = (ramp(5), [2.0]);
    let mut y = vec![0f32; 5 * COLUMNS];
    // SAFETY: `y` outlives the runs that write it.
    unsafe {
        assert_eq!((cx.api.bind_output)(cx.context, 0, y.as_mut_ptr().cast(), 5), 0);
        assert_eq!((cx.bind(0, &x, 5), cx.bind(1, &shift, 1), cx.run()), (0, 0, 0));
        assert_eq!(y, expected(&x, 2.0).0);
        assert_eq!((cx.api.bind_output)(cx.context, 0, null_mut(), 0), 0);
    }
    y.fill(0.0);
    assert_eq!(cx.run(), 0);
    assert!(y.iter().all(|&v| v == 0.0));
    assert_eq!(cx.output(0, 5 * COLUMNS), expected(&x, 2.0).0);
}

#[test]
fn own_inputs_are_written_in_place() {
    let cx = Cx::new(scalar(&[1]), 1);
    for batch in [3, 1, 7] {
        let x = ramp(batch);
        // SAFETY: the buffers have room for the batch asked for.
        unsafe {
            let own = (cx.api.input)(cx.context, 0, batch).cast::<f32>();
            assert_eq!(own as usize % ALIGN_BYTES, 0);
            own.copy_from_nonoverlapping(x.as_ptr(), x.len());
            *(cx.api.input)(cx.context, 1, 1).cast::<f32>() = -1.0;
        }
        assert_eq!(cx.run(), 0);
        assert_eq!(cx.output(0, x.len()), expected(&x, -1.0).0);
    }
}

#[test]
fn misuse_gives_statuses_and_sentences() {
    let cx = Cx::new(scalar(&[1, 4]), 1);
    let (x, shift) = (ramp(4), [0.0]);
    let status = |code: i32| Status::from_code(code).unwrap();
    let fails = |code: i32, want: Status, text: &str| {
        assert_eq!(status(code), want);
        assert!(cx.error().contains(text), "{:?} lacks {text:?}", cx.error());
    };
    // SAFETY: every call is refused before a pointer is followed.
    unsafe {
        let (bind_input, bind_output) = (cx.api.bind_input, cx.api.bind_output);
        fails(cx.run(), Status::Unbound, "input 'x' is not bound");
        fails(bind_input(cx.context, 2, x.as_ptr().cast(), 1), Status::BadIndex, "no input 2; the model has 2");
        fails(bind_output(cx.context, 9, null_mut(), 1), Status::BadIndex, "no output 9; the model has 2");
        fails(bind_input(cx.context, 0, null(), 1), Status::NullPointer, "input 'x' was given a null pointer");
        fails((cx.api.info)(cx.context, null_mut()), Status::NullPointer, "the argument `info` is a null pointer");
        let profiled = (cx.api.run_profiled)(cx.context, null_mut(), 0);
        fails(profiled, Status::NullPointer, "the argument `times` is a null pointer");
        fails(cx.bind(0, &x, 0), Status::BadBatch, "batch 0 given; the least this model runs is 1");
        fails(cx.bind(0, &x, usize::MAX), Status::BadBatch, "exceeds the address space");
        fails(cx.bind(0, &x, usize::MAX / 24), Status::BadBatch, "exceeds the address space");
        let odd = x.as_ptr().cast::<c_char>().add(1).cast::<c_void>();
        fails(bind_input(cx.context, 0, odd, 1), Status::Misaligned, "input 'x' is at an address that is not");
        fails(bind_output(cx.context, 1, odd.cast_mut(), 1), Status::Misaligned, "output 'sum'");
        assert!((cx.api.output)(cx.context, 0).is_null(), "no batch is known yet");
        assert!((cx.api.input)(cx.context, 5, 1).is_null());
        assert_eq!((cx.bind(0, &x, 4), cx.bind(1, &shift, 1)), (0, 0));
        let mut y = vec![0f32; 4 * COLUMNS];
        assert_eq!(bind_output(cx.context, 0, y.as_mut_ptr().cast(), 3), 0);
        fails(cx.run(), Status::BatchMismatch, "output 'y' is bound with batch 3, the last bound input with batch 4");

        let null_cx = null_mut();
        assert_eq!(status((cx.api.run)(null_cx)), Status::NullPointer);
        assert_eq!(status((cx.api.info)(null_cx, &mut ContextInfo::default())), Status::NullPointer);
        assert!((cx.api.input)(null_cx, 0, 1).is_null() && (cx.api.output)(null_cx, 0).is_null());
        assert!(!(cx.api.last_error)(null_cx).is_null());
        (cx.api.destroy)(null_cx);
        assert_eq!(status((cx.api.create)(cx.api.model, null_mut(), null())), Status::NullPointer);
        assert!(!CStr::from_ptr((cx.api.strerror)(12345)).is_empty());
    }
}

/// The status and sentence of a context that cannot be made.
fn refusal(model: *const Model, mut options: Options) -> (Status, String) {
    let mut text = [0u8; 200];
    (options.error_text, options.error_text_bytes) = (text.as_mut_ptr().cast(), text.len());
    let mut context = null_mut();
    // SAFETY: the tests pass null or models valid enough to be checked.
    let status = unsafe { (api(model).create)(model, &mut context, &options) };
    assert!(context.is_null() || status == 0);
    if !context.is_null() {
        // SAFETY: just made.
        unsafe { (api(model).destroy)(context) };
    }
    (Status::from_code(status).unwrap(), CStr::from_bytes_until_nul(&text).unwrap().to_str().unwrap().to_string())
}

#[test]
fn contexts_that_cannot_be_made_say_why() {
    let good = scalar(&[1]);
    let refused = |model: Model, text: &str| {
        let (status, sentence) = refusal(&model, Options::new());
        assert_eq!(status, Status::BadModel);
        assert!(sentence.contains(text), "{sentence:?} lacks {text:?}");
    };
    refused(Model { abi_version: 99, ..*good }, "tables of version 99, this executor reads version 7");
    refused(Model { model_bytes: 8, ..*good }, "unexpected size");
    refused(toy::model(vec![]), "no variant");
    refused(Model { inputs: null(), ..*good }, "a list without an address");
    refused(Model { weights: good.weights.wrapping_add(4), ..*good }, "misaligned weights");
    refused(toy::model(vec![Variant { shapes: null(), ..toy::variant(0, 1) }]), "variant without shapes");
    let no_batch = "a variant whose shapes are not the model's";
    refused(toy::model(vec![toy::variant(0, 0)]), no_batch);
    let columns = COLUMNS as i64;
    for ([rows, columns], shift) in [([1, columns + 1], 0), ([-1, columns], 0), ([1, columns], 2)] {
        let shape = |dims: [i64; 2]| std::array::from_fn(|i| dims.get(i).copied().unwrap_or(0));
        let shapes: [[i64; MAX_RANK]; 4] = [shape([rows, columns]), shape([shift, 0]), shape([1, 1]), shape([1, 0])];
        let inputs = [toy::io(b"x\0", &[1, COLUMNS as i64], true), toy::io(b"shift\0", &[1], true)];
        let variant = Variant { shapes: shapes.as_ptr(), ..toy::variant(0, 1) };
        refused(Model { inputs: inputs.as_ptr(), ..toy::model(vec![variant]) }, no_batch);
    }
    let fixed = [toy::io(b"x\0", &[4, columns], false), toy::io(b"shift\0", &[], false)];
    refused(Model { inputs: fixed.as_ptr(), ..toy::model(vec![toy::variant(0, 1)]) }, no_batch);
    let bad_io = |io: Io| Model { n_inputs: 1, inputs: Box::leak(Box::new(io)), ..*good };
    refused(bad_io(Io { elem: 7, ..toy::io(b"x\0", &[1], true) }), "unknown element type");
    refused(bad_io(Io { rank: 9, ..toy::io(b"x\0", &[1], true) }), "rank above 8");
    refused(bad_io(Io { bytes_per_item: 5, ..toy::io(b"x\0", &[1], true) }), "differs from the shape");
    assert_eq!(refusal(null(), Options::new()).0, Status::NullPointer);

    let with = |options: Options| refusal(good, options);
    assert_eq!(with(Options { threads: 1 << 20, ..Options::new() }).0, Status::BadOption);
    assert_eq!(with(Options { options_bytes: 1, ..Options::new() }).0, Status::BadOption);
    let (status, text) = with(Options { cpu: c"sse9".as_ptr(), ..Options::new() });
    assert_eq!(status, Status::BadOption);
    let names: Vec<&str> = qc_kernels::Tier::ALL.iter().map(|tier| tier.name()).collect();
    let (last, others) = names.split_last().unwrap();
    assert_eq!(text, format!("the cpu option is 'sse9'; known are {} and {last}", others.join(", ")));
    let huge = toy::model(vec![Variant { arena_bytes: 1 << 61, ..toy::variant(0, 1) }]);
    assert_eq!(refusal(&huge, Options::new()).0, Status::OutOfMemory);
}

#[test]
fn tiers_are_chosen_under_the_cap() {
    let avx2_only = leak(toy::model(vec![toy::variant(AVX2, 1)]));
    let (status, text) = refusal(avx2_only, Options { cpu: c"scalar".as_ptr(), ..Options::new() });
    assert_eq!(status, Status::TierUnsupported);
    assert!(text.starts_with("model 'toy' needs avx2, "), "{text}");
    let future = leak(toy::model(vec![toy::variant(30, 1)]));
    assert_eq!(refusal(future, Options::new()).0, Status::TierUnsupported);

    let both = leak(toy::model(vec![toy::variant(SCALAR, 1), toy::variant(AVX2, 1), toy::variant(30, 1)]));
    let tier = |cpu: &CStr| {
        let mut context = null_mut();
        let options = Options { cpu: cpu.as_ptr(), threads: 1, ..Options::new() };
        let mut info = ContextInfo::default();
        // SAFETY: the model is valid; the context is destroyed once.
        unsafe {
            assert_eq!((api(both).create)(both, &mut context, &options), 0);
            assert_eq!((api(both).info)(context, &mut info), 0);
            (api(both).destroy)(context);
        }
        info.tier
    };
    assert_eq!(tier(c"scalar"), SCALAR);
    assert_eq!(tier(c"avx512vnni"), qc_kernels::host::best(Some(qc_kernels::Tier::Avx2)) as u32);
}

#[test]
fn a_model_runs_the_batches_it_can() {
    let mut whole = toy::model(vec![toy::variant(SCALAR, 4), toy::variant(SCALAR, 1)]);
    whole.whole_batches = 1;
    // Shapes of outputs are those of the variants.
    let outputs = [toy::io(b"y\0", &[-1, COLUMNS as i64], true), toy::io(b"sum\0", &[-1], true)];
    whole.outputs = Box::leak(Box::new(outputs)).as_ptr();
    let cx = Cx::new(leak(whole), 1);
    let x = ramp(5);
    for batch in [2, 3, 5] {
        assert_eq!(Status::from_code(cx.bind(0, &x, batch)), Some(Status::BadBatch));
        assert!(cx.error().contains("this model runs batch 1, 4 only"), "{}", cx.error());
    }
    assert_eq!((cx.bind(0, &x, 4), cx.bind(1, &[1.0], 1), cx.run()), (0, 0, 0));
    assert_eq!(cx.output(0, 4 * COLUMNS), expected(&x[..4 * COLUMNS], 1.0).0);

    let inputs = Box::leak(Box::new([toy::io(b"x\0", &[1, COLUMNS as i64], false), toy::io(b"s\0", &[], false)]));
    let batchless = Model { inputs: inputs.as_ptr(), ..*scalar(&[1]) };
    let cx = Cx::new(leak(batchless), 1);
    assert_eq!(cx.info().batch, 1);
    let x = ramp(1);
    assert_eq!((cx.bind(0, &x, 77), cx.bind(1, &[1.0], 0), cx.run()), (0, 0, 0));
    assert_eq!(cx.output(0, COLUMNS), expected(&x, 1.0).0);
}

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

unsafe extern "C" fn counted_alloc(limit: *mut c_void, bytes: usize, align: usize) -> *mut c_void {
    // SAFETY: the tests pass a counter of allocations that still succeed.
    let left = unsafe { &*limit.cast::<AtomicI64>() };
    if left.fetch_sub(1, Ordering::Relaxed) <= 0 {
        return null_mut();
    }
    LIVE_BYTES.fetch_add(bytes as i64, Ordering::Relaxed);
    qc_embed::sys::allocate(bytes, align)
}

unsafe extern "C" fn counted_free(_: *mut c_void, block: *mut c_void, bytes: usize) {
    LIVE_BYTES.fetch_sub(bytes as i64, Ordering::Relaxed);
    // SAFETY: the block came from `counted_alloc`.
    unsafe { qc_embed::sys::deallocate(block) }
}

#[test]
fn every_failing_allocation_is_an_error_without_a_leak() {
    let model = scalar(&[1, 8]);
    let (x, shift) = (ramp(9), [0.5]);
    let mut successes = 0;
    for limit in 0..20 {
        let left = AtomicI64::new(limit);
        let options = Options {
            threads: 3,
            alloc: Some(counted_alloc),
            free: Some(counted_free),
            user: (&raw const left).cast_mut().cast(),
            ..Options::new()
        };
        let mut context = null_mut();
        let api = api(model);
        // SAFETY: valid model, options and data.
        unsafe {
            if (api.create)(model, &mut context, &options) == 0 {
                let bound = (api.bind_input)(context, 0, x.as_ptr().cast(), 9);
                assert_eq!((api.bind_input)(context, 1, shift.as_ptr().cast(), 1), 0);
                if bound == 0 {
                    let before = left.load(Ordering::Relaxed);
                    assert_eq!((api.run)(context), 0);
                    assert_eq!(left.load(Ordering::Relaxed), before, "a run allocates nothing");
                    successes += 1;
                } else {
                    assert_eq!(bound, Status::OutOfMemory as i32);
                    assert_ne!((api.run)(context), 0);
                }
                (api.destroy)(context);
            }
        }
        assert_eq!(LIVE_BYTES.load(Ordering::Relaxed), 0, "limit {limit}");
    }
    assert!((1..20).contains(&successes));
}

#[test]
fn contexts_work_side_by_side() {
    let model = scalar(&[1, 4, 8]);
    std::thread::scope(|scope| {
        for threads in [1, 2, 2, 3] {
            scope.spawn(move || {
                let cx = Cx::new(model, threads);
                for batch in (1..60).rev() {
                    let (x, shift) = (ramp(batch), [batch as f32]);
                    assert_eq!((cx.bind(0, &x, batch), cx.bind(1, &shift, 1), cx.run()), (0, 0, 0));
                    assert_eq!(cx.output(0, x.len()), expected(&x, batch as f32).0);
                }
            });
        }
    });
}
