//! Bilinear resizing of floats as TensorFlow does it where it does not antialias.

use super::pixels::Pixels;

/// Where the places of a resized picture lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Centers {
    /// `x * from / to`: TensorFlow 1, `align_corners=False`.
    Corner,
    /// `(x + 0.5) * from / to - 0.5`: TensorFlow 2.
    Half,
}

/// Two neighbours of a place, and the share of the second.
struct Pair {
    low: usize,
    high: usize,
    share: f32,
}

fn pairs(from: usize, to: usize, centers: Centers) -> Vec<Pair> {
    let scale = from as f32 / to as f32;
    let pair = |place: usize| {
        let at = match centers {
            Centers::Corner => place as f32 * scale,
            Centers::Half => (place as f32 + 0.5) * scale - 0.5,
        };
        let floor = at.floor();
        let high = ((floor + 1.0) as usize).min(from - 1);
        Pair { low: (floor.max(0.0) as usize).min(from - 1), high, share: at - floor }
    };
    (0..to).map(pair).collect()
}

/// The values of a picture resized to `(width, height)`, each as `number` of its byte. Neither picture is empty.
pub fn resize(
    picture: &Pixels,
    (width, height): (usize, usize),
    centers: Centers,
    number: impl Fn(u8) -> f32,
) -> Vec<f32> {
    let n = picture.channels;
    let columns = pairs(picture.width, width, centers);
    let mut out = Vec::with_capacity(width * height * n);
    for Pair { low, high, share: down } in pairs(picture.height, height, centers) {
        let (top, bottom) = (picture.row(low), picture.row(high));
        for Pair { low, high, share } in &columns {
            for c in 0..n {
                let mixed = |row: &[u8]| {
                    let (a, b) = (number(row[low * n + c]), number(row[high * n + c]));
                    a + (b - a) * share
                };
                let (a, b) = (mixed(top), mixed(bottom));
                out.push(a + (b - a) * down);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_as_in_either_version() {
        let picture = Pixels { width: 2, height: 1, channels: 1, data: vec![0, 100] };
        let at = |centers| resize(&picture, (4, 1), centers, f32::from);
        assert_eq!(at(Centers::Corner), [0.0, 50.0, 100.0, 100.0]);
        // Before the first centre, the share of the second is that of the place below: both are the first pixel.
        assert_eq!(at(Centers::Half), [0.0, 25.0, 75.0, 100.0]);
    }
}
