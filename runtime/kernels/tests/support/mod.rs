//! Runs a call on the reference and on every kernel of its family and variant, and compares all bytes.
//!
//! Buffers of a kernel lie between two inaccessible pages, with exactly the 64 bytes behind it that the contract allows: a
//! longer over-read faults. All bytes of all buffers and their slack are compared, so a stray write shows too. Of floats,
//! any NaN equals any other.
#![allow(dead_code, clippy::unwrap_used)]

use qc_kernels::args::FieldKind;
use qc_kernels::reference::{self, ArgValue, Args, Memory, Ptr};
use qc_kernels::{Family, Features, Tier, UKernel, Variant, host, table};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// Values at which functions of floats go wrong.
pub const SPECIAL: [f32; 13] = [
    0.0,
    -0.0,
    f32::NAN,
    -f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MAX,
    f32::MIN,
    1e38,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE / 8.0,
    1e-45,
    -1e-45,
];

/// A small random generator (splitmix64).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    pub fn range(&mut self, lo: i32, hi: i32) -> i32 {
        lo + self.below((hi - lo + 1) as usize) as i32
    }
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
    /// Uniform in `lo..hi`.
    pub fn float(&mut self, lo: f32, hi: f32) -> f32 {
        lo + (hi - lo) * ((self.next() >> 40) as f32 / (1u64 << 24) as f32)
    }
    pub fn floats(&mut self, n: usize, lo: f32, hi: f32) -> Vec<f32> {
        (0..n).map(|_| self.float(lo, hi)).collect()
    }
    /// [`Rng::floats`], in every third call with some values that are special.
    pub fn reals(&mut self, n: usize, lo: f32, hi: f32) -> Vec<f32> {
        let rate = self.pick(&[0, 0, 9, 60, 0, 400]);
        let one = |rng: &mut Rng| match rate > 0 && rng.below(rate) == 0 {
            true => rng.pick(&SPECIAL),
            false => rng.float(lo, hi),
        };
        (0..n).map(|_| one(self)).collect()
    }
}

/// Little-endian bytes of 4-byte values.
pub trait Bytes {
    fn bytes(&self) -> Vec<u8>;
}
impl Bytes for Vec<f32> {
    fn bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|v| v.to_le_bytes()).collect()
    }
}
impl Bytes for Vec<i32> {
    fn bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|v| v.to_le_bytes()).collect()
    }
}

/// Buffers of the reference; an access outside a buffer panics.
#[derive(Clone)]
pub struct Buffers(pub Vec<Vec<u8>>);

impl Buffers {
    fn word(&self, p: Ptr) -> [u8; 4] {
        let at = p.offset as usize;
        self.0[p.buf as usize][at..at + 4].try_into().unwrap()
    }
    fn set_word(&mut self, p: Ptr, word: [u8; 4]) {
        let at = p.offset as usize;
        self.0[p.buf as usize][at..at + 4].copy_from_slice(&word);
    }
}

impl Memory for Buffers {
    fn u8(&self, p: Ptr) -> u8 {
        self.0[p.buf as usize][p.offset as usize]
    }
    fn i8(&self, p: Ptr) -> i8 {
        self.u8(p) as i8
    }
    fn i32(&self, p: Ptr) -> i32 {
        i32::from_le_bytes(self.word(p))
    }
    fn f32(&self, p: Ptr) -> f32 {
        f32::from_le_bytes(self.word(p))
    }
    fn set_u8(&mut self, p: Ptr, value: u8) {
        self.0[p.buf as usize][p.offset as usize] = value;
    }
    fn set_i32(&mut self, p: Ptr, value: i32) {
        self.set_word(p, value.to_le_bytes());
    }
    fn set_f32(&mut self, p: Ptr, value: f32) {
        self.set_word(p, value.to_le_bytes());
    }
}

/// One call: buffers and arguments.
pub struct Case {
    pub variant: Variant,
    pub args: Args,
    pub buffers: Buffers,
    /// Buffers whose contents afterwards are the kernel's own affair.
    scratch: Vec<usize>,
}

impl Case {
    pub fn new(family: Family, variant: Variant) -> Case {
        Case { variant, args: Args::new(family), buffers: Buffers(Vec::new()), scratch: Vec::new() }
    }
    pub fn int(&mut self, name: &str, value: usize) -> &mut Case {
        self.signed(name, value as i64)
    }
    pub fn signed(&mut self, name: &str, value: i64) -> &mut Case {
        self.args.set(name, ArgValue::Int(value)).unwrap();
        self
    }
    pub fn f32(&mut self, name: &str, value: f32) -> &mut Case {
        self.args.set(name, ArgValue::F32(value)).unwrap();
        self
    }
    /// Adds a buffer and points `name` to its byte `offset`.
    pub fn buffer(&mut self, name: &str, bytes: Vec<u8>, offset: usize) -> &mut Case {
        self.buffers.0.push(bytes);
        let ptr = Ptr { buf: self.buffers.0.len() as u32 - 1, offset: offset as i64 };
        self.args.set(name, ArgValue::Ptr(ptr)).unwrap();
        self
    }
    /// Adds a buffer that a kernel works in.
    pub fn scratch(&mut self, name: &str, bytes: usize) -> &mut Case {
        self.scratch.push(self.buffers.0.len());
        self.buffer(name, vec![0; bytes], 0)
    }
    /// Points `name` to where `other` points.
    pub fn same(&mut self, name: &str, other: &str) -> &mut Case {
        let ptr = self.args.ptr(other);
        self.args.set(name, ArgValue::Ptr(ptr)).unwrap();
        self
    }

    /// Runs reference and kernels, and compares. Returns what the reference made of the buffers.
    pub fn check(&self) -> Buffers {
        let mut expected = self.buffers.clone();
        reference::run_variant(self.args.family(), self.variant, &self.args, &mut expected);
        let mut found = 0;
        for kernel in table::rows().filter(|k| k.family == self.args.family() && k.variant == self.variant) {
            found += 1;
            if !host_runs(kernel) {
                skip(kernel);
                continue;
            }
            for at_end in [true, false] {
                self.run(kernel, &expected, at_end);
            }
        }
        assert!(found > 0, "no kernel of this variant");
        expected
    }

    fn run(&self, kernel: &UKernel, expected: &Buffers, at_end: bool) {
        REGIONS.with_borrow_mut(|regions| {
            while regions.len() < self.buffers.0.len() {
                regions.push(Region::new());
            }
            let starts: Vec<*mut u8> = self.buffers.0.iter().zip(&*regions).map(|(b, r)| r.fill(b, at_end)).collect();
            let args = self.arguments(&starts);
            // SAFETY: the host has the tier; the arguments keep the family's contract, which the reference, running on
            // checked memory, has shown.
            unsafe { (kernel.run)(args.as_ptr().cast()) };
            for (i, (region, expected)) in regions.iter().zip(&expected.0).enumerate() {
                self.compare(kernel, i, region.contents(expected.len(), at_end), expected);
            }
        });
    }

    fn compare(&self, kernel: &UKernel, buffer: usize, found: &[u8], expected: &[u8]) {
        let (inside, after) = found.split_at(expected.len());
        assert_eq!(after.len(), SLACK);
        let floats = self.stores_floats();
        let differ = |(f, e): &(&[u8], &[u8])| f != e && !(floats && is_nan(f) && is_nan(e));
        let inside = if self.scratch.contains(&buffer) { &[] } else { inside };
        let words = || inside.chunks(4).zip(expected.chunks(4));
        let wrong = words().filter(differ).count();
        if let Some(at) = words().position(|pair| differ(&pair)) {
            let word = 4 * at..(4 * at + 4).min(expected.len());
            panic!(
                "{}: buffer {buffer} differs in {wrong} words, first at {at}: {:02x?}, expected {:02x?} (was {:02x?})\n{:?}",
                kernel.name,
                &inside[word.clone()],
                &expected[word.clone()],
                &self.buffers.0[buffer][word],
                self.args
            );
        }
        let canary = |bytes: &[u8]| bytes.iter().all(|&b| b == CANARY);
        assert!(canary(after), "{}: wrote outside buffer {buffer}\n{:?}", kernel.name, self.args);
    }

    /// Whether results are floats.
    fn stores_floats(&self) -> bool {
        match self.args.family() {
            Family::BinaryF32 | Family::Unary => self.variant != Variant::LutU8 && self.args.f32("scale") == 0.0,
            Family::Softmax | Family::LayerNorm => self.args.f32("scale") == 0.0,
            Family::Gemm | Family::GemmF32 | Family::DwF32 | Family::Gather => {
                matches!(self.variant, Variant::F32 | Variant::F32Bytes)
            }
            Family::Pool => matches!(self.variant, Variant::MaxF32 | Variant::AvgF32),
            Family::Dequantize | Family::Mean | Family::Lrn => true,
            Family::Scatter => self.variant != Variant::B1,
            _ => false,
        }
    }

    /// The argument struct, filled by the field table as generated code does it.
    fn arguments(&self, starts: &[*mut u8]) -> Vec<u64> {
        let family = self.args.family();
        let mut words = vec![0u64; family.args_size().div_ceil(8)];
        for (name, value) in self.args.iter() {
            let field = family.field(name).unwrap();
            let bytes: Vec<u8> = match (field.kind, value) {
                (FieldKind::PtrIn | FieldKind::PtrOut, ArgValue::Ptr(p)) => {
                    let address = starts[p.buf as usize] as i64 + p.offset;
                    address.to_le_bytes().to_vec()
                }
                (FieldKind::Usize, ArgValue::Int(i)) => i.to_le_bytes().to_vec(),
                (FieldKind::I32, ArgValue::Int(i)) => (i as i32).to_le_bytes().to_vec(),
                (FieldKind::F32, ArgValue::F32(f)) => f.to_le_bytes().to_vec(),
                other => panic!("{name}: {other:?}"),
            };
            // SAFETY: the field lies inside the struct.
            unsafe {
                let at = words.as_mut_ptr().cast::<u8>().add(field.offset);
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len());
            }
        }
        words
    }
}

/// Whether the bytes are those of a NaN.
fn is_nan(word: &[u8]) -> bool {
    <[u8; 4]>::try_from(word).is_ok_and(|w| f32::from_le_bytes(w).is_nan())
}

/// Whether the host can run a kernel; asked once, since CPUID is slow in a virtual machine.
fn host_runs(kernel: &UKernel) -> bool {
    static HOST: OnceLock<Features> = OnceLock::new();
    HOST.get_or_init(host::features).contain(kernel.needs)
}

fn skip(kernel: &'static UKernel) {
    SKIPPED.with_borrow_mut(|skipped| {
        if skipped.insert(kernel.name) {
            println!("SKIPPED 1: {}: this CPU lacks {}", kernel.name, kernel.tier.name());
        }
    });
    let required = std::env::var("QC_REQUIRE_TIER").ok().and_then(|name| Tier::from_name(&name));
    let wanted = required.is_some_and(|tier| tier.needs().contain(kernel.needs));
    assert!(!wanted, "QC_REQUIRE_TIER wants {}", kernel.name);
}

thread_local! {
    static REGIONS: RefCell<Vec<Region>> = const { RefCell::new(Vec::new()) };
    static SKIPPED: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
}

const SLACK: usize = 64;
const CANARY: u8 = 0xa5;
const REGION: usize = 2 << 20;
const PAGE: usize = 4096;

/// Memory between two inaccessible pages.
struct Region(*mut u8);

impl Region {
    fn new() -> Region {
        // SAFETY: a fresh anonymous mapping, of which the first and last page are made inaccessible.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let base =
                libc::mmap(std::ptr::null_mut(), REGION + 2 * PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            assert_ne!(base, libc::MAP_FAILED);
            let base = base.cast::<u8>();
            assert_eq!(libc::mprotect(base.cast(), PAGE, libc::PROT_NONE), 0);
            assert_eq!(libc::mprotect(base.add(PAGE + REGION).cast(), PAGE, libc::PROT_NONE), 0);
            Region(base.add(PAGE))
        }
    }

    /// Where a buffer of `len` bytes starts.
    fn start(&self, len: usize, at_end: bool) -> *mut u8 {
        assert!(len + SLACK <= REGION, "buffer of {len} bytes");
        self.0.wrapping_add(if at_end { REGION - SLACK - len } else { 0 })
    }

    fn fill(&self, bytes: &[u8], at_end: bool) -> *mut u8 {
        let start = self.start(bytes.len(), at_end);
        // SAFETY: buffer and slack lie inside the region.
        unsafe {
            start.write_bytes(CANARY, bytes.len() + SLACK);
            start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        start
    }

    /// The buffer with its slack.
    fn contents(&self, len: usize, at_end: bool) -> &[u8] {
        // SAFETY: buffer and slack lie inside the region.
        unsafe { std::slice::from_raw_parts(self.start(len, at_end), len + SLACK) }
    }
}
