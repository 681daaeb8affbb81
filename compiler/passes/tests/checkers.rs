//! `--check-each` names a pass that takes the clamp of a pair with it, on the nets where quantizers leave it the only ReLU.
#![allow(clippy::unwrap_used)]

use qc_dialects::REGISTRY;
use qc_dialects::graph::{Dequantize, Quantize};
use qc_ir::{Diag, Keeps, ManagerOptions, Module, NoSink, Pass, PassCx, Pattern, parse, parse_pipeline};
use std::collections::HashMap;

/// `x + relu(conv(x))` with the ReLU in the range of `!q2`, then what reads it in floats.
const NET: &str = "module \"m\" phase quantized
const @w : tensor<3x3x1x1x!q1> = [40, -90, 30, -50, 80, 60, 70, -20, -100]
quant !q0 = q<u8, [0.02], [128], 0, 255>
quant !q1 = q<i8, [0.02], [0], -127, 127>
quant !q2 = q<u8, [0.015], [0], 0, 255>
quant !q3 = q<u8, [0.03], [100], 0, 255>
func @main(%x : tensor<1x3x5x7xf32>) outputs [\"y\"] {
  %q = graph.quantize(%x) {quant = !q0}
  %d = graph.dequantize(%q)
  %w = graph.constant() {value = @w}
  %wd = graph.dequantize(%w)
  %c = graph.conv2d(%d, %wd)
  %cq = graph.quantize(%c) {quant = !q2}
  %cd = graph.dequantize(%cq)
  %s = graph.add(%d, %cd)
  %sq = graph.quantize(%s) {quant = !q3}
  %y = graph.dequantize(%sq)
  return(%y)
}
";

/// Drops pairs behind a convolution as if they were only roundings.
const DROPS_CLAMPS: Pass =
    Pass { name: "drops-clamps", summary: "", from: "", to: "", keeps: Keeps::Clamps, run: drop_clamps };

fn drop_clamps(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    cx.rewrite(
        m,
        &[Pattern {
            name: "pair",
            root: Dequantize::DEF,
            apply: |rw, op| {
                let x = Quantize::producing(rw.m, Dequantize(op).q(rw.m))?.x(rw.m);
                rw.m.producer(x).filter(|&p| rw.m.is(p, qc_dialects::graph::Conv2d::DEF))?;
                let out = rw.m.result(op);
                rw.replace(out, x);
                Some(())
            },
        }],
    )
}

fn run(pipeline: &str) -> Result<(), Diag> {
    let mut m = parse(NET, &REGISTRY, &HashMap::new()).unwrap();
    let passes: Vec<Pass> = qc_passes::ALL.iter().copied().chain([DROPS_CLAMPS]).collect();
    let options = ManagerOptions { check_each: true, ..ManagerOptions::default() };
    qc_ir::run(&mut m, &parse_pipeline(pipeline, &passes).unwrap(), &REGISTRY, &options, &mut NoSink).map(|_| ())
}

#[test]
fn a_pass_that_drops_clamps_is_named() {
    let diag = run("drops-clamps").unwrap_err();
    assert!(diag.message.contains("more than the rounding of pairs explains"), "{diag:?}");
    assert!(diag.notes.iter().any(|n| n.contains("pass `drops-clamps` (001) changed the results")), "{diag:?}");
}

#[test]
fn passes_that_leave_clamps_are_not() {
    run("drop-inner-qdq,lower-to-quant,drop-float-qdq,fuse-activation,cse").unwrap();
    run("strip-qdq").unwrap();
}
