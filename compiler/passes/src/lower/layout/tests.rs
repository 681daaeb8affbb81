//! What is decided for small modules.
#![allow(clippy::unwrap_used)]

use super::{Layout, Layouts, Part, Results};
use qc_dialects::REGISTRY;
use qc_ir::{Module, ValueId, parse};
use std::collections::HashMap;

/// A module with a 2x2x3x3 weight `%w`, a format `!q`, the input `%x` of 1x2x4x4 and this body.
fn module(body: &str, returns: &str) -> Module {
    let weight = vec!["1"; 36].join(", ");
    let outputs: Vec<String> = returns.split(',').map(|r| format!("\"{}\"", r.trim())).collect();
    let text = format!(
        "module \"m\" phase fused\nconst @w : tensor<2x2x3x3xf32> = [{weight}]\nquant !q = q<u8, [0.5], [10], 0, 255>\n\
         func @main(%x : tensor<1x2x4x4xf32>) outputs [{}] {{\n%w = graph.constant() {{value = @w}}\n{body}\nreturn({returns})\n}}\n",
        outputs.join(", ")
    );
    parse(&text, &REGISTRY, &HashMap::new()).unwrap()
}

fn value(m: &Module, name: &str) -> ValueId {
    let results = m.ops(m.body()).map(|&op| m.result(op));
    results.chain(m.args(m.body()).iter().copied()).find(|&v| m.name(v) == Some(name)).unwrap()
}

/// The layouts of named tensors.
fn layouts(m: &Module, names: &[&str]) -> Vec<Layout> {
    let all = Layouts::of(m, Results::Copied);
    names.iter().map(|name| all.layout(value(m, name))).collect()
}

const PLANES: Layout = Layout::ChannelsLast { padding: [0; 4] };

fn padded(padding: [usize; 4]) -> Layout {
    Layout::ChannelsLast { padding }
}

#[test]
fn inputs_are_in_rows_and_planes_channels_last() {
    let m = module("%a = graph.relu(%x)\n%b = graph.exp(%a)\n%c = graph.add(%a, %b)", "%c");
    let in_a_row = "only the next op reads it, in the same step";
    assert_eq!(layouts(&m, &["x", "a", "b", "c"]), [Layout::Rows, PLANES, Layout::None, PLANES], "{in_a_row}");
}

#[test]
fn what_is_computed_from_products_is_in_rows() {
    let body = "%p = graph.matmul(%x, %x)\n%e = graph.exp(%p)\n%s = graph.softmax(%e) {axis = 3}\n%f = graph.relu(%s)
        %c = graph.conv2d(%f, %w)\n%d = graph.exp(%c)";
    let m = module(body, "%d");
    let rows = Layout::Rows;
    assert_eq!(layouts(&m, &["p", "e", "s", "f", "c", "d"]), [rows, rows, rows, rows, PLANES, PLANES]);
    let m =
        module("%p = graph.matmul(%x, %x)\n%e = graph.exp(%p)\n%c = graph.conv2d(%e, %w) {pads = [1, 0, 0, 0]}", "%c");
    assert_eq!(layouts(&m, &["p", "e"]), [rows, padded([1, 0, 0, 0])], "padding needs planes");
}

#[test]
fn conversions_pass_rows_on() {
    // Where a conversion has no step its float side has no memory, and the other side is laid out in its place.
    let body =
        "%p = graph.matmul(%x, %x)\n%e = graph.exp(%p)\n%q = graph.quantize(%e) {quant = !q}\n%d = graph.dequantize(%q)
        %f = graph.exp(%d)\n%g = graph.softmax(%f) {axis = 3}";
    let m = module(body, "%g");
    let rows = Layout::Rows;
    assert_eq!(layouts(&m, &["p", "e", "q", "d", "f"]), [rows, Layout::None, rows, Layout::None, rows]);
    assert!(Layouts::of(&m, Results::Copied).view(value(&m, "e")).is_none());
}

#[test]
fn padding_is_the_largest_that_readers_need() {
    let body = "%a = graph.relu(%x)\n%c = graph.conv2d(%a, %w) {pads = [1, 2, 0, 0]}\n%d = graph.conv2d(%a, %w) {pads = [0, 1, 3, 0]}";
    let m = module(body, "%c, %d");
    assert_eq!(layouts(&m, &["a", "c"]), [padded([1, 2, 3, 0]), PLANES]);
    let m = module("%c = graph.conv2d(%x, %w) {pads = [1, 1, 1, 1]}", "%c");
    assert_eq!(layouts(&m, &["x"]), [Layout::Rows], "an input is as the caller has it");
}

#[test]
fn operands_of_concats_are_parts() {
    let body = "%a = graph.relu(%x)\n%b = graph.exp(%x)\n%c = graph.concat(%a, %b) {axis = 1}\n%e = graph.tanh(%x)
        %d = graph.concat(%e, %c) {axis = 1}\n%s = graph.slice(%d) {starts = [0, 4, 0, 0], ends = [1, 6, 4, 4], steps = [1, 1, 1, 1]}
        %y = graph.conv2d(%s, %w) {pads = [1, 1, 1, 1]}";
    let m = module(body, "%y");
    let part = |whole: &str, start| Layout::PartOf(Part { whole: value(&m, whole), axis: 1, start });
    let wanted = [part("c", 0), part("c", 2), part("d", 2), part("d", 0), padded([1; 4]), Layout::Alias];
    assert_eq!(layouts(&m, &["a", "b", "c", "e", "d", "s"]), wanted);
    let all = Layouts::of(&m, Results::Copied);
    let b = all.view(value(&m, "b")).unwrap();
    assert_eq!(
        (b.buf.0, b.offset, b.padding),
        (value(&m, "d"), 4 * 4, [1; 4]),
        "a part of a part, behind four channels"
    );
    assert_eq!(all.parts(&m, value(&m, "d")), [[1, 0, 2], [1, 2, 4]]);
}

#[test]
fn what_is_no_part() {
    let body =
        "%a = graph.relu(%x)\n%r = graph.exp(%x)\n%o = graph.observe(%a) {min = 0.0, max = 1.0}\n%t = graph.tanh(%x)
        %c = graph.concat(%t, %t, %r, %o, %x) {axis = 1}";
    let m = module(body, "%c, %r");
    // Read twice, a result of the model, an alias, an input.
    assert_eq!(layouts(&m, &["t", "r", "o", "x"]), [PLANES, PLANES, Layout::Alias, Layout::Rows]);
    assert_eq!(Layouts::of(&m, Results::Copied).parts(&m, value(&m, "c")), [[0; 3]; 0]);
    let body = "%a = graph.relu(%x)\n%b = graph.exp(%x)\n%c = graph.concat(%a, %b) {axis = 2}\n%d = graph.conv2d(%a, %w) {pads = [1, 1, 1, 1]}";
    let m = module(body, "%c, %d");
    let part = Layout::PartOf(Part { whole: value(&m, "c"), axis: 2, start: 4 });
    assert_eq!(
        layouts(&m, &["a", "b"]),
        [padded([1; 4]), part],
        "no padding fits between planes joined at their edges"
    );
}

#[test]
fn results_that_are_in_rows_are_the_callers() {
    let body =
        "%a = graph.relu(%x)\n%p = graph.global_max_pool(%a)\n%f = graph.reshape(%a) {shape = [32]}\n%e = graph.exp(%f)
        %o = graph.observe(%e) {min = 0.0, max = 1.0}";
    let m = module(body, "%a, %p, %o");
    // Planes of several channels are not in rows, and what is observed is the operand.
    assert_eq!(layouts(&m, &["a", "p", "e", "o"]), [PLANES, Layout::Output(1), Layout::Rows, Layout::Alias]);
}

#[test]
fn reshapes_are_aliases_where_elements_lie_in_order() {
    let body = "%a = graph.relu(%x)\n%s = graph.reshape(%a) {shape = [1, 2, 2, 2, 4]}\n%f = graph.reshape(%a) {shape = [1, 32]}
        %g = graph.reshape(%f) {shape = [1, 8, 2, 2]}\n%h = graph.reshape(%a) {shape = [1, 4, 2, 4]}\n%e = graph.exp(%h)";
    let m = module(body, "%s, %g, %e");
    let (alias, rows) = (Layout::Alias, Layout::Rows);
    // Rows cut in two; a copy in order; that again; channels joined with rows.
    assert_eq!(layouts(&m, &["s", "f", "g", "h"]), [alias, rows, alias, rows]);
    let body = "%c = graph.concat(%x, %x) {axis = 1}\n%a = graph.reshape(%c) {shape = [1, 2, 2, 4, 4]}
        %t = graph.transpose(%a) {perm = [0, 2, 1, 3, 4]}\n%b = graph.reshape(%t) {shape = [1, 4, 4, 4]}\n%e = graph.exp(%b)";
    let m = module(body, "%e");
    assert_eq!(layouts(&m, &["a", "t", "b"]), [alias, alias, PLANES], "channels are shuffled by a copy");
}

#[test]
fn the_order_of_ops_does_not_matter() {
    let ops = [
        "%k = graph.mul(%w, %w)",
        "%p = graph.matmul(%x, %x)",
        "%a = graph.relu(%x)",
        "%b = graph.exp(%x)",
        "%v = graph.sub(%w, %k)",
        "%e = graph.tanh(%p)",
        "%c = graph.concat(%a, %b, %e) {axis = 1}",
    ];
    let names = ["k", "p", "a", "b", "v", "e", "c"];
    let want = |order: &[usize]| {
        let body: Vec<&str> = order.iter().map(|&i| ops[i]).collect();
        let m = module(&body.join("\n"), "%c, %v");
        let named = |l: Layout| match l {
            Layout::PartOf(p) => format!("{:?} of {:?} at {}", p.axis, m.name(p.whole), p.start),
            other => format!("{other:?}"),
        };
        layouts(&m, &names).into_iter().map(named).collect::<Vec<_>>()
    };
    let first = want(&[0, 1, 2, 3, 4, 5, 6]);
    for order in [[3, 2, 1, 5, 6, 0, 4], [1, 5, 3, 2, 0, 4, 6], [2, 1, 3, 5, 6, 0, 4]] {
        assert_eq!(want(&order), first, "{order:?}");
    }
}
