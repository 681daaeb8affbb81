//! The definition of right: every family as plain loops over an abstract memory, in safe code.
//!
//! Tests compare kernels with it for equality, and the compiler's interpreter of loops runs it in place of kernels. It
//! shares constants with the kernels, but no arithmetic.

extern crate alloc;

mod choose;
mod conv;
mod elementwise;
mod function;
mod layer_norm;
mod movement;
mod nms;
mod norm;
mod numbers;
mod pool;
mod softmax;

pub use function::{erfc, function, normal_tail, sqrt};
pub use nms::{Chosen, Nms};
pub use norm::{exp, expm1, pow_neg};
pub use numbers::{Residual, clamp_f32, maximum, minimum, quantize, requantize, requantize_residual};

use crate::table::{Family, UKernel, Variant};
use alloc::vec::Vec;

/// A place in an abstract memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ptr {
    /// Which buffer.
    pub buf: u32,
    /// Offset in bytes.
    pub offset: i64,
}

impl Ptr {
    /// The place that no buffer has.
    pub const NULL: Ptr = Ptr { buf: u32::MAX, offset: 0 };

    /// True for the null pointer.
    pub fn is_null(self) -> bool {
        self.buf == u32::MAX
    }

    /// The place `bytes` further.
    #[must_use]
    pub fn plus(self, bytes: i64) -> Ptr {
        Ptr { buf: self.buf, offset: self.offset + bytes }
    }
}

/// Buffers as the reference sees them. What an access outside a buffer does is the implementor's affair.
pub trait Memory {
    /// Reads a byte.
    fn u8(&self, p: Ptr) -> u8;
    /// Reads a signed byte.
    fn i8(&self, p: Ptr) -> i8;
    /// Reads 4 bytes as an integer.
    fn i32(&self, p: Ptr) -> i32;
    /// Reads 4 bytes as a float.
    fn f32(&self, p: Ptr) -> f32;
    /// Writes a byte.
    fn set_u8(&mut self, p: Ptr, value: u8);
    /// Writes 4 bytes.
    fn set_i32(&mut self, p: Ptr, value: i32);
    /// Writes 4 bytes.
    fn set_f32(&mut self, p: Ptr, value: f32);
}

/// Value of an argument field.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ArgValue {
    /// Null pointer.
    Null,
    /// Pointer.
    Ptr(Ptr),
    /// `usize` or `i32`.
    Int(i64),
    /// Float.
    F32(f32),
}

/// A field name that the family does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownField;

/// Arguments of one call, by field name; what is not set is zero or null.
#[derive(Clone, Debug)]
pub struct Args {
    family: Family,
    values: Vec<(&'static str, ArgValue)>,
}

impl Args {
    /// No field set.
    pub fn new(family: Family) -> Args {
        Args { family, values: Vec::new() }
    }

    /// The family whose fields these are.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Sets field `name`, replacing an earlier value.
    ///
    /// # Errors
    /// [`UnknownField`] if the family has no such field.
    pub fn set(&mut self, name: &str, value: ArgValue) -> Result<(), UnknownField> {
        let field = self.family.field(name).ok_or(UnknownField)?;
        match self.values.iter_mut().find(|(n, _)| *n == field.name) {
            Some(slot) => slot.1 = value,
            None => self.values.push((field.name, value)),
        }
        Ok(())
    }

    /// The fields that are set.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, ArgValue)> + '_ {
        self.values.iter().copied()
    }

    fn get(&self, name: &str) -> ArgValue {
        debug_assert!(self.family.field(name).is_some(), "no field {name}");
        self.values.iter().find(|(n, _)| *n == name).map_or(ArgValue::Null, |(_, v)| *v)
    }

    /// Pointer field; null if unset.
    pub fn ptr(&self, name: &str) -> Ptr {
        match self.get(name) {
            ArgValue::Ptr(p) => p,
            ArgValue::Null | ArgValue::Int(_) | ArgValue::F32(_) => Ptr::NULL,
        }
    }

    /// Integer field; 0 if unset.
    pub fn int(&self, name: &str) -> i64 {
        match self.get(name) {
            ArgValue::Int(i) => i,
            ArgValue::Null | ArgValue::Ptr(_) | ArgValue::F32(_) => 0,
        }
    }

    /// Float field; 0 if unset.
    pub fn f32(&self, name: &str) -> f32 {
        match self.get(name) {
            ArgValue::F32(f) => f,
            ArgValue::Null | ArgValue::Ptr(_) | ArgValue::Int(_) => 0.0,
        }
    }
}

/// Does to `mem` what `kernel` does to the memory its arguments point to.
pub fn run<M: Memory>(kernel: &UKernel, args: &Args, mem: &mut M) {
    run_variant(kernel.family, kernel.variant, args, mem);
}

/// As [`run`], by family and variant. Does nothing if the family has no such variant.
pub fn run_variant<M: Memory>(family: Family, variant: Variant, args: &Args, mem: &mut M) {
    match family {
        Family::Gemm => conv::gemm(variant, args, mem),
        Family::GemmF32 => conv::gemm_f32(variant, args, mem),
        Family::Dw => conv::depthwise(args, mem),
        Family::DwF32 => conv::depthwise_f32(variant, args, mem),
        Family::Pool => pool::pool(variant, args, mem),
        Family::BinaryU8 => elementwise::binary_u8(variant, args, mem),
        Family::BinaryF32 => elementwise::binary_f32(variant, args, mem),
        Family::Unary => elementwise::unary(variant, args, mem),
        Family::Quantize => elementwise::quantize(args, mem),
        Family::Dequantize => elementwise::dequantize(args, mem),
        Family::Range => elementwise::range(args, mem),
        Family::DynamicQuantize => elementwise::dynamic_quantize(args, mem),
        Family::Move => movement::copy(variant, args, mem),
        Family::Gather => movement::gather(variant, args, mem),
        Family::Resample => elementwise::resample(args, mem),
        Family::TopK => choose::top_k(args, mem),
        Family::Nms => nms::nms(variant, args, mem),
        Family::Scatter => choose::scatter(variant, args, mem),
        Family::Pack => movement::pack(variant, args, mem),
        Family::Fill => movement::fill(variant, args, mem),
        Family::Softmax => softmax::softmax(args, mem),
        Family::LayerNorm => layer_norm::layer_norm(variant, args, mem),
        Family::Mean => norm::mean(args, mem),
        Family::Lrn => norm::lrn(args, mem),
    }
}
