//! Fork-join over the tasks of one step, made for steps of tens of microseconds.
//!
//! A job is cut into chunks. One 64-bit ticket `epoch | front | back` says which chunks of which job are still free;
//! taking one is a compare-and-swap. The caller takes chunks from the front and workers from the back, so with two
//! threads each keeps to its own half of the tensor from step to step, and a late worker costs nothing: the caller
//! finishes the job alone and never waits for a thread that has not begun. The epoch makes a ticket of an earlier job
//! useless, so a job's description is read only by threads that hold a chunk of it, while the caller waits for them.
//!
//! Threads spin for about 100 µs and then sleep on a futex; an idle model uses no CPU. After a `fork` the child has no
//! workers, and the caller still finishes every job by itself.

use crate::fpu::Rounding;
use crate::memory::{Allocator, Block};
use crate::sys;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};

/// Runs tasks `begin..end` of the job `data` stands for.
///
/// # Safety
/// `data` is what [`Pool::run`] was given, and `begin <= end <= tasks`.
pub type TaskFn = unsafe fn(data: *const c_void, begin: usize, end: usize);

/// Spinning before sleeping, in cycles of the time stamp counter: 60 to 120 µs at 2 to 4 GHz.
const SPIN_CYCLES: u64 = 250_000;

/// Chunks per thread: enough to even out threads that start late, few enough that taking them costs little.
const CHUNKS_PER_THREAD: usize = 4;

/// A value alone on its cache lines (two, because of the adjacent-line prefetcher).
#[repr(align(128))]
struct Alone<T>(T);

#[derive(Clone, Copy)]
struct Job {
    func: TaskFn,
    data: *const c_void,
    tasks: usize,
    chunks: usize,
}

/// What the threads share; it stays at one address while workers exist.
struct Shared {
    ticket: Alone<AtomicU64>,
    /// Chunks not finished yet.
    left: Alone<AtomicU32>,
    caller_sleeps: Alone<AtomicU32>,
    sleepers: Alone<AtomicU32>,
    /// Changes whenever sleeping workers should look again; the word they sleep on.
    alarm: AtomicU32,
    stop: AtomicU32,
    job: Alone<UnsafeCell<Job>>,
}

/// A caller and its workers.
pub struct Pool {
    shared: *mut Shared,
    shared_block: Block,
    workers: *mut sys::Thread,
    workers_block: Block,
    n_workers: u32,
    process: i32,
    allocator: Allocator,
}

impl core::fmt::Debug for Pool {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

// SAFETY: workers touch `shared` only, which is built for it; the handles are used by `drop` alone.
unsafe impl Send for Pool {}

impl Pool {
    /// Starts `threads - 1` workers. When the system refuses some, the pool has fewer; when memory is short, none.
    pub fn new(threads: u32, allocator: Allocator) -> Option<Pool> {
        let n_workers = threads.max(1) - 1;
        let mut pool = Pool {
            shared: core::ptr::null_mut(),
            shared_block: Block::EMPTY,
            workers: core::ptr::null_mut(),
            workers_block: Block::EMPTY,
            n_workers: 0,
            process: sys::process_id(),
            allocator,
        };
        if n_workers == 0 {
            return Some(pool);
        }
        pool.shared_block = allocator.zeroed(size_of::<Shared>(), align_of::<Shared>())?;
        pool.workers_block = allocator.zeroed(n_workers as usize * size_of::<sys::Thread>(), 8)?;
        pool.shared = pool.shared_block.base.cast();
        pool.workers = pool.workers_block.base.cast();
        // SAFETY: the block has the size and alignment of `Shared` and no other user yet.
        unsafe { pool.shared.write(Shared::new()) };
        for i in 0..n_workers as usize {
            // SAFETY: `shared` lives until `drop` has joined the thread; `i` is inside the block.
            unsafe {
                let Some(thread) = sys::spawn(worker, pool.shared.cast()) else { break };
                pool.workers.add(i).write(thread);
            }
            pool.n_workers += 1;
        }
        Some(pool)
    }

    /// Threads that work on a job, the caller's included.
    pub fn threads(&self) -> u32 {
        self.n_workers + 1
    }

    /// Runs tasks `0..tasks` and returns when all are done. One task, or one thread, runs in the caller alone.
    ///
    /// # Safety
    /// `func(data, ..)` may be called from several threads at once for disjoint ranges, until this returns.
    pub unsafe fn run(&mut self, tasks: usize, func: TaskFn, data: *const c_void) {
        if tasks == 0 {
            return;
        }
        if tasks == 1 || self.n_workers == 0 {
            // SAFETY: promised by the caller.
            return unsafe { func(data, 0, tasks) };
        }
        // SAFETY: there are workers, so `shared` was initialized.
        let shared = unsafe { &*self.shared };
        let chunks = tasks.min(self.threads() as usize * CHUNKS_PER_THREAD);
        // SAFETY: no thread holds a chunk (`left` is 0), so none reads the job.
        unsafe { *shared.job.0.get() = Job { func, data, tasks, chunks } };
        shared.left.0.store(chunks as u32, Relaxed);
        let epoch = (shared.ticket.0.load(Relaxed) >> 32).wrapping_add(1);
        // SeqCst orders this store before the load of `sleepers`; see `sleep`.
        shared.ticket.0.store(epoch << 32 | chunks as u64, SeqCst);
        if shared.sleepers.0.load(SeqCst) > 0 {
            shared.alarm.fetch_add(1, SeqCst);
            sys::futex_wake(&shared.alarm, chunks as u32 - 1);
        }
        let mut done = 0;
        while let Some(chunk) = shared.take(Side::Front) {
            shared.execute(chunk);
            done += 1;
        }
        if done > 0 {
            shared.left.0.fetch_sub(done, AcqRel);
        }
        shared.wait_for_workers();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.process != sys::process_id() {
            // A forked child has a copy of the memory but none of the threads; the copy is left alone, since a worker
            // of the parent may have been anywhere in it.
            return;
        }
        if self.n_workers > 0 {
            // SAFETY: there are workers, so `shared` was initialized.
            let shared = unsafe { &*self.shared };
            shared.stop.store(1, SeqCst);
            shared.alarm.fetch_add(1, SeqCst);
            sys::futex_wake(&shared.alarm, u32::MAX);
            for i in 0..self.n_workers as usize {
                // SAFETY: handle `i` was written by `new`; each is joined once.
                unsafe { sys::join(self.workers.add(i).read()) };
            }
        }
        // SAFETY: all workers have ended, so nobody uses the blocks.
        unsafe {
            self.allocator.free(self.workers_block);
            self.allocator.free(self.shared_block);
        }
    }
}

/// The end of the row of free chunks a thread takes from.
enum Side {
    Front,
    Back,
}

impl Shared {
    fn new() -> Shared {
        unsafe fn nothing(_: *const c_void, _: usize, _: usize) {}
        Shared {
            ticket: Alone(AtomicU64::new(0)),
            left: Alone(AtomicU32::new(0)),
            caller_sleeps: Alone(AtomicU32::new(0)),
            sleepers: Alone(AtomicU32::new(0)),
            alarm: AtomicU32::new(0),
            stop: AtomicU32::new(0),
            job: Alone(UnsafeCell::new(Job { func: nothing, data: core::ptr::null(), tasks: 0, chunks: 0 })),
        }
    }

    /// Takes a free chunk; the taker owes one decrement of `left`.
    fn take(&self, side: Side) -> Option<usize> {
        let mut ticket = self.ticket.0.load(Acquire);
        loop {
            let (front, back) = free_chunks(ticket);
            if front >= back {
                return None;
            }
            let (next, chunk) = match side {
                Side::Front => (ticket + (1 << 16), front),
                Side::Back => (ticket - 1, back - 1),
            };
            match self.ticket.0.compare_exchange_weak(ticket, next, AcqRel, Acquire) {
                Ok(_) => return Some(chunk as usize),
                Err(now) => ticket = now,
            }
        }
    }

    fn has_work(&self) -> bool {
        let (front, back) = free_chunks(self.ticket.0.load(SeqCst));
        front < back
    }

    /// Runs one chunk the calling thread has taken.
    fn execute(&self, chunk: usize) {
        // SAFETY: the job is not replaced while a taken chunk of it is unfinished.
        let job = unsafe { *self.job.0.get() };
        let (share, extra) = (job.tasks / job.chunks, job.tasks % job.chunks);
        let begin = chunk * share + chunk.min(extra);
        let end = begin + share + (chunk < extra) as usize;
        // SAFETY: promised to `Pool::run`; chunks are disjoint and inside `0..tasks`.
        unsafe { (job.func)(job.data, begin, end) };
    }

    /// Worker side: marks a chunk finished and wakes the caller when it sleeps and this was the last.
    fn finish(&self) {
        // SeqCst pairs with `wait_for_workers`: either this sees `caller_sleeps`, or the caller sees `left` at 0.
        if self.left.0.fetch_sub(1, SeqCst) == 1 && self.caller_sleeps.0.load(SeqCst) != 0 {
            sys::futex_wake(&self.left.0, 1);
        }
    }

    fn wait_for_workers(&self) {
        let mut spin = Spin::new();
        while self.left.0.load(Acquire) != 0 {
            if spin.again() {
                continue;
            }
            self.caller_sleeps.0.store(1, SeqCst);
            loop {
                match self.left.0.load(SeqCst) {
                    0 => break,
                    left => sys::futex_wait(&self.left.0, left),
                }
            }
            self.caller_sleeps.0.store(0, Relaxed);
        }
        fence(Acquire);
    }

    /// Worker side: sleeps until there may be work. Either this sees the new ticket, or the caller sees the sleeper
    /// and changes `alarm` after it was read here.
    fn sleep(&self) {
        self.sleepers.0.fetch_add(1, SeqCst);
        let alarm = self.alarm.load(SeqCst);
        if !self.has_work() && self.stop.load(SeqCst) == 0 {
            sys::futex_wait(&self.alarm, alarm);
        }
        self.sleepers.0.fetch_sub(1, SeqCst);
    }
}

/// Free chunks `front..back` of a ticket.
fn free_chunks(ticket: u64) -> (u64, u64) {
    (ticket >> 16 & 0xffff, ticket & 0xffff)
}

extern "C" fn worker(shared: *mut c_void) -> *mut c_void {
    // SAFETY: `Pool::new` passes its `Shared`, which lives until this thread is joined.
    let shared = unsafe { &*shared.cast::<Shared>() };
    // Never undone: the thread belongs to the pool.
    core::mem::forget(Rounding::enter());
    let mut spin = Spin::new();
    loop {
        while let Some(chunk) = shared.take(Side::Back) {
            shared.execute(chunk);
            shared.finish();
            spin = Spin::new();
        }
        if shared.stop.load(Acquire) != 0 {
            return core::ptr::null_mut();
        }
        if !spin.again() {
            shared.sleep();
            spin = Spin::new();
        }
    }
}

/// A bounded wait.
struct Spin {
    until: u64,
    turns: u32,
}

impl Spin {
    fn new() -> Spin {
        Spin { until: 0, turns: 0 }
    }

    /// Pauses briefly; false when it is time to sleep.
    fn again(&mut self) -> bool {
        core::hint::spin_loop();
        self.turns = self.turns.wrapping_add(1);
        // The counter takes as long to read as a few pauses, so it is read now and then.
        if !self.turns.is_multiple_of(16) {
            return true;
        }
        // SAFETY: every x86-64 CPU has the time stamp counter.
        let now = unsafe { core::arch::x86_64::_rdtsc() };
        if self.until == 0 {
            self.until = now + SPIN_CYCLES;
        }
        now < self.until
    }
}
