//! Functions that steps share.
//!
//! The layers of a network differ in where their tensors lie, in scales and zero points. Those are operands of a step, not
//! part of its code, so equal layers have equal code: an encoder of twelve has a tenth of the functions that it has steps.

use cranelift_codegen::ir::{Function, UserExternalName, function::FunctionStencil};
use cranelift_module::FuncId;
use std::collections::HashMap;

/// The functions of an image, by what they do.
pub type Functions = HashMap<Body, FuncId>;

/// A function before it is compiled, without its name.
#[derive(PartialEq, Hash)]
pub struct Body {
    stencil: FunctionStencil,
    /// What the stencil calls, by the numbers that it uses.
    callees: Vec<UserExternalName>,
}

// Floats in a stencil are bits, so a stencil is equal to itself.
impl Eq for Body {}

impl Body {
    /// That of a function.
    pub fn of(function: &Function) -> Body {
        let callees = function.params.user_named_funcs().values().cloned().collect();
        Body { stencil: function.stencil.clone(), callees }
    }
}
