//! Statements about shapes, and what they come to.

use super::*;
use crate::inputs::Declared;
use qc_ir::Limits;

fn spec(text: &str) -> ShapeSpec {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// An input whose dims are numbers, names, or open.
fn input(name: &str, dims: &[&str]) -> Declared {
    let sizes = dims.iter().map(|d| d.parse().ok()).collect();
    let names = dims.iter().map(|d| (d.parse::<i64>().is_err() && *d != "?").then(|| d.to_string())).collect();
    Declared { name: name.into(), dims: Some(sizes), names, counts: false }
}

fn all(declared: &[Declared], stated: &[&str]) -> Vec<Vec<(String, Vec<i64>)>> {
    let stated: Vec<ShapeSpec> = stated.iter().map(|t| spec(t)).collect();
    let found = combinations(declared, &stated, &Limits::default()).unwrap();
    found.into_iter().map(|shapes| shapes.into_iter().collect()).collect()
}

fn refusal(declared: &[Declared], stated: &[&str]) -> String {
    let stated: Vec<ShapeSpec> = stated.iter().map(|t| spec(t)).collect();
    combinations(declared, &stated, &Limits::default()).unwrap_err().to_string()
}

fn shapes(list: &[(&str, &[i64])]) -> Vec<(String, Vec<i64>)> {
    list.iter().map(|(name, dims)| (name.to_string(), dims.to_vec())).collect()
}

#[test]
fn one_spelling_for_every_sign() {
    let plain = |sizes: &[i64]| sizes.iter().map(|&n| DimSpec::Sizes(vec![n])).collect::<Vec<_>>();
    let expected = ShapeSpec { name: "x".into(), dims: [vec![DimSpec::Batch], plain(&[3, 8, 8])].concat() };
    for text in ["x:?x3x8x8", "x[?,3,8,8]", "x[-1, 3, 8, 8]", "x=-1,3,8,8", "x=?x3x8x8"] {
        assert_eq!(spec(text), expected, "{text}");
    }
    assert_eq!(spec("a:0:1x3"), ShapeSpec { name: "a:0".into(), dims: plain(&[1, 3]) });
    assert_eq!(spec("x/y[7]"), ShapeSpec { name: "x/y".into(), dims: plain(&[7]) });
    for text in ["x", "x:", "x:1x?", "x:0x3", ":1", "x[1,3", "x:1xx3", "x:99999999999999999999", "x[{1,2]", "x[1}]"] {
        assert!(text.parse::<ShapeSpec>().is_err(), "{text}");
    }
}

#[test]
fn alternatives_ranges_and_names() {
    let sizes = |text: &str| match &spec(&format!("x[{text}]")).dims[..] {
        [DimSpec::Sizes(sizes)] => sizes.clone(),
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(sizes("{640,320,640}"), [320, 640]);
    assert_eq!(sizes("32..128:32"), [32, 64, 96, 128]);
    assert_eq!(sizes("{8, 2..4, 16..32:8}"), [2, 3, 4, 8, 16, 24, 32]);
    let named = |name: &str, sizes: Option<&[i64]>| DimSpec::Named(name.into(), sizes.map(<[i64]>::to_vec));
    assert_eq!(
        spec("x[?,S=16..48:16,max]").dims,
        [DimSpec::Batch, named("S", Some(&[16, 32, 48])), named("max", None)]
    );
    assert_eq!(spec("x=?,S=16..32:16").to_string(), "x[?,S={16,32}]");
    assert_eq!(spec("seq={16,128}"), ShapeSpec { name: "seq".into(), dims: vec![DimSpec::Sizes(vec![16, 128])] });
    for text in ["5..3", "3..9:4", "0..4", "1..99999999", "1..4:0", "{}", "{1,}", "S=", "=4", "S={?}", "a{b", "1..2..3"]
    {
        assert!(format!("x[{text}]").parse::<ShapeSpec>().is_err(), "{text}");
    }
}

#[test]
fn names_of_the_model_are_shared() {
    let bert = [input("ids", &["batch", "seq"]), input("mask", &["batch", "seq"]), input("scale", &["3"])];
    let both = |n: i64| shapes(&[("ids", &[-1, n]), ("mask", &[-1, n])]);
    for stated in [&["ids[?,{16,128}]"][..], &["seq={16,128}"], &["ids[?,{16,128}]", "mask[?,{128,16}]"]] {
        assert_eq!(all(&bert, stated), [both(16), both(128)], "{stated:?}");
    }
    assert_eq!(all(&bert, &["ids[4,16]"]), [shapes(&[("ids", &[4, 16]), ("mask", &[4, 16])])]);
    // A name of the user's is the model's where they meet.
    assert_eq!(all(&bert, &["ids[?,S]", "S={16,128}"]), [both(16), both(128)]);
}

#[test]
fn names_of_the_user_are_shared_and_the_rest_is_combined() {
    let open = [input("a", &["?", "?", "?"]), input("b", &["?", "?"])];
    let found = all(&open, &["a[?,S={4,8},{1,2}]", "b[?,S]"]);
    let one = |s: i64, n: i64| shapes(&[("a", &[-1, s, n]), ("b", &[-1, s])]);
    assert_eq!(found, [one(4, 1), one(4, 2), one(8, 1), one(8, 2)]);
    assert_eq!(all(&open[1..], &["b[?,{4,8}]"]).len(), 2);
    assert_eq!(
        all(&[input("x", &["seq", "3"])], &["seq={5,6}"]),
        [shapes(&[("x", &[5, 3])]), shapes(&[("x", &[6, 3])])]
    );
}

#[test]
fn contradictions_are_one_sentence() {
    let bert = [input("ids", &["batch", "seq"]), input("mask", &["batch", "seq"])];
    let text = refusal(&bert, &["ids[?,16]", "mask[?,128]"]);
    assert!(text.contains("\"mask\"") && text.contains("`seq` is 128, but 16 in \"ids\""), "{text}");
    let text = refusal(&bert, &["ids[?,16]", "mask[8,16]"]);
    assert!(text.contains("`batch` is 8, but ? in \"ids\""), "{text}");
    let text = refusal(&bert, &["length={16,128}"]);
    assert!(text.contains("no such input") && text.contains("are batch, seq"), "{text}");
    assert!(refusal(&bert, &["ids[?,16,1]"]).contains("give one number per dim"));
    assert!(refusal(&bert, &["ids[?,16]", "ids[?,16]"]).contains("stated twice"));
    let text = refusal(&[input("x", &["?", "?"])], &["x[?,S]"]);
    assert!(text.contains("nothing says what `S` is"), "{text}");
}

#[test]
fn combinations_have_a_limit() {
    let x = [input("x", &["?", "?", "?"])];
    assert_eq!(all(&x, &["x[?,1..16,1..16]"]).len(), 256);
    let text = refusal(&x, &["x[?,1..16,1..17]"]);
    assert!(text.contains("is 272; the limit `variants` is 256"), "{text}");
    assert!(refusal(&x, &["x[1..65536,1..65536,1..65536]"]).contains("the limit `variants`"));
}

#[test]
fn arrays_fill_open_dims_and_choose_among_shapes() {
    let bert = [input("ids", &["batch", "seq"]), input("mask", &["batch", "seq"]), input("scale", &["3"])];
    let data = |list: &[(&str, &[usize])]| -> Vec<(Option<String>, Vec<usize>)> {
        list.iter().map(|(name, dims)| ((!name.is_empty()).then(|| name.to_string()), dims.to_vec())).collect()
    };
    let given = data(&[("ids", &[2, 7]), ("mask", &[2, 7]), ("", &[3])]);
    let texts = |specs: Vec<ShapeSpec>| specs.iter().map(ShapeSpec::to_string).collect::<Vec<_>>();
    assert_eq!(texts(of_data(&bert, &given)), ["ids[?,7]", "mask[?,7]"]);
    let apart = of_data(&bert, &data(&[("ids", &[2, 7]), ("mask", &[2, 8])]));
    let text = combinations(&bert, &apart, &Limits::default()).unwrap_err().to_string();
    assert!(text.contains("`seq` is 8, but 7 in \"ids\""), "{text}");
    assert_eq!(texts(of_data(&bert[..1], &data(&[("", &[1, 9])]))), ["ids[?,9]"]);
    let all = combinations(&bert, &[spec("seq={7,9}")], &Limits::default()).unwrap();
    assert_eq!(all.iter().map(|s| fits_data(&bert, s, &given)).collect::<Vec<_>>(), [true, false]);
    // Where the batch is not the first dim of every input, items have no common axis.
    let stateful = [input("x", &["batch", "576"]), input("state", &["2", "batch", "128"])];
    let given = data(&[("x", &[3, 576]), ("state", &[2, 3, 128])]);
    assert_eq!(texts(of_data(&stateful, &given)), ["x[3,576]", "state[2,3,128]"]);
}

#[test]
fn exact_shapes_are_those_of_all_inputs() {
    let bert = [
        input("ids", &["batch", "seq"]),
        input("mask", &["batch", "seq"]),
        input("x", &["?", "3"]),
        input("s", &["3"]),
    ];
    let at = |list: &[(&str, &[usize])]| {
        let data: Vec<(Option<String>, Vec<usize>)> =
            list.iter().map(|(n, d)| (Some(n.to_string()), d.to_vec())).collect();
        exact(&bert, &data, &Limits::default())
    };
    let found = at(&[("ids", &[2, 7]), ("x", &[2, 3])]).unwrap();
    let expected = shapes(&[("ids", &[2, 7]), ("mask", &[2, 7]), ("x", &[2, 3])]);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    let says = |list: &[(&str, &[usize])], text: &str| {
        let error = at(list).unwrap_err().to_string();
        assert!(error.contains(text), "{error} lacks {text}");
    };
    says(&[("ids", &[2, 7])], "\"x\": it has no shape");
    says(&[("ids", &[2, 7]), ("mask", &[2, 8]), ("x", &[2, 3])], "`seq` is 8, but 7 in \"ids\"");
    says(&[("ids", &[2, 7]), ("x", &[2, 4])], "the shape [2, 4] is not one of [?, 3]");
    says(&[("ids", &[2, 0]), ("x", &[2, 3])], "the shape [2, 0] is not one of [?, ?]");
    says(&[("ids", &[2, 7, 1]), ("x", &[2, 3])], "is not one of");
    says(&[("ids", &[2, 7]), ("x", &[2, 3]), ("y", &[1])], "the model has no such input");
}
