//! Instruction tiers by the numbers of the binary interface.

use qc_kernels::Isa;

/// Name of a tier.
pub(crate) fn tier_name(isa: u32) -> &'static str {
    Isa::ALL.get(isa as usize).map_or("unknown", |isa| isa.name())
}
