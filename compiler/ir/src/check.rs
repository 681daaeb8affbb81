//! Whether a pass kept what it says it keeps: both programs are run on the same inputs.

use crate::diag::Diag;
use crate::module::Module;
use crate::opdef::Registry;
use crate::pass::Keeps;
use crate::tensor::{Data, HostTensor};
use crate::types::{Elem, Type};

/// Inputs for checking: the same on every machine, spread over [-1, 1] for floats. In loop code the outputs' buffers
/// follow the inputs' in the signature.
pub fn seeded_inputs(m: &Module) -> Vec<HostTensor> {
    samples(m, 1).swap_remove(0)
}

/// `count` sets of inputs, the first of them that of [`seeded_inputs`].
pub fn samples(m: &Module, count: usize) -> Vec<Vec<HostTensor>> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..count).map(|_| sample(m, &mut state)).collect()
}

fn sample(m: &Module, state: &mut u64) -> Vec<HostTensor> {
    let mut next = move || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as u32
    };
    let mut make = |ty: &Type| {
        let (elem, dims) = match ty {
            Type::Tensor(t) => (t.elem, &t.dims),
            Type::Buffer(b) => (b.elem, &b.dims),
            Type::Scalar(_) | Type::Index => return None,
        };
        let n = dims.iter().product();
        let data = match m.storage(elem) {
            Elem::F32 => Data::F32((0..n).map(|_| next() as f32 / (1u32 << 30) as f32 - 1.0).collect()),
            Elem::U8 => Data::U8((0..n).map(|_| next() as u8).collect()),
            Elem::I8 => Data::I8((0..n).map(|_| next() as i8).collect()),
            // 0 and 1 are indices of the smallest tables, and what masks hold.
            Elem::I32 => Data::I32((0..n).map(|_| (next() % 2) as i32).collect()),
            Elem::I64 => Data::I64((0..n).map(|_| i64::from(next() % 2)).collect()),
            Elem::Bool => Data::Bool((0..n).map(|_| next() & 1 == 1).collect()),
            Elem::Quant(_) => return None,
        };
        HostTensor::new(dims.to_vec(), data)
    };
    let args = m.args(m.body());
    let in_buffers = args.iter().any(|&v| m.ty(v).buffer().is_some());
    let outputs = m.main().filter(|_| in_buffers).map_or(0, |f| f.outputs.len());
    args[..args.len().saturating_sub(outputs)].iter().filter_map(|&v| make(m.ty(v))).collect()
}

/// Compares the results of two modules on `samples` of their inputs: on the first, and where it takes more than one to know
/// what rounding does, on all.
///
/// # Errors
/// The first output that differs more than `keeps` allows, or what an interpreter says.
pub fn check(
    before: &Module,
    after: &Module,
    keeps: Keeps,
    samples: &[Vec<HostTensor>],
    registry: &Registry,
) -> Result<(), Diag> {
    let first = check_on(before, after, keeps, &samples[..samples.len().min(1)], registry, false);
    let measured = matches!(keeps, Keeps::OneStep | Keeps::Clamps) && samples.len() > 1;
    if first.is_err() && measured { check_on(before, after, keeps, samples, registry, true) } else { first }
}

fn check_on(
    before: &Module,
    after: &Module,
    keeps: Keeps,
    samples: &[Vec<HostTensor>],
    registry: &Registry,
    in_parts: bool,
) -> Result<(), Diag> {
    let run = |m: &Module| samples.iter().map(|x| (registry.interpret)(m, x)).collect::<Result<Vec<_>, Diag>>();
    let (old, new) = (run(before)?, run(after)?);
    for (a, b) in old.iter().zip(&new) {
        same_types(a, b)?;
    }
    let outputs = old.first().map_or(0, Vec::len);
    let noise = match keeps {
        Keeps::OneStep | Keeps::Clamps => noise(&[(before, &old), (after, &new)], samples, registry, in_parts)?,
        _ => vec![Spread::default(); outputs],
    };
    for i in 0..outputs {
        let pairs: Vec<(&HostTensor, &HostTensor)> = old.iter().zip(&new).map(|(a, b)| (&a[i], &b[i])).collect();
        let refused = match keeps {
            Keeps::Exact => pairs.iter().find_map(|(a, b)| beyond(a, b, 0.0)),
            Keeps::F32Rounding(tolerance) => pairs.iter().find_map(|(a, b)| beyond(a, b, tolerance)),
            Keeps::OneStep | Keeps::Clamps => louder(&pairs, noise[i]),
            Keeps::Decibels(least) => quieter(&pairs, least),
        };
        if let Some(text) = refused {
            return Err(Diag::bug(format!("result {i} {text}")));
        }
    }
    Ok(())
}

fn same_types(old: &[HostTensor], new: &[HostTensor]) -> Result<(), Diag> {
    if old.len() != new.len() {
        return Err(Diag::bug(format!("{} results became {}", old.len(), new.len())));
    }
    for (i, (a, b)) in old.iter().zip(new).enumerate() {
        if a.dims() != b.dims() {
            return Err(Diag::bug(format!("result {i}: shape {:?} became {:?}", a.dims(), b.dims())));
        }
        if a.data().elem() != b.data().elem() {
            return Err(Diag::bug(format!("result {i} changed its type")));
        }
    }
    Ok(())
}

fn beyond(a: &HostTensor, b: &HostTensor, allowed: f32) -> Option<String> {
    let distance = distance(a, b).unwrap_or(f32::NAN);
    (distance.is_nan() || distance > allowed)
        .then(|| format!("differs by {distance:e} of the largest magnitude; {allowed:e} is allowed"))
}

/// A difference between two tensors: root of the mean square, and largest.
#[derive(Clone, Copy, Default, Debug)]
struct Spread {
    rms: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Spread {
        let (mut sum, mut most, mut n) = (0.0, 0.0, 0usize);
        for x in values {
            let x = if x.is_nan() { f64::INFINITY } else { x.abs() };
            (sum, most, n) = (sum + x * x, f64::max(most, x), n + 1);
        }
        Spread { rms: (sum / n.max(1) as f64).sqrt(), most }
    }
}

fn number(t: &HostTensor, i: usize) -> f64 {
    t.as_f32().map_or_else(|| t.int(i).unwrap_or(0) as f64, |v| f64::from(v[i]))
}

/// The difference of tensors of one shape each; equal numbers, infinities and NaN do not differ.
fn difference(pairs: &[(&HostTensor, &HostTensor)]) -> Spread {
    let one = |a: &HostTensor, b: &HostTensor, i: usize| match (number(a, i), number(b, i)) {
        (x, y) if x == y || (x.is_nan() && y.is_nan()) => 0.0,
        (x, y) => x - y,
    };
    Spread::of(pairs.iter().flat_map(|(a, b)| (0..a.len()).map(move |i| one(a, b, i))))
}

/// The size of the finite elements of the first of each pair.
fn size(pairs: &[(&HostTensor, &HostTensor)]) -> Spread {
    let finite = |x: f64| if x.is_finite() { x } else { 0.0 };
    Spread::of(pairs.iter().flat_map(|(a, _)| (0..a.len()).map(move |i| finite(number(a, i)))))
}

/// Random parts of the readers of pairs, besides those by number.
const MIXED: u64 = 16;

/// The program without the rounding of its pairs for parts of their readers: those whose number has a bit, those that have it
/// not, so that any two are apart in some part, and random parts.
fn parts(m: &Module, registry: &Registry) -> impl Iterator<Item = Module> {
    let bit = |bit: u32, set: bool| (registry.unrounded)(m, &|number| (number >> bit & 1 == 1) == set);
    let by_bit = (0..usize::BITS).map_while(move |b| bit(b, true).map(|with| [Some(with), bit(b, false)])).flatten();
    let mixed = move |part: u64| {
        let hash = |number: usize| (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ part << 7) >> 40;
        (registry.unrounded)(m, &|number| hash(number) & 1 == 1)
    };
    by_bit.chain((1..=MIXED).map(mixed)).flatten()
}

/// What the rounding of quantize/dequantize pairs does to each result: the difference to the same program with clamps
/// instead of pairs, in whichever of the programs it is larger. Roundings may cancel, so that all together do less than one of
/// them; `in_parts`, the same of parts of the pairs counts.
fn noise(
    programs: &[(&Module, &Vec<Vec<HostTensor>>)],
    samples: &[Vec<HostTensor>],
    registry: &Registry,
    in_parts: bool,
) -> Result<Vec<Spread>, Diag> {
    let outputs = programs.first().and_then(|(_, results)| results.first()).map_or(0, Vec::len);
    let mut noise = vec![Spread::default(); outputs];
    for (m, results) in programs {
        let parts = in_parts.then(|| parts(m, registry)).into_iter().flatten();
        for unrounded in (registry.unrounded)(m, &|_| true).into_iter().chain(parts) {
            let other: Vec<Vec<HostTensor>> =
                samples.iter().map(|x| (registry.interpret)(&unrounded, x)).collect::<Result<_, Diag>>()?;
            for (i, slot) in noise.iter_mut().enumerate() {
                let pairs: Vec<(&HostTensor, &HostTensor)> =
                    results.iter().zip(&other).map(|(a, b)| (&a[i], &b[i])).collect();
                let own = difference(&pairs);
                *slot = Spread { rms: slot.rms.max(own.rms), most: slot.most.max(own.most) };
            }
        }
    }
    Ok(noise)
}

/// Sets of inputs on which a pass is judged that changes roundings.
pub const SAMPLES: usize = 6;
/// How often the noise of rounding a pass may change results by: it may take all roundings away, or place them otherwise.
const TIMES_NOISE: f64 = 4.0;
/// Float rounding as a fraction of the largest magnitude.
const FLOAT_NOISE: f64 = 1e-5;

fn louder(pairs: &[(&HostTensor, &HostTensor)], noise: Spread) -> Option<String> {
    let size = size(pairs);
    let step = if pairs.iter().all(|(a, _)| a.as_f32().is_some()) { 0.0 } else { 1.0 };
    let (found, floor) = (difference(pairs), size.most * FLOAT_NOISE + step);
    let (rms, most) = (TIMES_NOISE * noise.rms + floor, TIMES_NOISE * noise.most + floor);
    (found.rms > rms || found.most > most).then(|| {
        let (found, noise) = (decibels(size.rms, found.rms), decibels(size.rms, noise.rms));
        format!(
            "differs by more than the rounding of pairs explains: {found:.1} dB, where rounding makes {noise:.1} dB"
        )
    })
}

fn quieter(pairs: &[(&HostTensor, &HostTensor)], least: f32) -> Option<String> {
    let db = decibels(size(pairs).rms, difference(pairs).rms);
    (db.is_nan() || db < f64::from(least)).then(|| format!("keeps {db:.1} dB; {least} are demanded"))
}

/// Signal to noise in decibels.
fn decibels(signal: f64, noise: f64) -> f64 {
    if noise == 0.0 { f64::INFINITY } else { 20.0 * (signal / noise).log10() }
}

/// The largest difference as a fraction of the largest finite magnitude of `a`; `None` for different element types.
pub fn distance(a: &HostTensor, b: &HostTensor) -> Option<f32> {
    if let (Some(a), Some(b)) = (a.as_f32(), b.as_f32()) {
        let magnitude = a.iter().filter(|x| x.is_finite()).fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
        let differ = |x: &f32, y: &f32| if x == y || (x.is_nan() && y.is_nan()) { 0.0 } else { (x - y).abs() };
        let worst = a.iter().zip(b).map(|(x, y)| differ(x, y));
        return Some(worst.fold(0.0f32, |m, d| if d.is_nan() || d > m { d } else { m }) / magnitude);
    }
    (a.data().elem() == b.data().elem()).then(|| {
        let (mut worst, mut magnitude) = (0i64, 1i64);
        for i in 0..a.len() {
            let (x, y) = (a.int(i).unwrap_or(0), b.int(i).unwrap_or(0));
            worst = worst.max((x - y).abs());
            magnitude = magnitude.max(x.abs());
        }
        worst as f32 / magnitude as f32
    })
}
