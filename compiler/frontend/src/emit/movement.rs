//! Ops that move elements: done at import on known tensors, emitted otherwise.

use super::{Graph, Value, bytes_like};
use crate::elements::bounded;
use crate::error::Refusal;
use qc_dialects::graph;
use qc_ir::{Data, Elem, HostTensor, Type, attrs, indices, strides};

/// One `start..end` with a step per dim; ends exclusive, already clamped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Range {
    pub start: i64,
    pub end: i64,
    pub step: i64,
}

impl Range {
    /// A whole dim.
    pub fn full(dim: usize) -> Range {
        Range { start: 0, end: dim as i64, step: 1 }
    }

    /// Clamps Python-style bounds to a dim.
    pub fn clamped(start: i64, end: i64, step: i64, dim: usize) -> Range {
        let dim = dim as i64;
        let (lo, hi) = if step > 0 { (0, dim) } else { (-1, dim - 1) };
        let place = |x: i64| (if x < 0 { x.saturating_add(dim) } else { x }).clamp(lo, hi);
        let (start, end) = (place(start), place(end));
        Range { start, end: if step > 0 { end.max(start) } else { end.min(start) }, step }
    }

    fn count(&self) -> usize {
        (self.end - self.start).unsigned_abs().div_ceil(self.step.unsigned_abs().max(1)) as usize
    }
}

/// What stands around a tensor.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Padding {
    /// One number.
    Constant(f32),
    /// Its elements, mirrored at the outermost ones, which are not repeated.
    Reflect,
    /// The outermost elements.
    Edge,
    /// Its elements from the other end on.
    Wrap,
}

impl Padding {
    /// Which element of `size` stands at `place`, which may lie outside; `None` if a number does.
    fn element(self, place: i64, size: usize) -> Option<usize> {
        let (last, size) = (size as i64 - 1, size as i64);
        let element = match self {
            Padding::Constant(_) => return None,
            Padding::Edge => place.clamp(0, last),
            Padding::Wrap => place.rem_euclid(size),
            Padding::Reflect if last == 0 => 0,
            Padding::Reflect => last - (place.rem_euclid(2 * last) - last).abs(),
        };
        Some(element as usize)
    }
}

impl Graph {
    /// The same elements under another shape.
    pub fn reshape(&mut self, x: &Value, dims: &[usize]) -> Result<Value, Refusal> {
        let from = self.dims(x);
        if from == dims {
            return Ok(x.clone());
        }
        let axis = axis_of(x).and_then(|a| reshaped_axis(&from, a, dims));
        if let Some(v) = self.moved(x, axis, |g, stored| g.reshape(stored, dims)) {
            return Ok(v);
        }
        if let Some(t) = x.known()
            && let Some(v) = self.folded_from(x, bytes_like(t.data(), t.len()), || t.reshaped(dims))
        {
            return Ok(v);
        }
        self.emit(graph::Reshape::DEF, &[Some(x)], attrs! { shape: dims })
    }

    /// Output dim `d` is input dim `perm[d]`.
    pub fn transpose(&mut self, x: &Value, perm: &[usize]) -> Result<Value, Refusal> {
        let from = self.dims(x);
        let mut sorted = perm.to_vec();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..from.len()) {
            return Err(Refusal::invalid(format!("{perm:?} is no permutation of {} dims", from.len())));
        }
        if perm.iter().copied().eq(0..from.len()) {
            return Ok(x.clone());
        }
        let axis = axis_of(x).and_then(|a| perm.iter().position(|&p| p == a));
        if let Some(v) = self.moved(x, axis, |g, stored| g.transpose(stored, perm)) {
            return Ok(v);
        }
        if let Some(t) = x.known() {
            let dims: Vec<usize> = perm.iter().map(|&p| from[p]).collect();
            let own = strides(&from);
            let step: Vec<usize> = perm.iter().map(|&p| own[p]).collect();
            let at = |i: Vec<usize>| i.iter().zip(&step).map(|(a, b)| a * b).sum();
            let make = || gather(t, dims.clone(), indices(&dims).map(at));
            if let Some(v) = self.folded_from(x, bytes_like(t.data(), t.len()), make) {
                return Ok(v);
            }
        }
        self.emit(graph::Transpose::DEF, &[Some(x)], attrs! { perm: perm })
    }

    /// The elements that one range per dim selects.
    pub fn slice(&mut self, x: &Value, ranges: &[Range]) -> Result<Value, Refusal> {
        let from = self.dims(x);
        if ranges.len() != from.len() || ranges.iter().any(|r| r.step == 0) {
            return Err(Refusal::invalid("a slice needs one range with a step other than 0 per dim"));
        }
        if ranges.iter().zip(&from).all(|(r, &d)| *r == Range::full(d)) {
            return Ok(x.clone());
        }
        let axis = axis_of(x).filter(|&a| ranges[a] == Range::full(from[a]));
        if let Some(v) = self.moved(x, axis, |g, stored| g.slice(stored, ranges)) {
            return Ok(v);
        }
        if let Some(t) = x.known() {
            let dims: Vec<usize> = ranges.iter().map(Range::count).collect();
            let own = strides(&from);
            let at = |i: Vec<usize>| {
                let one = |(d, &n): (usize, &usize)| (ranges[d].start + n as i64 * ranges[d].step) as usize * own[d];
                i.iter().enumerate().map(one).sum()
            };
            let make = || gather(t, dims.clone(), indices(&dims).map(at));
            if let Some(v) = self.folded_from(x, bytes_like(t.data(), t.len()), make) {
                return Ok(v);
            }
        }
        if ranges.iter().any(|r| r.count() == 0) && self.elem(x) == Elem::F32 {
            // Known whatever the elements of `x` are.
            let dims: Vec<usize> = ranges.iter().map(Range::count).collect();
            return Ok(HostTensor::f32(dims, Vec::new()).into());
        }
        if let Some(axis) = ranges.iter().position(|r| r.step < 0) {
            return self.backwards(x, ranges, axis);
        }
        let pick = |f: fn(&Range) -> i64| ranges.iter().map(f).collect::<Vec<i64>>();
        let attrs = attrs! { starts: pick(|r| r.start), ends: pick(|r| r.end), steps: pick(|r| r.step) };
        self.emit(graph::Slice::DEF, &[Some(x)], attrs)
    }

    /// A slice that runs backwards along `axis`: its places there are gathered, the other axes are sliced.
    fn backwards(&mut self, x: &Value, ranges: &[Range], axis: usize) -> Result<Value, Refusal> {
        let Range { start, step, .. } = ranges[axis];
        let count = ranges[axis].count();
        self.charge(8 * count)?;
        let places: Vec<usize> = (0..count as i64).map(|n| (start + n * step) as usize).collect();
        let part = self.take(x, axis, &places)?;
        let mut rest = ranges.to_vec();
        rest[axis] = Range::full(count);
        self.slice(&part, &rest)
    }

    /// The part `start..end` of one axis.
    pub fn narrow(&mut self, x: &Value, axis: usize, start: usize, end: usize) -> Result<Value, Refusal> {
        let mut ranges: Vec<Range> = self.dims(x).iter().map(|&d| Range::full(d)).collect();
        ranges[axis] = Range { start: start as i64, end: end as i64, step: 1 };
        self.slice(x, &ranges)
    }

    /// Index `i` of the first dim, without it.
    pub fn item(&mut self, x: &Value, i: usize) -> Result<Value, Refusal> {
        let dims = self.dims(x);
        let one = self.narrow(x, 0, i, i + 1)?;
        self.reshape(&one, &dims[1..])
    }

    /// The inputs, which have one shape, along a new first dim.
    pub fn stack(&mut self, inputs: &[Value]) -> Result<Value, Refusal> {
        let mut parts = Vec::new();
        for x in inputs {
            let dims: Vec<usize> = std::iter::once(1).chain(self.dims(x)).collect();
            parts.push(self.reshape(x, &dims)?);
        }
        self.concat(&parts, 0)
    }

    /// The inputs one after the other along `axis`.
    pub fn concat(&mut self, inputs: &[Value], axis: usize) -> Result<Value, Refusal> {
        let [first, rest @ ..] = inputs else { return Err(Refusal::invalid("a concat needs an input")) };
        if rest.is_empty() {
            return Ok(first.clone());
        }
        if let Some(parts) = in_one_format(inputs)
            && let Some(v) = self.moved(first, None, |g, _| g.concat(&parts, axis))
        {
            return Ok(v);
        }
        let known: Option<Vec<&HostTensor>> = inputs.iter().map(Value::known).collect();
        if let Some(parts) = known {
            let bytes = parts.iter().map(|t| bytes_like(t.data(), t.len())).sum();
            let Some(dims) = concat_dims(&parts, axis) else {
                return Err(Refusal::invalid(format!("the inputs do not fit each other along axis {axis}")));
            };
            if let Some(v) = self.folded(bytes, || concat_known(&parts, dims, axis)) {
                return Ok(v);
            }
        }
        // Parts without elements do not change the result.
        let parts: Vec<&Value> = inputs.iter().filter(|v| !self.dims(v).contains(&0)).collect();
        if let [only] = parts[..] {
            return Ok(only.clone());
        }
        let operands: Vec<Option<&Value>> = parts.into_iter().map(Some).collect();
        self.emit(graph::Concat::DEF, &operands, attrs! { axis: axis })
    }

    /// Elements converted to `to`.
    pub fn cast(&mut self, x: &Value, to: Elem) -> Result<Value, Refusal> {
        let from = self.elem(x);
        if from == to {
            return Ok(x.clone());
        }
        if matches!(from, Elem::Quant(_)) {
            return Err(Refusal::unsupported("a quantized tensor is converted without a dequantize"));
        }
        if let Some(t) = x.known()
            && let Some(v) = self.folded_from(x, t.len().saturating_mul(8), || cast_known(t, to))
        {
            return Ok(v);
        }
        self.emit(graph::Cast::DEF, &[Some(x)], attrs! { to: Type::Scalar(to) })
    }

    /// Padding around a tensor, which is f32 if the padding is a number; all leading counts, then all trailing ones. Negative
    /// counts cut.
    pub fn pad(&mut self, x: &Value, pads: &[i64], padding: Padding) -> Result<Value, Refusal> {
        let dims = self.dims(x);
        if pads.len() != 2 * dims.len() {
            return Err(Refusal::invalid(format!("{} pads for a tensor of rank {}", pads.len(), dims.len())));
        }
        let (before, after) = pads.split_at(dims.len());
        let mut ranges = Vec::new();
        for ((&dim, &b), &a) in dims.iter().zip(before).zip(after) {
            let (start, cut) = (b.min(0).saturating_neg(), a.min(0).saturating_neg());
            let end = (dim as i64).saturating_sub(cut);
            if start >= end {
                return Err(Refusal::invalid(format!("pads {pads:?} leave nothing of {dims:?}")));
            }
            ranges.push(Range { start, end, step: 1 });
        }
        let mut x = self.slice(x, &ranges)?;
        let pads: Vec<i64> = pads.iter().map(|&p| p.max(0)).collect();
        if pads.iter().all(|&p| p == 0) {
            return Ok(x);
        }
        let Padding::Constant(value) = padding else {
            for (axis, size) in self.dims(&x).into_iter().enumerate() {
                let (before, after) = (pads[axis], pads[dims.len() + axis]);
                let total = (size as i64).saturating_add(before).saturating_add(after);
                self.charge(usize::try_from(total).unwrap_or(usize::MAX).saturating_mul(8))?;
                let places = (0..total).filter_map(|i| padding.element(i - before, size)).collect::<Vec<_>>();
                x = self.take(&x, axis, &places)?;
            }
            return Ok(x);
        };
        if matches!(self.elem(&x), Elem::F32 | Elem::Quant(_)) {
            return self.emit_f32(graph::Pad::DEF, &[Some(&x)], attrs! { pads: pads, value: value });
        }
        for axis in 0..dims.len() {
            let [before, after] = [pads[axis], pads[dims.len() + axis]];
            let mut parts = vec![x.clone()];
            if before > 0 {
                parts.insert(0, self.filled_like(&x, axis, before, value)?);
            }
            if after > 0 {
                parts.push(self.filled_like(&x, axis, after, value)?);
            }
            x = self.concat(&parts, axis)?;
        }
        Ok(x)
    }

    /// A known tensor of one number in the type and dims of `x`, but `size` along `axis`.
    fn filled_like(&mut self, x: &Value, axis: usize, size: i64, value: f32) -> Result<Value, Refusal> {
        let mut dims = self.dims(x);
        dims[axis] = usize::try_from(size).unwrap_or(usize::MAX);
        let (len, elem) = (bounded(&dims), self.elem(x));
        let len = len.ok_or_else(|| Refusal::unsupported(format!("the padding has the shape {dims:?}")))?;
        let made = self.folded(len.saturating_mul(8), || cast_known(&HostTensor::f32(dims, vec![value; len]), elem));
        made.ok_or_else(|| Refusal::unsupported("its padding is too large to be made at import"))
    }
}

/// The axis along which the scales of a dequantized constant lie.
pub(super) fn axis_of(x: &Value) -> Option<usize> {
    match x {
        Value::Dequantized(d) => d.quant.axis,
        _ => None,
    }
}

/// Where `axis` of a tensor of dims `from` is after a reshape to `to`, if it is still an axis of its own.
fn reshaped_axis(from: &[usize], axis: usize, to: &[usize]) -> Option<usize> {
    let before = |dims: &[usize], a: usize| dims[..a].iter().product::<usize>();
    (0..to.len()).find(|&a| to[a] == from[axis] && before(to, a) == before(from, axis))
}

/// The stored integers of dequantized constants that share one format with one scale.
fn in_one_format(inputs: &[Value]) -> Option<Vec<Value>> {
    let Some(Value::Dequantized(first)) = inputs.first() else { return None };
    let stored = |v: &Value| match v {
        Value::Dequantized(d) if d.quant == first.quant && d.quant.axis.is_none() => Some(d.integers()),
        _ => None,
    };
    inputs.iter().map(stored).collect()
}

/// The elements of `x` at the given positions; `None` if their number does not match `dims`.
pub(crate) fn gather(x: &HostTensor, dims: Vec<usize>, at: impl Iterator<Item = usize>) -> Option<HostTensor> {
    fn pick<T: Copy>(v: &[T], at: impl Iterator<Item = usize>) -> Option<Vec<T>> {
        at.map(|i| v.get(i).copied()).collect()
    }
    let data = match x.data() {
        Data::F32(v) => Data::F32(pick(v, at)?),
        Data::I8(v) => Data::I8(pick(v, at)?),
        Data::U8(v) => Data::U8(pick(v, at)?),
        Data::I32(v) => Data::I32(pick(v, at)?),
        Data::I64(v) => Data::I64(pick(v, at)?),
        Data::Bool(v) => Data::Bool(pick(v, at)?),
    };
    HostTensor::new(dims, data)
}

fn concat_dims(parts: &[&HostTensor], axis: usize) -> Option<Vec<usize>> {
    let first = parts.first()?;
    let mut dims = first.dims().to_vec();
    *dims.get_mut(axis)? = 0;
    for t in parts {
        let fits = t.dims().len() == dims.len() && (0..dims.len()).all(|d| d == axis || t.dims()[d] == dims[d]);
        if !fits || t.data().elem() != first.data().elem() {
            return None;
        }
        dims[axis] = dims[axis].checked_add(t.dims()[axis])?;
    }
    Some(dims)
}

fn concat_known(parts: &[&HostTensor], dims: Vec<usize>, axis: usize) -> Option<HostTensor> {
    fn join<T: Copy>(parts: &[&[T]], outer: usize) -> Vec<T> {
        let row =
            |o: usize| parts.iter().flat_map(move |p| p[p.len() / outer * o..][..p.len() / outer].iter().copied());
        (0..outer).flat_map(row).collect()
    }
    let outer = dims[..axis].iter().product::<usize>().max(1);
    macro_rules! joined {
        ($get:ident, $kind:ident) => {
            Data::$kind(join(&parts.iter().map(|t| t.$get()).collect::<Option<Vec<_>>>()?, outer))
        };
    }
    let data = match parts.first()?.data() {
        Data::F32(_) => joined!(as_f32, F32),
        Data::I8(_) => joined!(as_i8, I8),
        Data::U8(_) => joined!(as_u8, U8),
        Data::I32(_) => joined!(as_i32, I32),
        Data::I64(_) => joined!(as_i64, I64),
        Data::Bool(_) => joined!(as_bool, Bool),
    };
    HostTensor::new(dims, data)
}

/// Conversion with truncation towards zero and saturation, as the graph dialect's `cast`.
pub(crate) fn cast_known(t: &HostTensor, to: Elem) -> Option<HostTensor> {
    let float = |i: usize| t.as_f32().map_or_else(|| t.int(i).unwrap_or(0) as f64, |v| f64::from(v[i]));
    let all = 0..t.len();
    let data = match to {
        Elem::F32 => Data::F32(all.map(|i| float(i) as f32).collect()),
        Elem::I8 => Data::I8(all.map(|i| float(i) as i8).collect()),
        Elem::U8 => Data::U8(all.map(|i| float(i) as u8).collect()),
        Elem::I32 => Data::I32(all.map(|i| float(i) as i32).collect()),
        Elem::I64 => Data::I64(all.map(|i| t.int(i).unwrap_or(float(i) as i64)).collect()),
        Elem::Bool => Data::Bool(all.map(|i| float(i) != 0.0).collect()),
        Elem::Quant(_) => return None,
    };
    HostTensor::new(t.dims(), data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(dims: &[usize]) -> Value {
        HostTensor::i64(dims, (0..dims.iter().product::<usize>() as i64).collect()).into()
    }

    fn read(v: Value) -> (Vec<usize>, Vec<i64>) {
        let t = v.known().unwrap();
        (t.dims().to_vec(), t.as_i64().unwrap().to_vec())
    }

    #[test]
    fn known_tensors_are_moved_at_import() {
        let mut g = Graph::new("t");
        let x = ints(&[2, 3]);
        assert_eq!(read(g.transpose(&x, &[1, 0]).unwrap()), (vec![3, 2], vec![0, 3, 1, 4, 2, 5]));
        assert_eq!(read(g.concat(&[x.clone(), x.clone()], 1).unwrap()).1, [0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5]);
        assert_eq!(read(g.concat(&[x.clone(), x.clone()], 0).unwrap()).0, [4, 3]);
        let rows = [Range::clamped(-1, -9, -1, 2), Range::clamped(0, 3, 2, 3)];
        assert_eq!(read(g.slice(&x, &rows).unwrap()), (vec![2, 2], vec![3, 5, 0, 2]));
        assert_eq!(read(g.reshape(&x, &[6]).unwrap()).0, [6]);
        assert_eq!(g.made(), 0);
        assert!(g.reshape(&x, &[5]).is_err());
        assert!(g.transpose(&x, &[0, 0]).is_err());
    }

    #[test]
    fn python_bounds_are_clamped() {
        assert_eq!(Range::clamped(0, i64::MAX, 1, 5), Range { start: 0, end: 5, step: 1 });
        assert_eq!(Range::clamped(-3, -1, 1, 5), Range { start: 2, end: 4, step: 1 });
        assert_eq!(Range::clamped(4, 2, 1, 5).count(), 0);
        assert_eq!(Range::clamped(i64::MAX, i64::MIN, -1, 5), Range { start: 4, end: -1, step: -1 });
        assert_eq!(Range::clamped(1, 5, 3, 5).count(), 2);
    }

    #[test]
    fn elements_stand_around() {
        let mut g = Graph::new("t");
        let mut padded = |padding| read(g.pad(&ints(&[4]), &[5, 6], padding).unwrap()).1;
        assert_eq!(padded(Padding::Reflect), [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3]);
        assert_eq!(padded(Padding::Edge), [0, 0, 0, 0, 0, 0, 1, 2, 3, 3, 3, 3, 3, 3, 3]);
        assert_eq!(padded(Padding::Wrap), [3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1]);
        let one = HostTensor::i64([1], vec![7]).into();
        assert_eq!(read(g.pad(&one, &[1, 1], Padding::Reflect).unwrap()).1, [7, 7, 7]);
    }

    #[test]
    fn folding_has_a_budget() {
        let mut g = Graph::new("t");
        let mut x = ints(&[1 << 16]);
        let mut folded = 0;
        while let Ok(v) = g.concat(&[x.clone(), x.clone()], 0) {
            folded += usize::from(v.known().is_some());
            x = v;
        }
        assert!(folded < 8, "{folded}");
    }

    #[test]
    fn negative_pads_cut() {
        let mut g = Graph::new("t");
        let x = g.input("x", Elem::F32, &[1, 4]);
        let zeros = Padding::Constant(0.0);
        let y = g.pad(&x, &[0, -1, 0, 2], zeros).unwrap();
        assert_eq!(g.dims(&y), [1, 5]);
        assert!(g.pad(&x, &[0, -4, 0, 2], zeros).is_err());
    }
}
