//! The table is complete and consistent, and selection falls back to lower tiers.
#![allow(clippy::unwrap_used)]

use qc_kernels::args::{FieldKind, Needed};
use qc_kernels::{Family, Features, Tier, Variant, host, table};
use std::collections::HashSet;

#[test]
fn every_variant_has_a_scalar_row_and_names_are_unique() {
    for &family in Family::ALL {
        assert_eq!(Family::from_name(family.name()), Some(family));
        for &variant in family.variants() {
            assert_eq!(Variant::from_name(variant.name()), Some(variant));
            let scalar = table::select(family, variant, Tier::Scalar).unwrap();
            assert_eq!(scalar.tier, Tier::Scalar);
        }
    }
    let mut names = HashSet::new();
    for kernel in table::rows() {
        assert!(names.insert(kernel.name), "{} twice", kernel.name);
        assert!(kernel.name.ends_with(kernel.tier.name()), "{}", kernel.name);
        assert!(kernel.family.variants().contains(&kernel.variant), "{}", kernel.name);
        assert!(std::ptr::eq(table::by_name(kernel.name).unwrap(), kernel));
    }
}

#[test]
fn selection_takes_the_first_row_that_needs_no_more_than_the_tier() {
    let gemm = |tier| table::select(Family::Gemm, Variant::U8, tier).unwrap().tier;
    assert_eq!(gemm(Tier::Avx512Vnni), Tier::Avx512Vnni);
    assert_eq!(gemm(Tier::AvxVnni), Tier::AvxVnni);
    assert_eq!(table::select(Family::DwF32, Variant::F32, Tier::AvxVnni).unwrap().tier, Tier::Avx2);
    assert_eq!(gemm(Tier::Avx2), Tier::Avx2);
    assert!(table::select(Family::Lrn, Variant::AddU8, Tier::Avx512Vnni).is_none());
    for kernel in table::rows() {
        for &tier in Tier::ALL {
            let chosen = table::select(kernel.family, kernel.variant, tier).unwrap();
            assert!(tier.needs().contain(chosen.needs), "{} for {}", chosen.name, tier.name());
        }
    }
}

#[test]
fn every_tier_has_a_number_of_its_own_and_rows() {
    let numbers: HashSet<u32> = Tier::ALL.iter().map(|&t| t as u32).collect();
    assert_eq!((numbers.len(), Tier::ALL[0]), (Tier::ALL.len(), Tier::Scalar));
    assert!(numbers.iter().all(|&n| n < 32), "a set of tiers has 32 bits");
    for (rank, &tier) in Tier::ALL.iter().enumerate() {
        assert_eq!((tier.rank(), Tier::from_name(tier.name())), (rank, Some(tier)));
        assert_eq!(Tier::from_number(tier as u32), Some(tier));
        assert!(!tier.rows().is_empty() && tier.rows().iter().all(|k| k.tier == tier && k.needs == tier.needs()));
    }
    assert_eq!((Tier::from_name("neon"), Tier::from_number(31)), (None, None));
}

#[test]
fn fields_tile_their_structs() {
    for &family in Family::ALL {
        let mut end = 0;
        for field in family.fields() {
            assert_eq!(field.offset, end, "{} {}", family.name(), field.name);
            end += match field.kind {
                FieldKind::PtrIn | FieldKind::PtrOut | FieldKind::Usize => 8,
                FieldKind::I32 | FieldKind::F32 => 4,
            };
        }
        assert_eq!(family.args_size(), end.next_multiple_of(8));
    }
}

#[test]
fn what_fields_are_needed_with_exists() {
    for &family in Family::ALL {
        for field in family.fields() {
            match field.needed {
                Needed::By(variants) => {
                    let own = variants.iter().all(|v| family.variants().contains(v));
                    assert!(own, "{} {}", family.name(), field.name);
                }
                Needed::With(other) => assert!(family.field(other).is_some(), "{} {}", family.name(), field.name),
                // Kernels have no use for a pointer that nobody sets, unless null says something.
                Needed::Never if matches!(field.kind, FieldKind::PtrIn | FieldKind::PtrOut) => {
                    assert!(
                        ["lut", "res", "row_bias", "mask", "gamma", "beta", "sum", "ranges", "from", "addend"]
                            .contains(&field.name),
                        "{} {}",
                        family.name(),
                        field.name
                    );
                }
                _ => {}
            }
        }
    }
}

#[test]
fn features_agree_with_the_standard_library() {
    macro_rules! found {
        ($($name:tt)*) => { [$(($name, is_x86_feature_detected!($name))),*] };
    }
    let all = found!("sse2" "fma" "avx2" "avxvnni" "avx512f" "avx512dq" "avx512bw" "avx512vl" "avx512vnni");
    let known: HashSet<&str> = all.iter().map(|(name, _)| *name).collect();
    let needed: HashSet<&str> = Tier::ALL.iter().flat_map(|t| t.needs().names()).collect();
    assert_eq!(known, needed);
    for (name, found) in all {
        assert_eq!(host::features().contain(Features::of(name)), found, "{name}");
        assert_eq!(host::features().names().any(|n| n == name), found, "{name}");
    }
}

#[test]
fn features_keep_their_bits_in_the_binary_interface() {
    let names = ["sse2", "fma", "avx2", "avxvnni", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512vnni"];
    for (bit, name) in names.into_iter().enumerate() {
        assert_eq!(Features::of(name).bits(), 1 << bit, "{name}");
    }
    for &tier in Tier::ALL {
        assert_eq!(Tier::from_needs(tier.needs().bits()), Some(tier), "two tiers need the same");
    }
}

#[test]
fn the_host_runs_the_best_tier_up_to_the_cap() {
    let here: Vec<Tier> = Tier::ALL.iter().copied().filter(|&t| host::features().contain(t.needs())).collect();
    assert_eq!(Some(&host::best(None)), here.last());
    for &tier in Tier::ALL {
        assert_eq!(Some(host::best(Some(tier))), here.iter().copied().rfind(|t| t.rank() <= tier.rank()));
        assert_eq!(host::has(tier), here.contains(&tier));
    }
}
