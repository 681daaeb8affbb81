//! Rewriting and the pass manager.

#![allow(clippy::unwrap_used)]

mod toy;

use qc_ir::{
    Attrs, Builder, Diag, Keeps, ManagerOptions, Module, NoSink, OpId, Pass, PassCx, Pattern, Rewriter, Select,
    Severity, Sink, parse_pipeline, print_pipeline,
};
use std::collections::{BTreeMap, HashMap};
use toy::{Add, Effect, Scale, module, names, op};

/// `x + x` becomes `x * 2`.
fn double(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let add = Add(op);
    (add.lhs(rw.m) == add.rhs(rw.m)).then_some(())?;
    let x = add.lhs(rw.m);
    let new = rw.create(Scale::DEF, &[Some(x), None], Attrs::new())?;
    let (old, new) = (add.out(rw.m), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}

/// Claims to have changed something for ever.
fn endless(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let x = Scale(op).x(rw.m);
    rw.touch_users(x);
    Some(())
}

/// Builds an op that its verifier refuses.
fn invalid(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let x = Add(op).lhs(rw.m);
    rw.create(Scale::DEF, &[Some(x), None], Attrs::new().with("factor", f64::NAN)).map(|_| ())
}

/// `x * 2` becomes `x * 4`, which is wrong.
fn quadruple(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    (Scale(op).factor(rw.m) == 2.0 && rw.m.name(Scale(op).out(rw.m)) == Some("c")).then_some(())?;
    rw.m.set_attr(op, "factor", 4.0);
    Some(())
}

const DOUBLE: Pattern = Pattern { name: "double", root: Add::DEF, apply: double };

fn pass(name: &'static str, run: fn(&mut Module, &mut PassCx) -> Result<(), Diag>) -> Pass {
    Pass { name, summary: "", from: "", to: "", keeps: Keeps::Exact, run }
}

/// Passes that do right and wrong.
fn passes() -> Vec<Pass> {
    vec![
        pass("double", |m, cx| cx.rewrite(m, &[DOUBLE])),
        pass("idle", |_, _| Ok(())),
        pass("mistype", |m, _| {
            let v = m.result(*m.ops(m.body()).first().unwrap());
            m.set_type(v, qc_ir::Type::Index);
            Ok(())
        }),
        pass("triple", |m, _| {
            let op = m.walk(m.body()).into_iter().find(|&op| m.is(op, Scale::DEF)).unwrap();
            m.set_attr(op, "factor", 3.0);
            Ok(())
        }),
        pass("quadruple", |m, cx| {
            cx.rewrite(m, &[DOUBLE, Pattern { name: "wrong", root: Scale::DEF, apply: quadruple }])
        }),
        pass("panics", |m, _| panic!("no luck with {}", m.name)),
        pass("fails", |_, cx| Err(Diag::error(format!("told to {}", cx.option("what").unwrap_or("fail"))))),
        Pass { to: "done", from: "raw", ..pass("finish", |_, _| Ok(())) },
    ]
}

#[derive(Default)]
struct Kept {
    text: String,
    files: HashMap<String, Vec<u8>>,
}

impl Sink for Kept {
    fn text(&mut self, text: &str) {
        self.text += text;
    }
    fn file(&mut self, name: &str, bytes: &[u8]) {
        self.files.insert(name.into(), bytes.to_vec());
    }
}

fn manage(m: &mut Module, pipeline: &str, options: ManagerOptions) -> (Result<Vec<qc_ir::PassReport>, Diag>, Kept) {
    let steps = parse_pipeline(pipeline, &passes()).unwrap();
    let mut sink = Kept::default();
    let result = qc_ir::run(m, &steps, &toy::REGISTRY, &options, &mut sink);
    (result, sink)
}

fn plain() -> ManagerOptions {
    ManagerOptions { verify_each: false, ..ManagerOptions::default() }
}

const BODY: &str = "%a = toy.add(%x, %x)\n%b = toy.add(%a, %a)\nreturn(%b)";

#[test]
fn patterns_apply_until_none_fits() {
    let mut m = module(BODY);
    let (reports, _) = manage(&mut m, "double", plain());
    assert_eq!(names(&m), ["toy.scale", "toy.scale"]);
    assert_eq!(reports.unwrap()[0].hits, BTreeMap::from([("double", 2)]));
    assert_eq!(m.name(m.returns(m.body())[0]), Some("b"), "names survive");
}

#[test]
fn dead_pure_ops_go_and_effects_stay() {
    let mut m = module("%a = toy.add(%x, %y)\n%b = toy.scale(%a, _)\ntoy.effect(%y)\nreturn(%x)");
    manage(&mut m, "double", plain()).0.unwrap();
    assert_eq!(names(&m), [Effect::DEF.name]);
}

#[test]
fn the_rewrite_limit_stops_early() {
    let mut m = module(BODY);
    manage(&mut m, "double,double", ManagerOptions { rewrite_limit: 1, ..plain() }).0.unwrap();
    assert_eq!(names(&m), ["toy.scale", "toy.add"]);
}

#[test]
fn rewriting_without_end_is_a_defect() {
    let mut m = module("%a = toy.scale(%x, _)\nreturn(%a)");
    let patterns = [Pattern { name: "endless", root: Scale::DEF, apply: endless }];
    let error = PassCx::new(vec![], usize::MAX).rewrite(&mut m, &patterns).unwrap_err();
    assert_eq!(error.severity, Severity::Bug);
    assert!(error.message.contains("last pattern was `endless`"), "{error}");
}

#[test]
fn an_invalid_op_of_a_pattern_names_the_pattern() {
    let mut m = module(BODY);
    let patterns = [Pattern { name: "invalid", root: Add::DEF, apply: invalid }];
    let error = PassCx::new(vec![], usize::MAX).rewrite(&mut m, &patterns).unwrap_err();
    assert!(error.message.contains("the factor must be finite"), "{error}");
    assert_eq!(error.notes, ["while applying `invalid`"]);
}

#[test]
fn verify_each_catches_a_bad_pass() {
    let mut m = module(BODY);
    let (result, sink) = manage(&mut m, "idle,mistype,double", ManagerOptions { verify_each: true, ..plain() });
    let error = result.unwrap_err();
    assert_eq!(error.severity, Severity::Bug);
    assert!(error.notes.iter().any(|n| n.contains("after pass `mistype`")), "{error:?}");
    let text = String::from_utf8(sink.files["reproducer.qir"].clone()).unwrap();
    assert_eq!(qc_ir::reproducer_pipeline(&text), Some("mistype,double"));
}

#[test]
fn check_each_names_the_pass_that_changes_results() {
    let mut m = module(BODY);
    let options = ManagerOptions { check_each: true, ..plain() };
    let (result, _) = manage(&mut m, "double,idle", options.clone());
    result.unwrap();
    let mut m = module(BODY);
    let error = manage(&mut m, "double,triple,idle", options).0.unwrap_err();
    assert!(error.notes.iter().any(|n| n.contains("`triple` (002)")), "{error:?}");
}

#[test]
fn a_panic_becomes_a_defect_whose_reproducer_replays() {
    let mut m = module(BODY);
    let (result, sink) = manage(&mut m, "double,panics,idle", plain());
    let first = result.unwrap_err();
    assert_eq!((first.severity, first.message.as_str()), (Severity::Bug, "pass `panics` panicked: no luck with toy"));
    let text = String::from_utf8(sink.files["reproducer.qir"].clone()).unwrap();
    let consts = qc_ir::read_sidecar(&sink.files["reproducer.consts"]);
    let mut again = qc_ir::parse(&text, &toy::REGISTRY, &consts).unwrap();
    assert_eq!(names(&again), ["toy.scale", "toy.scale"], "the module as it was before the failing pass");
    let error = manage(&mut again, qc_ir::reproducer_pipeline(&text).unwrap(), plain()).0.unwrap_err();
    assert_eq!(error.message, first.message);
}

#[test]
fn options_reach_the_pass() {
    let error = manage(&mut module(BODY), "fails{what=stop}", plain()).0.unwrap_err();
    assert_eq!(error.message, "told to stop");
}

#[test]
fn phases_are_kept() {
    let mut m = module(BODY);
    manage(&mut m, "finish", plain()).0.unwrap();
    assert_eq!(m.phase, "done");
    let error = manage(&mut m, "finish", plain()).0.unwrap_err();
    assert!(error.message.contains("pass `finish` needs phase `raw`, not `done`"), "{error}");
}

#[test]
fn dumps_go_to_the_sink() {
    let run = |options| manage(&mut module(BODY), "idle,double", options).1;
    let these = |name: &str| Select::These(vec![name.into()]);
    assert!(run(plain()).text.is_empty() && run(plain()).files.is_empty());
    let text = run(ManagerOptions { print_before: these("double"), ..plain() }).text;
    assert!(text.starts_with("// ---- before 002 double\nmodule") && text.contains("toy.add(%a, %a)"), "{text}");
    let text = run(ManagerOptions { print_after: these("double"), ..plain() }).text;
    assert!(text.starts_with("// ---- after 002 double (2 hits") && !text.contains("toy.add"), "{text}");
    let text = run(ManagerOptions { print_after: Select::All, ..plain() }).text;
    assert_eq!(text.matches("// ---- after").count(), 2);
    let text = run(ManagerOptions { print_after_change: true, ..plain() }).text;
    assert!(!text.contains("idle") && text.contains("-  %a = toy.add(%x, %x)"), "{text}");
    let text = run(ManagerOptions { timing: true, ..plain() }).text;
    assert!(text.contains("ms total") && text.contains("double"), "{text}");
    let text = run(ManagerOptions { statistics: true, ..plain() }).text;
    assert!(text.contains("2 -> 2") && text.contains("2 double"), "{text}");
    let mut files: Vec<String> = run(ManagerOptions { tree: true, ..plain() }).files.into_keys().collect();
    files.sort();
    let wanted = ["000_import", "001_idle", "002_double"].iter();
    let mut wanted: Vec<String> = wanted.flat_map(|n| [format!("{n}.consts"), format!("{n}.qir")]).collect();
    wanted.push("pipeline.txt".into());
    assert_eq!(files, wanted);
}

#[test]
fn pipelines_are_text() {
    let all = passes();
    let print = |text: &str| parse_pipeline(text, &all).map(|steps| print_pipeline(&steps));
    assert_eq!(print(" double , fails{what=a b=c},idle,").unwrap(), "double,fails{what=a b=c},idle");
    assert_eq!(print("").unwrap(), "");
    assert!(print("doubel").unwrap_err().message.contains("unknown pass `doubel`"));
    assert!(print("double{what").unwrap_err().message.contains("not closed"));
    assert!(print("double{what}").unwrap_err().message.contains("is not `name=value`"));
}

#[test]
fn results_of_another_shape_or_count_are_refused() {
    let a = module("%a = toy.add(%x, %y)\nreturn(%a)");
    let b = module("return(%x, %y)");
    let inputs = qc_ir::samples(&a, 2);
    let check = |x: &Module, y: &Module, keeps| qc_ir::check(x, y, keeps, &inputs, &toy::REGISTRY);
    check(&a, &a, Keeps::Exact).unwrap();
    assert!(check(&a, &b, Keeps::Clamps).unwrap_err().message.contains("1 results became 2"));
    let c = module("%a = toy.scale(%x, %y) {factor = 1.001}\nreturn(%a)");
    check(&a, &c, Keeps::F32Rounding(0.01)).unwrap();
    check(&a, &c, Keeps::Exact).unwrap_err();
}

#[test]
fn the_manager_needs_no_sink() {
    let mut m = module(BODY);
    let steps = parse_pipeline("double", &passes()).unwrap();
    qc_ir::run(&mut m, &steps, &toy::REGISTRY, &plain(), &mut NoSink).unwrap();
    let b = op(&m, "b");
    let made = Builder::before(&mut m, b);
    assert_eq!(made.m.def(b).name, "toy.scale");
}

#[test]
fn the_guilty_rewrite_is_found() {
    let body =
        "  %a = toy.add(%x, %x)\n  %b = toy.add(%a, %y)\n  %c = toy.add(%b, %b)\n  %d = toy.add(%c, %c)\n  return(%d)";
    let find = |pipeline: &str| {
        let mut m = module(body);
        let steps = parse_pipeline(pipeline, &passes()).unwrap();
        qc_ir::bisect(&mut m, &steps, &toy::REGISTRY).unwrap()
    };
    assert!(find("idle,double,idle").is_none());
    let found = find("idle,quadruple,double").unwrap();
    let rewrite = found.rewrite.unwrap();
    assert_eq!((found.position, found.pass, rewrite.pattern), (2, "quadruple", Some("wrong")));
    assert!(rewrite.number > 1 && rewrite.number <= rewrite.of, "{rewrite:?}");
    assert!(rewrite.change.contains("+  %c") && rewrite.change.contains("4.0"), "{}", rewrite.change);
    let found = find("double,triple").unwrap();
    assert_eq!((found.position, found.pass), (2, "triple"));
    assert!(found.rewrite.is_none(), "it changes things behind the back of the rewriter");
    let found = find("panics").unwrap();
    assert!(found.diag.message.contains("no luck"), "{}", found.diag.message);
}
