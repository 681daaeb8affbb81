//! Functions that steps share.
//!
//! The layers of a network differ in where their tensors lie, in scales and zero points. Those are operands of a step, not
//! part of its code, so equal layers have equal code: an encoder of twelve has a tenth of the functions that it has steps.

use cranelift_codegen::ir::{Function, UserExternalName, function::FunctionStencil};
use cranelift_module::FuncId;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The functions of an image, by what they do.
#[derive(Default)]
pub struct Functions {
    known: HashMap<u64, Vec<(Body, FuncId)>>,
}

/// A function before it is compiled, without its name.
#[derive(PartialEq, Hash)]
pub struct Body {
    stencil: FunctionStencil,
    /// What the stencil calls, by the numbers that it uses.
    callees: Vec<UserExternalName>,
}

impl Body {
    /// That of a function.
    pub fn of(function: &Function) -> Body {
        let callees = function.params.user_named_funcs().values().cloned().collect();
        Body { stencil: function.stencil.clone(), callees }
    }

    fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        Hash::hash(self, &mut hasher);
        hasher.finish()
    }
}

impl Functions {
    /// The function with this body, if there is one.
    pub fn with(&self, body: &Body) -> Option<FuncId> {
        self.known.get(&body.hash())?.iter().find(|(known, _)| known == body).map(|(_, id)| *id)
    }

    /// Adds a function.
    pub fn add(&mut self, body: Body, id: FuncId) {
        self.known.entry(body.hash()).or_default().push((body, id));
    }
}
