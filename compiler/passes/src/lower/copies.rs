//! Copies for readers that need another layout than a tensor has, one function per demand.
//!
//! | reader | demand |
//! |---|---|
//! | convolution, pool, norm over channels | channels-last, with padding: [`Lower::channels_last_view`] |
//! | product | contiguous rows: [`Lower::rows_view`]; its result goes through rows where it lies otherwise: [`Lower::through_rows`] |
//! | element-wise op | contiguous or repeated where the result is contiguous: [`Lower::operand_like`] |
//!
//! Ops that read by strides (movement, softmax, means, conversions) demand nothing.

use super::Lower;
use super::call::At;
use super::layout::Layout;
use super::view::{View, levels};
use qc_ir::{Diag, ValueId};
use qc_kernels::Variant;
use qc_kernels::args::{FillCall, FillMore};

impl Lower<'_> {
    /// `v` channels-last with at least this padding: itself, or a copy.
    pub fn channels_last_view(&mut self, v: ValueId, padding: [usize; 4]) -> Result<View, Diag> {
        let view = self.view(v)?;
        let enough = view.padding.iter().zip(padding).all(|(have, need)| *have >= need);
        if view.is_channels_last() && enough {
            return Ok(view);
        }
        let name = format!("{}.nhwc", self.src.name(v).unwrap_or("t"));
        let copy = self.alloc(&name, view.elem, &view.dims, Layout::ChannelsLast { padding })?;
        self.fill_padding(&copy, self.zero_of(v))?;
        self.copy(&view, &copy)?;
        Ok(copy)
    }

    /// The view, or a copy of it, whose rows are contiguous.
    pub fn rows_view(&mut self, view: View) -> Result<View, Diag> {
        if view.has_rows() { Ok(view) } else { self.row_major_copy("rows", &view) }
    }

    /// `v`, or a copy of it, with elements in the order of their indices, one behind the other.
    pub fn in_order(&mut self, v: ValueId, name: &str) -> Result<View, Diag> {
        let view = self.view(v)?;
        if view.is_in_order() { Ok(view) } else { self.row_major_copy(name, &view) }
    }

    /// A row-major copy.
    pub fn row_major_copy(&mut self, name: &str, view: &View) -> Result<View, Diag> {
        let copy = self.alloc(name, view.elem, &view.dims, Layout::Rows)?;
        self.copy(view, &copy)?;
        Ok(copy)
    }

    /// Lets `write` write rows: those of `out`, or of a row-major buffer from which they are copied.
    pub fn through_rows(
        &mut self,
        out: &View,
        write: impl FnOnce(&mut Self, &View) -> Result<(), Diag>,
    ) -> Result<(), Diag> {
        if out.has_rows() {
            return write(self, out);
        }
        let rows = self.alloc("product", out.elem, &out.dims, Layout::Rows)?;
        write(self, &rows)?;
        self.copy(&rows, out)
    }

    /// A view of `v` for an element-wise kernel over `out`: broadcast, and contiguous or repeated where `out` is
    /// contiguous.
    pub fn operand_like(&mut self, v: ValueId, out: &View, may_repeat: bool) -> Result<View, Diag> {
        let view = self.view(v)?.broadcast(&out.dims);
        let inner = levels(&out.dims, &[out, &view], 0).pop();
        let e = view.elem_bytes();
        let fits = inner.is_none_or(|l| l.strides[1] == e || (may_repeat && l.strides[1] == 0));
        if fits {
            return Ok(view);
        }
        // Images lie in rows as well, if they come from a product.
        let layout = if out.is_channels_last() { Layout::usual(&out.dims) } else { Layout::Rows };
        let copy = self.alloc("operand", view.elem, &out.dims, layout)?;
        self.copy(&view, &copy)?;
        Ok(copy)
    }

    /// Fills the padding of a new buffer: what lies before the first pixel, between rows, and behind the last pixel.
    pub(super) fn fill_padding(&mut self, v: &View, zero: i32) -> Result<(), Diag> {
        self.fill_padding_from(v, zero, None)
    }

    /// As [`Lower::fill_padding`], with a byte that is read there, if any.
    pub(super) fn fill_padding_from(&mut self, v: &View, zero: i32, from: Option<&At>) -> Result<(), Diag> {
        if v.padding == [0; 4] {
            return Ok(());
        }
        let [top, left, bottom, right] = v.padding.map(|b| b as i64);
        let (n, h) = (v.dims[0], v.dims[2] as i64);
        let (image, row, pixel) = (v.strides[0], v.strides[2], v.strides[3]);
        let width = v.dims[3] as i64 * pixel;
        let e = v.elem_bytes();
        let variant = if e == 1 { Variant::B1 } else { Variant::B4 };
        let call = |start: i64, bytes: i64, rows: i64| FillCall {
            variant,
            dst: At::from(v).plus(start),
            n: (bytes / e).into(),
            rows: rows.into(),
            outer: n.into(),
            more: FillMore { from: from.cloned(), row_stride: row.into(), outer_stride: image.into(), value: zero },
        };
        let runs = [
            (-(top * row + left * pixel), top * row + left * pixel, 1),
            (width, (left + right) * pixel, h - 1),
            ((h - 1) * row + width, right * pixel + bottom * row, 1),
        ];
        self.emit().step(1, |e, _, _| {
            for (start, bytes, rows) in runs {
                if bytes > 0 && rows > 0 {
                    e.call(&call(start, bytes, rows))?;
                }
            }
            Ok(())
        })
    }
}
