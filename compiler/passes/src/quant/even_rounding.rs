//! Rounds the weights of an output channel so that their errors add up to nothing.
//!
//! What a product takes has a mean: behind a ReLU all elements are positive. A mean of `u` makes of errors `e` of a channel's
//! weights `u * Σ e`, which is the same for every position and every sample: not noise but a bias, as large as the noise and
//! worse, since nothing averages it out. Rounding to nearest leaves `Σ e` at some half a step times the root of the
//! number of weights. Here the weights that were nearest to the middle between two steps go to the other one, as many as
//! leave `Σ e` below half a step. That costs little noise, needs no samples, and weights that are a step exactly stay.

/// The channels that are looked at together: where the channels of a weight are its last dim, these lie in one cache line.
const TOGETHER: usize = 16;

/// Changes `stored`, the elements of `real` in steps of `scales` rounded to nearest and within `-127..=127`. `inner` elements
/// behind one another belong to one channel.
pub(super) fn even_out(stored: &mut [i8], real: &[f32], scales: &[f32], inner: usize) {
    let row = scales.len() * inner;
    for first in (0..scales.len()).step_by(TOGETHER) {
        let block = first..scales.len().min(first + TOGETHER);
        let mut errors: Vec<Vec<(f64, usize)>> = vec![Vec::new(); block.len()];
        for start in (0..real.len()).step_by(row.max(1)) {
            for channel in block.clone() {
                let from = start + channel * inner;
                let scale = f64::from(scales[channel]);
                let error = |i: usize| (f64::from(stored[i]) - f64::from(real[i]) / scale, i);
                errors[channel - first].extend((from..from + inner).map(error));
            }
        }
        errors.into_iter().for_each(|errors| move_some(stored, errors));
    }
}

/// Moves the weights of one channel by a step that are furthest on the side to which their errors add up.
fn move_some(stored: &mut [i8], mut errors: Vec<(f64, usize)>) {
    let sum: f64 = errors.iter().map(|(error, _)| error).sum();
    let excess = sum.round_ties_even();
    if excess == 0.0 || !excess.is_finite() {
        return;
    }
    let side = excess.signum();
    // More than twice as many as go are on that side, since none is further from its weight than half a step.
    errors.retain(|(error, _)| error * side > 0.0);
    let n = (excess.abs() as usize).min(errors.len());
    if n < errors.len() {
        errors.select_nth_unstable_by(n, |a, b| (b.0 * side).total_cmp(&(a.0 * side)).then(a.1.cmp(&b.1)));
    }
    for &(_, i) in &errors[..n] {
        stored[i] = (i32::from(stored[i]) - side as i32).clamp(-127, 127) as i8;
    }
}

#[cfg(test)]
mod tests {
    use super::even_out;

    fn nearest(real: &[f32], scale: f32) -> Vec<i8> {
        real.iter().map(|x| (x / scale).round_ties_even() as i8).collect()
    }

    fn sum_of_errors(stored: &[i8], real: &[f32], scale: f32) -> f64 {
        stored.iter().zip(real).map(|(q, x)| f64::from(*q) - f64::from(x / scale)).sum()
    }

    #[test]
    fn weights_near_the_middle_go_to_the_other_step() {
        let real = [127.0, 3.4, 5.45, -2.6, 7.0, 1.3];
        let mut stored = nearest(&real, 1.0);
        assert_eq!(stored, [127, 3, 5, -3, 7, 1]);
        even_out(&mut stored, &real, &[1.0], 6);
        assert_eq!(stored, [127, 4, 6, -3, 7, 1], "the errors added up to -1.55 steps");
    }

    #[test]
    fn errors_of_every_channel_add_up_to_less_than_half_a_step_however_they_lie() {
        let (channels, inputs) = (37, 90);
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        let by_channel: Vec<Vec<f32>> =
            (0..channels).map(|_| (0..inputs).map(|_| next() * 0.9 - 0.3).collect()).collect();
        let scales: Vec<f32> =
            by_channel.iter().map(|c| c.iter().fold(0.0f32, |m, x| m.max(x.abs())) / 127.0).collect();
        let behind: Vec<f32> = by_channel.concat();
        let across: Vec<f32> = (0..inputs).flat_map(|i| by_channel.iter().map(move |c| c[i])).collect();
        let stored = |real: &[f32], inner: usize| {
            let channel = |i: usize| i / inner % channels;
            let mut stored: Vec<i8> =
                real.iter().enumerate().map(|(i, x)| (x / scales[channel(i)]).round_ties_even() as i8).collect();
            even_out(&mut stored, real, &scales, inner);
            stored
        };
        let (a, b) = (stored(&behind, inputs), stored(&across, 1));
        for (c, real) in by_channel.iter().enumerate() {
            let own = &a[c * inputs..][..inputs];
            assert!(sum_of_errors(own, real, scales[c]).abs() <= 0.5 + 1e-3, "{c}");
            assert!(own.iter().zip(real).all(|(q, x)| (f32::from(*q) - x / scales[c]).abs() < 1.0));
            assert_eq!(own, (0..inputs).map(|i| b[i * channels + c]).collect::<Vec<i8>>(), "{c}");
        }
    }
}
