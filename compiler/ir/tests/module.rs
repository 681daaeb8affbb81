//! Declarations, building, use lists, the text form.

#![allow(clippy::unwrap_used)]

mod toy;

use qc_ir::{
    Attr, AttrKind, Attrs, Builder, Insert, Module, OpId, PrintOptions, SlotKind, Traits, Use, ValueId, verify,
};
use toy::{Add, Fill, Scale, Sum, module, op, value};

#[test]
fn ids_are_small() {
    assert_eq!((size_of::<OpId>(), size_of::<Option<ValueId>>()), (4, 4));
}

#[test]
fn a_declaration_gives_the_definition() {
    let def = Scale::DEF;
    assert_eq!((def.name, def.dialect(), def.doc.len()), ("toy.scale", "toy", 1));
    let kinds: Vec<_> = def.operands.iter().map(|s| (s.name, s.kind)).collect();
    assert_eq!(kinds, [("x", SlotKind::Required), ("offset", SlotKind::Optional)]);
    assert_eq!(def.attr("factor").map(|a| a.kind), Some(AttrKind::Float));
    assert_eq!(def.attr("factor").and_then(|a| a.default).map(|f| f()), Some(Attr::Float(2.0)));
    assert!(Fill::DEF.attr("value").unwrap().default.is_none());
    assert!(Add::DEF.traits.has(Traits::PURE.and(Traits::COMMUTATIVE)) && !Sum::DEF.traits.has(Traits::COMMUTATIVE));
    assert_eq!(Sum::DEF.operands[1].kind, SlotKind::Variadic);
    assert_eq!(toy::all().len(), 7);
}

#[test]
fn a_view_reads_operands_and_attributes() {
    let m = module("%a = toy.scale(%x, _) {factor = 3.0}\n%s = toy.sum(%x, %y, %a)\nreturn(%s)");
    let scale = Scale::of(&m, op(&m, "a")).unwrap();
    assert_eq!((scale.factor(&m), &*scale.note(&m)), (3.0, ""));
    assert_eq!((scale.x(&m), scale.offset(&m)), (value(&m, "x"), None));
    let sum = Sum::producing(&m, value(&m, "s")).unwrap();
    assert_eq!(sum.rest(&m), [value(&m, "y"), value(&m, "a")]);
    assert!(Sum::of(&m, op(&m, "a")).is_none() && Sum::producing(&m, value(&m, "x")).is_none());
}

#[test]
fn the_builder_infers_and_refuses() {
    let mut m = module("return(%x)");
    let (x, body) = (value(&m, "x"), m.body());
    let mut b = Builder::at_end(&mut m, body);
    let a = Scale::build(&mut b, &[Some(x), None], Attrs::new()).unwrap().out(b.m);
    assert_eq!(m.ty(a), m.ty(x));
    let before = (m.op_count(), m.uses(x).len());
    let mut refuse = |operands: &[Option<ValueId>], attrs: Attrs, reason: &str| {
        let mut b = Builder::at_end(&mut m, body);
        let error = Scale::build(&mut b, operands, attrs).unwrap_err();
        assert!(error.message.contains(reason), "{error}");
    };
    refuse(&[], Attrs::new(), "takes 2 operands, not 0");
    refuse(&[Some(x), None, None], Attrs::new(), "takes 2 operands, not 3");
    refuse(&[None, None], Attrs::new(), "operand `x` is missing");
    refuse(&[Some(x), None], Attrs::new().with("factor", 1i64), "must be Float, not Int");
    refuse(&[Some(x), None], Attrs::new().with("faktor", 1.0), "has no attribute `faktor`");
    refuse(&[Some(x), None], Attrs::new().with("factor", f64::INFINITY), "the factor must be finite");
    assert_eq!((m.op_count(), m.uses(x).len()), before, "a refused op leaves no trace");
}

#[test]
fn use_lists_follow_every_edit() {
    let mut m = module("%a = toy.add(%x, %x)\n%b = toy.add(%a, %y)\nreturn(%b)");
    let (x, y, a, b) = (value(&m, "x"), value(&m, "y"), value(&m, "a"), value(&m, "b"));
    let (add_a, add_b) = (op(&m, "a"), op(&m, "b"));
    assert_eq!(m.uses(x), [Use::Operand(add_a, 0), Use::Operand(add_a, 1)]);
    assert_eq!((m.only_user(a), m.only_user(x), m.only_user(b)), (Some(add_b), None, None));
    m.set_operand(add_a, 1, Some(y));
    assert_eq!((m.uses(x).len(), m.uses(y).len()), (1, 2));
    m.replace_uses(a, y);
    assert_eq!((m.uses(a).len(), m.operands(add_b)), (0, &[Some(y), Some(y)][..]));
    m.erase(add_a);
    assert_eq!((m.uses(x).len(), m.parent(add_a), m.op_count()), (0, None, 1));
    m.replace_uses(b, x);
    assert_eq!(m.returns(m.body()), [x]);
    m.erase(add_b);
    assert!(m.uses(y).is_empty() && verify(&m, &toy::REGISTRY).is_empty());
}

#[test]
fn erasing_takes_nested_ops_along() {
    let mut m = module(
        "%b = toy.block(%x) do (%i : tensor<2xf32>) {\n%n = toy.add(%y, %i)\nreturn(%n)\n} : tensor<2xf32>\nreturn(%y)",
    );
    let (y, block) = (value(&m, "y"), op(&m, "b"));
    assert_eq!(m.uses(y).len(), 2);
    m.erase(block);
    assert_eq!((m.uses(y).len(), m.op_count()), (1, 0));
}

#[test]
fn the_verifier_sees_an_operand_that_comes_too_late() {
    let mut m = module("%a = toy.add(%x, %y)\n%b = toy.add(%a, %y)\nreturn(%b)");
    let (first, body) = (op(&m, "a"), m.body());
    m.move_op(first, Insert::End(body));
    let errors = verify(&m, &toy::REGISTRY);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].message.contains("operand 0 is used before it is defined"), "{}", errors[0]);
}

#[test]
fn values_do_not_leave_their_region() {
    let m = toy::text(
        "module \"toy\" phase raw\nfunc @main(%x : tensor<2xf32>) outputs [\"y\"] {\n%b = toy.block(%x) do () {\n\
         %n = toy.scale(%x, _)\n} : tensor<2xf32>\n%y = toy.scale(%n, _)\nreturn(%y)\n}",
    );
    // The parser knows names of the whole function, so it is the verifier that refuses.
    let errors = verify(&m.unwrap(), &toy::REGISTRY);
    assert!(errors.iter().any(|e| e.message.contains("used before it is defined")), "{errors:?}");
}

#[test]
fn results_and_stated_types_must_match() {
    let wrap = |line: &str| {
        toy::text(&format!("module \"t\" phase raw\nfunc @main(%x : tensor<2xf32>) outputs [] {{\n{line}\n}}"))
            .unwrap_err()
    };
    assert!(wrap("%b = toy.block(%x) do () {\n}").message.contains("states 0 types for 1 results"));
    assert!(wrap("toy.effect(%x) : tensor<2xf32>").message.contains("states 1 types for 0 results"));
    assert!(wrap("%h = toy.order(%x, %x)").message.contains("has 2 results"));
}

#[test]
fn large_constants_go_to_the_sidecar() {
    let numbers: Vec<String> = (0..40).map(|i| format!("{i}.5")).collect();
    let text = format!(
        "module \"toy\" phase raw\nconst @c : tensor<40xf32> = [{}]\nfunc @main(%x : tensor<2xf32>) outputs [\"y\"] {{\n\
         %y = toy.scale(%x, _) {{note = \"n\"}}\nreturn(%y)\n}}",
        numbers.join(", ")
    );
    let m = toy::text(&text).unwrap();
    // No op refers to the constant, so it is not part of the text.
    assert!(!qc_ir::print(&m, PrintOptions::default()).contains("const"));
    assert!(qc_ir::read_sidecar(&qc_ir::sidecar(&m)).is_empty());
    assert!(qc_ir::read_sidecar(&[1, 2, 3]).is_empty(), "a damaged file gives what could be read");
    let mut file = Vec::new();
    file.extend(7u64.to_le_bytes());
    file.extend(2u64.to_le_bytes());
    file.extend([5, 6]);
    file.extend(8u64.to_le_bytes());
    file.extend(u64::MAX.to_le_bytes());
    let read = qc_ir::read_sidecar(&file);
    assert_eq!(read.get(&7), Some(&vec![5, 6]));
    assert_eq!(read.len(), 1);
}

#[test]
fn locations_join_without_repeating() {
    let mut m = module("return(%x)");
    let (a, b) = (m.locs.node("a", "A"), m.locs.node("b", "B"));
    let ab = m.locs.fuse(&[a, b, a]);
    assert_eq!(m.locs.nodes(ab).iter().map(|n| &*n.name).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(m.locs.fuse(&[ab, b]), ab);
    let text = qc_ir::Diag::error("wrong").at(ab).note("a fact").help("a remedy").render(&m);
    assert_eq!(
        text,
        "error: wrong\n  at toy, node \"a\" (A)\n  at toy, node \"b\" (B)\n  note: a fact\n  help: a remedy"
    );
}

#[test]
fn nodes_of_one_name_are_apart() {
    let mut m = module("return(%x)");
    let mut next = |name, op_type| {
        let node = m.locs.add_node(name, op_type);
        (node, m.locs.at(node))
    };
    let [(first, a), (second, b), (third, other)] = [next("c", "Conv"), next("c", "Conv"), next("c", "Add")];
    assert_eq!([first, second, third].map(|node| node.index()), [0, 1, 2]);
    assert_eq!((m.locs.node_ids(b), &*m.locs.get(second).name), (vec![second], "c"));
    assert!(a != b && a == m.locs.node("c", "Conv") && b == m.locs.twin("c", "Conv", 1));
    let twins = |loc| m.locs.nodes(loc).iter().map(|n| n.twin).collect::<Vec<_>>();
    assert_eq!((twins(a), twins(b), twins(other)), (vec![0], vec![1], vec![0]));
    // One that text names leaves no room for another.
    m.locs.twin("d", "", 3);
    let next = m.locs.add_node("d", "");
    assert_eq!(m.locs.get(next).twin, 4);
}

#[test]
fn a_cloned_module_keeps_its_ids() {
    let m = module("%a = toy.add(%x, %y)\nreturn(%a)");
    let mut copy = m.clone();
    let (a, x) = (value(&m, "a"), value(&m, "x"));
    copy.replace_uses(a, x);
    assert_eq!((m.returns(m.body()), copy.returns(copy.body())), (&[a][..], &[x][..]));
}

#[test]
fn ops_keep_their_order_wherever_they_are_inserted() {
    let mut m = module("return(%x)");
    let (body, x) = (m.body(), m.args(m.body())[0]);
    let mut list = Vec::new();
    let insert = |m: &mut Module, list: &mut Vec<OpId>, at: usize| {
        let mut b = match list.get(at) {
            Some(&next) => Builder::before(m, next),
            None => Builder::at_end(m, body),
        };
        let op = b.create(Scale::DEF, &[Some(x), None], Attrs::new()).unwrap();
        list.insert(at, op);
    };
    // At the end, at the front, before the same op, behind the same op, anywhere.
    let mut random = 1usize;
    for round in 0..5 {
        for _ in 0..400 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = [list.len(), 0, list.len() / 2, 7, (random >> 33) % (list.len() + 1)][round];
            let at = at.min(list.len());
            insert(&mut m, &mut list, at);
        }
        assert_eq!(m.ops(body).to_vec(), list);
        assert!(m.ops(body).iter().rev().eq(list.iter().rev()));
        assert!(list.windows(2).all(|w| m.comes_before(w[0], w[1]) && !m.comes_before(w[1], w[0])), "round {round}");
    }
    for i in (0..list.len()).step_by(3).rev() {
        m.erase(list.remove(i));
    }
    m.move_op(list[5], Insert::Before(list[900]));
    let moved = list.remove(5);
    list.insert(899, moved);
    assert_eq!(m.ops(body).to_vec(), list);
    assert_eq!(m.ops(body).len(), list.len());
    assert!(list.windows(2).all(|w| m.comes_before(w[0], w[1])));
    assert!(verify(&m, &toy::REGISTRY).is_empty());
}
