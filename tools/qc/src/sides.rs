//! Outputs of two sides on the same samples: a model, a compiled one, or outputs that are stored.

use crate::args::ModelArgs;
use crate::arrays;
use crate::failure::{Failure, Outcome};
use crate::held::Held;
use crate::judge::{Whole, run_on};
use crate::model::is_shared_object;
use crate::pictures::is_array;
use crate::samples::{Part, Program, SampleArgs, Samples};
use crate::ui::Ui;
use qc_compiler::compare::Difference;
use qc_compiler::{CompileOptions, Compiler, Context, ModelFile, Predictor};
use qc_ir::HostTensor;
use qc_runtime::TrustOfUser;
use std::path::Path;

/// Where outputs come from.
pub enum Side {
    /// A model, compiled in this process.
    Model(Box<(ModelFile, CompileOptions)>),
    /// A compiled one.
    Compiled(Box<Predictor>),
    /// Arrays.
    Stored(Outputs),
}

/// Elements of outputs over all samples, by name.
pub type Outputs = Vec<(String, Vec<f32>)>;

impl Side {
    /// Finds out what is at a path; `options` are those of a model.
    ///
    /// # Errors
    /// I/O, and what is none of the three.
    pub fn open(path: &Path, args: &ModelArgs, options: &CompileOptions) -> Outcome<Side> {
        if is_shared_object(path)? {
            let predictor = Predictor::load_named_by_user(path, args.check(), TrustOfUser)?;
            return Ok(Side::Compiled(Box::new(predictor)));
        }
        if is_array(path)? {
            let named = |(i, (name, t)): (usize, (Option<String>, HostTensor))| {
                (name.unwrap_or_else(|| format!("{i}")), floats(&t))
            };
            return Ok(Side::Stored(arrays::read(path)?.into_iter().enumerate().map(named).collect()));
        }
        let file = ModelFile::open_within(path, options.params.as_deref(), &options.limits)?;
        Ok(Side::Model(Box::new((file, options.clone()))))
    }

    /// Whether it is a model, which has an inside.
    pub fn model(&self) -> Option<&ModelFile> {
        match self {
            Side::Model(model) => Some(&model.0),
            _ => None,
        }
    }

    /// Its outputs on samples; `part` has the shape of a model.
    fn on(
        &self,
        part: Option<&Part<Whole>>,
        samples: (&Samples, usize),
        n: usize,
        args: &SampleArgs,
    ) -> Outcome<Outputs> {
        let predictor = match self {
            Side::Stored(outputs) => return Ok(outputs.clone()),
            Side::Compiled(predictor) => predictor,
            Side::Model(model) => {
                let whole = match part {
                    Some(part) => part.program.with(&model.1, &model.0)?,
                    None => Whole::make(&Compiler::new(model.1.clone()), &model.0, &Default::default())?,
                };
                &whole.predictor.clone()
            }
        };
        let mut all = Outputs::new();
        for outputs in run_on(predictor, samples, n, args, outputs)? {
            all.resize(outputs.len(), Default::default());
            for (to, (name, values)) in all.iter_mut().zip(outputs) {
                to.0 = name;
                to.1.extend(values);
            }
        }
        Ok(all)
    }
}

/// Compares outputs, those of `right` being right: by name where both have the same names, or else by place. Gives the number of samples
/// too, if any were run.
///
/// # Errors
/// As running both; outputs of which one has more elements.
pub fn compare(
    side: &Side,
    right: &Side,
    samples: Option<&SampleArgs>,
    ui: Ui,
) -> Outcome<(usize, Vec<(String, Difference)>)> {
    if let (Side::Stored(a), Side::Stored(b)) = (side, right) {
        return Ok((0, differences(a, b)?));
    }
    let args = samples.ok_or_else(|| Failure::usage("a model is compared on samples; give --data"))?;
    let mut all: (Outputs, Outputs) = Default::default();
    let mut count = 0;
    let mut add = |part: Option<&Part<Whole>>, samples: &Samples, rows: usize, n: usize| -> Outcome {
        for (to, side) in [(&mut all.0, side), (&mut all.1, right)] {
            let outputs = side.on(part, (samples, rows), n, args)?;
            match (to.is_empty(), side) {
                (false, Side::Stored(_)) => {}
                (false, _) => to.iter_mut().zip(outputs).for_each(|(to, of)| to.1.extend(of.1)),
                (true, _) => *to = outputs,
            }
        }
        count += n;
        Ok(())
    };
    let model = [side, right].into_iter().find_map(|side| match side {
        Side::Model(model) => Some(&**model),
        _ => None,
    });
    match (model, side, right) {
        (Some((file, options)), ..) => {
            for part in &args.parts::<Whole>(options, file, ui)? {
                add(Some(part), &part.samples, part.rows(), part.count()?.min(args.limit()))?;
            }
        }
        (None, Side::Compiled(predictor), _) | (None, _, Side::Compiled(predictor)) => {
            if !is_array(&args.data)? {
                let text = "without a model on one side, samples are .npy or .npz files; `qc data convert` makes them of pictures";
                return Err(Failure::content(&args.data, text));
            }
            let held = Held::of(arrays::read(&args.data)?, None, predictor.inputs())?;
            let rows = predictor.inputs().first().and_then(|io| io.shape.first().copied()).unwrap_or(1).max(1);
            let n = held.runs() * rows;
            add(None, &Samples::Arrays { held, name: String::new() }, rows, n.min(args.limit()))?;
        }
        _ => {}
    }
    Ok((count, differences(&all.0, &all.1)?))
}

/// Differences between outputs and right ones.
fn differences(got: &Outputs, right: &Outputs) -> Outcome<Vec<(String, Difference)>> {
    let by_name = right.iter().all(|(name, _)| got.iter().any(|(other, _)| other == name));
    if !by_name && got.len() != right.len() {
        let names = |all: &Outputs| all.iter().map(|(name, _)| format!("'{name}'")).collect::<Vec<_>>().join(", ");
        let text = format!("outputs have other names and another number: {} and {}", names(got), names(right));
        return Err(Failure::usage(text));
    }
    let one = |(i, (name, right)): (usize, &(String, Vec<f32>))| {
        let own = if by_name { got.iter().find(|(other, _)| other == name) } else { got.get(i) };
        let values = own.map_or(&[][..], |(_, values)| values);
        if values.len() != right.len() {
            let text =
                format!("output '{name}' has {} elements on one side and {} on the other", values.len(), right.len());
            return Err(Failure::usage(format!("{text}; both have to be of the same samples")));
        }
        let mut difference = Difference::default();
        difference.observe(right, values);
        Ok((name.clone(), difference))
    };
    right.iter().enumerate().map(one).collect()
}

/// The outputs of the last run as floats.
fn outputs(context: &mut Context) -> Outcome<Outputs> {
    Ok(arrays::results(context)?.into_iter().map(|(name, t)| (name, floats(&t))).collect())
}

/// Elements as floats, whatever they are.
fn floats(t: &HostTensor) -> Vec<f32> {
    match t.as_f32() {
        Some(values) => values.to_vec(),
        None => (0..t.len()).map(|i| t.int(i).map_or(f32::NAN, |n| n as f32)).collect(),
    }
}
