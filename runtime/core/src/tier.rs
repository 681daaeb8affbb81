//! Instruction tiers by the numbers of the binary interface.

use qc_kernels::Tier;

/// Name of a tier.
pub(crate) fn tier_name(number: u32) -> &'static str {
    Tier::from_number(number).map_or("unknown", Tier::name)
}
