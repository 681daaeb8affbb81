//! Carries a preset out: sizes and cuts, then numbers.

use super::Size;
use super::decode::{Picture, to_gray, to_rgb};
use super::pixels::{Mode, Pixels};
use super::preset::{Bounded, Channels, Crop, Fit, Layout, Preset, Reading, Resampling, Scale, Short, Sides};
use super::{opencv, pillow, tensorflow};

/// Most pixels of a picture that grows: a strip whose short side becomes a model's is long.
const MAX_SCALED_PIXELS: usize = 1 << 23;
/// Grey around a letterbox.
const PADDING: u8 = 114;
/// What sides of pictures with text are multiples of.
const TEXT_UNIT: usize = 32;

/// A picture as a model takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// Its height and width.
    pub size: Size,
    /// Its pixels after resizing and cutting, in red, green and blue or gray; none where it was resized in floats.
    pub pixels: Option<Pixels>,
    /// Its numbers, in the model's order and layout.
    pub values: Vec<f32>,
}

/// Where the pixels of a result come from.
struct Plan {
    /// What is cut out first: left, top, width and height.
    before: Option<(usize, usize, usize, usize)>,
    /// Width and height it is resized to.
    scaled: (usize, usize),
    /// Where the result begins in that; negative for padding.
    start: (isize, isize),
    /// Width and height of the result.
    result: (usize, usize),
    /// What padding holds.
    padding: u8,
}

impl Plan {
    fn scaled(width: usize, height: usize) -> Plan {
        Plan { before: None, scaled: (width, height), start: (0, 0), result: (width, height), padding: 0 }
    }
}

/// Rounded half to even.
fn round(x: f64) -> usize {
    x.round_ties_even() as usize
}

/// `n` items where there are `free` more: the first of them.
fn start(free: isize, crop: Crop) -> isize {
    match crop {
        Crop::HalfEven if free >= 0 => (free as f64 / 2.0).round_ties_even() as isize,
        // A smaller picture is padded by half of what it lacks, without its fraction.
        Crop::HalfEven => free / 2,
        Crop::Floor => free.div_euclid(2),
    }
}

/// A picture scaled to `scaled`, out of which the model's size is cut.
fn cut(scaled: (usize, usize), size: Size, crop: Crop) -> Plan {
    let free = |whole: usize, part: usize| whole as isize - part as isize;
    let start = (start(free(scaled.0, size.width), crop), start(free(scaled.1, size.height), crop));
    Plan { start, result: (size.width, size.height), ..Plan::scaled(scaled.0, scaled.1) }
}

fn short_side((w, h): (usize, usize), size: Size, short: Short, sides: Sides, crop: Crop) -> Plan {
    let short = match short {
        Short::Pixels(n) => n,
        Short::Ratio(a, b) => round(size.height.max(size.width) as f64 * a as f64 / b as f64),
    };
    let (least, most) = (w.min(h), w.max(h));
    let (width, height) = match sides {
        Sides::Rounded => {
            let factor = short as f64 / least as f64;
            (round(w as f64 * factor), round(h as f64 * factor))
        }
        Sides::Truncated => {
            let long = (short as f64 * most as f64 / least as f64) as usize;
            if w <= h { (short, long) } else { (long, short) }
        }
    };
    cut((width, height), size, crop)
}

fn letterbox((w, h): (usize, usize), size: Size, grow: bool, centred: bool, stride: Option<usize>) -> Plan {
    let ratio = (size.height as f64 / h as f64).min(size.width as f64 / w as f64);
    let ratio = if grow { ratio } else { ratio.min(1.0) };
    let (width, height) = (round(w as f64 * ratio), round(h as f64 * ratio));
    let free = |whole: usize, part: usize| {
        let free = whole.saturating_sub(part);
        stride.map_or(free, |n| free % n)
    };
    let (across, down) = (free(size.width, width), free(size.height, height));
    // Halves go to the right and below.
    let half = |free: usize| if centred { round((free as f64 / 2.0 - 0.1).max(0.0)) as isize } else { 0 };
    Plan {
        start: (-half(across), -half(down)),
        result: (width + across, height + down),
        padding: PADDING,
        ..Plan::scaled(width, height)
    }
}

fn text_box((w, h): (usize, usize), bounded: Bounded, limit: usize) -> Plan {
    let ratio = match bounded {
        Bounded::Longer if w.max(h) > limit => limit as f64 / w.max(h) as f64,
        Bounded::Shorter if w.min(h) < limit => limit as f64 / w.min(h) as f64,
        _ => 1.0,
    };
    let side = |n: usize| {
        let units = round((n as f64 * ratio).floor() / TEXT_UNIT as f64);
        (units * TEXT_UNIT).max(TEXT_UNIT)
    };
    Plan::scaled(side(w), side(h))
}

/// A line of text: the width that its height gives, at most that of the model, or, without a model, of a line.
fn text_line((w, h): (usize, usize), line: Size, fixed: bool) -> (Plan, usize) {
    let (height, ratio) = (line.height as f64, w as f64 / h as f64);
    let widest = if fixed { line.width } else { (height * (line.width as f64 / height).max(ratio)) as usize };
    let width = ((height * ratio).ceil() as usize).min(widest);
    (Plan::scaled(width, line.height), widest)
}

impl Preset {
    /// Prepares a decoded picture, for a model's `size` or for that which the preset itself gives.
    ///
    /// # Errors
    /// A sentence, when the picture cannot be brought to a size, or the preset has none.
    pub fn prepare(&self, picture: Picture, size: Option<Size>) -> Result<Prepared, String> {
        if picture.mode == Mode::Gray16 && !self.reading.orients() {
            let text =
                "it is gray of 16 bits, of which Pillow would keep the values below 256 only; save it with 8 bits";
            return Err(format!("{text}, or use a preset that reads as OpenCV does"));
        }
        let picture = if self.reading.orients() { picture.upright() } else { picture };
        let Picture { pixels, mode, .. } = picture;
        let (mut pixels, mode) = match self.reading {
            Reading::PillowOwnMode => (pixels, mode),
            _ => (self.converted(pixels, mode), if self.channels == Channels::Gray { Mode::Gray } else { Mode::Rgb }),
        };
        if matches!(self.fit, Fit::TextBox(..)) && pixels.width + pixels.height < 2 * TEXT_UNIT {
            let (width, height) = (pixels.width.max(TEXT_UNIT), pixels.height.max(TEXT_UNIT));
            pixels = pixels.cut((0, 0), width, height, 0);
        }
        let (plan, line) = self.plan(&pixels, size)?;
        if let Some((left, top, width, height)) = plan.before {
            pixels = pixels.cut((left as isize, top as isize), width, height, 0);
        }
        self.check(&pixels, &plan)?;
        if let Resampling::TensorFlow(centers) = self.resampling {
            return Ok(self.in_floats(&pixels, &plan, centers));
        }
        let pixels = match self.resampling {
            Resampling::OpenCv(interpolation) => opencv::resize(pixels, plan.scaled, interpolation),
            Resampling::Pillow(filter, order) => pillow::resize_mode(pixels, mode, plan.scaled, filter, order),
            Resampling::TensorFlow(_) => pixels,
        };
        let pixels = match (plan.start, plan.result) {
            ((0, 0), result) if result == (pixels.width, pixels.height) => pixels,
            (start, (width, height)) => pixels.cut(start, width, height, plan.padding),
        };
        let pixels = if self.reading == Reading::PillowOwnMode { self.converted(pixels, mode) } else { pixels };
        Ok(self.numbered(pixels, line))
    }

    /// Pixels of `mode` as gray, or as red, green and blue.
    fn converted(&self, pixels: Pixels, mode: Mode) -> Pixels {
        match self.channels {
            Channels::Gray => to_gray(pixels, mode, self.reading.library()),
            Channels::Rgb | Channels::Bgr => to_rgb(pixels, mode, self.reading.library()),
        }
    }

    /// What becomes of a picture of this size, and the width of a line of text.
    fn plan(&self, pixels: &Pixels, size: Option<Size>) -> Result<(Plan, Option<usize>), String> {
        let from = (pixels.width, pixels.height);
        let to = || {
            let text = format!("preset {} has no size of its own; give one", self.name);
            size.or(self.size).ok_or(text)
        };
        let plan = match self.fit {
            Fit::Keep => Plan::scaled(from.0, from.1),
            Fit::Cut => cut(from, to()?, self.crop),
            Fit::Stretch => to().map(|size| Plan::scaled(size.width, size.height))?,
            Fit::ShortSide(short, sides) => short_side(from, to()?, short, sides, self.crop),
            Fit::Centre(thousandths) => {
                let cut = |n: usize| ((n as f64 - n as f64 * (thousandths as f64 / 1000.0)) / 2.0) as usize;
                let (left, top) = (cut(from.0), cut(from.1));
                let size = to()?;
                let before = Some((left, top, from.0 - 2 * left, from.1 - 2 * top));
                Plan { before, ..Plan::scaled(size.width, size.height) }
            }
            Fit::Letterbox { grow, centred, stride } => letterbox(from, to()?, grow, centred, stride),
            Fit::TextBox(bounded, limit) => text_box(from, bounded, limit),
            Fit::TextLine => {
                let (plan, width) = text_line(from, to()?, size.is_some());
                return Ok((plan, Some(width)));
            }
        };
        Ok((plan, None))
    }

    /// Refuses to make much of little, and nothing of something.
    fn check(&self, from: &Pixels, plan: &Plan) -> Result<(), String> {
        let (w, h) = (from.width, from.height);
        let pixels = |(width, height): (usize, usize)| width.saturating_mul(height);
        let between = match self.resampling {
            Resampling::Pillow(_, order) => pixels(pillow::between(from, plan.scaled, order)),
            _ => 0,
        };
        if pixels(plan.scaled).max(between) > MAX_SCALED_PIXELS.max(w * h) {
            return Err(format!("{w} x {h} pixels are too narrow a strip to be scaled"));
        }
        match pixels(plan.scaled) {
            0 => Err(format!("{w} x {h} pixels would be scaled to none")),
            _ => Ok(()),
        }
    }

    /// The channel of pixels that is channel `c` of the model.
    fn stored(&self, c: usize) -> usize {
        if self.channels == Channels::Bgr { 2 - c } else { c }
    }

    /// The numbers of pixels, in rows that are `line` wide with zeros behind, or as wide as the pixels.
    fn numbered(&self, pixels: Pixels, line: Option<usize>) -> Prepared {
        let size = Size { height: pixels.height, width: line.unwrap_or(pixels.width) };
        let n = self.channels.count();
        let mut values = vec![0.0; self.values(size)];
        for c in 0..n {
            let (numbers, stored) = (self.numbers(c), self.stored(c));
            for (y, row) in pixels.rows().enumerate() {
                for (x, pixel) in row.chunks_exact(n).enumerate() {
                    values[self.place(size, c, y, x)] = numbers[usize::from(pixel[stored])];
                }
            }
        }
        Prepared { size, pixels: Some(pixels), values }
    }

    fn place(&self, size: Size, c: usize, y: usize, x: usize) -> usize {
        match self.layout {
            Layout::Chw => (c * size.height + y) * size.width + x,
            Layout::Hwc => (y * size.width + x) * self.channels.count() + c,
        }
    }

    fn in_floats(&self, pixels: &Pixels, plan: &Plan, centers: tensorflow::Centers) -> Prepared {
        let scaled = |x: u8| match self.scale {
            Scale::Divide(by) => f32::from(x) / by,
            Scale::Multiply(by) => f32::from(x) * by,
        };
        let (width, height) = plan.scaled;
        let size = Size { height, width };
        let n = self.channels.count();
        let mut values = vec![0.0; self.values(size)];
        for (i, pixel) in tensorflow::resize(pixels, plan.scaled, centers, scaled).chunks_exact(n).enumerate() {
            for c in 0..n {
                let value = self.normalized(pixel[self.stored(c)], self.mean[c], self.std[c]);
                values[self.place(size, c, i / width, i % width)] = value;
            }
        }
        Prepared { size, pixels: None, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_where_each_library_puts_them() {
        assert_eq!([31, 30, 29, 0, -1, -3].map(|n| start(n, Crop::HalfEven)), [16, 15, 14, 0, 0, -1]);
        assert_eq!([31, 30, 29, 0, -1, -3].map(|n| start(n, Crop::Floor)), [15, 15, 14, 0, -1, -2]);
    }

    #[test]
    fn a_wide_picture_is_scaled_by_its_short_side() {
        let size = Size { height: 224, width: 224 };
        let scaled = |from, sides| short_side(from, size, Short::Ratio(256, 224), sides, Crop::Floor).scaled;
        assert_eq!(scaled((512, 256), Sides::Rounded), (512, 256));
        assert_eq!(scaled((1000, 500), Sides::Truncated), (512, 256));
        assert_eq!(scaled((1, 1), Sides::Rounded), (256, 256));
        assert_eq!(
            (scaled((257, 300), Sides::Rounded), scaled((257, 300), Sides::Truncated)),
            ((256, 299), (256, 298))
        );
        let wide = Size { height: 32, width: 64 };
        assert_eq!(short_side((300, 400), wide, Short::Ratio(256, 224), Sides::Rounded, Crop::Floor).scaled, (73, 97));
    }

    #[test]
    fn a_letterbox_may_be_at_the_corner_and_no_larger_than_it_must() {
        let size = Size { height: 64, width: 64 };
        let plan = letterbox((100, 50), size, true, true, None);
        assert_eq!((plan.scaled, plan.start, plan.result), ((64, 32), (0, -16), (64, 64)));
        let plan = letterbox((100, 50), size, true, true, Some(32));
        assert_eq!((plan.start, plan.result), ((0, 0), (64, 32)));
        let plan = letterbox((20, 11), size, false, false, None);
        assert_eq!((plan.scaled, plan.start, plan.result), ((20, 11), (0, 0), (64, 64)));
    }
}
