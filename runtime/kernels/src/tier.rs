//! The instruction tiers, and the features of a processor that they need.
//!
//! A tier is a name, what it needs, and rows of kernels. The list here is the only one: its order is the preference among
//! tiers, and every sentence that names them, every choice and every table of the binary interface follows from it.

use crate::isa::{rows_avx2, rows_avx512vnni, rows_avxvnni, rows_scalar};
use crate::table::UKernel;
use core::ffi::CStr;

/// A set of features of a processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features(u64);

/// A register of CPUID's answer.
#[derive(Clone, Copy)]
pub(crate) enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}
use Register::{Eax, Ebx, Ecx, Edx};

/// Where CPUID reports a feature: leaf, subleaf, register, bit.
#[derive(Clone, Copy)]
pub(crate) struct Report(pub u32, pub u32, pub Register, pub u32);

/// Registers that the operating system must save for a feature, as bits of XCR0.
pub(crate) const NO_STATE: u64 = 0;
const YMM: u64 = 0x6;
/// As `YMM`, with opmasks and both halves of zmm.
const ZMM: u64 = 0xe6;

/// The features that kernels use, under the names of `target_feature`. The place of one is its bit in the binary interface,
/// which never changes: new ones come last.
pub(crate) const FEATURES: &[(&str, Report, u64)] = &[
    ("sse2", Report(1, 0, Edx, 26), NO_STATE),
    ("fma", Report(1, 0, Ecx, 12), YMM),
    ("avx2", Report(7, 0, Ebx, 5), YMM),
    ("avxvnni", Report(7, 1, Eax, 4), YMM),
    ("avx512f", Report(7, 0, Ebx, 16), ZMM),
    ("avx512dq", Report(7, 0, Ebx, 17), ZMM),
    ("avx512bw", Report(7, 0, Ebx, 30), ZMM),
    ("avx512vl", Report(7, 0, Ebx, 31), ZMM),
    ("avx512vnni", Report(7, 0, Ecx, 11), ZMM),
];

impl Features {
    /// No feature.
    pub const NONE: Features = Features(0);

    /// The features of a list such as `"avx2,fma"`.
    ///
    /// # Panics
    /// On a name that is not known; at compile time, where it is a constant.
    #[inline]
    pub const fn of(list: &str) -> Features {
        let (bytes, mut set, mut start, mut end) = (list.as_bytes(), 0, 0, 0);
        while end <= bytes.len() {
            if end == bytes.len() || bytes[end] == b',' {
                set |= 1 << number_of(bytes, start, end);
                start = end + 1;
            }
            end += 1;
        }
        Features(set)
    }

    /// The set with feature `number` of the list.
    pub(crate) const fn with(self, number: usize) -> Features {
        Features(self.0 | 1 << number)
    }

    /// The set in the binary interface.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether all of `other` are among these.
    pub const fn contain(self, other: Features) -> bool {
        self.0 & other.0 == other.0
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        FEATURES.iter().enumerate().filter(move |(i, _)| self.0 >> i & 1 == 1).map(|(_, feature)| feature.0)
    }
}

/// The number of the feature that is called `bytes[start..end]`.
#[inline]
const fn number_of(bytes: &[u8], start: usize, end: usize) -> usize {
    let mut number = 0;
    while number < FEATURES.len() {
        let name = FEATURES[number].0.as_bytes();
        let mut same = 0;
        while same < name.len() && start + same < end && name[same] == bytes[start + same] {
            same += 1;
        }
        if same == name.len() && same == end - start {
            return number;
        }
        number += 1;
    }
    panic!("a feature that is not in the list")
}

macro_rules! tiers {
    ($($(#[$doc:meta])* $tier:ident = $number:literal $rows:ident;)*) => {
        /// Instruction tiers. The value is the tier's number in the binary interface, which never changes.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum Tier { $($(#[$doc])* $tier = $number,)* }

        impl Tier {
            /// All tiers, the most preferred last.
            pub const ALL: &'static [Tier] = &[$(Tier::$tier),*];

            /// Name as in kernel names and options.
            pub const fn name(self) -> &'static str {
                match self { $(Tier::$tier => $rows::NAME),* }
            }

            /// The name for C.
            pub const fn c_name(self) -> &'static CStr {
                match self { $(Tier::$tier => $rows::C_NAME),* }
            }

            /// What a host of the tier offers at least.
            pub const fn needs(self) -> Features {
                match self { $(Tier::$tier => $rows::NEEDS),* }
            }

            /// The tier's own kernels.
            pub const fn rows(self) -> &'static [UKernel] {
                match self { $(Tier::$tier => $rows::ROWS),* }
            }
        }
    };
}

tiers! {
    /// Any x86-64.
    Scalar = 0 rows_scalar;
    /// 256-bit vectors.
    Avx2 = 1 rows_avx2;
    /// 256-bit vectors and dot products of bytes.
    AvxVnni = 2 rows_avxvnni;
    /// 512-bit vectors and dot products of bytes.
    Avx512Vnni = 3 rows_avx512vnni;
}

impl Tier {
    /// The tier called `name`.
    pub fn from_name(name: &str) -> Option<Tier> {
        Tier::ALL.iter().copied().find(|t| t.name() == name)
    }

    /// The tier with a number of the binary interface.
    pub fn from_number(number: u32) -> Option<Tier> {
        Tier::ALL.iter().copied().find(|&t| t as u32 == number)
    }

    /// The tier whose needs are these `bits` of [`Features::bits`]; no two need the same.
    pub fn from_needs(bits: u64) -> Option<Tier> {
        Tier::ALL.iter().copied().find(|t| t.needs().bits() == bits)
    }

    /// Place in the order of preference; 0 is the least.
    pub fn rank(self) -> usize {
        Tier::ALL.iter().position(|&t| t == self).unwrap_or(0)
    }
}
