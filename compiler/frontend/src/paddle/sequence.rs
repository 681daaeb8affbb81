//! Ops on ragged sequences.

use super::op::{Lowered, Op};
use crate::emit::ragged::Joined;
use crate::emit::{Graph, Padding, Relation, Value, known_i64s};
use crate::error::Refusal;
use qc_ir::Elem;

type Result<T> = std::result::Result<T, Refusal>;

/// The longest context of a convolution over sequences.
const MAX_CONTEXT: i64 = 1024;

/// A number of rows that is only known in a run.
fn counted_in_a_run(what: &str, computed: &Value) -> Refusal {
    Refusal::unsupported(format!("{what} depends on what is computed in a run"))
        .remedy("export the model with sequences of known lengths")
        .of_computed(computed)
}

pub(super) fn pool(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (x, r) = (op.input("X")?, op.sequences("X")?);
    if op.is_read("MaxIndex") {
        return Err(Refusal::unsupported("its output `MaxIndex` is not supported"));
    }
    let joined = match op.text("pooltype")? {
        "SUM" => Joined::Sum,
        "" | "AVERAGE" => Joined::Mean,
        "SQRT" => Joined::Root,
        "MAX" => Joined::Max,
        "LAST" => Joined::Last,
        "FIRST" => Joined::First,
        other => return Err(Refusal::unsupported(format!("the kind `{other}` is not supported"))),
    };
    let empty = op.float("pad_value")?.unwrap_or(0.0);
    Ok(g.joined_sequences(r, x, joined, empty)?.into())
}

pub(super) fn softmax(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let r = op.sequences("X")?;
    Ok(Lowered::from(g.softmax_of_sequences(r, op.input("X")?)?).of(r.clone()))
}

pub(super) fn reverse(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let r = op.sequences("X")?;
    Ok(Lowered::from(g.reversed_sequences(r, op.input("X")?)?).of(r.clone()))
}

/// Rows of the context beside each other, times the filter.
pub(super) fn conv(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (x, r, filter) = (op.input("X")?, op.sequences("X")?, op.input("Filter")?);
    let length = op.int("contextLength")?.unwrap_or(1);
    let start = op.int("contextStart")?.unwrap_or(0);
    if op.flag("paddingTrainable", false)? || op.int("contextStride")?.unwrap_or(1) != 1 {
        return Err(Refusal::unsupported("trained padding and strides are not supported"));
    }
    if !(1..=MAX_CONTEXT).contains(&length) || !(-MAX_CONTEXT..=MAX_CONTEXT).contains(&start) {
        return Err(Refusal::invalid(format!("a context of {length} rows from {start} on")));
    }
    let rows = (start..start + length).map(|by| g.shifted_in_sequences(r, x, by)).collect::<Result<Vec<_>>>()?;
    let context = g.concat(&rows, 1)?;
    Ok(Lowered::from(g.matmul(&context, filter, None, [false; 2])?).of(r.clone()))
}

pub(super) fn concat(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let all = op.ragged.iter().find(|(slot, _)| *slot == "X").map_or(&[][..], |(_, list)| list);
    let mut parts = Vec::new();
    for (x, r) in op.all("X").iter().zip(all) {
        let r = r.as_ref().ok_or_else(|| Refusal::unsupported("one of its inputs has no sequences"))?;
        parts.push((x.clone(), r.clone()));
    }
    let same = |r: &(Value, _)| g.dims(&r.0).get(1..).map(<[usize]>::to_vec);
    let counts: Vec<usize> = parts.iter().map(|(_, r)| r.count(g)).collect();
    if parts.is_empty() || counts.iter().any(|n| *n != counts[0]) || parts.iter().any(|p| same(p) != same(&parts[0])) {
        return Err(Refusal::invalid("its inputs do not have equally many sequences of equal rows"));
    }
    let (joined, r) = g.concat_of_sequences(&parts)?;
    Ok(Lowered::from(joined).of(r))
}

/// Row `i` of `X` for each row of sequence `i` of `Y`; a sequence of `X` that has several rows is repeated as a whole.
pub(super) fn expand(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (x, to) = (op.input("X")?, op.sequences("Y")?);
    if !matches!(op.int("ref_level")?.unwrap_or(-1), -1 | 0) {
        return Err(Refusal::unsupported("it asks for sequences of sequences"));
    }
    let Some(own) = op.sequences_if_any("X") else { return expand_as(g, op) };
    let times = to.known_lengths().zip(own.known_lengths());
    let (times, lengths) = times.ok_or_else(|| counted_in_a_run("the number of its rows", &to.offsets))?;
    if times.len() != lengths.len() {
        return Err(Refusal::invalid(format!("{} sequences do not fit {}", lengths.len(), times.len())));
    }
    let (mut rows, mut out, mut start) = (Vec::new(), Vec::new(), 0i64);
    for (&n, &length) in times.iter().zip(&lengths) {
        g.charge(n.saturating_mul(length).saturating_mul(8))?;
        for _ in 0..n {
            rows.extend(start..start + length as i64);
            out.push(length);
        }
        start += length as i64;
    }
    let sequences = g.ragged_of(&out)?;
    Ok(Lowered::from(g.gather(x, &known_i64s(rows), 0)?).of(sequences))
}

pub(super) fn expand_as(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (x, to) = (op.input("X")?, op.sequences("Y")?);
    if g.dims(x).first() != Some(&to.count(g)) {
        return Err(Refusal::invalid(format!("rows of {:?} do not fit {} sequences", g.dims(x), to.count(g))));
    }
    Ok(Lowered::from(g.of_sequences(to, x)?).of(to.clone()))
}

pub(super) fn pad(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (x, r, padding) = (op.input("X")?, op.sequences("X")?, op.input("PadValue")?);
    let known = r.known_lengths().map(|all| all.into_iter().max().unwrap_or(0));
    let longest = known.or_else(|| (r.count(g) == 1).then_some(r.rows));
    let length = match op.int("padded_length")?.unwrap_or(-1) {
        -1 => longest.ok_or_else(|| counted_in_a_run("the length of the longest sequence", &r.offsets))?,
        n => usize::try_from(n).map_err(|_| Refusal::invalid(format!("the length {n}")))?,
    };
    if length == 0 || known.is_some_and(|n| n > length) {
        return Err(Refusal::invalid(format!("sequences do not fit {length} steps")));
    }
    let rest = g.dims(x).get(1..).unwrap_or_default().to_vec();
    let fits = g.dims(padding).iter().product::<usize>() == 1 || g.dims(padding) == rest;
    if !fits {
        return Err(Refusal::invalid(format!("padding of shape {:?}", g.dims(padding))));
    }
    let padding = if g.dims(padding) == rest { padding.clone() } else { g.reshape(padding, &[])? };
    let padded = g.padded_sequences(r, x, length, &padding)?;
    let lengths = g.lengths_of(r)?;
    let lengths = g.cast(&lengths, Elem::I64)?;
    Ok(Lowered::beside(padded, "Length", lengths))
}

/// The steps of padded sequences that they have.
pub(super) fn unpad(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (x, lengths) = (op.input("X")?, op.input("Length")?);
    let (&[items, steps, ..], count) = (&g.dims(x)[..], g.dims(lengths).iter().product::<usize>()) else {
        return Err(Refusal::invalid(format!("its input has shape {:?}", g.dims(x))));
    };
    let known = lengths.known().ok_or_else(|| counted_in_a_run("the number of its rows", lengths))?;
    let known: Option<Vec<usize>> = (0..count).map(|i| usize::try_from(known.int(i)?).ok()).collect();
    let known = known.filter(|all| all.len() == items && all.iter().all(|n| *n <= steps));
    let known = known.ok_or_else(|| Refusal::invalid("its lengths do not fit its input"))?;
    let rows = known.iter().enumerate().flat_map(|(i, &n)| (i * steps..i * steps + n).map(|row| row as i64)).collect();
    let flat: Vec<usize> = std::iter::once(items * steps).chain(g.dims(x)[2..].iter().copied()).collect();
    let (flat, sequences) = (g.reshape(x, &flat)?, g.ragged_of(&known)?);
    Ok(Lowered::from(g.gather(&flat, &known_i64s(rows), 0)?).of(sequences))
}

/// Which steps sequences of these lengths have.
pub(super) fn mask(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let longest = || x.known().and_then(|t| (0..t.len()).filter_map(|i| t.int(i)).max());
    let steps = match op.known_number("MaxLenTensor")?.map(|n| n as i64).or(op.int("maxlen")?) {
        None | Some(..=0) => longest().ok_or_else(|| counted_in_a_run("the number of its steps", x))?,
        Some(n) => n,
    };
    let steps = usize::try_from(steps).ok().filter(|n| (1..=1 << 24).contains(n));
    let steps = steps.ok_or_else(|| Refusal::invalid("its number of steps"))?;
    let mut dims = g.dims(x);
    dims.push(1);
    let (x, rank) = (g.reshape(x, &dims)?, dims.len());
    let step = g.along(g.elem(&x), rank, rank - 1, steps)?;
    let inside = g.compare(Relation::Less, &step, &x)?;
    let to = match op.int("out_dtype")?.unwrap_or(3) {
        0 => Elem::Bool,
        2 => Elem::I32,
        3 => Elem::I64,
        5 => Elem::F32,
        other => return Err(Refusal::unsupported(format!("results of type number {other}"))),
    };
    Ok(g.cast(&inside, to)?.into())
}

/// Other sequences of the same rows.
pub(super) fn lod_reset(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let rows = g.dims(x).first().copied().unwrap_or(0);
    let sequences = match (op.sequences_if_any("Y"), op.optional("Y"), op.ints("target_lod")?) {
        (Some(given), ..) if given.rows == rows => given.clone(),
        (Some(_), ..) => return Err(Refusal::invalid("the sequences of `Y` are of another number of rows")),
        (None, Some(offsets), _) => g.ragged(offsets, rows)?,
        (None, None, Some(offsets)) => g.ragged(&known_i64s(offsets), rows)?,
        (None, None, None) => return Err(Refusal::invalid("it says no sequences")),
    };
    Ok(Lowered::identity(x.clone(), "it says which rows are a sequence").of(sequences))
}

/// A row for each place of a window over an image, with what is under it: channels, then rows, then columns.
pub(super) fn im2sequence(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let [n, c, h, w] = g.nchw(x)?;
    if op.optional("Y").is_some() {
        return Err(Refusal::unsupported("real sizes of images beside it are not supported"));
    }
    let list = |name: &str, default: &[i64]| -> Result<Vec<i64>> {
        let given = op.ints(name)?.filter(|v| !v.is_empty()).unwrap_or_else(|| default.to_vec());
        match given.len() == default.len() {
            true => Ok(given),
            false => Err(Refusal::invalid(format!("`{name}` has {} numbers", given.len()))),
        }
    };
    let (kernel, strides) = (list("kernels", &[1, 1])?, list("strides", &[1, 1])?);
    let pads = list("paddings", &[0, 0, 0, 0])?;
    if kernel.iter().chain(&strides).any(|&n| n < 1) || pads.iter().any(|&n| n < 0) {
        return Err(Refusal::invalid("its window"));
    }
    let padded = g.pad(x, &[0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3]], Padding::Constant(0.0))?;
    let size = [h as i64 + pads[0] + pads[2], w as i64 + pads[1] + pads[3]];
    let places =
        |d: usize| usize::try_from((size[d] - kernel[d]) / strides[d] + 1).ok().filter(|_| size[d] >= kernel[d]);
    let (Some(oh), Some(ow)) = (places(0), places(1)) else {
        return Err(Refusal::invalid("its window is larger than the image"));
    };
    let [kh, kw] = [kernel[0] as usize, kernel[1] as usize];
    let taken = |d: usize, count: usize, k: usize| -> Vec<usize> {
        let stride = strides[d] as usize;
        (0..count).flat_map(|o| (0..k).map(move |i| o * stride + i)).collect()
    };
    let rows = g.take(&padded, 2, &taken(0, oh, kh))?;
    let both = g.take(&rows, 3, &taken(1, ow, kw))?;
    let apart = g.reshape(&both, &[n, c, oh, kh, ow, kw])?;
    let ordered = g.transpose(&apart, &[0, 2, 4, 1, 3, 5])?;
    let sequences = g.ragged_of(&vec![oh * ow; n])?;
    Ok(Lowered::from(g.reshape(&ordered, &[n * oh * ow, c * kh * kw])?).of(sequences))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Program, flag, float, int, ints, text};
    use crate::Options;
    use qc_ir::HostTensor;

    const ROWS: [f32; 6] = [1.0, 5.0, 3.0, 4.0, 6.0, 2.0];

    /// What an op makes of six rows of one number in sequences of 3, 0, 1 and 2 rows.
    fn run(op: &str, outputs: &str, attrs: &[crate::paddle::program::OpAttr]) -> Vec<f32> {
        let program = Program::new(&[6, 1]).ragged().op(op, "X=x", outputs, attrs).finish();
        program.run_ragged(&ROWS, &[0, 3, 3, 4, 6])[0].1.as_f32().unwrap().to_vec()
    }

    #[test]
    fn sequences_become_one_row() {
        let pooled =
            |kind: &'static str| run("sequence_pool", "Out=y", &[text("pooltype", kind), float("pad_value", -9.0)]);
        assert_eq!(pooled("SUM"), [9.0, -9.0, 4.0, 8.0]);
        assert_eq!(pooled("AVERAGE"), [3.0, -9.0, 4.0, 4.0]);
        assert_eq!(pooled("SQRT"), [9.0 / 3f32.sqrt(), -9.0, 4.0, 8.0 / 2f32.sqrt()]);
        assert_eq!(pooled("MAX"), [5.0, -9.0, 4.0, 6.0]);
        assert_eq!(pooled("FIRST"), [1.0, -9.0, 4.0, 6.0]);
        assert_eq!(pooled("LAST"), [3.0, -9.0, 4.0, 2.0]);
    }

    #[test]
    fn rows_stay_in_their_sequence() {
        assert_eq!(run("sequence_reverse", "Y=y", &[]), [3.0, 5.0, 1.0, 4.0, 2.0, 6.0]);
        let soft = run("sequence_softmax", "Out=y", &[]);
        assert_eq!(soft[3], 1.0);
        assert!((soft[..3].iter().sum::<f32>() - 1.0).abs() < 1e-6 && (soft[4] + soft[5] - 1.0).abs() < 1e-6);
        let attrs = [int("contextLength", 3), int("contextStart", -1), flag("paddingTrainable", false)];
        let program = Program::new(&[6, 1]).ragged().floats("w", &[3, 1], &[100.0, 1.0, 0.01]);
        let program = program.op("sequence_conv", "X=x Filter=w", "Out=y", &attrs).finish();
        let y = program.run_ragged(&ROWS, &[0, 3, 3, 4, 6])[0].1.as_f32().unwrap().to_vec();
        let want = [1.05, 105.03, 503.0, 4.0, 6.02, 602.0];
        assert!(y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-3), "{y:?}");
    }

    #[test]
    fn joined_sequences_have_offsets_of_their_own() {
        let program = Program::new(&[6, 1]).ragged();
        let program = program.op("scale", "X=x", "Out=b", &[float("scale", 10.0)]);
        let all = program.op("sequence_concat", "X=x,b", "Out=y", &[]).finish().run_ragged(&ROWS, &[0, 3, 3, 4, 6]);
        let want = [1.0, 5.0, 3.0, 10.0, 50.0, 30.0, 4.0, 40.0, 6.0, 2.0, 60.0, 20.0];
        assert_eq!(all[0].1.as_f32(), Some(&want[..]));
        assert_eq!((all[1].0.as_str(), all[1].1.as_i64()), ("y.offsets", Some(&[0, 6, 6, 8, 12][..])));
    }

    #[test]
    fn what_depends_on_lengths_needs_them_as_constants() {
        let program = |length: i32| {
            let attrs = [int("padded_length", length)];
            let program = Program::new(&[6, 1]).ragged().floats("p", &[1], &[7.0]);
            program.op("sequence_pad", "X=x PadValue=p", "Out=y Length=n", &attrs).finish()
        };
        let shapes = [("x.offsets".to_string(), vec![5])].into();
        let errors = program(-1).import(&Options { shapes, ..Options::default() }).unwrap_err();
        assert!(errors[0].to_string().contains("with `--input x.offsets=VALUE`"), "{}", errors[0]);
        let values = [("x.offsets".to_string(), HostTensor::i64([5], vec![0, 3, 3, 4, 6]))].into();
        let known = program(-1).import(&Options { values, ..Options::default() }).unwrap();
        assert_eq!(known.outputs[0].dims, [4, 3, 1]);
        let padded = program(4).run_ragged(&ROWS, &[0, 3, 3, 4, 6]);
        let want = [1.0, 5.0, 3.0, 7.0, 7.0, 7.0, 7.0, 7.0, 4.0, 7.0, 7.0, 7.0, 6.0, 2.0, 7.0, 7.0];
        assert_eq!(padded[0].1.as_f32(), Some(&want[..]));
        let values = [("x.offsets".to_string(), HostTensor::i64([3], vec![0, 7, 6]))].into();
        let errors = program(4).import(&Options { values, ..Options::default() }).unwrap_err();
        assert!(errors[0].to_string().contains("which is no offset of 6 rows"), "{}", errors[0]);
    }

    #[test]
    fn lengths_become_masks() {
        let attrs = [int("maxlen", 4), int("out_dtype", 5)];
        let program = Program::new(&[3]).op("cast", "X=x", "Out=n", &[int("in_dtype", 5), int("out_dtype", 3)]);
        let (dims, y) = program.op("sequence_mask", "X=n", "Y=y", &attrs).finish().run(&[2.0, 0.0, 9.0]);
        assert_eq!((dims, y), (vec![3, 4], vec![1., 1., 0., 0., 0., 0., 0., 0., 1., 1., 1., 1.]));
        let program = Program::new(&[3]).op("cast", "X=x", "Out=n", &[int("in_dtype", 5), int("out_dtype", 3)]);
        let reasons = program.op("sequence_mask", "X=n", "Y=y", &[int("maxlen", -1)]).finish().reasons();
        assert!(reasons[0].contains("the number of its steps depends on"), "{reasons:?}");
    }

    #[test]
    fn an_op_needs_sequences() {
        let pool = |p: Program| p.op("sequence_pool", "X=x", "Out=y", &[]).finish().reasons();
        assert!(pool(Program::new(&[6, 1]))[0].contains("`X` has no sequences"));
        let reasons = pool(Program::new(&[6, 1]).ragged());
        assert!(reasons[0].contains("\"x.offsets\": the shape [?] is not fixed"), "{reasons:?}");
        let given = Program::new(&[6, 1]).op("lod_reset", "X=x", "Out=a", &[ints("target_lod", &[0, 2, 6])]);
        let (dims, y) = given.op("sequence_pool", "X=a", "Out=y", &[text("pooltype", "SUM")]).finish().run(&ROWS);
        assert_eq!((dims, y), (vec![2, 1], vec![6.0, 15.0]));
    }
}
