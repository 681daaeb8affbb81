//! Instruction tiers by the numbers and features of the binary interface.

use qc_kernels::Tier;

/// Name of a tier.
pub(crate) fn tier_name(number: u32) -> &'static str {
    Tier::from_number(number).map_or("unknown", Tier::name)
}

/// Name of the tier that needs these features.
pub(crate) fn name_of_needs(features: u64) -> &'static str {
    Tier::from_needs(features).map_or("unknown", Tier::name)
}
