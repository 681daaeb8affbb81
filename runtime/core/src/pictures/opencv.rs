//! Resizing and conversions of 8-bit pictures with OpenCV's arithmetic, bit by bit.

use super::pixels::Pixels;

/// How a picture is resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// `INTER_NEAREST`: the pixel below the place.
    Nearest,
    /// `INTER_LINEAR`: a mean of 2 x 2 pixels, however much the picture shrinks.
    Linear,
    /// `INTER_AREA`: the mean of all pixels that become one.
    Area,
}

/// Fraction bits of a weight, as a factor.
const ONE: f32 = 2048.0;

/// Two neighbours of a place along an axis, and their weights.
struct Pair {
    at: [usize; 2],
    weights: [i32; 2],
}

/// How positions of linear interpolation follow from places.
#[derive(Clone, Copy)]
enum Centers {
    /// Half a pixel from the edge.
    Half,
    /// Those of an area that grows.
    Area,
}

/// OpenCV's step between places: two divisions.
fn step(from: usize, to: usize) -> f64 {
    1.0 / (to as f64 / from as f64)
}

/// The pairs of `to` places along an axis of `from` pixels. Beyond the edge, columns take the last pixel alone, while rows
/// keep their weights, each of the same pixel.
fn pairs(from: usize, to: usize, centers: Centers, rows: bool) -> Vec<Pair> {
    let scale = step(from, to);
    let pair = |place: usize| {
        let (floor, mut fraction) = match centers {
            Centers::Half => {
                let at = ((place as f64 + 0.5) * scale - 0.5) as f32;
                (at.floor() as i64, at - at.floor())
            }
            Centers::Area => {
                let floor = (place as f64 * scale).floor();
                let over = ((place as f64 + 1.0) - (floor + 1.0) * (to as f64 / from as f64)) as f32;
                (floor as i64, if over <= 0.0 { 0.0 } else { over - over.floor() })
            }
        };
        let last = from as i64 - 1;
        if !rows && (floor < 0 || floor >= last) {
            fraction = 0.0;
        }
        let inside = |i: i64| i.clamp(0, last) as usize;
        let weight = |x: f32| (x * ONE).round_ties_even() as i32;
        Pair { at: [inside(floor), inside(floor + 1)], weights: [weight(1.0 - fraction), weight(fraction)] }
    };
    (0..to).map(pair).collect()
}

/// Rows of sums of two columns, with 11 fraction bits.
fn summed_row(row: &[u8], n: usize, columns: &[Pair], out: &mut Vec<i32>) {
    out.clear();
    for Pair { at: [a, b], weights: [wa, wb] } in columns {
        let both = row[a * n..a * n + n].iter().zip(&row[b * n..b * n + n]);
        out.extend(both.map(|(a, b)| i32::from(*a) * wa + i32::from(*b) * wb));
    }
}

fn linear(picture: &Pixels, (width, height): (usize, usize), centers: Centers) -> Pixels {
    let columns = pairs(picture.width, width, centers, false);
    let mut data = Vec::with_capacity(width * height * picture.channels);
    // The sums of the two rows that are used last, each with its number.
    let mut rows: [(usize, Vec<i32>); 2] = [(usize::MAX, Vec::new()), (usize::MAX, Vec::new())];
    for Pair { at, weights: [wa, wb] } in pairs(picture.height, height, centers, true) {
        if rows[1].0 == at[0] {
            rows.swap(0, 1);
        }
        for ((known, sums), y) in rows.iter_mut().zip(at) {
            if *known != y {
                summed_row(picture.row(y), picture.channels, &columns, sums);
                *known = y;
            }
        }
        let mixed = |(a, b): (&i32, &i32)| {
            let sum = ((wa * (a >> 4)) >> 16) + ((wb * (b >> 4)) >> 16);
            ((sum + 2) >> 2).clamp(0, 255) as u8
        };
        data.extend(rows[0].1.iter().zip(&rows[1].1).map(mixed));
    }
    Pixels { width, height, channels: picture.channels, data }
}

/// Means of boxes of `x` by `y` pixels.
fn boxes(picture: &Pixels, (width, height): (usize, usize), x: usize, y: usize) -> Pixels {
    let n = picture.channels;
    let factor = 1.0f32 / (x * y) as f32;
    let mean = |sum: u32| match (x, y) {
        (2, 2) => ((sum + 2) >> 2) as u8,
        _ => (sum as f32 * factor).round_ties_even().clamp(0.0, 255.0) as u8,
    };
    let mut data = Vec::with_capacity(width * height * n);
    let mut sums = vec![0u32; width * n];
    for place in 0..height {
        sums.fill(0);
        for row in (place * y..(place + 1) * y).map(|y| picture.row(y)) {
            for (sums, pixels) in sums.chunks_exact_mut(n).zip(row.chunks_exact(n * x)) {
                for pixel in pixels.chunks_exact(n) {
                    sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u32::from(*value));
                }
            }
        }
        data.extend(sums.iter().map(|sum| mean(*sum)));
    }
    Pixels { width, height, channels: n, data }
}

/// The source pixels of one place, each with its share.
type Shares = Vec<(usize, f32)>;

/// The shares of pixels in `to` places along an axis of `from` pixels, of which there are more.
fn shares(from: usize, to: usize) -> Vec<Shares> {
    const LEAST: f64 = 1e-3;
    let scale = step(from, to);
    let place = |place: usize| {
        let begin = place as f64 * scale;
        let end = begin + scale;
        let size = scale.min(from as f64 - begin);
        let last = (end.floor() as usize).min(from - 1);
        let first = (begin.ceil() as usize).min(last);
        let mut shares = Shares::new();
        if first as f64 - begin > LEAST && first > 0 {
            shares.push((first - 1, ((first as f64 - begin) / size) as f32));
        }
        shares.extend((first..last).map(|i| (i, (1.0 / size) as f32)));
        if end - last as f64 > LEAST {
            shares.push((last, ((end - last as f64).min(1.0).min(size) / size) as f32));
        }
        shares
    };
    (0..to).map(place).collect()
}

/// Means of areas whose edges cut pixels: f32 sums along each row, then over rows, in this order and without fma.
fn areas(picture: &Pixels, (width, height): (usize, usize)) -> Pixels {
    let n = picture.channels;
    let columns = shares(picture.width, width);
    let mut data = Vec::with_capacity(width * height * n);
    let mut row = vec![0f32; width * n];
    let mut sums = vec![0f32; width * n];
    for rows in shares(picture.height, height) {
        for (i, (y, share)) in rows.iter().enumerate() {
            let source = picture.row(*y);
            for (to, shares) in row.chunks_exact_mut(n).zip(&columns) {
                to.fill(0.0);
                for (x, share) in shares {
                    let pixel = &source[x * n..(x + 1) * n];
                    to.iter_mut().zip(pixel).for_each(|(to, value)| *to += f32::from(*value) * share);
                }
            }
            for (sum, value) in sums.iter_mut().zip(&row) {
                *sum = if i == 0 { share * value } else { *sum + share * value };
            }
        }
        data.extend(sums.iter().map(|x| x.round_ties_even().clamp(0.0, 255.0) as u8));
    }
    Pixels { width, height, channels: n, data }
}

fn area(picture: &Pixels, size: (usize, usize)) -> Pixels {
    let (x, y) = (step(picture.width, size.0), step(picture.height, size.1));
    if x < 1.0 || y < 1.0 {
        return linear(picture, size, Centers::Area);
    }
    let whole = |x: f64| (x - x.round_ties_even()).abs() < f64::EPSILON;
    match whole(x) && whole(y) {
        true => boxes(picture, size, x.round_ties_even() as usize, y.round_ties_even() as usize),
        false => areas(picture, size),
    }
}

fn nearest(picture: &Pixels, (width, height): (usize, usize)) -> Pixels {
    let places = |from: usize, to: usize| -> Vec<usize> {
        let scale = step(from, to);
        (0..to).map(|place| ((place as f64 * scale).floor() as usize).min(from - 1)).collect()
    };
    picture.picked(&places(picture.width, width), &places(picture.height, height))
}

/// Resizes a picture to `(width, height)`. Neither picture is empty.
pub fn resize(picture: Pixels, size: (usize, usize), interpolation: Interpolation) -> Pixels {
    let (width, height) = (picture.width, picture.height);
    if size == (width, height) {
        return picture;
    }
    match interpolation {
        Interpolation::Nearest => nearest(&picture, size),
        // Half of a picture in both directions is the mean of four pixels.
        Interpolation::Linear if (width, height) == (2 * size.0, 2 * size.1) => boxes(&picture, size, 2, 2),
        Interpolation::Linear => linear(&picture, size, Centers::Half),
        Interpolation::Area => area(&picture, size),
    }
}

/// Luma of red, green and blue.
pub fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((u32::from(r) * 9798 + u32::from(g) * 19235 + u32::from(b) * 3735 + (1 << 14)) >> 15) as u8
}

/// Red, green and blue of four inks.
pub fn inks(pixel: &[u8]) -> [u8; 3] {
    let light = i32::from(255 - pixel[3]);
    [0, 1, 2].map(|i| (light - ((i32::from(pixel[i]) * light) >> 8)).clamp(0, 255) as u8)
}
