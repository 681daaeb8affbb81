//! Writes the C header of a compiled model: self-contained C99 (and C++), one per model.
//!
//! The header declares what the shared object exports under the model's prefix, numbers inputs and outputs by name, and
//! adds typed wrappers, so that binding a `uint8_t` buffer to a float input does not compile.

use qc_kernels::Tier;
use qc_runtime::note::IoNote;
use qc_runtime::{Elem, Note};
use std::collections::BTreeSet;
use std::fmt::Write;

/// The C header for a model whose exports have the prefix `note.name`, which must be a C identifier (see
/// [`c_identifier`]).
pub fn c_header(note: &Note) -> String {
    let prefix = note.name.as_str();
    let upper = prefix.to_uppercase();
    let (inputs, outputs) = (unique_names(&note.inputs), unique_names(&note.outputs));
    let mut enums = tensor_enum(&upper, "IN", "INPUTS", &inputs, &note.inputs);
    enums += &tensor_enum(&upper, "OUT", "OUTPUTS", &outputs, &note.outputs);
    let mut wrappers = String::new();
    for (name, io) in inputs.iter().zip(&note.inputs) {
        let template = if io.is_open() { SHAPED_INPUT_WRAPPERS } else { INPUT_WRAPPERS };
        wrappers += &fill(template, prefix, &upper, name, io);
    }
    for (name, io) in outputs.iter().zip(&note.outputs) {
        wrappers += &fill(OUTPUT_WRAPPERS, prefix, &upper, name, io);
        if let Some(counted) = io.counted {
            let of = |text: String| text.replace("@AXIS@", &counted.axis.to_string());
            let by = outputs.get(counted.by).map_or("", String::as_str);
            wrappers += &of(fill(COUNTED_WRAPPER, prefix, &upper, name, io)).replace("@COUNTS@", &by.to_uppercase());
        }
    }
    TEMPLATE
        .replace("@BATCH@", &batch_comment(note))
        .replace("@TIERS@", &tier_words())
        .replace("@GENERATOR@", &comment_text(&note.generator))
        .replace("@MODEL_SHA256@", &comment_text(&note.model_sha256))
        .replace("@ENUMS@", &enums)
        .replace("@WRAPPERS@", &wrappers)
        .replace("@P@", prefix)
        .replace("@U@", &upper)
}

/// Turns any name into a C identifier: other characters become `_`, and a digit or a keyword in front gets one too.
pub fn c_identifier(name: &str) -> String {
    let mut out: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit() || c == '_') {
        out.insert_str(0, "m_");
    }
    if C_KEYWORDS.contains(&out.as_str()) {
        out.push('_');
    }
    out
}

/// Keywords of C and C++ that could be the stem of a model file or the name of a tensor.
const C_KEYWORDS: &[&str] = &[
    "alignas",
    "alignof",
    "and",
    "asm",
    "auto",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "class",
    "compl",
    "concept",
    "const",
    "continue",
    "decltype",
    "default",
    "delete",
    "do",
    "double",
    "else",
    "enum",
    "explicit",
    "export",
    "extern",
    "false",
    "float",
    "for",
    "friend",
    "goto",
    "if",
    "inline",
    "int",
    "long",
    "mutable",
    "namespace",
    "new",
    "noexcept",
    "not",
    "nullptr",
    "operator",
    "or",
    "private",
    "protected",
    "public",
    "register",
    "requires",
    "restrict",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "struct",
    "switch",
    "template",
    "this",
    "throw",
    "true",
    "try",
    "typedef",
    "typeid",
    "typename",
    "typeof",
    "union",
    "unsigned",
    "using",
    "virtual",
    "void",
    "volatile",
    "while",
    "xor",
];

/// C identifiers for tensors, distinct even when case is ignored, as the enum constants are in upper case.
fn unique_names(ios: &[IoNote]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let unique = |(i, io): (usize, &IoNote)| {
        let plain = c_identifier(&io.name);
        let mut name = plain.clone();
        let mut suffix = i;
        while !taken.insert(name.to_uppercase()) {
            name = format!("{plain}_{suffix}");
            suffix += 1;
        }
        name
    };
    ios.iter().enumerate().map(unique).collect()
}

fn tensor_enum(upper: &str, kind: &str, plural: &str, names: &[String], ios: &[IoNote]) -> String {
    let mut out = String::from("enum {\n");
    for (i, (name, io)) in names.iter().zip(ios).enumerate() {
        let (constant, shape, name) = (name.to_uppercase(), io.shape_text(), comment_text(&io.name));
        let _ = writeln!(out, "    {upper}_{kind}_{constant} = {i}, /* {} {shape} '{name}' */", io.elem);
    }
    let _ = writeln!(out, "    {upper}_N_{plural} = {}\n}};\n", ios.len());
    out
}

fn fill(template: &str, prefix: &str, upper: &str, name: &str, io: &IoNote) -> String {
    let shape = match io.is_open() {
        true => io.shape_text(),
        false => {
            let per = if io.batched { " per item" } else { "" };
            format!("{}, {} elements{per}", io.shape_text(), io.item_len())
        }
    };
    let (argument, passed) = if io.batched { (", size_t batch", "batch") } else { ("", "1") };
    template
        .replace("@P@", prefix)
        .replace("@U@", upper)
        .replace("@NAME@", name)
        .replace("@CONSTANT@", &name.to_uppercase())
        .replace("@TYPE@", c_type(io.elem))
        .replace("@BATCH_ARGUMENT@", argument)
        .replace("@BATCH_PASSED@", passed)
        .replace("@RANK@", &io.shape.len().to_string())
        .replace("@SHAPE@", &shape)
}

fn c_type(elem: Elem) -> &'static str {
    match elem {
        Elem::F32 => "float",
        Elem::U8 => "uint8_t",
        Elem::I8 => "int8_t",
        Elem::I32 => "int32_t",
        Elem::I64 => "int64_t",
    }
}

/// The names of all tiers as words of C.
fn tier_words() -> String {
    Tier::ALL.iter().map(|tier| format!("\"{}\"", tier.name())).collect::<Vec<_>>().join(", ")
}

fn batch_comment(note: &Note) -> String {
    let tiers = comment_text(&note.tiers.join(", "));
    let mut text = format!("Runs {}; instruction tiers: {tiers}.", comment_text(&note.runs()));
    let shapes = note.shapes();
    if !shapes.is_empty() {
        text += "\n *\n * It has code for these shapes, and refuses others; bind inputs with their shapes:";
        shapes.iter().for_each(|shape| text += &format!("\n *   {}", comment_text(shape)));
    }
    text
}

/// Text that can be in a comment: printable ASCII without the comment's end.
fn comment_text(text: &str) -> String {
    let printable = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    text.chars().map(printable).collect::<String>().replace("*/", "*?").replace("/*", "?*").replace('@', "?")
}

const INPUT_WRAPPERS: &str = "\
/** Reads input @NAME@ from `data`: @SHAPE@. Not copied; must stay valid until the last run. */
static inline int @P@_in_@NAME@(@P@_ctx *ctx, const @TYPE@ *data@BATCH_ARGUMENT@)
{
    return @P@_bind_input(ctx, @U@_IN_@CONSTANT@, data, @BATCH_PASSED@);
}

";

const SHAPED_INPUT_WRAPPERS: &str = "\
/**
 * Reads input @NAME@ from `data`, whose shape is `dims`, batch included: @SHAPE@. Not copied; must stay valid until the
 * last run. The other inputs have to be bound with shapes that belong to it.
 */
static inline int @P@_in_@NAME@(@P@_ctx *ctx, const @TYPE@ *data, const int64_t dims[@RANK@])
{
    return @P@_bind_input_shape(ctx, @U@_IN_@CONSTANT@, data, dims, @RANK@);
}

";

const OUTPUT_WRAPPERS: &str = "\
/** Output @NAME@: @SHAPE@. NULL before an input is bound. */
static inline const @TYPE@ *@P@_out_@NAME@(@P@_ctx *ctx)
{
    return (const @TYPE@ *)@P@_output(ctx, @U@_OUT_@CONSTANT@);
}

/** Writes output @NAME@ to `data` at the next runs: @SHAPE@. */
static inline int @P@_into_@NAME@(@P@_ctx *ctx, @TYPE@ *data@BATCH_ARGUMENT@)
{
    return @P@_bind_output(ctx, @U@_OUT_@CONSTANT@, data, @BATCH_PASSED@);
}

";

const COUNTED_WRAPPER: &str = "\
/**
 * How many of the first indices of dim @AXIS@ of output @NAME@ the last run filled, the sum of output @COUNTS@; what lies
 * behind them means nothing. 0 before the first run.
 */
static inline size_t @P@_filled_@NAME@(@P@_ctx *ctx)
{
    const int32_t *counts = (const int32_t *)@P@_output(ctx, @U@_OUT_@COUNTS@);
    int64_t dims[8];
    size_t filled = 0;
    if (counts != NULL && @P@_output_shape(ctx, @U@_OUT_@COUNTS@, dims) == 0)
        for (int64_t i = 0; i < dims[0]; i++)
            filled += (size_t)counts[i];
    return filled;
}

";

/// How every header begins; by this line a header of qc is known from one that must not be overwritten.
pub const FIRST_LINE: &str = "/* Written by qc compile, which overwrites it.\n";

const TEMPLATE: &str = r#"/* Written by qc compile, which overwrites it.
 *
 * @P@: a compiled model. Link with the shared object of the same name; nothing else is needed.
 *
 * Made by @GENERATOR@ from the model with SHA-256 @MODEL_SHA256@.
 * @BATCH@
 *
 *     @P@_ctx *ctx;
 *     int rc = @P@_create(&ctx, NULL);
 *     ... bind every input: @P@_in_<name>(ctx, data, batch) ...
 *     rc = @P@_run(ctx);
 *     ... read the outputs: @P@_out_<name>(ctx) ...
 *     @P@_destroy(ctx);
 *
 * Functions that return int return a status: 0 is success, @P@_strerror() explains the others, and
 * @P@_last_error() says more about this very failure. A context is used by one thread at a time; make one per
 * thread. Wrong arguments give errors, never undefined behaviour, as long as pointers that are not null are valid.
 *
 * The shared object loads with glibc from 2.17 on and with musl. A context has threads that run its code: destroy all
 * contexts before dlclose().
 */
#ifndef QC_MODEL_@U@_H
#define QC_MODEL_@U@_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** State of one caller: working memory, bindings, threads. */
typedef struct @P@_ctx @P@_ctx;

/** Shapes are of the whole batch n. Numbers of inputs and outputs: */
@ENUMS@/** Statuses. */
enum {
    @U@_OK = 0,
    @U@_NULL_POINTER = 1,    /* a required pointer is null */
    @U@_BAD_INDEX = 2,       /* there is no such input or output */
    @U@_BAD_BATCH = 3,       /* the model does not run this batch */
    @U@_MISALIGNED = 4,      /* an address is not a multiple of the element size */
    @U@_UNBOUND = 5,         /* an input is not bound */
    @U@_BATCH_MISMATCH = 6,  /* tensors are bound with different batches */
    @U@_TIER_UNSUPPORTED = 7, /* this CPU, or QC_CPU, does not offer what the model needs */
    @U@_OUT_OF_MEMORY = 8,
    @U@_BAD_OPTION = 9,      /* an option or environment variable has an unknown value */
    @U@_BAD_MODEL = 10,
    @U@_BUSY = 11,           /* another thread is using the context */
    @U@_BAD_VALUE = 12,      /* an input holds a value that the model does not take */
    @U@_BAD_SHAPE = 13       /* there is no code for this shape */
};

/** How a context is made; set everything to zero, then what is needed. */
typedef struct @P@_options {
    uint32_t options_bytes; /* sizeof of this struct, or 0 */
    uint32_t threads;       /* 0: QC_NUM_THREADS, OMP_NUM_THREADS, else what the process may use */
    const char *cpu;        /* highest tier: @TIERS@; NULL: QC_CPU, else no cap */
    void *(*alloc)(void *user, size_t bytes, size_t align); /* NULL: the C library; set both or neither */
    void (*free)(void *user, void *block, size_t bytes);
    void *user;             /* passed to alloc and free */
    char *error_text;       /* where create writes why it failed; may be NULL */
    size_t error_text_bytes;
} @P@_options;

/** Describes a context. */
typedef struct @P@_context_info {
    uint32_t tier;        /* tier in use, as a number; @P@_tier() has the name */
    uint32_t threads;     /* threads in use, the caller's included */
    uint64_t arena_bytes; /* working memory */
    uint64_t batch;       /* bound batch, 0 before the first */
    uint64_t profile_len; /* entries of a profile */
} @P@_context_info;

/** Describes an input or output. */
typedef struct @P@_io {
    const char *name;
    uint32_t elem;           /* 0 float, 1 uint8_t, 2 int8_t, 3 int32_t, 4 int64_t */
    uint32_t rank;
    int64_t dims[8];         /* shape of one item, the batch multiplies dims[0] if batched; -1 where shapes differ */
    uint64_t bytes_per_item; /* 0 where shapes differ */
    uint32_t batched;
    uint32_t counted;        /* 0: a run fills the whole output; else 1 + the output that counts what is filled, | dim << 16 */
} @P@_io;

/** Time of one step of the program. */
typedef struct @P@_step_time {
    uint64_t ns;
    uint64_t calls;
} @P@_step_time;

/** Makes a context. All memory but that of larger batches is allocated here. */
int @P@_create(@P@_ctx **ctx, const @P@_options *options);

/** Frees a context; NULL is allowed. */
void @P@_destroy(@P@_ctx *ctx);

/** Reads an input from `data`, `batch` items. Not copied; must stay valid until the last run. */
int @P@_bind_input(@P@_ctx *ctx, size_t index, const void *data, size_t batch);

/** Writes an output to `data`, `batch` items; NULL goes back to the context's own buffer. */
int @P@_bind_output(@P@_ctx *ctx, size_t index, void *data, size_t batch);

/** Binds an input to a buffer of the context's own for `batch` items and returns it to be filled; NULL on error. */
void *@P@_input(@P@_ctx *ctx, size_t index, size_t batch);

/** As bind_input, stating the whole shape, batch included: the next runs are of this shape. */
int @P@_bind_input_shape(@P@_ctx *ctx, size_t index, const void *data, const int64_t *dims, size_t rank);

/** As input, stating the whole shape, batch included. */
void *@P@_input_shape(@P@_ctx *ctx, size_t index, const int64_t *dims, size_t rank);

/** The shape that an output has in the next run; what is beyond its rank is 0. */
int @P@_output_shape(@P@_ctx *ctx, size_t index, int64_t dims[8]);

/** Where an output is; NULL on error or before a batch is known. Valid until an input is bound with another batch. */
void *@P@_output(@P@_ctx *ctx, size_t index);

/** Computes the outputs of the bound batch. Allocates nothing. Inputs and outputs must not overlap. */
int @P@_run(@P@_ctx *ctx);

/** As run, adding the time of each step to times[0..len]; len is profile_len of the context's info. */
int @P@_run_profiled(@P@_ctx *ctx, @P@_step_time *times, size_t len);

/** Describes a context. */
int @P@_info(const @P@_ctx *ctx, @P@_context_info *info);

/** The last failure of a context in words; never NULL. */
const char *@P@_last_error(const @P@_ctx *ctx);

/** A status in words; never NULL. */
const char *@P@_strerror(int status);

/** Version of the binary interface. */
uint32_t @P@_abi(void);

/** Name of the instruction tier a context uses. */
const char *@P@_tier(const @P@_ctx *ctx);

/** Metadata of the model as JSON. */
const char *@P@_json(void);

/** SHA-256 of the source model, 32 bytes. */
const uint8_t *@P@_sha256(void);

/** Number of inputs and outputs, and their descriptions; NULL where there is none. */
size_t @P@_n_inputs(void);
size_t @P@_n_outputs(void);
const @P@_io *@P@_input_info(size_t index);
const @P@_io *@P@_output_info(size_t index);

@WRAPPERS@#ifdef __cplusplus
}
#endif

#endif
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn io(name: &str) -> IoNote {
        IoNote {
            name: name.into(),
            elem: Elem::F32,
            shape: vec![1, 3],
            batched: true,
            shapes: Default::default(),
            choices: Vec::new(),
            counted: None,
        }
    }

    #[test]
    fn identifiers() {
        let cases =
            [("resnet-50.v1", "resnet_50_v1"), ("3d", "m_3d"), ("", "m_"), ("float", "float_"), ("日本", "m___")];
        for (name, identifier) in cases {
            assert_eq!(c_identifier(name), identifier);
        }
    }

    #[test]
    fn tensors_with_colliding_names_stay_apart() {
        assert_eq!(unique_names(&[io("a:0"), io("A_0"), io("a_0_1"), io("a.0")]), ["a_0", "A_0_1", "a_0_1_2", "a_0_3"]);
    }

    #[test]
    fn comments_cannot_be_left() {
        assert_eq!(comment_text("x*/ int y; /*\n@P@"), "x*? int y; ?*??P?");
    }
}
