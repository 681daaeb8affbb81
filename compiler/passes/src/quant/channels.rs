//! What the channels of a tensor are like over all samples of a calibration: their means and mean squares.
//!
//! Samples are added up in integers of a fixed unit, so what several threads saw can be merged in any order and is the same
//! number in the last bit.

/// Means of one tensor's channels. A sample counts once, whatever its size.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Channels {
    samples: u64,
    /// Per channel, sums over samples, in units of 2^-60.
    means: Vec<i128>,
    squares: Vec<i128>,
    /// Whether nothing can be said: shapes with other numbers of channels, or numbers that are not in the unit's range.
    mixed: bool,
}

/// Amplitudes of 1e-9 leave a trace in a mean square.
const UNIT: f64 = (1u64 << 60) as f64;
/// The largest mean square, that of amplitudes of 3e6: 2^24 samples of it fit.
const LARGEST: f64 = (1u64 << 43) as f64;

/// Of larger tensors, about this many elements of a sample are looked at. Few are not enough: channels may be silent but for some places,
/// and with a share of a third, ratios of text recognition were 5 decibels off.
const LOOKED_AT: usize = 1 << 22;
/// So many numbers are added up in f32, four times as fast, before sums of f64 take them.
const SHORT: usize = 16;

/// The axis of a tensor's channels: the second of images, the last of everything else.
pub fn axis(rank: usize) -> Option<usize> {
    if rank == 4 { Some(1) } else { rank.checked_sub(1) }
}

/// How many channels a tensor has.
pub fn count(dims: &[usize]) -> usize {
    axis(dims.len()).map_or(1, |axis| dims[axis])
}

/// How many elements of a channel lie side by side.
pub fn beside(dims: &[usize]) -> usize {
    axis(dims.len()).map_or(1, |axis| dims[axis + 1..].iter().product())
}

/// How the elements of a tensor lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// How many channels there are.
    pub channels: usize,
    /// How many elements of a channel lie side by side.
    pub beside: usize,
}

impl Order {
    /// Of a row-major tensor.
    pub fn rows(dims: &[usize]) -> Order {
        Order { channels: count(dims), beside: beside(dims) }
    }
}

impl Channels {
    /// Takes in a tensor of one sample; gives its mean square.
    pub fn observe(&mut self, order: Order, values: &[f32]) -> f64 {
        let Order { channels, beside: behind } = order;
        if values.is_empty() {
            return 0.0;
        }
        let mut sums = vec![(0.0f64, 0.0f64); channels];
        // An odd step meets what repeats in pairs, or in rows as wide as a power of two.
        let step = (values.len() / LOOKED_AT).max(1) | 1;
        let seen = match behind {
            1 => add_rows(values, step, &mut sums),
            _ => add_planes(values, (behind, step), &mut sums),
        };
        let n = seen.max(1) as f64;
        let one = sums.iter().map(|(sum, squares)| (sum / n, squares / n));
        let square = one.clone().map(|(_, square)| square).sum::<f64>() / channels.max(1) as f64;
        let fits = one.clone().all(|(_, square)| square < LARGEST);
        let fixed = |x: f64| (x * UNIT) as i128;
        let (means, squares) = one.map(|(mean, square)| (fixed(mean), fixed(square))).unzip();
        self.merge(&Channels { samples: 1, means, squares, mixed: !fits });
        square
    }

    /// Takes in what another observer saw.
    pub fn merge(&mut self, other: &Channels) {
        if other.samples == 0 {
            return;
        }
        if self.samples == 0 {
            *self = other.clone();
            return;
        }
        self.mixed |= other.mixed || self.means.len() != other.means.len();
        self.samples = self.samples.saturating_add(other.samples);
        let add = |to: &mut [i128], from: &[i128]| to.iter_mut().zip(from).for_each(|(a, b)| *a = a.saturating_add(*b));
        add(&mut self.means, &other.means);
        add(&mut self.squares, &other.squares);
    }

    /// The mean square over all channels, if it is known.
    pub fn power(&self) -> Option<f64> {
        let moments = self.moments()?;
        Some(moments.iter().map(|(_, square)| square).sum::<f64>() / moments.len().max(1) as f64)
    }

    /// Mean and mean square of each channel, if they are known.
    pub fn moments(&self) -> Option<Vec<(f64, f64)>> {
        let real = |x: i128| x as f64 / UNIT / self.samples as f64;
        let both = || self.means.iter().zip(&self.squares).map(|(&mean, &square)| (real(mean), real(square)));
        (self.samples > 0 && !self.mixed).then(|| both().collect())
    }
}

/// Adds every `step`th row of channels to their sums, and its squares; says how many rows these are.
fn add_rows(values: &[f32], step: usize, sums: &mut [(f64, f64)]) -> usize {
    let channels = sums.len();
    let mut rows = values.chunks_exact(channels).step_by(step);
    let (mut short, mut squares) = (vec![0.0f32; channels], vec![0.0f32; channels]);
    let mut n = 0;
    while rows.len() > 0 {
        short.fill(0.0);
        squares.fill(0.0);
        for row in rows.by_ref().take(SHORT) {
            short.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x);
            squares.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x * x);
            n += 1;
        }
        for (sum, (&x, &square)) in sums.iter_mut().zip(short.iter().zip(&squares)) {
            *sum = (sum.0 + f64::from(x), sum.1 + f64::from(square));
        }
    }
    n
}

/// Adds planes of `behind` numbers to the sums of their channels; says how many numbers of a channel were looked at.
fn add_planes(values: &[f32], (behind, step): (usize, usize), sums: &mut [(f64, f64)]) -> usize {
    let (channels, mut seen) = (sums.len(), 0);
    for (i, plane) in values.chunks(behind).enumerate() {
        let (sum, (n, own)) = (&mut sums[i % channels], sums_of(plane, step));
        seen += if i % channels == 0 { n } else { 0 };
        *sum = (sum.0 + own.0, sum.1 + own.1);
    }
    seen
}

/// How many numbers are looked at, every `step`th group of eight; their sum, and that of their squares.
fn sums_of(values: &[f32], step: usize) -> (usize, (f64, f64)) {
    const LANES: usize = 8;
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut looked_at = chunks.iter().step_by(step);
    let n = looked_at.len() * LANES + rest.len();
    let (mut sum, mut square) = (0.0f64, 0.0f64);
    while looked_at.len() > 0 {
        let (mut short, mut squares) = ([0.0f32; LANES], [0.0f32; LANES]);
        for chunk in looked_at.by_ref().take(SHORT) {
            short.iter_mut().zip(chunk).for_each(|(sum, &x)| *sum += x);
            squares.iter_mut().zip(chunk).for_each(|(sum, &x)| *sum += x * x);
        }
        sum += short.iter().map(|&x| f64::from(x)).sum::<f64>();
        square += squares.iter().map(|&x| f64::from(x)).sum::<f64>();
    }
    let rest = rest.iter().map(|&x| f64::from(x)).fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
    (n, (sum + rest.0, square + rest.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_their_channels_second_and_others_last() {
        let mut seen = Channels::default();
        seen.observe(Order::rows(&[1, 2, 1, 2]), &[1.0, 3.0, -1.0, 1.0]);
        assert_eq!(seen.moments(), Some(vec![(2.0, 5.0), (0.0, 1.0)]));
        let mut seen = Channels::default();
        seen.observe(Order::rows(&[2, 2]), &[1.0, 3.0, -1.0, 1.0]);
        assert_eq!(seen.moments(), Some(vec![(0.0, 1.0), (2.0, 5.0)]));
    }

    #[test]
    fn the_order_of_samples_changes_no_bit() {
        let samples: Vec<Vec<f32>> = (0..40).map(|i| vec![0.1 * i as f32, 1e-5 / (i + 1) as f32, 3e3]).collect();
        let all = |order: &[usize]| {
            let mut halves = [Channels::default(), Channels::default()];
            for (i, &at) in order.iter().enumerate() {
                halves[i % 2].observe(Order::rows(&[1, 3]), &samples[at]);
            }
            let [mut a, b] = halves;
            a.merge(&b);
            a
        };
        let forth: Vec<usize> = (0..40).collect();
        let back: Vec<usize> = (0..40).rev().collect();
        assert_eq!(all(&forth), all(&back));
        assert!(all(&forth).moments().is_some());
    }

    #[test]
    fn some_places_stand_for_all_of_a_large_image() {
        let dims = [2, 3, 1200, 1201];
        let plane = 1200 * 1201;
        let values: Vec<f32> = (0..6 * plane).map(|i| (i / plane % 3) as f32 + (i % 7) as f32 - 3.0).collect();
        let mut seen = Channels::default();
        seen.observe(Order::rows(&dims), &values);
        for (channel, (mean, square)) in seen.moments().unwrap().into_iter().enumerate() {
            let right = channel as f64;
            assert!((mean - right).abs() < 0.01, "{mean} {right}");
            assert!((square - mean * mean - 4.0).abs() < 0.05, "{square} {mean}");
        }
        let rows: Vec<f32> = (0..6_000_000).map(|i| (i % 3) as f32).collect();
        let mut seen = Channels::default();
        seen.observe(Order::rows(&[2_000_000, 3]), &rows);
        assert_eq!(seen.moments(), Some(vec![(0.0, 0.0), (1.0, 1.0), (2.0, 4.0)]));
    }

    #[test]
    fn nothing_is_said_of_what_cannot_be_added_up() {
        let mut seen = Channels::default();
        seen.observe(Order::rows(&[1, 2]), &[1.0, f32::INFINITY]);
        assert_eq!(seen.moments(), None);
        let mut seen = Channels::default();
        seen.observe(Order::rows(&[1, 2]), &[1.0, 2.0]);
        seen.observe(Order::rows(&[1, 3]), &[1.0, 2.0, 3.0]);
        assert_eq!(seen.moments(), None);
        assert_eq!(Channels::default().moments(), None);
    }
}
