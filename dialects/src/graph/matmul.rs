//! Matrix product.

use super::{check_size, dims_of, f32_ty, f32s};
use qc_ir::{Follow, HostTensor, Items, Module, OpId, Type};
use qc_kernels::reference::clamp_f32;

qc_ir::ops! { dialect MATMUL = "graph";
    /// Matrix product with NumPy broadcasting of the batch dims, plus an optional bias per output column.
    ///
    /// `out[.., i, j] = bias[j] + sum_k a[.., i, k] * b[.., k, j]`; `transpose_a` and `transpose_b` swap the last two dims
    /// of an operand first. Both operands have rank 2 or more. The result is clamped to `min..=max`.
    op Matmul = "graph.matmul"(a: F32, b: F32, bias: Optional F32 1) -> (out) {
        transpose_a: Bool = false, transpose_b: Bool = false,
        min: Float = f64::NEG_INFINITY, max: Float = f64::INFINITY
    } [PURE] infer(infer_matmul) eval(eval_matmul) items(items_matmul);
}

/// The geometry of a matrix product, checked.
#[derive(Clone, Debug)]
pub struct MatmulShape {
    /// Batch dims of the result.
    pub batch: Vec<usize>,
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
}

impl MatmulShape {
    /// The product of `a` and `b`, each with its last two dims swapped first if it is transposed.
    ///
    /// # Errors
    /// One sentence on what does not fit.
    pub fn new([a, b]: [&[usize]; 2], [transpose_a, transpose_b]: [bool; 2]) -> Result<MatmulShape, String> {
        if a.len() < 2 || b.len() < 2 {
            return Err(format!("operands have shapes {a:?} and {b:?}; rank 2 or more is needed"));
        }
        let matrix =
            |d: &[usize], t: bool| if t { (d[d.len() - 1], d[d.len() - 2]) } else { (d[d.len() - 2], d[d.len() - 1]) };
        let ((rows, k), (k2, n)) = (matrix(a, transpose_a), matrix(b, transpose_b));
        if k != k2 {
            return Err(format!("inner dims {k} and {k2} of shapes {a:?} and {b:?} differ"));
        }
        let batch = broadcast(&a[..a.len() - 2], &b[..b.len() - 2])?;
        Ok(MatmulShape { batch, m: rows, n, k })
    }

    /// Dims of the result.
    ///
    /// # Errors
    /// When it has too many elements.
    pub fn result(&self) -> Result<Vec<usize>, String> {
        let dims: Vec<usize> = self.batch.iter().copied().chain([self.m, self.n]).collect();
        check_size(&dims)?;
        Ok(dims)
    }
}

impl Matmul {
    /// The geometry.
    ///
    /// # Errors
    /// As [`MatmulShape::new`].
    pub fn shape(self, m: &Module) -> Result<MatmulShape, String> {
        let dims = [dims_of(m, self.0, 0)?, dims_of(m, self.0, 1)?];
        MatmulShape::new(dims, [self.transpose_a(m), self.transpose_b(m)])
    }
}

/// The NumPy broadcast of two shapes.
///
/// # Errors
/// When a pair of dims is neither equal nor 1.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let dim = |d: &[usize], i: usize| (i + d.len()).checked_sub(rank).map_or(1, |i| d[i]);
    let one = |i: usize| match (dim(a, i), dim(b, i)) {
        (x, y) if x == y || y == 1 => Ok(x),
        (1, y) => Ok(y),
        _ => Err(format!("shapes {a:?} and {b:?} do not broadcast")),
    };
    let out = (0..rank).map(one).collect::<Result<Vec<_>, _>>()?;
    check_size(&out)?;
    Ok(out)
}

/// For each element of `out`, the position of the element of a tensor of shape `dims` that broadcasts to it.
pub fn broadcast_index(dims: &[usize], out: &[usize]) -> impl Iterator<Item = usize> {
    let own = qc_ir::strides(dims);
    let skip = out.len() - dims.len();
    let step: Vec<usize> =
        (0..out.len()).map(|i| if i < skip || dims[i - skip] == 1 { 0 } else { own[i - skip] }).collect();
    let out = out.to_vec();
    let total: usize = out.iter().product();
    let mut at = vec![0usize; out.len()];
    let mut offset = 0usize;
    (0..total).map(move |n| {
        if n > 0 {
            for d in (0..out.len()).rev() {
                at[d] += 1;
                offset += step[d];
                if at[d] < out[d] {
                    break;
                }
                offset -= step[d] * out[d];
                at[d] = 0;
            }
        }
        offset
    })
}

fn infer_matmul(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let s = Matmul(op).shape(m)?;
    if let Some(bias) = Matmul(op).bias(m)
        && m.dims(bias) != [s.n]
    {
        return Err(format!("bias has shape {:?}, not [{}]", m.dims(bias), s.n));
    }
    f32_ty(s.result()?)
}

/// Items may lie along a batch dim of both operands, along the rows of the left one, or along the columns of the right
/// one.
fn items_matmul(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    if f.all_same(m, op) {
        return Some(Items::Same);
    }
    f.is_same(m, op, 2).then_some(())?;
    let rank = m.dims(m.result(op)).len();
    // The place in the result, counted from its end, of a dim of an operand; `None` for the dim that sums run over.
    let place = |i: usize, transposed: bool, own: usize| {
        let axis = f.along(m, op, i)?;
        let from_end = m.dims(m.operand(op, i)?).len() - axis;
        let swapped = if transposed && from_end <= 2 { 3 - from_end } else { from_end };
        (swapped > 2 || swapped == own).then_some(swapped)
    };
    let view = Matmul(op);
    let side = |i: usize| -> Option<Option<usize>> {
        let (transposed, own) = if i == 0 { (view.transpose_a(m), 2) } else { (view.transpose_b(m), 1) };
        if f.is_same(m, op, i) { Some(None) } else { place(i, transposed, own).map(Some) }
    };
    match (side(0)?, side(1)?) {
        (Some(a), Some(b)) => (a == b && a > 2).then(|| Items::Along(rank - a)),
        (Some(one), None) | (None, Some(one)) => {
            let other = m.operand(op, usize::from(f.along(m, op, 0).is_some()))?;
            let same = one <= 2 || m.dims(other).len().checked_sub(one).is_none_or(|axis| f.repeats(m, other, axis));
            same.then(|| Items::Along(rank - one))
        }
        (None, None) => None,
    }
}

fn eval_matmul(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let view = Matmul(op);
    let s = view.shape(m)?;
    let (a, b) = (f32s(args, 0)?, f32s(args, 1)?);
    let bias = args.get(2).copied().flatten().map(|_| f32s(args, 2)).transpose()?;
    let (ta, tb) = (view.transpose_a(m), view.transpose_b(m));
    let (da, db) = (dims_of(m, op, 0)?, dims_of(m, op, 1)?);
    let starts_a = broadcast_index(&da[..da.len() - 2], &s.batch);
    let starts_b = broadcast_index(&db[..db.len() - 2], &s.batch);
    let mut out = Vec::with_capacity(s.batch.iter().product::<usize>() * s.m * s.n);
    for (sa, sb) in starts_a.zip(starts_b) {
        let (a, b) = (&a[sa * s.m * s.k..][..s.m * s.k], &b[sb * s.k * s.n..][..s.k * s.n]);
        for i in 0..s.m {
            let row = out.len();
            out.resize(row + s.n, 0.0);
            for k in 0..s.k {
                let x = if ta { a[k * s.m + i] } else { a[i * s.k + k] };
                for (j, o) in out[row..].iter_mut().enumerate() {
                    *o += x * if tb { b[j * s.k + k] } else { b[k * s.n + j] };
                }
            }
            if let Some(bias) = bias {
                out[row..].iter_mut().zip(bias).for_each(|(o, b)| *o += b);
            }
        }
    }
    let dims: Vec<usize> = s.batch.iter().copied().chain([s.m, s.n]).collect();
    let (min, max) = (view.min(m) as f32, view.max(m) as f32);
    out.iter_mut().for_each(|x| *x = clamp_f32(*x, min, max));
    Ok(vec![HostTensor::f32(dims, out)])
}
