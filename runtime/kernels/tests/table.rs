//! The table is complete and consistent, and selection falls back to lower tiers.
#![allow(clippy::unwrap_used)]

use qc_kernels::args::{FieldKind, Needed};
use qc_kernels::{Family, Isa, Variant, host, table};
use std::collections::HashSet;

#[test]
fn every_variant_has_a_scalar_row_and_names_are_unique() {
    for &family in Family::ALL {
        assert_eq!(Family::from_name(family.name()), Some(family));
        for &variant in family.variants() {
            assert_eq!(Variant::from_name(variant.name()), Some(variant));
            let scalar = table::select(family, variant, Isa::Scalar).unwrap();
            assert_eq!(scalar.isa, Isa::Scalar);
        }
    }
    let mut names = HashSet::new();
    for kernel in table::rows() {
        assert!(names.insert(kernel.name), "{} twice", kernel.name);
        assert!(kernel.name.ends_with(kernel.isa.name()), "{}", kernel.name);
        assert!(kernel.family.variants().contains(&kernel.variant), "{}", kernel.name);
        assert!(std::ptr::eq(table::by_name(kernel.name).unwrap(), kernel));
    }
}

#[test]
fn selection_takes_the_best_tier_not_above_the_host() {
    let gemm = |isa| table::select(Family::Gemm, Variant::U8, isa).unwrap().isa;
    assert_eq!(gemm(Isa::Avx512Vnni), Isa::Avx512Vnni);
    assert_eq!(gemm(Isa::AvxVnni), Isa::AvxVnni);
    assert_eq!(table::select(Family::DwF32, Variant::F32, Isa::AvxVnni).unwrap().isa, Isa::Avx2);
    assert_eq!(gemm(Isa::Avx2), Isa::Avx2);
    assert!(table::select(Family::Lrn, Variant::AddU8, Isa::Avx512Vnni).is_none());
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
                    assert!(["lut", "res"].contains(&field.name), "{} {}", family.name(), field.name);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn host_tier_agrees_with_the_standard_library_and_the_cap() {
    let narrow = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let has = |isa| match isa {
        Isa::Scalar => true,
        Isa::Avx2 => narrow,
        Isa::AvxVnni => narrow && is_x86_feature_detected!("avxvnni"),
        Isa::Avx512Vnni => {
            narrow
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
        }
    };
    for cap in Isa::ALL {
        let expected = Isa::ALL.into_iter().rev().find(|&isa| isa <= cap && has(isa)).unwrap();
        assert_eq!(host::detect(cap), expected);
        assert_eq!((host::has(cap), host::tiers() >> cap as u32 & 1 == 1), (has(cap), has(cap)));
        assert_eq!(Isa::from_name(cap.name()), Some(cap));
    }
    assert_eq!(Isa::from_name("neon"), None);
}

#[test]
fn a_row_of_avxvnni_never_serves_avx512vnni() {
    for kernel in table::rows().filter(|k| k.isa == Isa::AvxVnni) {
        let widest = table::select(kernel.family, kernel.variant, Isa::Avx512Vnni).unwrap();
        assert_eq!(widest.isa, Isa::Avx512Vnni, "{}", kernel.name);
    }
}
