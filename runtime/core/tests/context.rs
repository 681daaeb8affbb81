//! Contexts over a model made by hand: data in and out, errors, threads, allocation.

#![allow(clippy::unwrap_used)]

#[path = "../../embed/tests/toy/mod.rs"]
mod toy;

use qc_embed::abi::{Model, Status};
use qc_kernels::Tier;
use qc_runtime::{Context, ContextOptions, Elem, LoadError, Predictor, RunError};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use toy::{COLUMNS, expected, ramp};

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: forwards to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: promised by the caller.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn predictor() -> Predictor {
    let variants = [1, 4, 8].map(|batch| toy::variant(Tier::Scalar as u32, batch)).to_vec();
    let model = Box::leak(Box::new(toy::model(variants)));
    // SAFETY: the tables live for ever.
    unsafe { Predictor::from_raw(Box::new(()), model) }.unwrap()
}

fn context(threads: u32) -> Context {
    predictor().context(&ContextOptions { threads: Some(threads), cpu: None }).unwrap()
}

fn fill(context: &mut Context, x: &[f32], shift: f32) {
    context.input_mut::<f32>("x", x.len() / COLUMNS).unwrap().copy_from_slice(x);
    context.input_mut::<f32>("shift", 1).unwrap()[0] = shift;
}

#[test]
fn own_buffers() {
    let mut cx = context(2);
    assert_eq!((cx.threads(), cx.tier(), cx.batch()), (2, "scalar", 0));
    assert!(cx.arena_bytes() >= 8 * COLUMNS as u64 * 4);
    for batch in [3, 21, 1, 8] {
        let x = ramp(batch);
        fill(&mut cx, &x, 2.0);
        cx.run().unwrap();
        let (y, sum) = expected(&x, 2.0);
        assert_eq!((cx.output::<f32>("y").unwrap(), cx.output::<f32>(1).unwrap()), (&y[..], &sum[..]));
        assert_eq!(cx.batch(), batch);
    }
}

#[test]
fn descriptions() {
    let model = predictor();
    let (x, sum) = (&model.inputs()[0], &model.outputs()[1]);
    assert_eq!((x.name.as_str(), x.elem, x.shape_at(5), x.batched), ("x", Elem::F32, vec![5, COLUMNS], true));
    assert_eq!((sum.to_string(), model.inputs()[1].to_string()), ("f32 [n]".into(), "f32 []".into()));
    assert_eq!(model.variants(), [("scalar", 1), ("scalar", 4), ("scalar", 8)]);
    assert_eq!((model.name(), model.json(), model.whole_batches()), ("toy", "{}", None));
}

#[test]
fn lent_slices_are_read_and_written_in_place() {
    let mut cx = context(1);
    let (x, shift) = (ramp(5), [0.5f32]);
    let (mut y, mut again) = (vec![0f32; 5 * COLUMNS], vec![0f32; 5 * COLUMNS]);
    let mut call = cx.call();
    call.input("x", &x).unwrap();
    call.input("shift", &shift).unwrap();
    call.output("y", &mut y).unwrap();
    call.run().unwrap();
    let (want_y, want_sum) = expected(&x, 0.5);
    assert_eq!(y, want_y);
    // What was not lent is in the context's own buffer; what was lent is not.
    assert_eq!(cx.output::<f32>("sum").unwrap(), want_sum);
    assert_eq!(cx.output::<f32>("y"), Err(RunError::NoResult { name: "y".into() }));
    // The loans have ended with the call: the context does not touch the slices any more.
    assert_eq!(cx.run(), Err(RunError::Unbound { kind: "input", name: "x".into() }));
    fill(&mut cx, &ramp(2), 1.0);
    y.fill(-1.0);
    cx.run().unwrap();
    assert!(y.iter().all(|&v| v == -1.0));
    assert_eq!(cx.output::<f32>("y").unwrap(), expected(&ramp(2), 1.0).0);
    // Own inputs mix with lent outputs.
    fill(&mut cx, &x, 0.5);
    let mut call = cx.call();
    call.output(0, &mut again).unwrap();
    call.run().unwrap();
    assert_eq!(again, want_y);
}

#[test]
fn loans_end_without_a_run() {
    let mut cx = context(1);
    {
        let (x, mut y) = (ramp(1), vec![0f32; COLUMNS]);
        let mut call = cx.call();
        call.input("x", &x).unwrap();
        call.output("y", &mut y).unwrap();
    }
    cx.input_mut::<f32>("shift", 1).unwrap()[0] = 0.0;
    let unbound = Err(RunError::Unbound { kind: "input", name: "x".into() });
    assert_eq!(cx.run(), unbound);
    assert_eq!(cx.call().run(), unbound);
    fill(&mut cx, &ramp(3), 0.0);
    cx.run().unwrap();
    assert_eq!(cx.output::<f32>("y").unwrap(), expected(&ramp(3), 0.0).0);
}

#[test]
fn errors_name_the_tensor_and_what_was_expected() {
    let mut cx = context(1);
    let says = |error: RunError, text: &str| assert_eq!(error.to_string(), text);
    says(cx.input_mut::<f32>("X", 1).unwrap_err(), "the model has no input 'X'; it has 'x', 'shift'");
    says(cx.input_mut::<f32>(2, 1).unwrap_err(), "the model has no input 2; it has 'x', 'shift'");
    says(cx.output::<f32>("x").unwrap_err(), "the model has no output 'x'; it has 'y', 'sum'");
    says(cx.input_mut::<u8>("x", 1).unwrap_err(), "input 'x' is f32, not u8");
    says(cx.run().unwrap_err(), "input 'x' is not bound; give it data before running");
    says(cx.output::<f32>("y").unwrap_err(), "output 'y' has no result yet; run the model first");
    let text = "input 'x' is f32 [n, 6], 6 elements per item; 7 elements do not make it up";
    says(cx.call().input("x", &[0f32; 7]).unwrap_err(), text);
    says(cx.call().input("x", &[0f32; 0]).unwrap_err(), &text.replace("; 7", "; 0"));
    says(
        cx.call().input("shift", &[0f32; 2]).unwrap_err(),
        "input 'shift' is f32 [], 1 elements; 2 elements do not make it up",
    );
    says(cx.call().output("y", &mut [0i64; 6]).unwrap_err(), "output 'y' is f32, not i64");
    let refused = cx.input_mut::<f32>("x", 0).unwrap_err();
    says(refused, "batch 0 given; the least this model runs is 1");
    let (x, mut y) = (ramp(2), vec![0f32; 3 * COLUMNS]);
    cx.input_mut::<f32>("shift", 1).unwrap()[0] = 0.0;
    let mut call = cx.call();
    call.input("x", &x).unwrap();
    call.output("y", &mut y).unwrap();
    let error = call.run().unwrap_err();
    assert!(matches!(&error, RunError::Refused { status: Status::BatchMismatch, .. }), "{error}");
    says(error, "output 'y' is bound with batch 3, the last bound input with batch 2");
}

#[test]
fn contexts_that_cannot_be_made() {
    let model = predictor();
    let with = |threads, cpu: Option<&str>| model.context(&ContextOptions { threads, cpu: cpu.map(String::from) });
    let error = with(Some(100_000), None).unwrap_err();
    assert_eq!(error.to_string(), "100000 threads asked for; the most is 256");
    let error = with(None, Some("i386")).unwrap_err();
    assert!(error.to_string().contains("the cpu option is 'i386'; known are scalar"), "{error}");
    assert!(with(None, Some("a\0b")).is_err());
    assert_eq!(with(None, Some("scalar")).unwrap().tier(), "scalar");
    let tables = Box::leak(Box::new(toy::model(vec![toy::variant(Tier::Avx512Vnni as u32, 1)])));
    // SAFETY: the tables live for ever.
    let high = unsafe { Predictor::from_raw(Box::new(()), tables) }.unwrap();
    let error = high.context(&ContextOptions { threads: None, cpu: Some("scalar".into()) }).unwrap_err();
    assert!(matches!(error, RunError::Refused { status: Status::TierUnsupported, .. }), "{error}");
    let broken = Box::leak(Box::new(Model { n_variants: 0, ..*tables }));
    // SAFETY: the tables live for ever.
    let error = unsafe { Predictor::from_raw(Box::new(()), broken) }.unwrap_err();
    assert!(matches!(error, LoadError::Tables { .. }) && error.to_string().contains("no variant"), "{error}");
}

#[test]
fn running_allocates_nothing() {
    let mut cx = context(2);
    let (x, shift) = (ramp(21), [1.0f32]);
    let mut y = vec![0f32; x.len()];
    fill(&mut cx, &x, 1.0);
    let mut profile = cx.profile();
    cx.run().unwrap();
    let before = ALLOCATIONS.get();
    for _ in 0..10 {
        cx.run().unwrap();
        cx.run_profiled(&mut profile).unwrap();
        assert!(cx.output::<f32>("y").is_ok());
    }
    let mut call = cx.call();
    call.input("x", &x).unwrap();
    call.input("shift", &shift).unwrap();
    call.output("y", &mut y).unwrap();
    call.run().unwrap();
    assert_eq!(ALLOCATIONS.get() - before, 0);
    let rows: Vec<_> = profile.rows().map(|r| (r.name, r.op, r.batch, r.tasks, r.macs, r.calls)).collect();
    // 21 = 8 + 8 + 4 + 1, ten times.
    assert_eq!(rows[0], ("shift", "quant.test", 1, 1, 6, 10));
    assert_eq!(rows[5], ("scale", "quant.test", 8, 8, 48, 20));
    assert!(profile.total_ns() > 0);
    profile.clear();
    assert_eq!(profile.total_ns(), 0);
}

#[test]
fn the_model_lives_as_long_as_a_context() {
    struct Owner(std::sync::Arc<()>);
    let alive = std::sync::Arc::new(());
    let tables = Box::leak(Box::new(toy::model(vec![toy::variant(Tier::Scalar as u32, 1)])));
    let owner = Owner(alive.clone());
    let _ = &owner.0;
    // SAFETY: the tables live for ever.
    let model = unsafe { Predictor::from_raw(Box::new(owner), tables) }.unwrap();
    let mut cx = model.clone().context(&ContextOptions::default()).unwrap();
    drop(model);
    assert_eq!(std::sync::Arc::strong_count(&alive), 2);
    fill(&mut cx, &ramp(1), 0.0);
    cx.run().unwrap();
    drop(cx);
    assert_eq!(std::sync::Arc::strong_count(&alive), 1);
}

#[test]
fn a_forked_child_runs_old_and_new_contexts() {
    unsafe extern "C" {
        fn fork() -> i32;
        fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
        fn alarm(seconds: u32) -> u32;
        fn _exit(code: i32) -> !;
    }
    let model = predictor();
    let mut old = context(3);
    let x = ramp(9);
    fill(&mut old, &x, 1.0);
    old.run().unwrap();
    let expected = expected(&x, 1.0).0;
    // SAFETY: no other thread of this test holds a lock that the child needs: the workers of `old` take none. The child
    // leaves by `_exit`, and a hang ends it by the alarm.
    let status = unsafe {
        let child = fork();
        if child == 0 {
            alarm(20);
            // The threads of the old context are gone; the child's caller does all the work.
            let again = old.run().is_ok() && old.output::<f32>("y") == Ok(&expected[..]);
            let fresh = model.context(&ContextOptions { threads: Some(3), cpu: None }).is_ok_and(|mut cx| {
                fill(&mut cx, &x, 1.0);
                cx.run().is_ok() && cx.output::<f32>("y") == Ok(&expected[..])
            });
            drop(old);
            _exit(if again && fresh { 0 } else { 1 });
        }
        let mut status = -1;
        assert_eq!(waitpid(child, &mut status, 0), child);
        status
    };
    assert_eq!(status, 0, "the child hung or gave other results");
    old.run().unwrap();
    assert_eq!(old.output::<f32>("y").unwrap(), expected);
}

#[test]
fn contexts_move_between_threads() {
    let model = predictor();
    std::thread::scope(|scope| {
        for n in 1..=3 {
            let mut cx = model.context(&ContextOptions { threads: Some(n), cpu: None }).unwrap();
            scope.spawn(move || {
                for batch in 1..40 {
                    fill(&mut cx, &ramp(batch), batch as f32);
                    cx.run().unwrap();
                    assert_eq!(cx.output::<f32>(0).unwrap(), expected(&ramp(batch), batch as f32).0);
                }
            });
        }
    });
}
