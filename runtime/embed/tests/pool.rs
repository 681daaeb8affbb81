//! The pool under many joins, uneven tasks, sleep, and concurrency.

#![allow(clippy::unwrap_used)]

use core::ffi::c_void;
use qc_embed::memory::Allocator;
use qc_embed::pool::Pool;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

struct Marks {
    per_task: Vec<AtomicU32>,
    calls: AtomicUsize,
}

unsafe fn mark(data: *const c_void, begin: usize, end: usize) {
    // SAFETY: the tests pass `Marks`.
    let marks = unsafe { &*data.cast::<Marks>() };
    marks.calls.fetch_add(1, Ordering::Relaxed);
    for task in begin..end {
        marks.per_task[task].fetch_add(1, Ordering::Relaxed);
    }
}

fn run(pool: &mut Pool, marks: &Marks, tasks: usize) {
    // SAFETY: `mark` may run on several threads.
    unsafe { pool.run(tasks, mark, (&raw const *marks).cast()) }
}

fn marks(n: usize) -> Marks {
    Marks { per_task: (0..n).map(|_| AtomicU32::new(0)).collect(), calls: AtomicUsize::new(0) }
}

#[test]
fn every_task_runs_exactly_once_per_job() {
    for threads in 1..=4 {
        let mut pool = Pool::new(threads, Allocator::system()).unwrap();
        assert_eq!(pool.threads(), threads);
        for tasks in (0..70).chain([1000, 4097]) {
            let marks = marks(tasks);
            for _ in 0..20 {
                run(&mut pool, &marks, tasks);
            }
            assert!(marks.per_task.iter().all(|n| n.load(Ordering::Relaxed) == 20), "{threads} threads, {tasks} tasks");
        }
    }
}

#[test]
fn a_hundred_thousand_joins() {
    for threads in 2..=4 {
        let mut pool = Pool::new(threads, Allocator::system()).unwrap();
        let marks = marks(7);
        let jobs = 100_000 / threads;
        for _ in 0..jobs {
            run(&mut pool, &marks, 7);
        }
        assert!(marks.per_task.iter().all(|n| n.load(Ordering::Relaxed) == jobs));
    }
}

#[test]
fn work_written_by_workers_is_seen_after_the_join() {
    struct Cells(Vec<core::cell::UnsafeCell<u64>>);
    unsafe fn add(data: *const c_void, begin: usize, end: usize) {
        // SAFETY: the pool gives each thread its own tasks.
        unsafe { (&(*data.cast::<Cells>()).0)[begin..end].iter().for_each(|cell| *cell.get() += 1) }
    }
    let mut pool = Pool::new(3, Allocator::system()).unwrap();
    let cells = Cells((0..64).map(|_| core::cell::UnsafeCell::new(0)).collect());
    for job in 1..=20_000u64 {
        // SAFETY: as above; the caller reads between jobs only.
        unsafe {
            pool.run(64, add, (&raw const cells).cast());
            assert!(cells.0.iter().all(|cell| *cell.get() == job));
        }
    }
}

#[test]
fn idle_workers_sleep_and_wake() {
    fn cpu_time() -> Duration {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
    // Alone in its process: other tests of this file would count as CPU time.
    if std::env::var_os("QC_POOL_TEST_CHILD").is_none() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "idle_workers_sleep_and_wake"])
            .env("QC_POOL_TEST_CHILD", "1")
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        return;
    }
    let mut pool = Pool::new(4, Allocator::system()).unwrap();
    let marks = marks(16);
    run(&mut pool, &marks, 16);
    std::thread::sleep(Duration::from_millis(100));
    let before = cpu_time();
    std::thread::sleep(Duration::from_millis(400));
    assert!(cpu_time() - before <= Duration::from_millis(20), "idle workers use the CPU");
    for _ in 0..200 {
        run(&mut pool, &marks, 16);
        std::thread::sleep(Duration::from_micros(300));
    }
    assert!(marks.per_task.iter().all(|n| n.load(Ordering::Relaxed) == 201));
}

#[test]
fn a_long_task_is_shared() {
    unsafe fn wait(_: *const c_void, begin: usize, end: usize) {
        std::thread::sleep(Duration::from_millis(30) * (end - begin) as u32);
    }
    let mut pool = Pool::new(4, Allocator::system()).unwrap();
    let start = Instant::now();
    // SAFETY: `wait` touches nothing.
    unsafe { pool.run(4, wait, core::ptr::null()) };
    let took = start.elapsed();
    assert!(took < Duration::from_millis(100), "4 sleeps of 30 ms on 4 threads took {took:?}");
}

#[test]
fn many_pools_come_and_go() {
    for i in 0..200 {
        let mut pools: Vec<Pool> = (1..=3).map(|n| Pool::new(n, Allocator::system()).unwrap()).collect();
        let marks = marks(9);
        for pool in &mut pools {
            run(pool, &marks, 9);
        }
        assert!(marks.per_task.iter().all(|n| n.load(Ordering::Relaxed) == 3), "round {i}");
    }
}

#[test]
fn a_forked_child_works_alone() {
    unsafe extern "C" {
        fn fork() -> i32;
        fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
        fn _exit(code: i32) -> !;
    }
    let mut pool = Pool::new(3, Allocator::system()).unwrap();
    let marks = marks(20);
    run(&mut pool, &marks, 20);
    // SAFETY: the child only uses the pool, which allocates nothing, and leaves by `_exit`.
    unsafe {
        let child = fork();
        if child == 0 {
            run(&mut pool, &marks, 20);
            drop(pool);
            let all = marks.per_task.iter().all(|n| n.load(Ordering::Relaxed) == 2);
            _exit(if all { 0 } else { 1 });
        }
        let mut status = -1;
        assert_eq!(waitpid(child, &mut status, 0), child);
        assert_eq!(status, 0);
    }
    run(&mut pool, &marks, 20);
    assert!(marks.per_task.iter().all(|n| n.load(Ordering::Relaxed) == 2));
}

/// Prints what a join costs beyond its work; a figure to read, not a bound, since the machine may be shared.
#[test]
fn cost_of_a_join() {
    const WORK: Duration = Duration::from_micros(5);
    unsafe fn work(_: *const c_void, begin: usize, end: usize) {
        let start = Instant::now();
        while start.elapsed() < WORK * (end - begin) as u32 {}
    }
    let mut pool = Pool::new(2, Allocator::system()).unwrap();
    let mut best = Duration::MAX;
    for _ in 0..500 {
        let start = Instant::now();
        for _ in 0..20 {
            // SAFETY: `work` touches nothing.
            unsafe { pool.run(2, work, core::ptr::null()) };
        }
        best = best.min(start.elapsed() / 20);
    }
    println!("2 tasks of 5 µs on 2 threads took {best:?} (best of 500 x 20)");
    assert!(best >= WORK && best < Duration::from_millis(5));
}
