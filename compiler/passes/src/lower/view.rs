//! Views: where the elements of a tensor lie in memory.
//!
//! Reshape, transpose and slice are arithmetic on strides here; they cost nothing unless a reshape merges dims that do
//! not lie one behind the other.

use qc_ir::{BufferTy, Elem, ValueId};

/// The place of a tensor: element `[i0, i1, ..]` is at byte `offset + sum(i * stride)` behind the buffer's origin.
#[derive(Clone, Debug)]
pub struct View<B = ValueId> {
    /// The buffer: a value of the module being built, or, while layouts are decided, the tensor that will have it.
    pub buf: B,
    /// Bytes from the buffer's origin to element 0.
    pub offset: i64,
    /// Indices of loops around, and by how many bytes element 0 moves with each.
    pub moves: Vec<(ValueId, i64)>,
    /// Logical dims.
    pub dims: Vec<usize>,
    /// Bytes from one index to the next, per dim.
    pub strides: Vec<i64>,
    /// Element type; quantized elements appear as their storage.
    pub elem: Elem,
    /// Rows and columns around a rank-4 tensor's planes that hold its zero: top, left, bottom, right.
    pub padding: [usize; 4],
}

/// A place in a buffer, which may move with loops.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Base<B = ValueId> {
    /// The buffer.
    pub buf: B,
    /// Bytes from its origin.
    pub offset: i64,
    /// See [`View::moves`].
    pub moves: Vec<(ValueId, i64)>,
}

impl From<ValueId> for Base {
    fn from(buf: ValueId) -> Base {
        Base { buf, offset: 0, moves: Vec::new() }
    }
}

/// Bytes of a plain element.
pub fn bytes_of(elem: Elem) -> usize {
    elem.bytes(|_| qc_ir::Store::U8)
}

/// Row-major strides in bytes.
pub fn row_major(dims: &[usize], elem: Elem) -> Vec<i64> {
    qc_ir::strides(dims).into_iter().map(|s| (s * bytes_of(elem)) as i64).collect()
}

/// Strides of a rank-4 NCHW tensor whose channels lie together: `[image, element, row, pixel]`, given the padded size.
pub fn channels_last(c: usize, padded: [usize; 2], elem: Elem) -> Vec<i64> {
    let pixel = c * bytes_of(elem);
    let row = padded[1] * pixel;
    [padded[0] * row, bytes_of(elem), row, pixel].into_iter().map(|s| s as i64).collect()
}

impl<B: Copy> View<B> {
    /// The view of all of a buffer.
    pub fn whole(buf: B, ty: &BufferTy, padding: [usize; 4]) -> View<B> {
        let strides = ty.strides.iter().map(|&s| s as i64).collect();
        View { buf, offset: 0, moves: Vec::new(), dims: ty.dims.to_vec(), strides, elem: ty.elem, padding }
    }

    /// The same view of a buffer, or of what lies in one.
    pub fn of_buffer<C: Clone>(self, base: &Base<C>) -> View<C> {
        let View { offset, moves, dims, strides, elem, padding, .. } = self;
        let moves = base.moves.iter().copied().chain(moves).collect();
        View { buf: base.buf.clone(), offset: base.offset + offset, moves, dims, strides, elem, padding }
    }

    /// Where it begins.
    pub fn base(&self) -> Base<B> {
        Base { buf: self.buf, offset: self.offset, moves: self.moves.clone() }
    }

    /// The same view, beginning there.
    pub fn of_base(self, base: &Base<B>) -> View<B> {
        View { buf: base.buf, offset: base.offset, moves: base.moves.clone(), ..self }
    }

    /// Index 0 of the first dim.
    pub fn first(&self) -> View<B> {
        View { dims: self.dims[1..].to_vec(), strides: self.strides[1..].to_vec(), padding: [0; 4], ..self.clone() }
    }

    /// Bytes of one element.
    pub fn elem_bytes(&self) -> i64 {
        bytes_of(self.elem) as i64
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether rank-4 planes have their channels together and their pixels and rows in order.
    pub fn is_channels_last(&self) -> bool {
        let [_, c, h, w] = self.strides[..] else { return false };
        let channels = self.dims[1] == 1 || c == self.elem_bytes();
        channels && w > 0 && h > 0 && w >= self.elem_bytes() * self.dims[1] as i64
    }

    /// Whether elements lie in the order of their indices, one behind the other.
    pub fn is_in_order(&self) -> bool {
        let packed = row_major(&self.dims, self.elem);
        // Where a dim has one index, its stride is not used.
        self.dims.iter().zip(self.strides.iter().zip(&packed)).all(|(&dim, (own, packed))| dim == 1 || own == packed)
    }

    /// The same, where it is not channels-last as well.
    pub fn is_row_major(&self) -> bool {
        !self.is_channels_last() && self.strides == row_major(&self.dims, self.elem)
    }

    /// Whether the elements of a row are contiguous.
    pub fn has_rows(&self) -> bool {
        self.dims.last() == Some(&1) || self.strides.last().is_none_or(|&s| s == self.elem_bytes())
    }

    /// Indices `start, start + step, ..` of dim `axis`, `count` of them.
    pub fn narrow(&self, axis: usize, start: usize, count: usize, step: usize) -> View<B> {
        let mut v = self.clone();
        v.offset += start as i64 * v.strides[axis];
        let whole = start == 0 && step == 1 && count == v.dims[axis];
        if axis != 1 && !whole {
            v.padding = [0; 4];
        }
        v.dims[axis] = count;
        // Of a single element the step is no distance, and may be any number.
        if count > 1 {
            v.strides[axis] *= step as i64;
        }
        v
    }

    /// Index 0 of dim `axis`, without that dim.
    pub fn without(&self, axis: usize) -> View<B> {
        let mut v = self.clone();
        v.dims.remove(axis);
        v.strides.remove(axis);
        v
    }

    /// The dims in another order.
    pub fn permuted(&self, perm: &[i64]) -> View<B> {
        let mut v = self.clone();
        v.dims = perm.iter().map(|&p| self.dims[p as usize]).collect();
        v.strides = perm.iter().map(|&p| self.strides[p as usize]).collect();
        let in_place = perm.iter().enumerate().all(|(i, &p)| i as i64 == p);
        if !in_place {
            v.padding = [0; 4];
        }
        v
    }

    /// The same elements under other dims, or `None` if that needs a copy.
    pub fn reshaped(&self, dims: &[usize]) -> Option<View<B>> {
        if self.dims == dims {
            return Some(self.clone());
        }
        // Old dims that matter, joined where they lie one behind the other.
        let mut joined: Vec<(usize, i64)> = Vec::new();
        for (&d, &s) in self.dims.iter().zip(&self.strides).filter(|(d, _)| **d != 1) {
            match joined.last_mut() {
                Some((n, last)) if *last == s * d as i64 => {
                    *n *= d;
                    *last = s;
                }
                _ => joined.push((d, s)),
            }
        }
        // Each joined run is cut into new dims, from the innermost.
        let mut strides = vec![0i64; dims.len()];
        let mut run = joined.pop();
        for i in (0..dims.len()).rev() {
            if dims[i] == 1 {
                continue;
            }
            let (left, stride) = run?;
            if !left.is_multiple_of(dims[i]) {
                return None;
            }
            strides[i] = stride;
            run = match left / dims[i] {
                1 => joined.pop(),
                rest => Some((rest, stride * dims[i] as i64)),
            };
        }
        // Dims of one element get the stride that keeps the order of memory.
        let mut outer = self.elem_bytes();
        for i in (0..dims.len()).rev() {
            if dims[i] == 1 {
                strides[i] = outer;
            }
            outer = strides[i] * dims[i] as i64;
        }
        run.is_none().then(|| View { dims: dims.to_vec(), strides, padding: [0; 4], ..self.clone() })
    }

    /// The view that broadcasts this tensor to `dims`: missing and single dims repeat.
    pub fn broadcast(&self, dims: &[usize]) -> View<B> {
        let skip = dims.len() - self.dims.len();
        let stride = |i: usize| match i.checked_sub(skip) {
            Some(own) if self.dims[own] != 1 => self.strides[own],
            _ => 0,
        };
        let padding = if dims == self.dims { self.padding } else { [0; 4] };
        View { dims: dims.to_vec(), strides: (0..dims.len()).map(stride).collect(), padding, ..self.clone() }
    }
}

/// One loop over several operands: a count, and the stride of each operand in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Level {
    /// Iterations.
    pub count: usize,
    /// Bytes from one iteration to the next, per operand.
    pub strides: Vec<i64>,
}

/// The loops over `dims`, outermost first: dims in the order of the strides of operand `key`, joined where every
/// operand allows it.
pub fn levels(dims: &[usize], operands: &[&View], key: usize) -> Vec<Level> {
    let mut all: Vec<Level> = (0..dims.len())
        .filter(|&d| dims[d] != 1)
        .map(|d| Level { count: dims[d], strides: operands.iter().map(|v| v.strides[d]).collect() })
        .collect();
    all.sort_by_key(|l| std::cmp::Reverse(l.strides[key]));
    let mut joined: Vec<Level> = Vec::new();
    for level in all {
        match joined.last_mut() {
            Some(outer) if outer.strides.iter().zip(&level.strides).all(|(o, s)| *o == s * level.count as i64) => {
                outer.count *= level.count;
                outer.strides = level.strides;
            }
            _ => joined.push(level),
        }
    }
    joined
}
