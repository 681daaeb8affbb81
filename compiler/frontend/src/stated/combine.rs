//! From statements about shapes to the shapes that a model is compiled for.

use super::{DimSpec, ShapeSpec, Shapes};
use crate::error::{ImportError, ImportErrors};
use crate::inputs::{Declared, describe, port};
use qc_ir::{Limit, Limits};
use std::collections::{HashMap, HashSet};

/// A dim of an input: fixed, the batch, or one of the axes along which combinations differ.
#[derive(Clone, Copy)]
enum Place {
    Fixed(i64),
    Axis(usize),
}

/// What is known of names and of the sizes that combinations differ in.
#[derive(Default)]
struct Axes {
    /// Names that stand for the same dim.
    alias: HashMap<String, String>,
    /// Sizes of a name, and which input or statement said so; -1 for the batch.
    named: HashMap<String, (Vec<i64>, String)>,
    /// Axes of names.
    of_name: HashMap<String, usize>,
    sizes: Vec<Vec<i64>>,
}

impl Axes {
    fn root(&self, name: &str) -> String {
        let mut name = name;
        while let Some(next) = self.alias.get(name) {
            name = next;
        }
        name.into()
    }

    fn join(&mut self, a: &str, b: &str) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            self.alias.insert(b, a);
        }
    }

    /// Gives a name its sizes; `who` says so.
    fn state(&mut self, name: &str, sizes: &[i64], who: &str) -> Result<(), ImportError> {
        let root = self.root(name);
        match self.named.get(&root) {
            Some((known, other)) if known != sizes => {
                let text = |sizes: &[i64]| DimSpec::Sizes(sizes.to_vec()).to_string().replace("-1", "?");
                let reason = format!("its dim `{name}` is {}, but {} in \"{other}\"", text(sizes), text(known));
                Err(port(who, reason, "a named dim has the same size wherever it stands; state it once"))
            }
            Some(_) => Ok(()),
            None => {
                self.named.insert(root, (sizes.to_vec(), who.into()));
                Ok(())
            }
        }
    }

    fn axis(&mut self, sizes: Vec<i64>) -> Place {
        match sizes[..] {
            [one] => Place::Fixed(one),
            _ => {
                self.sizes.push(sizes);
                Place::Axis(self.sizes.len() - 1)
            }
        }
    }

    /// The place of a name that has sizes.
    fn place(&mut self, name: &str) -> Option<Place> {
        let root = self.root(name);
        if let Some(&axis) = self.of_name.get(&root) {
            return Some(Place::Axis(axis));
        }
        let place = self.axis(self.named.get(&root)?.0.clone());
        if let Place::Axis(axis) = place {
            self.of_name.insert(root, axis);
        }
        Some(place)
    }
}

/// The shapes that a model whose inputs are `declared` is compiled for: every combination of sizes.
///
/// # Errors
/// Statements that fit no input, contradict each other or leave a name without a size; more combinations than allowed.
pub(crate) fn combinations(
    declared: &[Declared],
    stated: &[ShapeSpec],
    limits: &Limits,
) -> Result<Vec<Shapes>, ImportErrors> {
    let mut errors = Vec::new();
    let of_input = |name: &str| declared.iter().find(|d| d.name == name);
    let (inputs, names): (Vec<&ShapeSpec>, Vec<&ShapeSpec>) = stated.iter().partition(|s| of_input(&s.name).is_some());
    let mut axes = Axes::default();
    for (i, spec) in stated.iter().enumerate() {
        if stated[..i].iter().any(|other| other.name == spec.name) {
            errors.push(port(&spec.name, "its shape is stated twice", "state it once"));
        }
    }
    for spec in &inputs {
        if let Some(d) = of_input(&spec.name)
            && let Err(e) = state_input(&mut axes, d, spec)
        {
            errors.push(e);
        }
    }
    let known = known_names(declared, &inputs);
    for spec in names {
        match &spec.dims[..] {
            [DimSpec::Sizes(sizes)] if known.contains(&spec.name.as_str()) => {
                errors.extend(axes.state(&spec.name, sizes, &spec.name).err());
            }
            // Only a statement of one dim could be of a name.
            dims => errors.push(unknown(&spec.name, declared, if dims.len() == 1 { &known } else { &[] })),
        }
    }
    let mut places: Vec<(&Declared, Vec<Place>)> = Vec::new();
    for d in declared {
        let found = match inputs.iter().find(|s| s.name == d.name) {
            Some(spec) => placed(&mut axes, d, spec).map(Some),
            None => Ok(unstated(&mut axes, d)),
        };
        match found {
            Ok(found) => places.extend(found.map(|dims| (d, dims))),
            Err(e) => errors.push(e),
        }
    }
    if !errors.is_empty() {
        return Err(ImportErrors { list: errors });
    }
    product(&axes, &places, limits)
}

/// The names of dims, those of the model and of the user.
fn known_names<'a>(declared: &'a [Declared], inputs: &[&'a ShapeSpec]) -> Vec<&'a str> {
    let own = declared.iter().flat_map(|d| d.names.iter().flatten().map(String::as_str));
    let given = inputs.iter().flat_map(|s| &s.dims).filter_map(|d| match d {
        DimSpec::Named(name, _) => Some(name.as_str()),
        _ => None,
    });
    let mut all: Vec<&str> = own.chain(given).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn unknown(name: &str, declared: &[Declared], known: &[&str]) -> ImportError {
    let inputs: Vec<&str> = declared.iter().map(|d| d.name.as_str()).collect();
    let mut remedy = format!("its inputs are {}", inputs.join(", "));
    if !known.is_empty() {
        remedy += &format!(
            "; its named dims, of which each takes sizes as {}={{16,128}}, are {}",
            known[0],
            known.join(", ")
        );
    }
    port(name, "the model has no such input", remedy)
}

/// Takes in what the shape of an input says of names.
fn state_input(axes: &mut Axes, d: &Declared, spec: &ShapeSpec) -> Result<(), ImportError> {
    if let Some(dims) = d.dims.as_ref().filter(|dims| dims.len() != spec.dims.len()) {
        let text = format!("the model says {}, `--shape` has {} numbers", describe(dims), spec.dims.len());
        return Err(port(&d.name, text, "give one number per dim"));
    }
    for (i, dim) in spec.dims.iter().enumerate() {
        let own = d.names.get(i).and_then(Option::as_deref);
        match (dim, own) {
            (DimSpec::Named(name, sizes), own) => {
                own.into_iter().for_each(|own| axes.join(name, own));
                if let Some(sizes) = sizes {
                    axes.state(name, sizes, &d.name)?;
                }
            }
            (DimSpec::Sizes(sizes), Some(own)) => axes.state(own, sizes, &d.name)?,
            (DimSpec::Batch, Some(own)) => axes.state(own, &[-1], &d.name)?,
            (_, None) => {}
        }
    }
    Ok(())
}

/// The dims of an input whose shape is stated.
fn placed(axes: &mut Axes, d: &Declared, spec: &ShapeSpec) -> Result<Vec<Place>, ImportError> {
    let one = |(i, dim): (usize, &DimSpec)| match (dim, d.names.get(i).and_then(Option::as_deref)) {
        (DimSpec::Batch, _) => Ok(Place::Fixed(-1)),
        (DimSpec::Sizes(_), Some(own)) => axes.place(own).ok_or_else(|| nameless(d, own)),
        (DimSpec::Sizes(sizes), None) => Ok(axes.axis(sizes.clone())),
        (DimSpec::Named(name, _), _) => axes.place(name).ok_or_else(|| nameless(d, name)),
    };
    spec.dims.iter().enumerate().map(one).collect()
}

fn nameless(d: &Declared, name: &str) -> ImportError {
    port(&d.name, format!("nothing says what `{name}` is"), format!("state it with `--shape '{name}={{16,128}}'`"))
}

/// The dims of an input of which nothing but names is stated; none where nothing is, or where a dim stays open.
fn unstated(axes: &mut Axes, d: &Declared) -> Option<Vec<Place>> {
    let dims = d.dims.as_ref()?;
    let mut any = false;
    let one = |(i, n): (usize, &Option<i64>)| match (n, d.names.get(i).and_then(Option::as_deref)) {
        (Some(n), _) => Some(Place::Fixed(*n)),
        (None, name) => {
            let place = name.and_then(|name| axes.place(name));
            any |= place.is_some();
            let batch = (i == 0 && !d.counts).then_some(Place::Fixed(-1));
            place.filter(|p| i == 0 || !matches!(p, Place::Fixed(-1))).or(batch)
        }
    };
    let places: Option<Vec<Place>> = dims.iter().enumerate().map(one).collect();
    places.filter(|_| any)
}

/// Every combination, the sizes of the last axis changing fastest.
fn product(axes: &Axes, places: &[(&Declared, Vec<Place>)], limits: &Limits) -> Result<Vec<Shapes>, ImportErrors> {
    let count = axes.sizes.iter().fold(1u64, |n, sizes| n.saturating_mul(sizes.len() as u64));
    limits.check(Limit::Variants, count, || "the number of combinations that --shape states is".into())?;
    let size = |mut combination: u64, axis: usize| {
        for sizes in axes.sizes[axis + 1..].iter() {
            combination /= sizes.len() as u64;
        }
        let sizes = &axes.sizes[axis];
        sizes[(combination % sizes.len() as u64) as usize]
    };
    let dims = |combination: u64, places: &[Place]| -> Vec<i64> {
        let one = |p: &Place| match *p {
            Place::Fixed(n) => n,
            Place::Axis(axis) => size(combination, axis),
        };
        places.iter().map(one).collect()
    };
    let one = |c: u64| places.iter().map(|(d, places)| (d.name.clone(), dims(c, places))).collect();
    Ok((0..count).map(one).collect())
}

/// Shapes of arrays, by input name where they have one.
type Data = [(Option<String>, Vec<usize>)];

/// The array of an input: of its name, or the one without a name where the others have one.
fn array_of<'a>(declared: &[Declared], d: &Declared, data: &'a Data) -> Option<&'a [usize]> {
    let named = |name: &str| data.iter().find(|(own, _)| own.as_deref() == Some(name)).map(|(_, dims)| &dims[..]);
    let nameless: Vec<&'a [usize]> = data.iter().filter(|(own, _)| own.is_none()).map(|(_, dims)| &dims[..]).collect();
    let open = declared.iter().filter(|d| named(&d.name).is_none()).count();
    named(&d.name).or(nameless.first().copied().filter(|_| nameless.len() == 1 && open == 1))
}

/// What arrays say of the inputs that have open dims besides the batch.
///
/// A leading dim is the batch, unless its name stands on another axis as well, as that of a state does: the items of such a
/// model have no common axis, so its size is that of the array.
pub(crate) fn of_data(declared: &[Declared], data: &Data) -> Vec<ShapeSpec> {
    let inner: HashSet<&str> =
        declared.iter().flat_map(|d| d.names.iter().skip(1).flatten()).map(String::as_str).collect();
    let one = |d: &Declared| {
        let array = array_of(declared, d, data)?;
        let open: Vec<Option<i64>> = d.dims.clone().unwrap_or_else(|| vec![None; array.len()]);
        let stands_inside = |name: &Option<String>| name.as_deref().is_some_and(|name| inner.contains(name));
        let is_batch = !d.counts && !d.names.first().is_some_and(stands_inside);
        let is_open = open.iter().skip(usize::from(is_batch)).any(Option::is_none);
        if !is_open || open.len() != array.len() || array.contains(&0) {
            return None;
        }
        let dim = |(i, (known, &given)): (usize, (&Option<i64>, &usize))| match known {
            None if i == 0 && is_batch => DimSpec::Batch,
            known => DimSpec::Sizes(vec![known.unwrap_or(i64::try_from(given).unwrap_or(i64::MAX))]),
        };
        let dims = open.iter().zip(array).enumerate().map(dim).collect();
        Some(ShapeSpec { name: d.name.clone(), dims })
    };
    declared.iter().filter_map(one).collect()
}

/// The shapes of all inputs, given those of arrays, batch included.
///
/// # Errors
/// Arrays that are no input's or do not fit it, inputs with open dims and no array, and named dims that differ.
pub(crate) fn exact(declared: &[Declared], data: &Data, limits: &Limits) -> Result<Shapes, ImportErrors> {
    let known: Vec<&str> = declared.iter().map(|d| d.name.as_str()).collect();
    let stranger = data.iter().filter_map(|(name, _)| name.as_deref()).find(|name| !known.contains(name));
    let mut errors: Vec<ImportError> = stranger.into_iter().map(|name| unknown(name, declared, &[])).collect();
    let mut stated = Vec::new();
    for d in declared {
        let Some(array) = array_of(declared, d, data) else { continue };
        let dims = d.dims.clone().unwrap_or_else(|| vec![None; array.len()]);
        let size = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let fits = |(known, &given): (&Option<i64>, &usize)| given > 0 && known.is_none_or(|n| n == size(given));
        if dims.len() != array.len() || !dims.iter().zip(array).all(fits) {
            let reason = format!("the shape {array:?} is not one of {}", describe(&dims));
            errors.push(port(&d.name, reason, "give it a shape that the model has"));
        }
        let dims = array.iter().map(|&n| DimSpec::Sizes(vec![size(n)])).collect();
        stated.push(ShapeSpec { name: d.name.clone(), dims });
    }
    if !errors.is_empty() {
        return Err(ImportErrors { list: errors });
    }
    let shapes = combinations(declared, &stated, limits)?.into_iter().next().unwrap_or_default();
    for d in declared {
        let fixed = || d.dims.as_ref().is_some_and(|dims| dims.iter().all(Option::is_some));
        let is_known = shapes.get(&d.name).map_or_else(fixed, |dims| !dims.contains(&-1));
        if !is_known {
            errors.push(port(&d.name, "it has no shape", "its shape differs from call to call: state it"));
        }
    }
    if errors.is_empty() { Ok(shapes) } else { Err(ImportErrors { list: errors }) }
}

/// Whether arrays have these shapes, apart from the batch.
pub(crate) fn fits_data(declared: &[Declared], shapes: &Shapes, data: &Data) -> bool {
    let fits = |d: &Declared| match (shapes.get(&d.name), array_of(declared, d, data)) {
        (Some(dims), Some(array)) => {
            let same = |(&dim, &given): (&i64, &usize)| dim < 0 || usize::try_from(dim) == Ok(given);
            dims.len() == array.len() && dims.iter().zip(array).all(same)
        }
        _ => true,
    };
    declared.iter().all(fits)
}
