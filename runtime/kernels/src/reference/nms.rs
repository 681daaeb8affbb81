//! Choosing boxes that overlap no better one, as plain lists.

extern crate alloc;

use super::{Args, Memory, Ptr};
use crate::table::Variant;
use crate::wide::exp;
use alloc::vec::Vec;

/// What is chosen, by the fields of [`crate::args::NmsArgs`].
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Nms {
    pub images: usize,
    pub classes: usize,
    pub size: usize,
    pub limit: usize,
    pub each: usize,
    pub keep: usize,
    pub form: usize,
    pub background: i32,
    pub iou: f32,
    pub score: f32,
    pub eta: f32,
    pub post: f32,
    pub sigma: f32,
}

/// A box that was chosen.
#[derive(Clone, Copy, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Chosen {
    pub image: usize,
    pub class: usize,
    pub place: usize,
    pub score: f32,
}

/// The second number if one is NaN; so does [`less`].
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

fn less(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

impl Nms {
    fn overlap(&self, a: [f32; 4], b: [f32; 4]) -> f32 {
        if self.form >= 2 {
            return self.overlap_in_order(a, b);
        }
        let corners = |c: [f32; 4]| match self.form {
            0 => [less(c[0], c[2]), less(c[1], c[3]), greater(c[0], c[2]), greater(c[1], c[3])],
            _ => [c[0] - c[2] / 2.0, c[1] - c[3] / 2.0, c[0] + c[2] / 2.0, c[1] + c[3] / 2.0],
        };
        let (a, b) = (corners(a), corners(b));
        let both = [greater(a[0], b[0]), greater(a[1], b[1]), less(a[2], b[2]), less(a[3], b[3])];
        let area = |c: [f32; 4]| (c[2] - c[0]) * (c[3] - c[1]);
        if both[2] <= both[0] || both[3] <= both[1] {
            return 0.0;
        }
        let all = area(a) + area(b) - area(both);
        if [area(both), area(a), area(b), all].iter().any(|&x| x <= 0.0) { 0.0 } else { area(both) / all }
    }

    fn overlap_in_order(&self, a: [f32; 4], b: [f32; 4]) -> f32 {
        let more = if self.form == 3 { 1.0 } else { 0.0 };
        let apart = |d: usize| b[d] > a[d + 2] || b[d + 2] < a[d];
        if apart(0) || apart(1) {
            return 0.0;
        }
        let area = |c: [f32; 4]| match c[2] < c[0] || c[3] < c[1] {
            true => 0.0,
            false => (c[2] - c[0] + more) * (c[3] - c[1] + more),
        };
        let side = |d: usize| less(a[d + 2], b[d + 2]) - greater(a[d], b[d]) + more;
        let both = side(0) * side(1);
        both / (area(a) + area(b) - both)
    }

    /// Places of the candidates among the scores of a class, the best first.
    fn candidates(&self, scores: &[f32]) -> Vec<usize> {
        let mut places: Vec<usize> = (0..scores.len()).filter(|&i| scores[i] > self.score).collect();
        places.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap_or(core::cmp::Ordering::Equal));
        places.truncate(self.limit);
        places
    }

    /// Boxes of a class that overlap no better one.
    fn greedy(&self, boxes: &[[f32; 4]], scores: &[f32]) -> Vec<(usize, f32)> {
        let (mut chosen, mut threshold) = (Vec::<(usize, f32)>::new(), self.iou);
        for place in self.candidates(scores) {
            let overlaps = |&(better, _): &(usize, f32)| {
                let overlap = self.overlap(boxes[place], boxes[better]);
                overlap > threshold || overlap.is_nan()
            };
            if chosen.len() < self.each && !chosen.iter().any(overlaps) {
                chosen.push((place, scores[place]));
                if self.eta < 1.0 && threshold > 0.5 {
                    threshold *= self.eta;
                }
            }
        }
        chosen
    }

    /// Boxes of a class whose scores stay large when better ones made them less.
    fn decayed(&self, boxes: &[[f32; 4]], scores: &[f32]) -> Vec<(usize, f32)> {
        let places = self.candidates(scores);
        let (mut most, mut chosen) = (Vec::<f32>::new(), Vec::new());
        for (i, &place) in places.iter().enumerate() {
            let overlaps: Vec<f32> = places[..i].iter().map(|&p| self.overlap(boxes[place], boxes[p])).collect();
            let one = |(&o, &m): (&f32, &f32)| match self.sigma > 0.0 {
                true => exp((m * m - o * o) * self.sigma),
                false => (1.0 - o) / (1.0 - m),
            };
            let factor = overlaps.iter().zip(&most).map(one).fold(1.0, f32::min);
            most.push(overlaps.iter().copied().fold(0.0, f32::max));
            let score = scores[place] * factor;
            if score > self.post {
                chosen.push((place, score));
            }
        }
        chosen
    }

    /// The boxes that are chosen, in the order of their rows. `decay`: by scores that better boxes make less.
    pub fn choose(&self, boxes: &[f32], scores: &[f32], decay: bool) -> Vec<Chosen> {
        let mut rows = Vec::new();
        for image in 0..self.images {
            let boxes = &boxes[image * self.size * 4..][..self.size * 4];
            let boxes: Vec<[f32; 4]> = boxes.chunks_exact(4).map(|c| [c[0], c[1], c[2], c[3]]).collect();
            let mut chosen = Vec::new();
            for class in (0..self.classes).filter(|&c| c as i64 != i64::from(self.background)) {
                let scores = &scores[(image * self.classes + class) * self.size..][..self.size];
                let of_class = if decay { self.decayed(&boxes, scores) } else { self.greedy(&boxes, scores) };
                chosen.extend(of_class.into_iter().map(|(place, score)| Chosen { image, class, place, score }));
            }
            let mut best: Vec<usize> = (0..chosen.len()).collect();
            best.sort_by(|&a, &b| chosen[b].score.partial_cmp(&chosen[a].score).unwrap_or(core::cmp::Ordering::Equal));
            best.truncate(self.keep);
            if !decay {
                best.sort_unstable();
            }
            rows.extend(best.into_iter().map(|i| chosen[i]));
        }
        rows
    }
}

pub(super) fn nms<M: Memory>(variant: Variant, args: &Args, mem: &mut M) {
    let size = |name: &str| args.int(name) as usize;
    let spec = Nms {
        images: size("images"),
        classes: size("classes"),
        size: size("size"),
        limit: size("limit"),
        each: size("each"),
        keep: size("keep"),
        form: size("form"),
        background: args.int("background") as i32,
        iou: args.f32("iou"),
        score: args.f32("score"),
        eta: args.f32("eta"),
        post: args.f32("post"),
        sigma: args.f32("sigma"),
    };
    let floats = |mem: &M, at: Ptr, n: usize| (0..n as i64).map(|i| mem.f32(at.plus(4 * i))).collect::<Vec<f32>>();
    let (mut boxes, mut scores) = (Vec::new(), Vec::new());
    for image in 0..spec.images as i64 {
        boxes.extend(floats(mem, args.ptr("boxes").plus(image * args.int("box_image")), 4 * spec.size));
        for class in 0..spec.classes as i64 {
            let at = args.ptr("scores").plus(image * args.int("score_image") + class * args.int("score_class"));
            scores.extend(floats(mem, at, spec.size));
        }
    }
    let rows = spec.choose(&boxes, &scores, variant == Variant::F32);
    let (out, out_row) = (args.ptr("out"), args.int("out_row"));
    (0..args.int("rows") * out_row).for_each(|i| mem.set_u8(out.plus(i), 0));
    let mut set = |row: usize, column: usize, value: f32| {
        let at = out.plus(row as i64 * out_row + 4 * column as i64);
        match variant {
            Variant::F32 => mem.set_f32(at, value),
            _ => mem.set_i32(at, value as i32),
        }
    };
    for image in 0..spec.images {
        set(image, 0, rows.iter().filter(|row| row.image == image).count() as f32);
    }
    for (i, row) in rows.iter().enumerate() {
        let columns = [row.image as f32, row.class as f32, row.place as f32, row.score];
        let written = if variant == Variant::F32 { 4 } else { 3 };
        columns.into_iter().take(written).enumerate().for_each(|(c, x)| set(spec.images + i, c, x));
    }
}
