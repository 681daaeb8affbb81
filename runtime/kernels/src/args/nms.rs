//! Choosing boxes that overlap no better one.

use super::*;

args! {
    /// The boxes of each picture and class that are left when worse ones that overlap better ones are taken out.
    ///
    /// Candidates of a class are those whose score is above `score`, the best first, of equal ones the one at the lower place, the
    /// first `limit` of them. `out` has a row of the number of rows for every picture, the rest of the row being 0, then `keep` rows
    /// for every picture, those of all pictures one behind the other, and zeros behind them. Rows are in order of pictures.
    ///
    /// - `i32`, rows `picture, class, place`: a candidate stays unless a box of its class that stayed overlaps it by more than `iou`,
    ///   until `each` have stayed. After each that stays, a threshold above 0.5 is multiplied by `eta`, if that is below 1. The `keep`
    ///   best of a picture, of equal ones the earlier, are written in order of classes, in a class the best first.
    /// - `f32`, rows `picture, class, place, score`: the score of a candidate is multiplied by the least of what the better ones of
    ///   its class make of it, `(1 - o) / (1 - m)` or, with a `sigma` above 0, `exp((m² - o²) * sigma)`: `o` is the overlap of the
    ///   two, `m` the largest one of the better one with others better than that. It stays if it is above `post`; the `keep` best of
    ///   a picture are written, the best first, of equal ones the earlier class and candidate.
    ///
    /// The overlap of two boxes is the area of their intersection by that of their union, by `form`:
    /// - 0, two corners `y1, x1, y2, x2` in any order; 1, `x, y` of the centre, width and height. 0 if the intersection or one of
    ///   the boxes has no area.
    /// - 2, corners `x1, y1, x2, y2` in this order; 3, the same in pixels, sides being one longer. 0 if they do not touch; NaN,
    ///   which is above any threshold, if neither has an area. A box whose second corner is before the first one has no area.
    Nms: NmsArgs, NmsCall, NmsMore {
        /// Boxes of the first picture, 16 bytes each.
        boxes: *const f32 => ALL,
        /// Scores of the first class of the first picture.
        scores: *const f32 => ALL,
        /// `rows` rows of three integers (`i32`) or four floats (`f32`).
        out: *mut u8 => ALL,
        /// Room for `size` numbers of 64 bits.
        order: *mut u8 => ALL,
        /// Room for `most` boxes of a picture, 16 bytes each.
        kept: *mut u8 => ALL,
        /// Room for `keep` numbers of 64 bits.
        heap: *mut u8 => ALL,
        /// Bytes between the boxes of pictures.
        box_image: usize,
        /// Bytes between the scores of pictures.
        score_image: usize,
        /// Bytes between the scores of classes.
        score_class: usize,
        /// Bytes between rows of `out`.
        out_row: usize,
        /// Pictures.
        images: usize => ALL,
        /// Classes.
        classes: usize => ALL,
        /// Boxes of a picture.
        size: usize => ALL,
        /// Candidates of a class, at most.
        limit: usize => ALL,
        /// Boxes of a class that stay, at most.
        each: usize => ALL,
        /// Boxes of a picture that stay, at most: `classes * min(each, limit, size)` or more.
        most: usize => ALL,
        /// Boxes of a picture that are written, at most; of 0, nothing is looked at.
        keep: usize => ALL,
        /// `images + images * keep`.
        rows: usize => ALL,
        /// How boxes are written, 0 to 3.
        form: usize,
        /// A class that is left out, or -1.
        background: i32 => ALL,
        /// Overlap above which a box goes (`i32`).
        iou: f32,
        /// Score above which a box is a candidate.
        score: f32,
        /// What the threshold is multiplied by (`i32`).
        eta: f32,
        /// Score above which a box stays (`f32`).
        post: f32,
        /// Steepness of the decay (`f32`).
        sigma: f32,
    }
}
