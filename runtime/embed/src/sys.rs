//! Every C library function and kernel call the executor uses, hand-declared: the whole of what a `model.so` imports.
//!
//! Only x86-64 Linux is served, so constants and layouts are those of its ABI.

use core::ffi::{c_char, c_int, c_long, c_ulong, c_void};
use core::sync::atomic::AtomicU32;

/// C library names a linked model may import; the linker refuses any other undefined symbol.
///
/// The memory functions are there because the compiler may call them for copies and fills.
pub const IMPORTS: &[&str] = &[
    "abort",
    "bcmp",
    "clock_gettime",
    "close",
    "free",
    "getenv",
    "getpid",
    "memcmp",
    "memcpy",
    "memmove",
    "memset",
    "open",
    "posix_memalign",
    "pthread_create",
    "pthread_join",
    "pthread_setname_np",
    "pthread_sigmask",
    "read",
    "sched_getaffinity",
    "sigfillset",
    "strlen",
    "syscall",
    "sysconf",
];

/// `pthread_t`.
pub type Thread = c_ulong;

/// `sigset_t`.
#[repr(C, align(8))]
struct SignalSet([u8; 128]);

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

unsafe extern "C" {
    #[cfg(qc_embed)]
    fn abort() -> !;
    fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn free(block: *mut c_void);
    fn getenv(name: *const c_char) -> *const c_char;
    fn getpid() -> c_int;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn posix_memalign(out: *mut *mut c_void, align: usize, bytes: usize) -> c_int;
    fn pthread_create(
        thread: *mut Thread,
        attributes: *const c_void,
        start: extern "C" fn(*mut c_void) -> *mut c_void,
        argument: *mut c_void,
    ) -> c_int;
    fn pthread_join(thread: Thread, result: *mut *mut c_void) -> c_int;
    fn pthread_setname_np(thread: Thread, name: *const c_char) -> c_int;
    fn pthread_sigmask(how: c_int, set: *const SignalSet, old: *mut SignalSet) -> c_int;
    fn read(fd: c_int, buffer: *mut c_void, bytes: usize) -> isize;
    fn sched_getaffinity(pid: c_int, bytes: usize, mask: *mut u8) -> c_int;
    fn sigfillset(set: *mut SignalSet) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn sysconf(name: c_int) -> c_long;
}

const CLOCK_MONOTONIC: c_int = 1;
const O_RDONLY_CLOEXEC: c_int = 0o2000000;
const SIG_SETMASK: c_int = 2;
const SYS_FUTEX: c_long = 202;
const FUTEX_WAIT_PRIVATE: c_int = 128;
const FUTEX_WAKE_PRIVATE: c_int = 129;
const SC_NPROCESSORS_ONLN: c_int = 84;

/// Ends the process; the only answer of the embedded executor to a broken invariant.
#[cfg(qc_embed)]
pub fn die() -> ! {
    // SAFETY: `abort` has no precondition.
    unsafe { abort() }
}

/// Nanoseconds of the monotonic clock.
pub fn now_ns() -> u64 {
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: `time` is a valid timespec; the monotonic clock always exists.
    unsafe { clock_gettime(CLOCK_MONOTONIC, &mut time) };
    time.seconds as u64 * 1_000_000_000 + time.nanoseconds as u64
}

/// Process id; it differs after a fork.
pub fn process_id() -> i32 {
    // SAFETY: no precondition.
    unsafe { getpid() }
}

/// The C library's aligned allocation; null when out of memory. `align` is a power of two, at least 8.
pub fn allocate(bytes: usize, align: usize) -> *mut c_void {
    let mut block = core::ptr::null_mut();
    // SAFETY: `block` is writable, and `align` is a power of two and a multiple of a pointer's size.
    match unsafe { posix_memalign(&mut block, align, bytes) } {
        0 => block,
        _ => core::ptr::null_mut(),
    }
}

/// Frees a block of [`allocate`].
///
/// # Safety
/// `block` came from [`allocate`] and is not used again.
pub unsafe fn deallocate(block: *mut c_void) {
    // SAFETY: promised by the caller.
    unsafe { free(block) }
}

/// The value of an environment variable. `name` ends in NUL.
///
/// The slice is valid until someone changes the environment, so it is parsed at once and never kept.
pub fn environment(name: &'static [u8]) -> Option<&'static [u8]> {
    debug_assert_eq!(name.last(), Some(&0));
    // SAFETY: `name` is NUL-terminated; a non-null result is a NUL-terminated string.
    unsafe {
        let value = getenv(name.as_ptr().cast());
        if value.is_null() { None } else { Some(core::ffi::CStr::from_ptr(value).to_bytes()) }
    }
}

/// Reads the beginning of a file into `buffer` and returns the bytes read. `path` ends in NUL.
pub fn read_file(path: &[u8], buffer: &mut [u8]) -> Option<usize> {
    if path.last() != Some(&0) {
        return None;
    }
    // SAFETY: `path` is NUL-terminated.
    let fd = unsafe { open(path.as_ptr().cast(), O_RDONLY_CLOEXEC) };
    if fd < 0 {
        return None;
    }
    let mut len = 0;
    while len < buffer.len() {
        let rest = &mut buffer[len..];
        // SAFETY: `rest` is writable for its length.
        match unsafe { read(fd, rest.as_mut_ptr().cast(), rest.len()) } {
            n @ 1.. => len += n as usize,
            _ => break,
        }
    }
    // SAFETY: `fd` was opened above and is closed once.
    unsafe { close(fd) };
    Some(len)
}

/// Starts a thread that takes no signals, so that a host's handlers keep running on the host's own threads.
///
/// # Safety
/// `argument` stays valid until the thread has been joined.
pub unsafe fn spawn(start: extern "C" fn(*mut c_void) -> *mut c_void, argument: *mut c_void) -> Option<Thread> {
    let mut thread = 0;
    let mut all = SignalSet([0; 128]);
    let mut before = SignalSet([0; 128]);
    // SAFETY: the sets and `thread` are valid for writes; `argument` is promised to outlive the thread.
    unsafe {
        sigfillset(&mut all);
        let masked = pthread_sigmask(SIG_SETMASK, &all, &mut before) == 0;
        let result = pthread_create(&mut thread, core::ptr::null(), start, argument);
        if masked {
            pthread_sigmask(SIG_SETMASK, &before, core::ptr::null_mut());
        }
        if result != 0 {
            return None;
        }
        pthread_setname_np(thread, c"qc-worker".as_ptr());
    }
    Some(thread)
}

/// Waits for a thread's end.
///
/// # Safety
/// `thread` came from [`spawn`] in this process and is joined once.
pub unsafe fn join(thread: Thread) {
    // SAFETY: promised by the caller.
    unsafe { pthread_join(thread, core::ptr::null_mut()) };
}

/// Sleeps while `word` holds `value`; may also return for no reason.
pub fn futex_wait(word: &AtomicU32, value: u32) {
    // SAFETY: `word` is a valid aligned 32-bit integer; a null timeout means none.
    unsafe { syscall(SYS_FUTEX, word.as_ptr(), FUTEX_WAIT_PRIVATE, value, core::ptr::null::<Timespec>()) };
}

/// Wakes up to `count` sleepers of `word`.
pub fn futex_wake(word: &AtomicU32, count: u32) {
    let count = count.min(i32::MAX as u32);
    // SAFETY: `word` is a valid aligned 32-bit integer.
    unsafe { syscall(SYS_FUTEX, word.as_ptr(), FUTEX_WAKE_PRIVATE, count) };
}

/// Number of CPUs the calling thread may run on; 0 when unknown.
pub fn affinity_count() -> u32 {
    let mut mask = [0u8; 1024];
    // SAFETY: `mask` is writable for its length.
    match unsafe { sched_getaffinity(0, mask.len(), mask.as_mut_ptr()) } {
        0 => mask.iter().map(|byte| byte.count_ones()).sum(),
        _ => 0,
    }
}

/// Number of CPUs that are online; at least 1.
pub fn online_cpus() -> u32 {
    // SAFETY: no precondition.
    unsafe { sysconf(SC_NPROCESSORS_ONLN) }.clamp(1, i32::MAX as c_long) as u32
}
