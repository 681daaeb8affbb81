//! Sums of products that could leave 32 bits are computed in floats.
#![allow(clippy::unwrap_used)]

use qc_dialects::REGISTRY;
use qc_ir::{ManagerOptions, NoSink, parse, parse_pipeline};
use std::collections::HashMap;

/// The ops of a product over `taps`, every weight of which is 127, after `lower-to-quant`.
fn lowered(taps: usize) -> Vec<&'static str> {
    let weights = vec!["127"; taps].join(", ");
    let text = format!(
        "module \"m\" phase quantized
const @w : tensor<{taps}x1x!q1> = [{weights}]
quant !q0 = q<u8, [0.02], [0], 0, 255>
quant !q1 = q<i8, [0.02], [0], -128, 127>
quant !q2 = q<u8, [1000.0], [0], 0, 255>
func @main(%x : tensor<1x{taps}xf32>) outputs [\"y\"] {{
  %q = graph.quantize(%x) {{quant = !q0}}
  %d = graph.dequantize(%q)
  %w = graph.constant() {{value = @w}}
  %wd = graph.dequantize(%w)
  %p = graph.matmul(%d, %wd)
  %pq = graph.quantize(%p) {{quant = !q2}}
  %y = graph.dequantize(%pq)
  return(%y)
}}
"
    );
    let mut m = parse(&text, &REGISTRY, &HashMap::new()).unwrap();
    let steps = parse_pipeline("lower-to-quant", qc_passes::ALL).unwrap();
    qc_ir::run(&mut m, &steps, &REGISTRY, &ManagerOptions::default(), &mut NoSink).unwrap();
    m.ops(m.body()).iter().map(|&op| m.def(op).name).collect()
}

#[test]
fn sums_that_could_overflow_stay_float() {
    // 255 * 128 * taps is within half of what 32 bits hold up to 32,896 taps; the other half is for the bias.
    let integer = lowered(32_896);
    assert!(integer.contains(&"quant.matmul"), "{integer:?}");
    let float = lowered(32_897);
    assert!(!float.contains(&"quant.matmul") && float.contains(&"graph.matmul"), "{float:?}");
}
