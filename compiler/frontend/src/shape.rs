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

/// One dim of the window of a convolution or pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Side {
    pub input: usize,
    pub kernel: i64,
    pub stride: i64,
    pub dilation: i64,
    /// In front and behind.
    pub pads: [i64; 2],
}

impl Side {
    /// The window of one element over a dim of `input`, which it keeps.
    pub fn unit(input: usize) -> Side {
        Side { input, kernel: 1, stride: 1, dilation: 1, pads: [0, 0] }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// When one is out of bounds.
    pub fn checked(self) -> Result<Side, Refusal> {
        let Side { kernel, stride, dilation, pads, .. } = self;
        if [kernel, stride, dilation].iter().any(|n| !(1..=MAX_WINDOW).contains(n)) {
            let text = format!("kernel {kernel}, stride {stride}, dilation {dilation}");
            return Err(Refusal::invalid(format!("{text}: a number is not positive or is absurd")));
        }
        checked_pads(&pads)?;
        Ok(self)
    }

    /// Elements from the first tap to the last.
    pub fn reach(&self) -> i64 {
        self.dilation * (self.kernel - 1) + 1
    }

    /// How far the taps of the transposed window reach.
    pub fn spread(&self) -> i64 {
        self.stride * (self.input as i64 - 1) + self.reach()
    }

    /// The number of windows; `None` if none fits.
    pub fn count(&self) -> Option<usize> {
        let room = self.input as i64 + self.pads[0] + self.pads[1] - self.reach();
        usize::try_from(room).ok().map(|room| room / self.stride as usize + 1)
    }

    /// With pads so that the output is `ceil(input / stride)`; the odd one goes behind, or in front if `odd_first`.
    pub fn same(self, odd_first: bool) -> Side {
        let input = self.input as i64;
        let out = (input + self.stride - 1) / self.stride;
        let total = ((out - 1) * self.stride + self.reach() - input).max(0);
        let first = if odd_first { (total + 1) / 2 } else { total / 2 };
        Side { pads: [first, total - first], ..self }
    }

    /// With a trailing pad with which the floor formula gives the ceil formula's output size, leaving out a window that starts
    /// behind the input and its leading pad; `None` if no such pad exists.
    pub fn ceiled(self) -> Option<Side> {
        let (stride, input, [front, behind]) = (self.stride, self.input as i64, self.pads);
        let room = input + front + behind - self.reach();
        // A window that begins inside counts, even if the input is smaller.
        let mut count = (room + stride - 1).div_euclid(stride) + 1;
        if count < 1 {
            return None;
        }
        if (count - 1) * stride >= input + front {
            count -= 1;
        }
        let least = (count - 1) * stride + self.reach() - input - front;
        let behind = behind.clamp(least, least + stride - 1);
        (behind >= 0).then_some(Side { pads: [front, behind], ..self })
    }
}

/// Refuses pads that are negative or absurd.
pub(crate) fn checked_pads(pads: &[i64]) -> Result<(), Refusal> {
    match pads.iter().all(|p| (0..=MAX_WINDOW).contains(p)) {
        true => Ok(()),
        false => Err(Refusal::unsupported(format!("the pads {pads:?} are negative or absurd"))),
    }
}

/// One number per dim from a list; one number stands for all.
///
/// # Errors
/// For any other count.
pub(crate) fn per_dim(name: &str, list: &[i64], dims: usize) -> Result<Vec<i64>, Refusal> {
    match list {
        [a] => Ok(vec![*a; dims]),
        _ if list.len() == dims => Ok(list.to_vec()),
        _ => Err(Refusal::invalid(format!("`{name}` has {} numbers for {dims} dims", list.len()))),
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

    fn side(input: usize, kernel: i64, stride: i64) -> Side {
        Side { input, kernel, stride, dilation: 1, pads: [0, 0] }
    }

    #[test]
    fn same_padding_matches_the_ceil_of_the_stride() {
        assert_eq!(side(224, 3, 2).same(false).pads, [0, 1]);
        assert_eq!(side(224, 3, 2).same(true).pads, [1, 0]);
        assert_eq!(side(5, 1, 2).same(false).pads, [0, 0]);
        assert_eq!(side(5, 5, 1).same(false).pads, [2, 2]);
    }

    #[test]
    fn ceil_mode_becomes_trailing_pads() {
        let pads = |side: Side| side.ceiled().map(|s| s.pads);
        // 112 -> 56 with kernel 3, stride 2: one more column is needed.
        assert_eq!(pads(side(112, 3, 2)), Some([0, 1]));
        assert_eq!(pads(side(113, 3, 2)), Some([0, 0]));
        // The second window would start behind the input: it is left out.
        assert_eq!(pads(side(2, 1, 3)), Some([0, 0]));
        assert_eq!(pads(side(2, 5, 3)), None);
        // One window that is larger than the input.
        assert_eq!(pads(side(1, 2, 2)), Some([0, 1]));
        assert_eq!(pads(side(2, 3, 2)), Some([0, 1]));
    }

    #[test]
    fn absurd_windows_are_errors() {
        assert!(side(5, 0, 1).checked().is_err());
        assert!(side(5, 1, i64::MAX).checked().is_err());
        assert!(axis(i64::MIN, 4).is_err());
        assert!(checked_pads(&[0, 0, -1, 0]).is_err());
        assert_eq!(side(5, 6, 1).count(), None);
    }
}
