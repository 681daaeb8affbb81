//! Programs whose tensors are looked at where they lie, while the program runs: behind the step that makes a tensor, and before another
//! one lies in its place. So the memory is that of the model itself, however many tensors are looked at, and no tensor is copied to be
//! shown. `inside.rs` has programs that keep all tensors.

use crate::inside::show_floats;
use crate::{CompileError, Compiler, ModelFile, pipeline, ports};
use qc_dialects::loops::{Alloc, Parallel, Watch};
use qc_frontend::Imported;
use qc_ir::{Memo, Module, NoSink};
use qc_passes::quant::channels::{Order, axis};
use qc_runtime::{Context, ContextOptions, Predictor, RunError};

/// A program whose tensors can be watched.
pub struct Watched {
    /// What runs it.
    pub predictor: Predictor,
    /// The module whose tensors are watched, as it was before.
    pub module: Module,
    /// Names of the inputs' tensors, in model order.
    pub inputs: Vec<String>,
    /// By the step behind which they are looked at.
    places: Vec<Place>,
}

/// Where a tensor lies.
#[derive(Debug, PartialEq)]
struct Place {
    name: String,
    /// How many steps have run when it is there.
    steps: usize,
    /// The first element, counted in the arena.
    first: usize,
    /// Dims that are cut through, each with the distance of its indices in elements, then the elements that lie one behind the other.
    outer: Vec<(usize, usize)>,
    run: usize,
    order: Order,
}

/// One caller of a [`Watched`], with memory of its own.
pub struct Watcher<'w> {
    watched: &'w Watched,
    context: Context,
    /// A tensor with gaps, without them.
    packed: Vec<f32>,
}

impl Compiler {
    /// Compiles a canonical float module so that its named tensors can be watched. `seen_as` has the dims under which channels count,
    /// by name.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub(crate) fn watched(
        &self,
        file: &ModelFile,
        imported: Imported,
        seen_as: &dyn Fn(&str) -> Option<Vec<usize>>,
    ) -> Result<Watched, CompileError> {
        let (inputs, mut m) = (ports(&imported.inputs), imported.module);
        let names = m.args(m.body()).iter().map(|&v| m.name(v).unwrap_or_default().to_string()).collect();
        let mut module = m.clone();
        // The other one would keep packed weights as long as the module.
        module.consts.memo = Memo::default();
        show_floats(&mut m);
        self.run(&mut m, &pipeline::plain(pipeline::INT8), &mut NoSink)?;
        self.run(&mut m, &pipeline::watched(), &mut NoSink)?;
        let places = places(&m, seen_as);
        let predictor = self.in_process(file, imported.format, (inputs, Vec::new()), m)?;
        Ok(Watched { predictor, module, inputs: names, places })
    }
}

/// The tensors that a planned module shows.
fn places(m: &Module, seen_as: &dyn Fn(&str) -> Option<Vec<usize>>) -> Vec<Place> {
    let (mut found, mut steps) = (Vec::new(), 0);
    for &op in m.ops(m.body()) {
        steps += usize::from(m.is(op, Parallel::DEF));
        let watch = Watch::of(m, op);
        let lies = watch.and_then(|w| Some((w, Alloc::producing(m, w.buf(m))?, m.ty(w.buf(m)).buffer()?)));
        let Some((watch, alloc, buffer)) = lies else { continue };
        let (name, at) = (watch.name(m), watch.at(m));
        let elements = |bytes: i64| bytes as usize / size_of::<f32>();
        let dims: Vec<usize> = watch.dims(m).iter().map(|&dim| dim as usize).collect();
        let first = elements(alloc.offset(m) + buffer.origin as i64 + at[0]);
        let strides: Vec<usize> = at[1..].iter().map(|&stride| elements(stride)).collect();
        let place = Place { name: name.to_string(), steps, first, ..Place::of(&dims, &strides, seen_as(&name)) };
        found.push(place);
    }
    found
}

impl Place {
    /// Of a tensor whose indices are `strides` elements apart. Where channels count by its own dims, elements are taken as they lie,
    /// whatever the order of dims; else in the order of indices.
    fn of(dims: &[usize], strides: &[usize], seen_as: Option<Vec<usize>>) -> Place {
        let mut nested: Vec<usize> = (0..dims.len()).collect();
        let n = dims.iter().product();
        let order = match seen_as.filter(|seen| seen != dims) {
            Some(seen) => Order::rows(&seen),
            None => {
                nested.sort_by_key(|&d| std::cmp::Reverse(strides[d]));
                let channel = axis(dims.len()).filter(|&d| dims[d] > 1);
                let behind = |channel: usize| nested.iter().rev().take_while(move |&&d| d != channel).map(|&d| dims[d]);
                channel.map_or(Order { channels: 1, beside: n }, |d| Order {
                    channels: dims[d],
                    beside: behind(d).product(),
                })
            }
        };
        let mut outer: Vec<(usize, usize)> =
            nested.iter().map(|&d| (dims[d], strides[d])).filter(|(dim, _)| *dim != 1).collect();
        let mut run = 1;
        while let Some((dim, _)) = outer.pop_if(|(_, stride)| *stride == run) {
            run *= dim;
        }
        Place { name: String::new(), steps: 0, first: 0, outer, run, order }
    }

    /// The elements; where there are gaps between them, packed.
    fn values<'a>(&self, arena: &'a [f32], packed: &'a mut Vec<f32>) -> &'a [f32] {
        if self.outer.is_empty() {
            return &arena[self.first..self.first + self.run];
        }
        packed.clear();
        pack(arena, self.first, (&self.outer, self.run), packed);
        packed
    }
}

/// Appends runs of elements, cut through by `outer` dims.
fn pack(arena: &[f32], first: usize, (outer, run): (&[(usize, usize)], usize), to: &mut Vec<f32>) {
    match outer.split_first() {
        None => to.extend_from_slice(&arena[first..first + run]),
        Some((&(dim, stride), inner)) => (0..dim).for_each(|i| pack(arena, first + i * stride, (inner, run), to)),
    }
}

impl Watched {
    /// A caller for one thread.
    ///
    /// # Errors
    /// When memory is short or the environment caps the instruction set below what was compiled.
    pub fn watcher(&self) -> Result<Watcher<'_>, RunError> {
        let options = ContextOptions { threads: Some(1), ..ContextOptions::default() };
        Ok(Watcher { watched: self, context: self.predictor.context(&options)?, packed: Vec::new() })
    }

    /// Number of tensors that are watched, inputs included.
    pub fn tensors(&self) -> usize {
        self.places.len() + self.inputs.len()
    }
}

impl Watcher<'_> {
    /// What runs the program, whose inputs are to be filled.
    pub fn context_mut(&mut self) -> &mut Context {
        &mut self.context
    }

    /// Runs the program, showing `look` each tensor when it was computed: its name, how it lies, and its elements.
    ///
    /// # Errors
    /// When an input has no data.
    pub fn run(&mut self, look: &mut dyn FnMut(&str, Order, &[f32])) -> Result<(), RunError> {
        let (mut places, packed) = (self.watched.places.iter().peekable(), &mut self.packed);
        self.context.run_watched(&mut |step, arena| {
            while let Some(place) = places.next_if(|place| place.steps == step + 1) {
                look(&place.name, place.order, place.values(arena, packed));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a place shows of an arena whose elements are their numbers.
    fn shown(dims: &[usize], strides: &[usize], seen_as: Option<Vec<usize>>) -> (Vec<f32>, Order) {
        let arena: Vec<f32> = (0..200).map(|i| i as f32).collect();
        let place = Place { first: 5, ..Place::of(dims, strides, seen_as) };
        (place.values(&arena, &mut Vec::new()).to_vec(), place.order)
    }

    fn numbers(all: &[usize]) -> Vec<f32> {
        all.iter().map(|&i| i as f32).collect()
    }

    #[test]
    fn elements_are_taken_as_they_lie() {
        // Channels last, without gaps.
        let (values, order) = shown(&[1, 3, 2, 2], &[12, 1, 6, 3], None);
        assert_eq!((values, order), (numbers(&(5..17).collect::<Vec<_>>()), Order { channels: 3, beside: 1 }));
        // A pixel of padding at the right.
        let (values, order) = shown(&[1, 2, 2, 2], &[12, 1, 6, 2], None);
        assert_eq!((values, order), (numbers(&[5, 6, 7, 8, 11, 12, 13, 14]), Order { channels: 2, beside: 1 }));
        // Planes one behind the other.
        let (values, order) = shown(&[2, 2, 1, 2], &[4, 2, 2, 1], None);
        assert_eq!((values, order), (numbers(&(5..13).collect::<Vec<_>>()), Order { channels: 2, beside: 2 }));
        // A single channel.
        assert_eq!(shown(&[1, 1, 2, 2], &[4, 1, 2, 1], None).1, Order { channels: 1, beside: 4 });
    }

    #[test]
    fn elements_are_in_order_where_channels_count_by_other_dims() {
        let (values, order) = shown(&[1, 2, 1, 3], &[6, 1, 6, 2], Some(vec![1, 6]));
        assert_eq!((values, order), (numbers(&[5, 7, 9, 6, 8, 10]), Order { channels: 6, beside: 1 }));
        let (values, order) = shown(&[1, 6], &[6, 1], Some(vec![1, 2, 1, 3]));
        assert_eq!((values, order), (numbers(&[5, 6, 7, 8, 9, 10]), Order { channels: 2, beside: 3 }));
    }

    #[test]
    fn an_element_in_many_places_is_seen_in_each() {
        assert_eq!(shown(&[2, 3], &[1, 0], None).0, numbers(&[5, 5, 5, 6, 6, 6]));
        assert_eq!(shown(&[], &[], None), (numbers(&[5]), Order { channels: 1, beside: 1 }));
    }
}
