//! Resizing and conversions of 8-bit pictures with Pillow's arithmetic, bit by bit.
//!
//! A pass along an axis is a sum of products with weights of 22 fraction bits, rounded to 8 bits. Weights are those of a
//! filter that is as wide as the picture shrinks, so that all pixels count.

use super::pixels::{Mode, Pixels, mul_div_255};

/// Fraction bits of a weight.
const BITS: u32 = 22;

/// A filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// The pixel at the place.
    Nearest,
    /// The mean of the pixels under a box.
    Box,
    /// A triangle over 2 pixels of the smaller picture.
    Bilinear,
    /// A cubic over 4, with a = -0.5.
    Bicubic,
    /// A windowed sinc over 6.
    Lanczos,
}

/// Which axis is resized first. The first pass is rounded, so this is seen in the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Columns, as Pillow up to 12 does.
    #[default]
    Pillow12,
    /// Rows, where that leaves fewer pixels to do, as Pillow from 13 on does.
    Pillow13,
}

impl Filter {
    /// How far it reaches, in pixels of the smaller picture.
    fn support(self) -> f64 {
        match self {
            Filter::Nearest | Filter::Box => 0.5,
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    /// Its value at `x`.
    fn at(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
        match self {
            Filter::Nearest | Filter::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Filter::Bilinear => (1.0 - x.abs()).max(0.0),
            Filter::Bicubic => match x.abs() {
                x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
                x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
                _ => 0.0,
            },
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Filter::Lanczos => 0.0,
        }
    }
}

/// The source pixels of one place: the first, and the weight of each.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// The windows of `to` places along an axis of `from` pixels.
fn windows(from: usize, to: usize, filter: Filter) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let window = |place: usize| {
        let center = (place as f64 + 0.5) * scale;
        let first = ((center - support + 0.5) as usize).min(from);
        let end = ((center + support + 0.5) as usize).min(from);
        let value = |i: usize| filter.at((i as f64 + first as f64 - center + 0.5) * (1.0 / stretch));
        let values: Vec<f64> = (0..end.saturating_sub(first)).map(value).collect();
        let sum: f64 = values.iter().sum();
        let fixed = |v: &f64| {
            let share = if sum == 0.0 { *v } else { v / sum };
            (share * f64::from(1u32 << BITS) + if share < 0.0 { -0.5 } else { 0.5 }) as i32
        };
        Window { first, weights: values.iter().map(fixed).collect() }
    };
    (0..to).map(window).collect()
}

/// A sum of products as 8 bits. Sums wrap as C's do; no filter's weights come near that.
fn rounded(sum: i32) -> u8 {
    (sum.wrapping_add(1 << (BITS - 1)) >> BITS).clamp(0, 255) as u8
}

fn columns<const N: usize>(picture: &Pixels, windows: &[Window]) -> Vec<u8> {
    let mut out = Vec::with_capacity(picture.height * windows.len() * N);
    for row in picture.rows() {
        for Window { first, weights } in windows {
            let mut sums = [0i32; N];
            for (pixel, weight) in row[first * N..].chunks_exact(N).zip(weights) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum = sum.wrapping_add(i32::from(*value).wrapping_mul(*weight));
                }
            }
            out.extend(sums.map(rounded));
        }
    }
    out
}

fn with_width(picture: Pixels, width: usize, filter: Filter) -> Pixels {
    if width == picture.width {
        return picture;
    }
    let windows = windows(picture.width, width, filter);
    let data = match picture.channels {
        1 => columns::<1>(&picture, &windows),
        2 => columns::<2>(&picture, &windows),
        3 => columns::<3>(&picture, &windows),
        _ => columns::<4>(&picture, &windows),
    };
    Pixels { width, data, ..picture }
}

fn with_height(picture: Pixels, height: usize, filter: Filter) -> Pixels {
    if height == picture.height {
        return picture;
    }
    let mut data = Vec::with_capacity(height * picture.width * picture.channels);
    let mut sums = vec![0i32; picture.width * picture.channels];
    for Window { first, weights } in windows(picture.height, height, filter) {
        sums.fill(0);
        for (i, weight) in weights.iter().enumerate() {
            for (sum, value) in sums.iter_mut().zip(picture.row(first + i)) {
                *sum = sum.wrapping_add(i32::from(*value).wrapping_mul(*weight));
            }
        }
        data.extend(sums.iter().map(|sum| rounded(*sum)));
    }
    Pixels { height, data, ..picture }
}

/// The source of each of `to` places. Places are added up, so their rounding errors are as well.
fn nearest(from: usize, to: usize) -> Vec<usize> {
    let scale = from as f64 / to as f64;
    let mut place = scale * 0.5;
    let mut next = || {
        let at = (place as usize).min(from - 1);
        place += scale;
        at
    };
    (0..to).map(|_| next()).collect()
}

/// Whether the rows are resized first.
fn rows_first(picture: &Pixels, width: usize, height: usize, order: Order) -> bool {
    let fewer_rows = picture.height as i64 - height as i64;
    order == Order::Pillow13 && fewer_rows > 0 && fewer_rows > 2 * (picture.width as i64 - width as i64)
}

/// The size of what lies between the two passes.
pub(super) fn between(picture: &Pixels, (width, height): (usize, usize), order: Order) -> (usize, usize) {
    match rows_first(picture, width, height, order) {
        true => (picture.width, height),
        false => (width, picture.height),
    }
}

/// Resizes channels that do not depend on one another, to `(width, height)`. Neither picture is empty.
pub fn resize(picture: Pixels, (width, height): (usize, usize), filter: Filter, order: Order) -> Pixels {
    if filter == Filter::Nearest {
        return picture.picked(&nearest(picture.width, width), &nearest(picture.height, height));
    }
    match rows_first(&picture, width, height, order) {
        true => with_width(with_height(picture, height, filter), width, filter),
        false => with_height(with_width(picture, width, filter), height, filter),
    }
}

/// Resizes a picture in its own mode: colours are weighted by their alpha, and what is looked up is not filtered.
pub fn resize_mode(picture: Pixels, mode: Mode, size: (usize, usize), filter: Filter, order: Order) -> Pixels {
    match mode {
        Mode::Bilevel | Mode::Palette => resize(picture, size, Filter::Nearest, order),
        Mode::GrayAlpha | Mode::Rgba if filter != Filter::Nearest && size != (picture.width, picture.height) => {
            let mut picture = picture;
            let n = picture.channels;
            for pixel in picture.data.chunks_exact_mut(n) {
                let alpha = pixel[n - 1];
                pixel[..n - 1].iter_mut().for_each(|c| *c = mul_div_255(*c, alpha));
            }
            let mut picture = resize(picture, size, filter, order);
            for pixel in picture.data.chunks_exact_mut(n) {
                let alpha = pixel[n - 1];
                if alpha != 0 && alpha != 255 {
                    let full = |c: u8| (255 * u32::from(c) / u32::from(alpha)).min(255) as u8;
                    pixel[..n - 1].iter_mut().for_each(|c| *c = full(*c));
                }
            }
            picture
        }
        _ => resize(picture, size, filter, order),
    }
}

/// Luma of red, green and blue.
pub fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

/// Red, green and blue of four inks.
pub fn inks(pixel: &[u8]) -> [u8; 3] {
    let light = 255 - pixel[3];
    [0, 1, 2].map(|i| light.saturating_sub(mul_div_255(pixel[i], light)))
}
