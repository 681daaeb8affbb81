//! Resolving shapes, axes and windows as both model formats write them.

use crate::elements::checked_dims;
use crate::error::Refusal;

/// An axis counted from the front.
///
/// # Errors
/// When it lies outside `rank`.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, Refusal> {
    let place = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    let place = place.and_then(|a| usize::try_from(a).ok()).filter(|&a| a < rank);
    place.ok_or_else(|| Refusal::invalid(format!("axis {axis} is outside rank {rank}")))
}

/// Several axes, each once, in ascending order.
///
/// # Errors
/// As [`axis`].
pub(crate) fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>, Refusal> {
    let mut out = list.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
    out.sort_unstable();
    out.dedup();
    Ok(out)
}

/// The target of a reshape: -1 is inferred; 0 copies the input's dim unless `zero_is_zero`.
///
/// # Errors
/// When the target does not have as many elements as the input.
pub(crate) fn reshape(from: &[usize], target: &[i64], zero_is_zero: bool) -> Result<Vec<usize>, Refusal> {
    let wrong = || Refusal::invalid(format!("cannot reshape {from:?} to {target:?}"));
    let mut dims = target.to_vec();
    for (i, d) in dims.iter_mut().enumerate().filter(|(_, d)| **d == 0 && !zero_is_zero) {
        *d = *from.get(i).ok_or_else(wrong)? as i64;
    }
    let open: Vec<usize> = (0..dims.len()).filter(|&i| dims[i] == -1).collect();
    let total: usize = from.iter().product();
    if let [i] = open[..] {
        dims[i] = 1;
        let (_, rest) = checked_dims(&dims).ok_or_else(wrong)?;
        dims[i] = total.checked_div(rest).unwrap_or(0) as i64;
    }
    let (sizes, len) = checked_dims(&dims).ok_or_else(wrong)?;
    if len == total { Ok(sizes) } else { Err(wrong()) }
}

/// `dims` without the given axes, which must be 1; without any axes, without all dims of 1.
///
/// # Errors
/// When an axis is outside, or not 1 unless `lenient`.
pub(crate) fn squeeze(dims: &[usize], list: &[i64], lenient: bool) -> Result<Vec<usize>, Refusal> {
    let gone = match list.is_empty() {
        true => (0..dims.len()).filter(|&i| dims[i] == 1).collect(),
        false => axes(list, dims.len())?,
    };
    if let Some(&a) = gone.iter().find(|&&a| dims[a] != 1 && !lenient) {
        return Err(Refusal::invalid(format!("axis {a} of {dims:?} is not 1")));
    }
    Ok((0..dims.len()).filter(|i| dims[*i] != 1 || !gone.contains(i)).map(|i| dims[i]).collect())
}

/// `dims` split at `axis`: everything before as one dim, everything from there on as another.
pub(crate) fn two_d(dims: &[usize], axis: usize) -> [usize; 2] {
    let (before, after) = dims.split_at(axis.min(dims.len()));
    [before.iter().product(), after.iter().product()]
}

/// The largest kernel, stride, pad or dilation: far above real ones, and no sum of such overflows.
const MAX_WINDOW: i64 = 1 << 20;

/// The window of a convolution or pool before its pads are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    pub input: [usize; 2],
    pub kernel: [i64; 2],
    pub strides: [i64; 2],
    pub dilations: [i64; 2],
}

impl Window {
    /// Checks the numbers.
    ///
    /// # Errors
    /// When one is out of bounds.
    pub fn checked(self) -> Result<Window, Refusal> {
        let all = [self.kernel, self.strides, self.dilations];
        if all.iter().flatten().any(|n| !(1..=MAX_WINDOW).contains(n)) {
            let text = format!("kernel {:?}, strides {:?}, dilations {:?}", self.kernel, self.strides, self.dilations);
            return Err(Refusal::invalid(format!("{text}: a number is not positive or is absurd")));
        }
        Ok(self)
    }

    fn reach(&self, d: usize) -> i64 {
        self.dilations[d] * (self.kernel[d] - 1) + 1
    }

    /// How far the taps of the transposed window reach over dim `d`.
    pub fn spread(&self, d: usize) -> i64 {
        self.strides[d] * (self.input[d] as i64 - 1) + self.reach(d)
    }

    /// Pads so that the output is `ceil(input / stride)`; the odd one goes behind, or in front if `odd_first`.
    pub fn same_pads(&self, odd_first: bool) -> [i64; 4] {
        let total = |d: usize| {
            let input = self.input[d] as i64;
            let out = (input + self.strides[d] - 1) / self.strides[d];
            ((out - 1) * self.strides[d] + self.reach(d) - input).max(0)
        };
        let first = |d: usize| if odd_first { (total(d) + 1) / 2 } else { total(d) / 2 };
        [first(0), first(1), total(0) - first(0), total(1) - first(1)]
    }

    /// Trailing pads with which the floor formula gives the ceil formula's output size, leaving out windows that start
    /// behind the input and its leading pad; `None` if no such pads exist.
    pub fn ceil_pads(&self, pads: [i64; 4]) -> Option<[i64; 4]> {
        let mut out = pads;
        for d in 0..2 {
            let (stride, input) = (self.strides[d], self.input[d] as i64);
            let room = input + pads[d] + pads[2 + d] - self.reach(d);
            // A window that begins inside counts, even if the input is smaller.
            let mut count = (room + stride - 1).div_euclid(stride) + 1;
            if count < 1 {
                return None;
            }
            if (count - 1) * stride >= input + pads[d] {
                count -= 1;
            }
            let least = (count - 1) * stride + self.reach(d) - input - pads[d];
            out[2 + d] = pads[2 + d].clamp(least, least + stride - 1);
            if out[2 + d] < 0 {
                return None;
            }
        }
        Some(out)
    }
}

/// Explicit pads as top, left, bottom, right.
///
/// # Errors
/// When one is negative or absurd.
pub(crate) fn checked_pads(pads: [i64; 4]) -> Result<[i64; 4], Refusal> {
    if pads.iter().all(|p| (0..=MAX_WINDOW).contains(p)) {
        return Ok(pads);
    }
    Err(Refusal::unsupported(format!("the pads {pads:?} are negative or absurd")))
}

/// Two numbers from a list; one number stands for both.
///
/// # Errors
/// For any other count.
pub(crate) fn pair(name: &str, list: &[i64]) -> Result<[i64; 2], Refusal> {
    match *list {
        [a] => Ok([a, a]),
        [a, b] => Ok([a, b]),
        _ => Err(Refusal::unsupported(format!("`{name}` has {} numbers; only 2-D windows are supported", list.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reshape_targets() {
        assert_eq!(reshape(&[2, 3, 4], &[0, -1], false).unwrap(), [2, 12]);
        assert_eq!(reshape(&[2, 3, 4], &[-1], false).unwrap(), [24]);
        assert_eq!(reshape(&[0, 3], &[0, 3], true).unwrap(), [0, 3]);
        for bad in [&[5, -1][..], &[-1, -1], &[0, 0, 0, 0], &[i64::MIN], &[1 << 40, 1 << 40, -1], &[-2, -12], &[0, -1]]
        {
            assert!(reshape(&[2, 3, 4], bad, bad == [0, -1]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn squeezed_dims_are_ones() {
        assert_eq!(squeeze(&[1, 3, 1], &[], false).unwrap(), [3]);
        assert_eq!(squeeze(&[1, 3, 1], &[-1], false).unwrap(), [1, 3]);
        assert!(squeeze(&[1, 3], &[1], false).is_err());
        assert_eq!(squeeze(&[1, 3], &[1], true).unwrap(), [1, 3]);
        assert!(squeeze(&[1], &[4], false).is_err());
    }

    fn window(input: usize, kernel: i64, stride: i64) -> Window {
        Window { input: [input; 2], kernel: [kernel; 2], strides: [stride; 2], dilations: [1; 2] }
    }

    #[test]
    fn same_padding_matches_the_ceil_of_the_stride() {
        assert_eq!(window(224, 3, 2).same_pads(false), [0, 0, 1, 1]);
        assert_eq!(window(224, 3, 2).same_pads(true), [1, 1, 0, 0]);
        assert_eq!(window(5, 1, 2).same_pads(false), [0; 4]);
        assert_eq!(window(5, 5, 1).same_pads(false), [2; 4]);
    }

    #[test]
    fn ceil_mode_becomes_trailing_pads() {
        // 112 -> 56 with kernel 3, stride 2: one more column is needed.
        assert_eq!(window(112, 3, 2).ceil_pads([0; 4]), Some([0, 0, 1, 1]));
        assert_eq!(window(113, 3, 2).ceil_pads([0; 4]), Some([0; 4]));
        // The second window would start behind the input: it is left out.
        assert_eq!(window(2, 1, 3).ceil_pads([0; 4]), Some([0; 4]));
        assert_eq!(window(2, 5, 3).ceil_pads([0; 4]), None);
        // One window that is larger than the input.
        assert_eq!(window(1, 2, 2).ceil_pads([0; 4]), Some([0, 0, 1, 1]));
        assert_eq!(window(2, 3, 2).ceil_pads([0; 4]), Some([0, 0, 1, 1]));
    }

    #[test]
    fn absurd_windows_are_errors() {
        assert!(window(5, 0, 1).checked().is_err());
        assert!(window(5, 1, i64::MAX).checked().is_err());
        assert!(axis(i64::MIN, 4).is_err());
        assert!(checked_pads([0, 0, -1, 0]).is_err());
    }
}
