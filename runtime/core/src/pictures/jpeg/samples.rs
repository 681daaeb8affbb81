//! Channels of different sizes as pixels: chroma is interpolated by triangles where its samples are half as many, and
//! repeated elsewhere; then colours are converted.

use super::Component;

/// How a channel gets the picture's size.
#[derive(Clone, Copy)]
enum Growth {
    /// Each sample is repeated this often, across and down.
    Repeated(usize, usize),
    /// Twice as many, across, down, or both; each is 3/4 of the nearer and 1/4 of the farther sample.
    Across,
    Down,
    Both,
}

fn growth(component: &Component, most: (usize, usize)) -> Growth {
    match (most.0 / component.h, most.1 / component.v) {
        (2, 1) if component.width > 2 => Growth::Across,
        (2, 2) if component.width > 2 => Growth::Both,
        (1, 2) => Growth::Down,
        (h, v) => Growth::Repeated(h, v),
    }
}

/// Twice as many values: each is 3 parts of the nearer and 1 of the farther, in units of `1 << bits`. Roundings alternate,
/// those of `left` and `right` of a value.
fn doubled(values: &[i32], (bits, left, right): (u32, i32, i32), out: &mut Vec<u8>) {
    let last = values.len() - 1;
    for (i, value) in values.iter().enumerate() {
        let (before, after) = (values[i.saturating_sub(1)], values[(i + 1).min(last)]);
        out.push(((3 * value + before + left) >> bits) as u8);
        out.push(((3 * value + after + right) >> bits) as u8);
    }
}

/// Row `y` of the picture of a channel, at least as long as the picture's.
fn row(component: &Component, growth: Growth, y: usize, out: &mut Vec<u8>) {
    out.clear();
    // The farther of the two rows of samples that a row lies between.
    let farther = || component.row(if y.is_multiple_of(2) { (y / 2).saturating_sub(1) } else { y / 2 + 1 });
    let mixed = || component.row(y / 2).iter().zip(farther()).map(|(a, b)| 3 * i32::from(*a) + i32::from(*b));
    match growth {
        Growth::Repeated(1, v) => out.extend_from_slice(component.row(y / v)),
        Growth::Repeated(h, v) => out.extend(component.row(y / v).iter().flat_map(|x| std::iter::repeat_n(*x, h))),
        Growth::Across => {
            let values: Vec<i32> = component.row(y).iter().map(|x| i32::from(*x)).collect();
            doubled(&values, (2, 1, 2), out);
        }
        Growth::Down => out.extend(mixed().map(|sum| ((sum + if y.is_multiple_of(2) { 1 } else { 2 }) >> 2) as u8)),
        Growth::Both => doubled(&mixed().collect::<Vec<i32>>(), (4, 8, 7), out),
    }
}

/// A factor of 16 fraction bits.
const fn fixed(x: f64) -> i32 {
    (x * 65536.0 + 0.5) as i32
}

/// Red, green and blue of luma and chroma.
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = (fixed(1.402) * cr + HALF) >> 16;
    let green = (-fixed(0.71414) * cr - fixed(0.34414) * cb + HALF) >> 16;
    let blue = (fixed(1.772) * cb + HALF) >> 16;
    [red, green, blue].map(|d| (y + d).clamp(0, 255) as u8)
}

/// The pixels of a picture of this width and height, in rows of interleaved channels.
pub(super) fn join(components: &[Component], (width, height): (usize, usize), is_ycc: bool) -> Vec<u8> {
    let most = components.iter().fold((1, 1), |m, c| (m.0.max(c.h), m.1.max(c.v)));
    let growths: Vec<Growth> = components.iter().map(|c| growth(c, most)).collect();
    let mut rows = vec![Vec::new(); components.len()];
    let mut out = Vec::with_capacity(width * height * components.len());
    for y in 0..height {
        for ((component, growth), to) in components.iter().zip(&growths).zip(&mut rows) {
            row(component, *growth, y, to);
        }
        match (&rows[..], is_ycc) {
            ([one], _) => out.extend_from_slice(&one[..width]),
            ([a, b, c], true) => out.extend((0..width).flat_map(|x| rgb(a[x], b[x], c[x]))),
            ([a, b, c, k], true) => out.extend((0..width).flat_map(|x| {
                let [r, g, b] = rgb(a[x], b[x], c[x]);
                [255 - r, 255 - g, 255 - b, k[x]]
            })),
            _ => out.extend((0..width).flat_map(|x| rows.iter().map(move |row| row[x]))),
        }
    }
    out
}
