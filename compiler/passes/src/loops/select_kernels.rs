//! Chooses a row of the kernel table for every call.
//!
//! before  loop.ukernel(..) {kernel = "gemm.u8", ..}
//! after   loop.ukernel(..) {kernel = "gemm_u8s8_u8_7x64_avx512vnni", ..}
//!
//! The option `tier` names the instruction tier. The best row is the first in the table that needs no more than a host of
//! that tier offers.

use qc_dialects::loops::{Ukernel, kernel_of};
use qc_dialects::phase;
use qc_ir::{Diag, Keeps, Module, Pass, PassCx};
use qc_kernels::{Tier, table};

/// The pass.
pub const PASS: Pass = Pass {
    name: "select-kernels",
    summary: "chooses a row of the kernel table for every call",
    from: phase::PLANNED,
    to: "",
    keeps: Keeps::Exact,
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    let name = cx.option("tier").unwrap_or("scalar").to_string();
    let tier = Tier::from_name(&name).ok_or_else(|| {
        let known: Vec<&str> = Tier::ALL.iter().map(|i| i.name()).collect();
        Diag::error(format!("there is no instruction tier `{name}`")).help(format!("tiers are: {}", known.join(", ")))
    })?;
    for op in m.walk(m.body()) {
        cx.check_time()?;
        let Some(call) = Ukernel::of(m, op) else { continue };
        let (family, variant) = kernel_of(m, call).ok_or_else(|| Diag::bug("unknown kernel").at(m.loc(op)))?;
        let row = table::select(family, variant, tier).ok_or_else(|| {
            let text = format!("no kernel of {} {} for tier {name}", family.name(), variant.name());
            Diag::bug(text).at(m.loc(op))
        })?;
        m.set_attr(op, "kernel", row.name);
        cx.count("selected");
    }
    Ok(())
}
