//! The pipelines: lists of passes.

use crate::options::{CompileOptions, Guard, Precision, Quantize, Sums};
use qc_dialects::phase;
use qc_ir::{Pass, Step};
use qc_kernels::Tier;
use qc_passes::graph::{
    canonicalize, const_fold, cse, fold_batch_norm, fuse_activation, name_operands, raise_functions, raise_norms,
    sum_depthwise,
};
use qc_passes::loops::{pack_weights, plan_memory, select_kernels};
use qc_passes::quant::{
    activations_to_u8, drop_float_qdq, drop_inner_qdq, float_islands, hoist_quantize, keep_float, lower_to_quant,
    pairs_as_written, portable_qdq, quantize, quantize_dynamic, quantize_weights, raise_dynamic, sink_dequantize,
    strip_dynamic, strip_qdq,
};

/// Brings an imported graph into one form; names of tensors in ranges files are those of its result.
pub const FLOAT: &[Pass] = &[
    canonicalize::PASS,
    const_fold::PASS,
    fold_batch_norm::PASS,
    canonicalize::PASS,
    const_fold::PASS,
    raise_norms::PASS,
    raise_functions::PASS,
    cse::PASS,
    name_operands::PASS,
];

/// Removes quantization.
pub const STRIP: &[Pass] = &[
    strip_qdq::PASS,
    strip_dynamic::PASS,
    const_fold::PASS,
    fold_batch_norm::PASS,
    canonicalize::PASS,
    raise_norms::PASS,
    raise_functions::PASS,
    cse::PASS,
];

/// From a canonical graph to integer ops.
pub const INT8: &[Pass] = &[
    quantize::PASS,
    activations_to_u8::PASS,
    hoist_quantize::PASS,
    sink_dequantize::PASS,
    cse::PASS,
    drop_inner_qdq::PASS,
    float_islands::PASS,
    lower_to_quant::PASS,
    raise_dynamic::PASS,
    drop_float_qdq::PASS,
    sum_depthwise::PASS,
    fuse_activation::PASS,
    cse::PASS,
];

/// From a canonical graph to one that computes every quantize/dequantize pair as written.
pub const AS_WRITTEN: &[Pass] = &[
    quantize::PASS,
    activations_to_u8::PASS,
    pairs_as_written::PASS,
    raise_dynamic::PASS,
    fuse_activation::PASS,
    cse::PASS,
];

/// From a canonical graph to pairs that other engines run as integers.
pub const PORTABLE: &[Pass] = &[quantize::PASS, activations_to_u8::PASS, portable_qdq::PASS, cse::PASS];

/// From integer ops to planned loop code.
pub const LOOPS: &[Pass] = &[qc_passes::lower::PASS, pack_weights::PASS, plan_memory::PASS];

/// Passes without options.
pub fn plain(passes: &[Pass]) -> Vec<Step> {
    passes.iter().map(|&pass| Step { pass, options: Vec::new() }).collect()
}

/// The part before ranges are attached.
pub fn float(options: &CompileOptions) -> Vec<Step> {
    match options.precision {
        Precision::Fp32 => plain(&[FLOAT, STRIP].concat()),
        Precision::Auto | Precision::Int8 => plain(FLOAT),
    }
}

/// The part up to integer ops, or to floats between pairs.
pub fn int8(options: &CompileOptions) -> Vec<Step> {
    if options.exact_qdq {
        return plain(AS_WRITTEN);
    }
    let guarded = options.guard == Guard::NeverSlower && !options.strict_int8;
    let mut steps = plain(INT8);
    steps.retain(|step| guarded || step.pass.name != float_islands::PASS.name);
    if options.sums == Sums::Rounded {
        round_sums(&mut steps);
        let behind =
            steps.iter().position(|step| step.pass.name == activations_to_u8::PASS.name).map_or(0, |at| at + 1);
        steps.splice(behind..behind, plain(&[portable_qdq::PASS]));
    }
    let asked = match options.quantize {
        Quantize::Given => None,
        Quantize::Dynamic => Some(quantize_dynamic::PASS),
        Quantize::Weights => Some(quantize_weights::PASS),
    };
    if let Some(pass) = asked {
        let behind = steps.iter().position(|step| step.pass.name == raise_dynamic::PASS.name).map_or(0, |at| at + 1);
        steps.splice(behind..behind, plain(&[pass]));
    }
    keep_float(options).into_iter().chain(steps).collect()
}

/// The part up to what is written for other engines, which need pairs on both sides of a sum.
pub fn portable(options: &CompileOptions) -> Vec<Step> {
    let mut steps = plain(PORTABLE);
    round_sums(&mut steps);
    keep_float(options).into_iter().chain(steps).collect()
}

/// Lets the passes that decide about pairs in front of sums have them.
fn round_sums(steps: &mut [Step]) {
    let decide = [quantize::PASS.name, drop_inner_qdq::PASS.name];
    let those = steps.iter_mut().filter(|step| decide.contains(&step.pass.name));
    those.for_each(|step| step.options.push(("sums".into(), "true".into())));
}

/// The part from integer ops to planned loop code.
pub fn loops() -> Vec<Step> {
    plain(LOOPS)
}

/// The same for results that are watched where they lie.
pub fn watched() -> Vec<Step> {
    let mut steps = loops();
    let lowering = steps.iter_mut().filter(|step| step.pass.name == qc_passes::lower::PASS.name);
    lowering.for_each(|step| step.options.push((qc_passes::lower::WATCH.into(), "true".into())));
    steps
}

/// Chooses the kernels of one instruction tier.
pub fn select(tier: Tier) -> Vec<Step> {
    vec![Step { pass: select_kernels::PASS, options: vec![("tier".into(), tier.name().into())] }]
}

/// `steps` cut around the one that makes the ops of the fused phase: those before it, itself, those behind it.
pub fn around_fusing(steps: &[Step]) -> (&[Step], &[Step], &[Step]) {
    let at = steps.iter().position(|step| step.pass.to == phase::FUSED).unwrap_or(steps.len());
    let behind = (at + 1).min(steps.len());
    (&steps[..at], &steps[at..behind], &steps[behind..])
}

/// The pass that marks what the options and the ranges want in f32.
pub(crate) fn keep_float(options: &CompileOptions) -> Option<Step> {
    let of_ranges = options.ranges.iter().flat_map(|ranges| &ranges.keep_fp32);
    let kept = options.keep_fp32.iter().chain(of_ranges);
    let (types, nodes): (Vec<&String>, Vec<&String>) = kept.partition(|k| k.starts_with("op:"));
    let types: Vec<String> = types.into_iter().map(|t| t.trim_start_matches("op:").to_string()).collect();
    let nodes: Vec<String> = nodes.into_iter().cloned().collect();
    let all = [("nodes", &nodes), ("types", &types), ("only", &options.quantize_ops)];
    let given = all.iter().filter(|(_, items)| !items.is_empty());
    let given: Vec<_> = given.map(|(name, items)| (name.to_string(), keep_float::list(items))).collect();
    (!given.is_empty()).then_some(Step { pass: keep_float::PASS, options: given })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(steps: &[Step]) -> Vec<&'static str> {
        steps.iter().map(|step| step.pass.name).collect()
    }

    #[test]
    fn without_a_guard_nothing_but_the_guard_is_missing() {
        let guarded = names(&int8(&CompileOptions::default()));
        assert_eq!(guarded, names(&plain(INT8)));
        let mut rest = guarded.clone();
        rest.retain(|name| *name != "float-islands");
        assert_eq!(rest.len() + 1, guarded.len());
        assert_eq!(names(&int8(&CompileOptions { guard: Guard::None, ..Default::default() })), rest);
        assert_eq!(names(&int8(&CompileOptions { strict_int8: true, ..Default::default() })), rest);
    }

    #[test]
    fn pipelines_are_cut_around_the_pass_that_fuses() {
        for exact_qdq in [false, true] {
            let steps = int8(&CompileOptions { exact_qdq, ..Default::default() });
            let (before, fusing, behind) = around_fusing(&steps);
            assert_eq!(names(fusing), [if exact_qdq { "pairs-as-written" } else { "lower-to-quant" }]);
            assert_eq!([names(before), names(fusing), names(behind)].concat(), names(&steps));
        }
        assert_eq!(names(around_fusing(&loops()).0), names(&loops()));
    }

    #[test]
    fn sums_are_rounded_where_passes_decide_about_them() {
        let text = qc_ir::print_pipeline(&int8(&CompileOptions { sums: Sums::Rounded, ..Default::default() }));
        assert!(
            text.starts_with("quantize{sums=true},activations-to-u8,portable-qdq,")
                && text.contains(",drop-inner-qdq{sums=true},"),
            "{text}"
        );
        assert!(qc_ir::print_pipeline(&portable(&Default::default())).starts_with("quantize{sums=true},"));
    }

    #[test]
    fn what_stays_float_is_marked_first() {
        let options = CompileOptions { keep_fp32: vec!["op:Add".into(), "a,b".into()], ..Default::default() };
        let text = qc_ir::print_pipeline(&int8(&options)[..1]);
        assert_eq!(text, "keep-float{nodes=a%2cb types=Add}");
    }
}
