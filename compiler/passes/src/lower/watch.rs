//! Results that are looked at where they lie, for programs that nobody takes results from: a step may write over them as soon as
//! all that read them have run, so the arena is not larger than that of the model itself, and nothing is copied.

use super::Lower;
use super::view::View;
use qc_dialects::loops::{Alloc, Watch};
use qc_ir::{Attrs, Builder, Diag, OpId, ValueId};

impl Lower<'_> {
    /// Says where the results of the module that an op makes lie.
    pub(super) fn watch(&mut self, op: OpId) -> Result<(), Diag> {
        let src = self.src;
        let returns = src.returns(src.body());
        for &v in src.results(op) {
            for i in (0..returns.len()).filter(|i| returns[*i] == v) {
                let name = src.main().and_then(|f| f.outputs.get(i)).map_or(String::new(), ToString::to_string);
                self.watch_one(v, &name)?;
            }
        }
        Ok(())
    }

    fn watch_one(&mut self, v: ValueId, name: &str) -> Result<(), Diag> {
        let mut view = self.view(v)?;
        // Inputs and constants are not in the arena, nor what is another name for them.
        if Alloc::producing(&self.out, view.buf).is_none() {
            view = self.row_major_copy(name, &view)?;
        }
        let View { buf, offset, dims, strides, .. } = view;
        let dims: Vec<i64> = dims.into_iter().map(|dim| dim as i64).collect();
        let at: Vec<i64> = std::iter::once(offset).chain(strides).collect();
        let attrs = Attrs::new().with("name", name).with("dims", dims).with("at", at);
        let body = self.out.body();
        let mut b = Builder::at_end(&mut self.out, body);
        b.loc = self.loc;
        b.create(Watch::DEF, &[Some(buf)], attrs)?;
        Ok(())
    }
}
