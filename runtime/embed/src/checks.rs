//! What is looked at when the steps of a call have run: indices outside of what they index, offsets that are none.

use crate::abi::{Check, SLACK_BYTES, Status, Variant};
use crate::text::{Text, c_bytes};
use crate::view::list;

/// Whether the steps of `variant` met no bad number; `arena` is the context's block, slack included.
///
/// # Errors
/// [`Status::BadValue`], with the sentence in `why`.
///
/// # Safety
/// `arena` is the arena in which the steps have just run.
pub(crate) unsafe fn look(variant: &Variant, arena: *const u8, why: &mut Text) -> Result<(), Status> {
    // SAFETY: variants are made by the code generator, which promises `n_checks` entries.
    let checks: &[Check] = unsafe { list(variant.checks, variant.n_checks) };
    for check in checks {
        let noted = arena.wrapping_add(SLACK_BYTES + check.offset as usize).cast::<[i64; 2]>();
        // SAFETY: the code generator promises two numbers there; steps are done with them.
        let [found, value] = unsafe { noted.read() };
        if found != 0 {
            // SAFETY: strings of a model are NUL-terminated.
            let (what, rule, node) = unsafe { (c_bytes(check.what), c_bytes(check.rule), c_bytes(check.node)) };
            why.bytes(what).str(" holds ").str(if value < 0 { "-" } else { "" }).number(value.unsigned_abs());
            why.str(", which is no ").bytes(rule);
            if !node.is_empty() {
                why.str(" (node \"").bytes(node).str("\")");
            }
            return Err(Status::BadValue);
        }
    }
    Ok(())
}
