//! The other end: an image as a self-contained shared object.

use crate::CodegenError;
use crate::elf::{LinkInput, link};
use crate::embed_object;
use crate::image::{ImageInput, define};
use crate::isa::isa;
use crate::weights::Weights;
use cranelift_module::default_libcall_names;
use cranelift_object::{ObjectBuilder, ObjectModule};

/// The bytes of a shared object.
///
/// # Errors
/// Loop code that cannot be compiled, or a failure inside Cranelift or the linker.
pub fn shared_object(input: &ImageInput<'_>, soname: &str, dump: Option<&mut String>) -> Result<Vec<u8>, CodegenError> {
    let (weights, places) = Weights::collect(input.variants);
    let mut builder =
        ObjectBuilder::new(isa(input.target, true, input.functions())?, "model", default_libcall_names())?;
    builder.per_function_section(true).per_data_object_section(true);
    let mut module = ObjectModule::new(builder);
    define(&mut module, input, &places, weights.len(), dump)?;
    let object = module.finish().emit().map_err(|e| CodegenError::Cranelift(e.to_string()))?;
    let [kernels, executor] = input.target.objects;
    Ok(link(&LinkInput {
        target: input.target,
        objects: &[&object, kernels, executor],
        weights: &weights.to_bytes(),
        exports: &embed_object::exports(input.name),
        imports: input.target.imports,
        note: input.json,
        soname,
    })?)
}
