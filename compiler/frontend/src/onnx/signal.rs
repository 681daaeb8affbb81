//! Operators of sound: Fourier transforms, windows, and the matrix of mel filters.

use super::node::{Lowered, Node};
use super::tensor::stored_type;
use crate::emit::{Graph, Transform, Value};
use crate::error::Refusal;
use crate::shape as resolve;
use qc_ir::{Elem, HostTensor};
use std::f64::consts::TAU;

type Result<T> = std::result::Result<T, Refusal>;

/// A transform along an axis, which is an attribute up to operator set 19.
pub(super) fn dft(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let dims = g.dims(x);
    let axis = if n.opset < 20 {
        n.int("axis")?.unwrap_or(1)
    } else {
        n.known_ints(2, "the axis")?.and_then(|a| a.first().copied()).unwrap_or(-2)
    };
    let axis = resolve::axis(axis, dims.len())?;
    let (inverse, one_sided) = (n.flag("inverse", false)?, n.flag("onesided", false)?);
    let own = if inverse && one_sided { (2 * dims[axis]).saturating_sub(2) } else { dims[axis] };
    let length = length(n, 1, "the length of the transform")?.unwrap_or(own);
    Ok(g.fourier(x, axis, Transform { length, inverse, one_sided })?.into())
}

/// Spectra of frames; their length is that of the window if it is not said.
pub(super) fn stft(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (x, window) = (n.input(0)?, n.optional(2));
    let step = length(n, 1, "the step of the frames")?.unwrap_or(0);
    let of_window = window.and_then(|w| g.dims(w).first().copied());
    let length = length(n, 3, "the length of the frames")?.or(of_window);
    let length = length.ok_or_else(|| Refusal::invalid("it has no length of frames and no window"))?;
    let transform = Transform { length, inverse: false, one_sided: n.flag("onesided", true)? };
    Ok(g.fourier_of_frames(x, step as i64, window, transform)?.into())
}

/// Input `i` as a number of samples.
fn length(n: &Node<'_>, i: usize, what: &str) -> Result<Option<usize>> {
    let Some(ints) = n.known_ints(i, what)? else { return Ok(None) };
    match ints[..] {
        [one] => usize::try_from(one).map(Some).map_err(|_| Refusal::invalid(format!("{what} is {one}"))),
        _ => Err(Refusal::invalid(format!("{what} is no single number"))),
    }
}

pub(super) fn hann(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    window(g, n, [0.5, 0.5, 0.0])
}

pub(super) fn hamming(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    window(g, n, [25.0 / 46.0, 21.0 / 46.0, 0.0])
}

pub(super) fn blackman(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    window(g, n, [0.42, 0.5, 0.08])
}

/// `a - b cos(2 pi i / N) + c cos(4 pi i / N)`, where `N` is the size, or one less of a window that does not repeat.
fn window(g: &mut Graph, n: &Node<'_>, [a, b, c]: [f64; 3]) -> Result<Lowered> {
    let size = length(n, 0, "the size")?.unwrap_or(0);
    let period = if n.flag("periodic", true)? { size } else { size.saturating_sub(1) };
    if period == 0 {
        return Err(Refusal::invalid(format!("a window of {size} samples has no period")));
    }
    g.charge(size.saturating_mul(4))?;
    let one = |i: usize| {
        let angle = TAU * i as f64 / period as f64;
        (a - b * angle.cos() + c * (2.0 * angle).cos()) as f32
    };
    let made = HostTensor::f32([size], (0..size).map(one).collect());
    as_asked(g, n, made.into())
}

/// The matrix `[bins, filters]` of triangles that overlap by half and are as wide as each other in mel, on bins of a spectrum.
pub(super) fn mel_weight_matrix(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let count = |i: usize, what: &str| {
        let count = length(n, i, what)?.filter(|n| *n > 0);
        count.ok_or_else(|| Refusal::invalid(format!("{what} is not positive")))
    };
    let (filters, samples) = (count(0, "the number of filters")?, count(1, "the length of the transform")?);
    let rate = count(2, "the sample rate")?;
    let hertz = |i: usize| {
        let hertz = n.known_number(i, "the edge of the filters")?;
        hertz.map(f64::from).ok_or_else(|| Refusal::invalid("it has no edges"))
    };
    let (low, high) = (hertz(3)?, hertz(4)?);
    let bins = samples / 2 + 1;
    g.charge(bins.saturating_mul(filters).saturating_mul(4))?;
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let step = (mel(high) - mel(low)) / (filters + 2) as f64;
    let edge = |i: usize| {
        let hertz = 700.0 * (10f64.powf((mel(low) + i as f64 * step) / 2595.0) - 1.0);
        ((samples + 1) as f64 * hertz / rate as f64).floor()
    };
    let edges: Vec<f64> = (0..filters + 2).map(edge).collect();
    if !(edges.is_sorted() && edges[0] >= 0.0 && edges[filters + 1] <= bins as f64) {
        return Err(Refusal::invalid(format!("filters from {low} to {high} Hz do not fit {bins} bins at {rate} Hz")));
    }
    let one = |i: usize| {
        let (bin, [lower, centre, upper]) = ((i / filters) as f64, [0, 1, 2].map(|e| edges[i % filters + e]));
        let rising = (lower..=centre).contains(&bin) && (bin < centre || lower == centre || upper == centre);
        let weight = match rising {
            true if lower == centre => 1.0,
            true => (bin - lower) / (centre - lower),
            false if (centre..upper).contains(&bin) => (upper - bin) / (upper - centre),
            false => 0.0,
        };
        weight as f32
    };
    let made = HostTensor::f32([bins, filters], (0..bins * filters).map(one).collect());
    as_asked(g, n, made.into())
}

/// A float result as elements of the type that the node asks for.
fn as_asked(g: &mut Graph, n: &Node<'_>, made: Value) -> Result<Lowered> {
    let elem = match n.int("output_datatype")? {
        Some(to) => stored_type(to as i32).map_err(Refusal::unsupported)?.plain(),
        None => Elem::F32,
    };
    Ok(g.cast(&made, elem)?.into())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Model, floats, int, longs};

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 % 23) as f32 - 11.0) / 8.0).collect()
    }

    /// `sum_n (re + i im)[n] exp(sign 2 pi i n k / length)`, by the definition.
    fn bin(re: &[f32], im: &[f32], length: usize, k: usize, sign: f64) -> [f64; 2] {
        let mut sum = [0.0; 2];
        for (n, &re) in re.iter().enumerate().take(length) {
            let (re, im) = (f64::from(re), im.get(n).map_or(0.0, |&x| f64::from(x)));
            let (sin, cos) = (sign * std::f64::consts::TAU * (n * k) as f64 / length as f64).sin_cos();
            sum[0] += re * cos - im * sin;
            sum[1] += re * sin + im * cos;
        }
        sum
    }

    fn assert_near(got: &[f32], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        let far = got.iter().zip(want).find(|(a, b)| (f64::from(**a) - **b).abs() > 2e-5);
        assert_eq!(far, None);
    }

    #[test]
    fn a_transform_is_that_of_the_definition_for_any_length() {
        let x = numbers(7);
        for (length, one_sided) in [(7, true), (7, false), (4, true), (12, true), (9, false)] {
            let model = Model::new(20, &[1, 7, 1]).constant(longs("l", &[length])).constant(longs("a", &[1])).node(
                "DFT",
                "x l a > y",
                &[int("onesided", i64::from(one_sided))],
            );
            let length = length as usize;
            let bins = if one_sided { length / 2 + 1 } else { length };
            let want: Vec<f64> = (0..bins).flat_map(|k| bin(&x, &[], length, k, -1.0)).collect();
            assert_near(&model.run(&x).1, &want);
        }
    }

    #[test]
    fn an_inverse_gives_the_signal_back_from_all_of_a_spectrum_or_half_of_it() {
        for length in [8i64, 9] {
            let x = numbers(2 * length as usize);
            let all = Model::new(20, &[2, length, 1]).node("DFT", "x _ > s", &[]).node(
                "DFT",
                "s _ > y",
                &[int("inverse", 1)],
            );
            let back = all.run(&x).1;
            let want: Vec<f64> = x.iter().flat_map(|&v| [f64::from(v), 0.0]).collect();
            assert_near(&back, &want);
            let half = Model::new(20, &[2, length, 1])
                .constant(longs("l", &[length]))
                .node("DFT", "x l > s", &[int("onesided", 1)])
                .node("DFT", "s l > y", &[int("onesided", 1), int("inverse", 1)]);
            let want: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
            assert_near(&half.run(&x).1, &want);
        }
    }

    #[test]
    fn frames_are_weighed_by_their_window_and_transformed() {
        let x = numbers(20);
        let w = [0.25, 1.0, 0.5, -0.5, 0.75, 1.0];
        let model = Model::new(17, &[1, 20, 1]).constant(longs("s", &[3])).constant(floats("w", &[6], &w)).node(
            "STFT",
            "x s w > y",
            &[],
        );
        let frames = (0..=14).step_by(3).flat_map(|at| {
            let frame: Vec<f32> = x[at..at + 6].iter().zip(w).map(|(a, b)| a * b).collect();
            (0..4).flat_map(|k| bin(&frame, &[], 6, k, -1.0)).collect::<Vec<_>>()
        });
        assert_near(&model.run(&x).1, &frames.collect::<Vec<_>>());
    }

    #[test]
    fn what_has_no_spectrum_is_refused() {
        let complex = Model::new(20, &[1, 4, 2]).node("DFT", "x > y", &[int("onesided", 1)]);
        assert!(complex.reasons()[0].contains("no mirrored half"), "{:?}", complex.reasons());
        let long = Model::new(17, &[1, 4, 1]).constant(longs("s", &[1])).constant(longs("l", &[5]));
        let long = long.node("STFT", "x s _ l > y", &[]);
        assert!(long.reasons()[0].contains("frames of 5 samples in a signal of 4"), "{:?}", long.reasons());
        let mel =
            Model::new(17, &[9]).constant(longs("f", &[8])).constant(longs("l", &[16])).constant(longs("r", &[100]));
        let mel = mel.constant(floats("lo", &[1], &[0.0])).constant(floats("hi", &[1], &[90.0]));
        let mel = mel.node("MelWeightMatrix", "f l r lo hi > m", &[]).node("MatMul", "x m > y", &[]);
        assert!(mel.reasons()[0].contains("do not fit 9 bins at 100 Hz"), "{:?}", mel.reasons());
    }
}
