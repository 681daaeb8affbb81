//! The generated pages of docs/ are those of this build; `QC_BLESS=1` writes them anew.

#![allow(clippy::unwrap_used)]

mod support;

use qc_ir::{Attr, AttrKind, OpDef, SlotKind};
use qc_passes::quant::lower_to_quant::reason::{Form, form};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use support::Shell;

fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if std::env::var_os("QC_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == text, "docs/{name} is not of this build; QC_BLESS=1 writes it anew");
}

/// The commands that `qc --help` lists.
fn commands(shell: &Shell, of: &str) -> Vec<String> {
    let help = shell.ok(&format!("{of} --help"));
    let list = help.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| !l.is_empty());
    list.filter_map(|l| l.split_whitespace().next()).filter(|name| *name != "help").map(str::to_string).collect()
}

#[test]
fn the_command_reference_is_current() {
    let shell = Shell::new();
    let mut text = String::from("# Commands\n\nWhat `qc --help` and `qc COMMAND --help` print.\n");
    let nested = |command: String| {
        let inner = if command.is_empty() { Vec::new() } else { commands(&shell, &command) };
        let inner = inner.into_iter().map(|name| format!("{command} {name}")).collect::<Vec<_>>();
        std::iter::once(command).chain(inner)
    };
    for command in std::iter::once(String::new()).chain(commands(&shell, "")).flat_map(nested) {
        let help = shell.ok(&format!("{command} --help"));
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        write!(text, "\n## qc {command}",).unwrap();
        text.truncate(text.trim_end().len());
        write!(text, "\n\n```text\n{}\n```\n", lines.join("\n").trim_end()).unwrap();
    }
    check("commands.md", &text);
}

fn operands(op: &OpDef) -> String {
    let one = |s: &qc_ir::Slot| {
        let count = match s.kind {
            SlotKind::Required => "",
            SlotKind::Optional => "?",
            SlotKind::Variadic => "...",
        };
        let rank = s.rank.map_or(String::new(), |rank| format!(" {rank}"));
        format!("{}{count}: {}{rank}", s.name, s.class.name())
    };
    op.operands.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn attributes(op: &OpDef) -> String {
    let kind = |k: AttrKind| format!("{k:?}").to_lowercase();
    let one = |a: &qc_ir::AttrSpec| match a.default {
        Some(default) => format!("`{}`: {} = {}", a.name, kind(a.kind), value(&default())),
        None => format!("`{}`: {}", a.name, kind(a.kind)),
    };
    op.attrs.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn value(a: &Attr) -> String {
    match a {
        Attr::Int(n) => n.to_string(),
        Attr::Float(x) => x.to_string(),
        Attr::Bool(b) => b.to_string(),
        Attr::Str(text) => format!("\"{text}\""),
        Attr::Ints(list) => format!("{list:?}"),
        Attr::Fields(fields) if fields.is_empty() => "{}".to_string(),
        Attr::List(list) if list.is_empty() => "[]".to_string(),
        other => panic!("a default of another kind: {other:?}"),
    }
}

/// What `docs/models.md` has to say before the lists.
const MODELS: &str = "\
# Models

| form | files |
|---|---|
| ONNX, operator sets 7 and later | `.onnx`, and the files beside it that hold its tensors |
| Paddle 1 and 2 | a directory with `__model__` and parameters in one file or one each, or `.pdmodel` with `.pdiparams` |
| Paddle 3 | `.json` with `.pdiparams` |

Numbers may be float (32, 64, 16 bits, bfloat16), pairs of QuantizeLinear and DequantizeLinear, operators on quantized
tensors (QLinear..., QGemm), or any generation of Paddle's fake quantization. Weights are 8-bit, signed or unsigned, per
tensor or per channel, with or without zero points; constants of 4 or 16 bits, of 8-bit floats and in blocks are read, too.
Inputs and outputs may be quantized.

Operators on quantized tensors give the bytes that ONNX Runtime gives where its products do not saturate, as they may on
CPUs without VNNI. Excepted are a sum that is computed together with the convolution in front of it, where nothing is rounded
between the two, and a softmax, one in tens of thousands of whose results may differ by a step.

What is quantized by the range that it has in a run (DynamicQuantizeLinear, the files of `quantize_dynamic`) has one scale for
the whole tensor, as such a file says: results depend on what else is in the batch, so the model runs whole batches, by
code for just that batch. Products with a constant matrix and convolutions are computed in integers; depthwise ones, s8 on the
left and products of two computed sides are computed in f32, which holds the same integers. `--quantize dynamic`, for float models, gives each row
of a product its own scale, so results are the same whatever the batch is.

`qc check MODEL` says whether a model can be compiled, and names all operators that cannot. Refused are, among others:
loops whose number of rounds only a run tells; `If` on a computed condition where its branches give different shapes or one reads
by an index (else both are computed, and the condition chooses); what joins rows, or needs the number of rows, where only a run
tells how many there are, as of chosen boxes;
sequences of sequences; and quantization of activations per axis where it changes results.

## Ragged sequences

An input of Paddle that holds sequences of unequal length (LoD) takes their rows, one sequence behind the other, and has a second
input beside it, `NAME.offsets`: the first row of each sequence, and behind them the number of rows, as i64. Three sequences of 3,
0 and 5 rows are `[0, 3, 3, 8]`. Numbers that are no offsets end the run with an error that names them. Rows and offsets
have the shapes that the model was compiled for, as all inputs have; `qc run` compiles for those of the arrays:

    qc run lac -i words.npz -o tags.npz                                  (arrays `words` and `words.offsets`)
    qc compile lac --shape words=40,1 --shape words.offsets=2 -o lac.so  (one sentence of 40 words)

One artefact serves shorter sentences, too, if it is compiled for one sequence more, which holds the rows that are left over. Results
whose sequences are not those of an input have offsets of their own, `NAME.offsets`. Where the shape of a result depends on
lengths, as that of `sequence_pad` does, the offsets must be a constant: `--input words.offsets=0,3,8`.

## Programs that Paddle converted

Programs for oneDNN INT8 are read as what their bytes stand for: `quantize`, `dequantize`, `requantize`, and convolutions, fully
connected layers, products, sums, pools and movement with scales. Results are those of Paddle 2.6 but for a step in one of a
thousand elements; recurrent ops give its bytes. Those of 2.3 to 2.5, whose weights are stored as integers, are refused:
give the program that they were made from.

## Operators

These operators are understood, each within the limits that its refusal would name:
";

#[test]
fn the_lists_of_operators_are_current() {
    let mut text = String::from(MODELS);
    for (vocabulary, names) in qc_frontend::op_types() {
        write!(text, "\n### {vocabulary}\n\n").unwrap();
        let mut line = String::new();
        for (i, name) in names.iter().enumerate() {
            let word = format!("{name}{}", if i + 1 < names.len() { ", " } else { "" });
            if line.len() + word.trim_end().len() > 118 {
                writeln!(text, "{}", line.trim_end()).unwrap();
                line.clear();
            }
            line += &word;
        }
        writeln!(text, "{line}").unwrap();
    }
    text += &refused();
    check("models.md", &text);
}

/// Why node tests of ONNX that ONNX Runtime passes are refused, by how their refusals begin.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &["BatchNormalization: it is in training", "Dropout: it is in training"],
        "Training is not what qc is for: export the model for inference.",
    ),
    (
        &[
            "RegexFullMatch",
            "StringConcat",
            "StringNormalizer",
            "StringSplit",
            "TfIdfVectorizer",
            "input or output \"x\": element type string",
        ],
        "Texts are no tensors of numbers; they are prepared in front of a network.",
    ),
    (
        &["Optional", "Sequence", "SplitToSequence"],
        "Sequences and optional values have no static shape. Exporters for inference write tensors.",
    ),
    (&["BitCast", "TensorScatter"], "Operators of the newest sets, which exporters do not write yet."),
    (
        &["DeformConv", "Det", "MaxPool: its output `Indices`", "MaxUnpool", "Unique"],
        "Not built: no network that is known here to be deployed on CPUs has it.",
    ),
    (
        &[
            "BitwiseNot",
            "TopK",
            "input or output \"data_0\": element type uint",
            "input or output \"x\": element type uint",
        ],
        "Integers are signed here, and of 8, 32 or 64 bits; 16 bits are kept in 32. Where the width or the sign would count, that is refused.",
    ),
    (
        &[
            "DequantizeLinear: blocked",
            "QuantizeLinear: blocked",
            "QuantizeLinear: integers",
            "QuantizeLinear: the model computes",
        ],
        "Scales of activations are constants, one for a tensor or, of weights, one for each channel or block.",
    ),
    (&["MaxPool: the model multiplies"], "The limit on what a model of so few bytes may make of itself (`--limit`)."),
    (
        &[
            "Reshape: cannot",
            "Split: 1 cannot",
            "an input has no elements",
            "input or output \"data\": the shape",
            "input or output \"x\": the shape",
        ],
        "Tensors without elements are known only where they are constants.",
    ),
    (&["not a model that qc reads"], "Operator sets are known from 6 on; the refusal says how to convert a model."),
];

/// The refusals of node tests, as the conformance test found them, each with its reason.
fn refused() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/names/onnx-refused.txt");
    let all = std::fs::read_to_string(path).unwrap();
    let lines: Vec<(usize, &str)> =
        all.lines().filter_map(|l| l.split_once(' ')).map(|(count, why)| (count.parse().unwrap(), why)).collect();
    for (_, why) in &lines {
        let reasons = REFUSED.iter().filter(|(begins, _)| begins.iter().any(|b| why.starts_with(b))).count();
        assert_eq!(reasons, 1, "one reason is given for: {why}");
    }
    let count: usize = lines.iter().map(|(count, _)| count).sum();
    let mut text = format!(
        "\n## Refused node tests\n\nOf the node tests of ONNX that ONNX Runtime passes, run with their arrays as `qc run` runs a model, \
         {count} are refused. None gives another result.\n\n| tests | refusal | why |\n|---|---|---|\n"
    );
    for (begins, reason) in REFUSED {
        for (i, begin) in begins.iter().enumerate() {
            let own: Vec<_> = lines.iter().filter(|(_, why)| why.starts_with(begin)).collect();
            let (tests, Some((_, why))) = (own.iter().map(|(count, _)| count).sum::<usize>(), own.first()) else {
                panic!("no refusal begins with `{begin}`");
            };
            let why =
                if own.len() > 1 { format!("{begin}..") } else { why.split(';').next().unwrap_or(why).to_string() };
            writeln!(text, "| {tests} | {} | {} |", why.replace('|', "\\|"), if i == 0 { reason } else { "" }).unwrap();
        }
    }
    text
}

/// For each op of the graph, the operators of a vocabulary that are made of it, as its conformance cases show.
fn made_of(file: &str) -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/names").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter_map(|l| l.split_once(": ")).map(|(op, names)| (op.into(), names.into())).collect()
}

/// Which operators an op of the graph is made of, and what becomes of it between quantized tensors.
fn origins(op: &OpDef, onnx: &BTreeMap<String, String>, paddle: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    if let Some(names) = onnx.get(op.name) {
        write!(text, "\n- ONNX: {names}").unwrap();
    }
    if let Some(names) = paddle.get(op.name) {
        write!(text, "\n- Paddle 1 and 2: {names}").unwrap();
        let later: BTreeSet<&str> = names.split(", ").flat_map(qc_frontend::names_in_paddle_3).collect();
        if !later.is_empty() {
            write!(text, "\n- Paddle 3: {}", later.into_iter().collect::<Vec<_>>().join(", ")).unwrap();
        }
    }
    let form = match form(op) {
        Form::Kernel => "a kernel for integers, or a part of one",
        Form::Table => "a table",
        Form::Moved => "bytes are moved",
        Form::None => return text,
    };
    write!(text, "\n- INT8: {form}").unwrap();
    text
}

#[test]
fn the_table_of_ops_is_current() {
    let (onnx, paddle) = (made_of("onnx.txt"), made_of("paddle.txt"));
    let mut text = String::from(
        "# Ops\n\nEvery op of the three dialects, from its declaration.\n\n\
         Under an op of the graph stand operators that it is made for, alone or with others, in ONNX (operator sets from 7 on) and in the\n\
         generations of Paddle, as the conformance cases of both show; `docs/models.md` lists all that are read. Every op is computed in\n\
         f32; where it also has an INT8 form, that is said.\n\n\
         Behind each operand stands the class of its values, and its rank where only one is possible:\n\n",
    );
    for class in qc_ir::Class::ALL {
        writeln!(text, "- {}: {}", class.name(), class.describe()).unwrap();
    }
    for (dialect, ops) in [
        ("graph", qc_dialects::graph::GRAPH),
        ("quant", qc_dialects::quant::QUANT),
        ("loop", qc_dialects::loops::LOOPS),
    ] {
        write!(text, "\n## {dialect}\n").unwrap();
        for op in ops.iter() {
            let doc: Vec<&str> = op.doc.iter().map(|line| line.trim()).collect();
            let results = op.results.join(", ");
            write!(text, "\n### {}\n\n`({}) -> ({results})`", op.name, operands(op)).unwrap();
            if !op.attrs.is_empty() {
                write!(text, " with {}", attributes(op)).unwrap();
            }
            write!(text, "\n\n{}\n", doc.join("\n").trim_end()).unwrap();
            let origins = origins(op, &onnx, &paddle);
            if !origins.is_empty() {
                writeln!(text, "{origins}").unwrap();
            }
        }
    }
    check("ops.md", &text);
}
