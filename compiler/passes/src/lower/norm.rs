//! Softmax and local response normalisation.

use super::Lower;
use super::emit::{Call, Fields, sweep};
use super::view::{Level, View, levels};
use qc_dialects::graph::{Lrn, Softmax};
use qc_ir::Diag;

impl Lower<'_> {
    /// `graph.softmax`: one vector along the axis per remaining index.
    pub fn softmax(&mut self, op: Softmax) -> Result<(), Diag> {
        let axis = op.axis(self.src) as usize;
        let (a, out) = (self.view(op.x(self.src))?, self.destination(op.out(self.src))?);
        let without = |v: &View| {
            let mut v = v.clone();
            v.dims.remove(axis);
            v.strides.remove(axis);
            v
        };
        let (rest_a, rest_out) = (without(&a), without(&out));
        let mut all = levels(&rest_a.dims.clone(), &[&rest_a, &rest_out], 1);
        all.push(Level { count: a.dims[axis], strides: vec![a.strides[axis], out.strides[axis]] });
        let fields = Fields {
            counts: &["n", "rows"],
            pointers: &[("a", &["a_elem", "a_row"]), ("out", &["out_elem", "out_row"])],
        };
        // A lone vector must stay whole: a level of one row keeps it from being split.
        if all.len() == 1 {
            all.insert(0, Level { count: 1, strides: vec![0, 0] });
        }
        sweep(&mut self.emit(), Call::new("softmax.f32"), &fields, &[&a, &out], all)
    }

    /// `graph.lrn` over channels-last pixels.
    pub fn lrn(&mut self, op: Lrn) -> Result<(), Diag> {
        let src = self.src;
        let out = op.out(src);
        if src.dims(out).len() != 4 {
            return Err(Diag::error("graph.lrn: only images of rank 4 are supported"));
        }
        let a = self.channels_last_view(op.x(src), [0; 4])?;
        let to = self.destination(out)?;
        let pixels = |v: &View| View {
            dims: vec![v.dims[0], v.dims[2], v.dims[3]],
            strides: vec![v.strides[0], v.strides[2], v.strides[3]],
            ..v.clone()
        };
        let mut all = levels(&pixels(&a).dims.clone(), &[&pixels(&a), &pixels(&to)], 1);
        all.push(Level { count: a.dims[1], strides: vec![4, 4] });
        if all.len() == 1 {
            all.insert(0, Level { count: 1, strides: vec![0, 0] });
        }
        let fields =
            Fields { counts: &["channels", "pixels"], pointers: &[("a", &["", "a_px"]), ("out", &["", "out_px"])] };
        let call = Call::new("lrn.f32")
            .set("size", op.size(src))
            .set("alpha", op.alpha(src) as f32)
            .set("beta", op.beta(src) as f32)
            .set("k", op.bias(src) as f32);
        sweep(&mut self.emit(), call, &fields, &[&a, &to], all)
    }
}
