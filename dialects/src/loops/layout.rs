//! What `loop.alloc` says of the layout of its tensor, compared with its strides.

use super::Alloc;
use qc_ir::{Attr, BufferTy, Module, OpId};

/// Checks a `loop.alloc`.
///
/// # Errors
/// One sentence on what does not fit.
pub fn verify(m: &Module, op: OpId) -> Result<(), String> {
    super::verify_alloc(m, op)?;
    let (b, alloc) = (super::buffer(m, m.result(op))?, Alloc(op));
    let (layout, padding) = (alloc.layout(m), sizes(&alloc.padding(m)).ok_or("`padding` must be four counts")?);
    let bytes = m.elem_bytes(b.elem);
    let fits = match &*layout {
        "rows" | "panels" => {
            if padding != [0; 4] {
                return Err(format!("the layout `{layout}` has no padding"));
            }
            b.origin == 0 && rows(&b.dims, bytes).is_some_and(|strides| *strides == *b.strides)
        }
        "channels-last" => channels_last(b, padding, bytes).ok_or("`channels-last` needs rank 4")?,
        other => return Err(format!("unknown layout `{other}`")),
    };
    if !fits {
        return Err(format!("its strides are not those of the layout `{layout}`"));
    }
    let is_part = |part: &Attr| match part {
        Attr::Ints(part) => sizes::<3>(part).is_some_and(|[axis, start, count]| {
            b.dims.get(axis).is_some_and(|&d| start.checked_add(count).is_some_and(|end| end <= d))
        }),
        _ => false,
    };
    if alloc.parts(m).iter().all(is_part) {
        Ok(())
    } else {
        Err("a part must be an axis, a start and a count inside".into())
    }
}

fn sizes<const N: usize>(values: &[i64]) -> Option<[usize; N]> {
    let all: Option<Vec<usize>> = values.iter().map(|&x| usize::try_from(x).ok()).collect();
    all?.try_into().ok()
}

/// Row-major strides in bytes, unless they have no room in a word.
fn rows(dims: &[usize], bytes: usize) -> Option<Vec<usize>> {
    let mut strides = vec![bytes; dims.len()];
    for d in (1..dims.len()).rev() {
        strides[d - 1] = strides[d].checked_mul(dims[d])?;
    }
    Some(strides)
}

/// Whether a buffer is channels-last with `padding`; `None` if it has no planes.
fn channels_last(b: &BufferTy, [top, left, bottom, right]: [usize; 4], bytes: usize) -> Option<bool> {
    let [_, c, h, w] = b.dims[..] else { return None };
    let strides = || {
        let pixel = c.checked_mul(bytes)?;
        let row = left.checked_add(w)?.checked_add(right)?.checked_mul(pixel)?;
        let image = top.checked_add(h)?.checked_add(bottom)?.checked_mul(row)?;
        let origin = top.checked_mul(row)?.checked_add(left.checked_mul(pixel)?)?;
        Some((origin, [image, bytes, row, pixel]))
    };
    Some(strides().is_some_and(|(origin, strides)| b.origin == origin && *b.strides == strides))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    /// What is wrong with a `loop.alloc` of these attributes and this type; nothing if it is right.
    fn error(attrs: &str, ty: &str) -> String {
        let text = format!(
            "module \"m\" phase loops\nfunc @main(%y : buf<4xf32, [4], 0, 16>) outputs [\"y\"] {{\n\
             %a = loop.alloc() {{{attrs}}} : buf<{ty}>\n}}\n"
        );
        qc_ir::parse(&text, &crate::REGISTRY, &HashMap::new()).err().map_or(String::new(), |d| d.message)
    }

    #[test]
    fn what_is_said_of_a_layout_is_compared_with_the_strides() {
        let (plane, row) = ("1x3x2x2xu8, [36, 1, 12, 3], 12, 36", "4xu8, [1], 0, 4");
        for (attrs, ty) in [
            (r#"layout = "channels-last", padding = [1, 0, 0, 2]"#, plane),
            (r#"layout = "channels-last", padding = [1, 0, 0, 2], parts = [[1, 0, 1], [1, 1, 2]]"#, plane),
            (r#"layout = "panels""#, row),
            ("parts = [[0, 2, 2]]", row),
            (r#"layout = "rows", padding = [0, 0, 0, 0]"#, "2x3xf32, [12, 4], 0, 24"),
        ] {
            assert_eq!(error(attrs, ty), "", "{attrs}");
        }
        let planes = "its strides are not those of the layout `channels-last`";
        let part = "a part must be an axis, a start and a count inside";
        for (attrs, ty, wanted) in [
            (r#"layout = "channels-last", padding = [1, 0, 0, 1]"#, plane, planes),
            (r#"layout = "channels-last""#, plane, planes),
            (r#"layout = "channels-last", padding = [9223372036854775807, 9223372036854775807, 0, 0]"#, plane, planes),
            (r#"layout = "channels-last", padding = [-1, 0, 0, 0]"#, plane, "`padding` must be four counts"),
            (r#"layout = "channels-last", padding = [1]"#, plane, "`padding` must be four counts"),
            (r#"layout = "channels-last""#, row, "`channels-last` needs rank 4"),
            ("offset = 0", plane, "its strides are not those of the layout `rows`"),
            ("padding = [1, 1, 1, 1]", row, "the layout `rows` has no padding"),
            (r#"layout = "columns""#, row, "unknown layout `columns`"),
            ("parts = [[0, 3, 2]]", row, part),
            ("parts = [[1, 0, 1]]", row, part),
            ("parts = [[0, 9223372036854775807, 9223372036854775807]]", row, part),
            (r#"parts = ["a"]"#, row, part),
        ] {
            assert!(error(attrs, ty).contains(wanted), "{attrs}: {}", error(attrs, ty));
        }
    }
}
