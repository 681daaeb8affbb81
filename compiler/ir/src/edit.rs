//! All mutation of a module. Use lists are kept here and nowhere else.

use crate::attr::{Attr, Attrs};
use crate::diag::Diag;
use crate::id::{FuncId, LocId, OpId, RegionId, ValueId};
use crate::module::{Func, Module, Op, Region, Use, Value, ValueDef};
use crate::opdef::{OpDef, Traits};
use crate::types::{Elem, Type};

/// Where new ops go.
#[derive(Clone, Copy, Debug)]
pub enum Insert {
    /// Behind the last op of a region.
    End(RegionId),
    /// Before an op.
    Before(OpId),
}

/// Makes ops at one place with one location.
pub struct Builder<'m> {
    /// The module being built.
    pub m: &'m mut Module,
    /// Where the next op goes.
    pub at: Insert,
    /// The location of the next op.
    pub loc: LocId,
}

impl<'m> Builder<'m> {
    /// A builder that appends to `region`.
    pub fn at_end(m: &'m mut Module, region: RegionId) -> Builder<'m> {
        let loc = m.locs.unknown();
        Builder { m, at: Insert::End(region), loc }
    }

    /// A builder that inserts before `op`, with its location.
    pub fn before(m: &'m mut Module, op: OpId) -> Builder<'m> {
        let loc = m.loc(op);
        Builder { m, at: Insert::Before(op), loc }
    }

    /// Makes an op whose result types are inferred, and verifies it.
    ///
    /// # Errors
    /// What inference or the op's verifier says; nothing is inserted then.
    pub fn create(&mut self, def: &'static OpDef, operands: &[Option<ValueId>], attrs: Attrs) -> Result<OpId, Diag> {
        let op = self.m.detached(def, operands, attrs, self.loc);
        self.m.infer_and_check(op, None)?;
        self.m.insert(op, self.at);
        Ok(op)
    }

    /// Makes an op with given result types and empty regions with given argument types.
    ///
    /// # Errors
    /// As [`Builder::create`].
    pub fn create_with(
        &mut self,
        def: &'static OpDef,
        operands: &[Option<ValueId>],
        attrs: Attrs,
        results: Vec<Type>,
        regions: &[Vec<Type>],
    ) -> Result<OpId, Diag> {
        let op = self.m.detached(def, operands, attrs, self.loc);
        for args in regions {
            self.m.add_region(op, args);
        }
        self.m.infer_and_check(op, Some(results))?;
        self.m.insert(op, self.at);
        Ok(op)
    }

    /// Begins an op with a region whose arguments have these types. It stands nowhere until the region is filled and
    /// [`Builder::finish`] gives it results.
    pub fn begin(
        &mut self,
        def: &'static OpDef,
        operands: &[Option<ValueId>],
        attrs: Attrs,
        args: &[Type],
    ) -> (OpId, RegionId) {
        let op = self.m.detached(def, operands, attrs, self.loc);
        let region = self.m.add_region(op, args);
        (op, region)
    }

    /// Infers the results of an op that was begun, verifies it, and puts it in place.
    ///
    /// # Errors
    /// As [`Builder::create`].
    pub fn finish(&mut self, op: OpId) -> Result<(), Diag> {
        self.m.infer_and_check(op, None)?;
        self.m.insert(op, self.at);
        Ok(())
    }
}

impl Module {
    /// Adds a function with an empty body.
    pub fn add_func(&mut self, name: &str, args: &[Type]) -> FuncId {
        let body = self.regions.alloc(Region::default());
        for ty in args {
            self.add_arg(body, ty.clone());
        }
        self.funcs.alloc(Func { name: name.into(), body, outputs: Vec::new() })
    }

    /// The function of an id, for changing its name or outputs.
    pub fn func_mut(&mut self, f: FuncId) -> &mut Func {
        &mut self.funcs[f]
    }

    /// Adds an argument to a region.
    pub fn add_arg(&mut self, region: RegionId, ty: Type) -> ValueId {
        let index = self.regions[region].args.len();
        let value = self.values.alloc(Value { ty, name: None, def: ValueDef::Arg(region, index), uses: Vec::new() });
        self.regions[region].args.push(value);
        value
    }

    /// Adds a region to an op.
    pub fn add_region(&mut self, op: OpId, args: &[Type]) -> RegionId {
        let region = self.regions.alloc(Region { parent: Some(op), ..Region::default() });
        for ty in args {
            self.add_arg(region, ty.clone());
        }
        self.ops[op].regions.push(region);
        region
    }

    /// Adds a result to an op that has any number of them.
    pub fn add_result(&mut self, op: OpId, ty: Type) -> ValueId {
        let def = ValueDef::Result(op, self.ops[op].results.len());
        let value = self.values.alloc(Value { ty, name: None, def, uses: Vec::new() });
        self.ops[op].results.push(value);
        value
    }

    /// Sets the results of a region.
    pub fn set_returns(&mut self, region: RegionId, values: &[ValueId]) {
        for i in 0..self.regions[region].results.len() {
            self.drop_use(self.regions[region].results[i], Use::Return(region, i));
        }
        self.regions[region].results = values.to_vec();
        self.regions[region].places = vec![0; values.len()];
        for (i, &v) in values.iter().enumerate() {
            self.add_use(v, Use::Return(region, i));
        }
    }

    /// Names a value; a hint, made unique when printed.
    pub fn set_name(&mut self, v: ValueId, name: &str) {
        self.values[v].name = Some(name.into());
    }

    /// Takes a value's name away.
    pub fn clear_name(&mut self, v: ValueId) {
        self.values[v].name = None;
    }

    /// Changes the type of a value. The verifier checks afterwards that its users accept it.
    pub fn set_type(&mut self, v: ValueId, ty: Type) {
        self.values[v].ty = ty;
    }

    /// Changes an attribute.
    pub fn set_attr(&mut self, op: OpId, name: &'static str, value: impl Into<Attr>) {
        self.ops[op].attrs.set(name, value.into());
    }

    /// Takes an attribute away.
    pub fn remove_attr(&mut self, op: OpId, name: &str) {
        self.ops[op].attrs.remove(name);
    }

    /// Changes where an op comes from.
    pub fn set_loc(&mut self, op: OpId, loc: LocId) {
        self.ops[op].loc = loc;
    }

    /// Changes an operand.
    pub fn set_operand(&mut self, op: OpId, i: usize, v: Option<ValueId>) {
        if let Some(old) = self.ops[op].operands[i] {
            self.drop_use(old, Use::Operand(op, i));
        }
        if let Some(new) = v {
            self.add_use(new, Use::Operand(op, i));
        }
        self.ops[op].operands[i] = v;
    }

    /// Makes every user of `old` use `new`.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        for used in std::mem::take(&mut self.values[old].uses) {
            match used {
                Use::Operand(op, i) => self.ops[op].operands[i] = Some(new),
                Use::Return(region, i) => self.regions[region].results[i] = new,
            }
            self.add_use(new, used);
        }
    }

    /// Removes an op and its nested ops. Its results must be unused.
    pub fn erase(&mut self, op: OpId) {
        debug_assert!(self.ops[op].results.iter().all(|&v| self.values[v].uses.is_empty()), "erased op has users");
        for region in self.ops[op].regions.clone() {
            self.set_returns(region, &[]);
            while let Some(inner) = self.regions[region].last {
                self.erase(inner);
            }
        }
        for i in 0..self.ops[op].operands.len() {
            self.set_operand(op, i, None);
        }
        self.unlink(op);
    }

    /// Removes from `region` every op for which `dead` holds, from the last to the first.
    pub fn erase_all(&mut self, region: RegionId, dead: impl Fn(&Module, OpId) -> bool) {
        let mut at = self.regions[region].last;
        while let Some(op) = at {
            at = self.ops[op].prev;
            if dead(self, op) {
                self.erase(op);
            }
        }
    }

    /// Moves an op to another place.
    pub fn move_op(&mut self, op: OpId, at: Insert) {
        if let Insert::Before(next) = at
            && next == op
        {
            return;
        }
        self.unlink(op);
        self.insert(op, at);
    }

    pub(crate) fn detached(
        &mut self,
        def: &'static OpDef,
        operands: &[Option<ValueId>],
        attrs: Attrs,
        loc: LocId,
    ) -> OpId {
        let op = self.ops.alloc(Op {
            def,
            operands: operands.to_vec(),
            places: vec![0; operands.len()],
            results: Vec::new(),
            attrs,
            regions: Vec::new(),
            loc,
            parent: None,
            prev: None,
            next: None,
            order: 0,
        });
        for (i, v) in operands.iter().enumerate() {
            if let Some(v) = *v {
                self.add_use(v, Use::Operand(op, i));
            }
        }
        op
    }

    /// Gives a detached op its results; `stated` are types from text or a builder, checked against inference.
    pub(crate) fn infer_and_check(&mut self, op: OpId, stated: Option<Vec<Type>>) -> Result<(), Diag> {
        let types = crate::verify::check_signature(self, op).and_then(|()| {
            let inferred = self.def(op).infer.map(|infer| infer(self, op)).transpose()?;
            match (inferred, stated) {
                (Some(inferred), Some(stated)) if inferred != stated => Err(format!(
                    "stated type {} differs from inferred {}",
                    crate::print::types(self, &stated),
                    crate::print::types(self, &inferred)
                )),
                (Some(types), _) | (None, Some(types)) => Ok(types),
                (None, None) => Ok(Vec::new()),
            }
        });
        let (wanted, any) = (self.def(op).results.len(), self.def(op).traits.has(Traits::ANY_RESULTS));
        let types = types.and_then(|types| match types.len() {
            n if n == wanted || any => Ok(types),
            n => Err(format!("states {n} types for {wanted} results")),
        });
        let fits = |types: &Vec<Type>| types.iter().try_for_each(|ty| self.check_format(ty));
        let types = types.and_then(|types| fits(&types).map(|()| types));
        let checked = types.and_then(|types| {
            for (i, ty) in types.into_iter().enumerate() {
                let value = self.values.alloc(Value { ty, name: None, def: ValueDef::Result(op, i), uses: Vec::new() });
                self.ops[op].results.push(value);
            }
            crate::verify::check_op(self, op)
        });
        checked.map_err(|message| {
            let diag = Diag::error(format!("{}: {message}", self.def(op).name)).at(self.loc(op));
            for i in 0..self.ops[op].operands.len() {
                self.set_operand(op, i, None);
            }
            diag
        })
    }

    /// Whether the quantized format of a tensor type, if it has one, fits its dims.
    pub(crate) fn check_format(&self, ty: &Type) -> Result<(), String> {
        match ty.tensor().map(|t| (t.elem, &t.dims)) {
            Some((Elem::Quant(id), dims)) => self.quant(id).check(dims),
            _ => Ok(()),
        }
    }

    fn place(&mut self, used: Use) -> &mut u32 {
        match used {
            Use::Operand(op, i) => &mut self.ops[op].places[i],
            Use::Return(region, i) => &mut self.regions[region].places[i],
        }
    }

    fn add_use(&mut self, v: ValueId, used: Use) {
        *self.place(used) = self.values[v].uses.len() as u32;
        self.values[v].uses.push(used);
    }

    /// Takes a use out of the list; the last one of the list takes its place.
    fn drop_use(&mut self, v: ValueId, used: Use) {
        let place = *self.place(used);
        let uses = &mut self.values[v].uses;
        uses.swap_remove(place as usize);
        if let Some(&moved) = uses.get(place as usize) {
            *self.place(moved) = place;
        }
    }
}
