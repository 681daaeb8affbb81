//! Any bytes are safe to check.

use proptest::prelude::*;
use qc_runtime::note::check_bytes;

/// The beginning of an x86-64 shared object with one program header.
fn elf(p_type: u32, offset: u64, size: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend([3, 0, 62, 0, 1, 0, 0, 0]);
    bytes.resize(32, 0);
    bytes.extend(64u64.to_le_bytes());
    bytes.resize(52, 0);
    bytes.extend([64, 0, 56, 0, 1, 0]);
    bytes.resize(64, 0);
    bytes.extend(p_type.to_le_bytes());
    bytes.extend(4u32.to_le_bytes());
    for word in [offset, offset, offset, size, size, 4] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(rest);
    bytes
}

proptest! {
    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(check_bytes(&bytes).is_err());
    }

    #[test]
    fn random_headers_are_refused(
        p_type in prop_oneof![Just(1u32), Just(4)],
        offset in prop_oneof![Just(120u64), 0..400u64, any::<u64>()],
        size in prop_oneof![0..400u64, any::<u64>()],
        rest in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        prop_assert!(check_bytes(&elf(p_type, offset, size, &rest)).is_err());
    }

    #[test]
    fn random_notes_are_refused(lengths in any::<[u8; 4]>(), text in "[{}\":a-z0-9]{0,60}", seal in any::<[u8; 40]>()) {
        let mut rest = Vec::new();
        for (n_type, contents) in [(2u8, &seal[..]), (1, text.as_bytes())] {
            rest.extend([3, 0, 0, 0, contents.len() as u8 ^ (lengths[0] & lengths[1] & lengths[2]), 0, 0, 0, n_type, 0, 0, 0]);
            rest.extend(b"qc\0\0");
            rest.extend(contents);
            rest.resize(rest.len().next_multiple_of(4), 0);
        }
        prop_assert!(check_bytes(&elf(4, 120, rest.len() as u64, &rest)).is_err());
    }
}
