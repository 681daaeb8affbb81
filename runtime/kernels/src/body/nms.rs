//! Choosing boxes that overlap no better one: scalar code, since what it waits for are comparisons.

use super::choose::{at, sink, sort};
use super::simd::Simd;
use crate::args::NmsArgs;
use crate::wide::{exp, order};

/// A box of a picture that stayed: its number of [`order`], whose place is the number among those that stayed; its class and place.
#[repr(C)]
#[derive(Clone, Copy)]
struct Kept {
    key: u64,
    class: u32,
    place: u32,
}

#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn less(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The overlap of boxes by their corners in any order or by centres, as [`NmsArgs`] says.
#[inline(always)]
fn overlap_of_any(a: [f32; 4], b: [f32; 4], centred: bool) -> f32 {
    let spans = |c: [f32; 4], d: usize| match centred {
        true => (c[d] - c[d + 2] / 2.0, c[d] + c[d + 2] / 2.0),
        false => (less(c[d], c[d + 2]), greater(c[d], c[d + 2])),
    };
    let ((a0, a1), (a2, a3), (b0, b1), (b2, b3)) = (spans(a, 0), spans(a, 1), spans(b, 0), spans(b, 1));
    let (low, high) = (greater(a0, b0), less(a1, b1));
    let (low2, high2) = (greater(a2, b2), less(a3, b3));
    if high <= low || high2 <= low2 {
        return 0.0;
    }
    let common = (high - low) * (high2 - low2);
    let (first, second) = ((a1 - a0) * (a3 - a2), (b1 - b0) * (b3 - b2));
    let all = first + second - common;
    if common <= 0.0 || first <= 0.0 || second <= 0.0 || all <= 0.0 { 0.0 } else { common / all }
}

/// The overlap of boxes by corners in order, whose sides are `more` longer than the differences.
#[inline(always)]
fn overlap_in_order(a: [f32; 4], b: [f32; 4], more: f32) -> f32 {
    if b[0] > a[2] || b[2] < a[0] || b[1] > a[3] || b[3] < a[1] {
        return 0.0;
    }
    let area = |c: [f32; 4]| match c[2] < c[0] || c[3] < c[1] {
        true => 0.0,
        false => (c[2] - c[0] + more) * (c[3] - c[1] + more),
    };
    let wide = less(a[2], b[2]) - greater(a[0], b[0]) + more;
    let high = less(a[3], b[3]) - greater(a[1], b[1]) + more;
    let common = wide * high;
    common / (area(a) + area(b) - common)
}

#[inline(always)]
fn overlap(a: [f32; 4], b: [f32; 4], form: usize) -> f32 {
    match form {
        0 | 1 => overlap_of_any(a, b, form == 1),
        _ => overlap_in_order(a, b, if form == 3 { 1.0 } else { 0.0 }),
    }
}

/// Box `place` of a picture.
///
/// # Safety
/// There is one.
#[inline(always)]
unsafe fn box_at(boxes: *const f32, place: u32) -> [f32; 4] {
    let first = boxes.wrapping_add(4 * place as usize);
    // SAFETY: the caller's guarantee.
    unsafe {
        [
            first.read_unaligned(),
            first.wrapping_add(1).read_unaligned(),
            first.wrapping_add(2).read_unaligned(),
            first.wrapping_add(3).read_unaligned(),
        ]
    }
}

/// Fills `order` with the candidates of a class in order and gives their number.
///
/// # Safety
/// `scores` are those of a class of `g`.
#[inline(always)]
unsafe fn candidates(g: &NmsArgs, scores: *const f32) -> usize {
    let (numbers, mut count) = (g.order.cast::<u64>(), 0);
    // SAFETY: there are `size` scores, and room for as many numbers.
    unsafe {
        for i in 0..g.size {
            let score = scores.wrapping_add(i).read_unaligned();
            if score > g.score {
                numbers.wrapping_add(count).write_unaligned(order(score, i, false));
                count += 1;
            }
        }
        sort(numbers, count);
    }
    if count < g.limit { count } else { g.limit }
}

/// The place that a number of [`order`] has.
#[inline(always)]
fn place_of(number: u64) -> u32 {
    !(number as u32)
}

/// A picture: its boxes, its scores, and those of its boxes that stayed.
struct Image<'g> {
    g: &'g NmsArgs,
    boxes: *const f32,
    scores: *const u8,
    kept: *mut Kept,
    count: usize,
}

impl Image<'_> {
    #[inline(always)]
    fn scores_of(&self, class: usize) -> *const f32 {
        self.scores.wrapping_add(class * self.g.score_class).cast()
    }

    /// # Safety
    /// There is room: no more than `each` of a class are added.
    #[inline(always)]
    unsafe fn add(&mut self, score: f32, class: usize, place: u32) {
        let one = Kept { key: order(score, self.count, false), class: class as u32, place };
        // SAFETY: the caller's guarantee.
        unsafe { self.kept.wrapping_add(self.count).write_unaligned(one) };
        self.count += 1;
    }

    /// # Safety
    /// The arguments keep their contract.
    #[inline(always)]
    unsafe fn choose(&mut self, class: usize) {
        let (g, scores, first) = (self.g, self.scores_of(class), self.count);
        let mut threshold = g.iou;
        // SAFETY: candidates are boxes of the picture, and no more than `each` are added.
        unsafe {
            let count = candidates(g, scores);
            for i in 0..count {
                if self.count - first >= g.each {
                    break;
                }
                let place = place_of(at(g.order.cast(), i));
                let own = box_at(self.boxes, place);
                let mut stays = true;
                for k in first..self.count {
                    let better = self.kept.wrapping_add(k).read_unaligned().place;
                    let common = overlap(own, box_at(self.boxes, better), g.form);
                    if common > threshold || common.is_nan() {
                        stays = false;
                        break;
                    }
                }
                if stays {
                    self.add(scores.wrapping_add(place as usize).read_unaligned(), class, place);
                    if g.eta < 1.0 && threshold > 0.5 {
                        threshold *= g.eta;
                    }
                }
            }
        }
    }

    /// # Safety
    /// The arguments keep their contract.
    #[inline(always)]
    unsafe fn decay(&mut self, class: usize) {
        let (g, scores, numbers) = (self.g, self.scores_of(class), self.g.order.cast::<u64>());
        // SAFETY: candidates are boxes of the picture; what a number is above its place is used no more, and gets the overlap.
        unsafe {
            let count = candidates(g, scores);
            for i in 0..count {
                let place = place_of(at(numbers, i));
                let own = box_at(self.boxes, place);
                let (mut most, mut factor) = (0.0, 1.0);
                for k in 0..i {
                    let better = at(numbers, k);
                    let common = overlap(own, box_at(self.boxes, place_of(better)), g.form);
                    most = greater(common, most);
                    let before = f32::from_bits((better >> 32) as u32);
                    let one = match g.sigma > 0.0 {
                        true => exp((before * before - common * common) * g.sigma),
                        false => (1.0 - common) / (1.0 - before),
                    };
                    factor = less(one, factor);
                }
                numbers.wrapping_add(i).write_unaligned(u64::from(most.to_bits()) << 32 | u64::from(!place));
                let score = factor * scores.wrapping_add(place as usize).read_unaligned();
                if score > g.post {
                    self.add(score, class, place);
                }
            }
        }
    }

    /// The numbers of the `keep` best in the heap, the least at its top, and how many there are.
    ///
    /// # Safety
    /// The arguments keep their contract.
    #[inline(always)]
    unsafe fn best(&self) -> usize {
        let (heap, keep) = (self.g.heap.cast::<u64>(), self.g.keep);
        // SAFETY: `count` boxes were kept, and the heap has room for `keep`.
        unsafe {
            let key = |k: usize| self.kept.wrapping_add(k).read_unaligned().key;
            let n = if self.count < keep { self.count } else { keep };
            for k in 0..n {
                heap.wrapping_add(k).write_unaligned(key(k));
            }
            for k in (0..n / 2).rev() {
                sink(heap, k, n, at(heap, k));
            }
            for k in n..self.count {
                if key(k) > at(heap, 0) {
                    sink(heap, 0, n, key(k));
                }
            }
            n
        }
    }
}

/// The pictures one after the other: `one` lets boxes of a class stay, `write` writes those of a picture as rows from one on.
#[inline(always)]
unsafe fn each_image(
    g: &NmsArgs,
    one: impl Fn(&mut Image<'_>, usize),
    write: impl Fn(&Image<'_>, usize, *mut u8, usize) -> usize,
) {
    let mut row = g.images;
    // SAFETY: `out` has a row for each picture and `keep` more for each.
    unsafe {
        core::ptr::write_bytes(g.out, 0, g.rows * g.out_row);
        for i in 0..g.images {
            let boxes = g.boxes.wrapping_byte_add(i * g.box_image);
            let scores = g.scores.cast::<u8>().wrapping_add(i * g.score_image);
            let mut image = Image { g, boxes, scores, kept: g.kept.cast(), count: 0 };
            for class in 0..g.classes {
                if g.keep > 0 && class as i64 != i64::from(g.background) {
                    one(&mut image, class);
                }
            }
            let n = if g.keep == 0 { 0 } else { image.best() };
            row += write(&image, i, g.out.wrapping_add(row * g.out_row), n);
        }
    }
}

/// Boxes that overlap no better one.
///
/// # Safety
/// `args` points to an [`NmsArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn greedy<S: Simd>(_: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<NmsArgs>() };
    let write = |image: &Image<'_>, i: usize, rows: *mut u8, n: usize| {
        // SAFETY: `n` boxes of those that stayed are not below the least of the heap, and there are as many rows.
        unsafe {
            let least = if n == 0 { u64::MAX } else { at(g.heap.cast(), 0) };
            let mut written = 0;
            for k in 0..image.count {
                let one = image.kept.wrapping_add(k).read_unaligned();
                if n > 0 && one.key >= least {
                    let row = rows.wrapping_add(written * g.out_row).cast::<i32>();
                    row.write_unaligned(i as i32);
                    row.wrapping_add(1).write_unaligned(one.class as i32);
                    row.wrapping_add(2).write_unaligned(one.place as i32);
                    written += 1;
                }
            }
            g.out.wrapping_add(i * g.out_row).cast::<i32>().write_unaligned(written as i32);
            written
        }
    };
    // SAFETY: the caller's guarantee.
    unsafe { each_image(&g, |image, class| image.choose(class), write) };
}

/// Boxes whose scores, made less by better ones that they overlap, are large.
///
/// # Safety
/// `args` points to an [`NmsArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn matrix<S: Simd>(_: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<NmsArgs>() };
    let write = |image: &Image<'_>, i: usize, rows: *mut u8, n: usize| {
        let heap = g.heap.cast::<u64>();
        // SAFETY: the heap has the numbers of `n` boxes of those that stayed, and there are as many rows.
        unsafe {
            sort(heap, n);
            for k in 0..n {
                let number = at(heap, k);
                let one = image.kept.wrapping_add(place_of(number) as usize).read_unaligned();
                // What `order` made of the score, undone.
                let bits = (number >> 32) as u32;
                let score = f32::from_bits(if bits >> 31 == 1 { bits ^ 0x8000_0000 } else { !bits });
                let row = rows.wrapping_add(k * g.out_row).cast::<f32>();
                row.write_unaligned(i as f32);
                row.wrapping_add(1).write_unaligned(one.class as f32);
                row.wrapping_add(2).write_unaligned(one.place as f32);
                row.wrapping_add(3).write_unaligned(score);
            }
            g.out.wrapping_add(i * g.out_row).cast::<f32>().write_unaligned(n as f32);
            n
        }
    };
    // SAFETY: the caller's guarantee.
    unsafe { each_image(&g, |image, class| image.decay(class), write) };
}
