//! What the user demands of the result: `--strict-int8`, `--min-int8-macs`, and that selections select something.

use crate::options::CompileOptions;
use crate::report::{Account, Fate, OpAccount};
use crate::{CompileError, Precision};
use qc_passes::quant::keep_float::{BY_LIST, BY_NAME, Choice};

/// Holds an account against the options.
///
/// # Errors
/// All ops or the figures that do not meet them; a selection that no node of the model fits.
pub fn check(options: &CompileOptions, account: &Account) -> Result<(), CompileError> {
    selections(options, account)?;
    if options.precision == Precision::Fp32 && (options.strict_int8 || options.min_int8_macs.is_some()) {
        return Err(CompileError::Option("--strict-int8 and --min-int8-macs have no use with --precision fp32".into()));
    }
    if options.strict_int8 {
        strict(account)?;
    }
    match options.min_int8_macs {
        Some(wanted) => share(account, wanted),
        None => Ok(()),
    }
}

/// A name or type that fits nothing is a mistake of writing, not a wish.
fn selections(options: &CompileOptions, account: &Account) -> Result<(), CompileError> {
    if account.ops.is_empty() {
        // A module that the caller brings has no nodes to compare with.
        return Ok(());
    }
    let known = |wanted: &str| {
        let own = qc_dialects::graph::GRAPH.iter().map(|d| d.name.trim_start_matches("graph."));
        own.chain(account.ops.iter().map(|o| o.op_type.as_str())).any(|have| have.eq_ignore_ascii_case(wanted))
    };
    for wanted in &options.keep_fp32 {
        let fits = match wanted.strip_prefix("op:") {
            Some(op_type) => known(op_type),
            None => {
                let choice = Choice::new(std::slice::from_ref(wanted), &[], &[]);
                let choice = choice.map_err(|d| CompileError::Option(d.message))?;
                let node = |o: &OpAccount| choice.reason([(&*o.node, &*o.op_type)].into_iter(), &[], false).is_some();
                account.ops.iter().any(node)
            }
        };
        if !fits {
            return Err(CompileError::Option(format!(
                "--keep-fp32 {wanted} fits no node of the model; `qc compile -v` lists all nodes and their types"
            )));
        }
    }
    // A list is for many models: it may name types that this one does not have.
    let of_formats = |wanted: &str| {
        qc_frontend::op_types().iter().flat_map(|(_, types)| types).any(|have| have.eq_ignore_ascii_case(wanted))
    };
    match options.quantize_ops.iter().find(|wanted| !known(wanted) && !of_formats(wanted)) {
        Some(wanted) => Err(CompileError::Option(format!("--quantize-ops: there is no op type `{wanted}`"))),
        None => Ok(()),
    }
}

/// Every float op that was not asked for is named.
fn strict(account: &Account) -> Result<(), CompileError> {
    let fell_back = |o: &&OpAccount| matches!(&o.fate, Fate::Float(why) if why != BY_NAME && why != BY_LIST);
    let float: Vec<&OpAccount> = account.ops.iter().filter(fell_back).collect();
    if float.is_empty() {
        return Ok(());
    }
    let line = |o: &&OpAccount| match &o.fate {
        Fate::Float(why) => format!("\n  {} ({}): {why}", o.node, o.op_type),
        _ => String::new(),
    };
    let lines: String = float.iter().map(line).collect();
    let text = format!("--strict-int8: {} of {} ops are not INT8:{lines}", float.len(), account.ops.len());
    Err(CompileError::Model {
        text: format!("{text}\n  help: --keep-fp32 NAME or op:TYPE says that an op is meant to be float"),
    })
}

fn share(account: &Account, wanted: f64) -> Result<(), CompileError> {
    let (int8, all) = account.macs();
    let percent = if all == 0 { 0.0 } else { 100.0 * int8 as f64 / all as f64 };
    if percent >= wanted {
        return Ok(());
    }
    let mut text = format!("--min-int8-macs {wanted}: {percent:.2} % of the multiply-accumulates are INT8");
    let float = account.ops.iter().filter_map(|o| match &o.fate {
        Fate::Float(why) if o.macs > 0 => Some((o, why)),
        _ => None,
    });
    if let Some((o, why)) = float.max_by_key(|(o, _)| o.macs) {
        let of = 100.0 * o.macs as f64 / all.max(1) as f64;
        text += &format!("; the largest float op is {} ({}, {of:.2} %): {why}", o.node, o.op_type);
    }
    Err(CompileError::Model { text })
}
