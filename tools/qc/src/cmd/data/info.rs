//! `qc data info` and `qc data head`: what data holds.

use crate::failure::{Failure, Outcome};
use crate::given::{Given, Pictures};
use crate::paddle_bin::PaddleBin;
use crate::paths::Paths;
use crate::pictures::{default_threads, in_parallel};
use crate::table::table;
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_ir::HostTensor;
use qc_runtime::pictures::{Picture, PictureError};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Values of a sample that are shown.
const SHOWN: usize = 6;

/// Where data is.
#[derive(Args, Debug)]
struct Source {
    /// A list, a folder, .npz, .npy, .pb or .bin, as for `qc data convert`
    source: PathBuf,
    /// The folder a list's files are in; the list's own by default
    #[arg(long, value_name = "DIR", alias = "images")]
    image_dir: Option<PathBuf>,
}

/// Say what data holds, and refuse what is damaged.
#[derive(Args, Debug)]
pub struct Info {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    json: JsonArgs,
}

/// Show the first samples.
#[derive(Args, Debug)]
pub struct Head {
    #[command(flatten)]
    source: Source,
    /// Samples to show
    #[arg(short, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    n: u32,
    #[command(flatten)]
    json: JsonArgs,
}

/// Lines of a report: a name, and what is said.
type Lines = Vec<(&'static str, String)>;

impl Info {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        Paths::default().reads([&self.source.source]).reads(&self.source.image_dir).writes(self.json.file())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        let Source { source, image_dir } = &self.source;
        let mut failed = None;
        let (value, lines): (Value, Lines) = match Given::open(source, image_dir.as_deref())? {
            Given::Pictures(pictures) => of_pictures(&pictures, ui)?,
            Given::Arrays(arrays) => of_arrays(&arrays),
            Given::Bin(bin) => {
                let holes = holes(&bin, ui)?;
                failed = (!holes.is_empty()).then(|| bin.holes(&holes));
                of_bin(&bin, &holes)?
            }
        };
        let text = || lines.iter().map(|(name, said)| format!("{name:<9}{said}\n")).collect();
        ui.result(&self.json, || value, text)?;
        failed.map_or(Ok(()), Err)
    }
}

/// What is said of classes.
fn of_classes(labels: &[i64]) -> String {
    let distinct: BTreeSet<i64> = labels.iter().copied().collect();
    match (distinct.first(), distinct.last()) {
        (Some(first), Some(last)) => format!("{} of them, {first} to {last}", distinct.len()),
        _ => "none".into(),
    }
}

fn of_pictures(pictures: &Pictures, ui: Ui) -> Outcome<(Value, Lines)> {
    let bar = ui.progress(pictures.list.len(), "read");
    let one = |(): &mut (), i: usize| {
        let path = pictures.dir.join(&pictures.list[i].file);
        let bytes = std::fs::read(&path).map_err(|e| Failure::io(&path, &e))?;
        let picture = Picture::decode(&bytes).map_err(|reason| PictureError::Decode { path, reason })?;
        bar.inc(1);
        Ok((
            picture.pixels.width,
            picture.pixels.height,
            format!("{:?}", picture.mode).to_lowercase(),
            picture.orientation,
        ))
    };
    let (read, _) = in_parallel(pictures.list.len(), default_threads(), || Ok(()), one)?;
    bar.finish_and_clear();
    let mut modes: BTreeMap<&str, usize> = BTreeMap::new();
    read.iter().for_each(|(.., mode, _)| *modes.entry(mode).or_default() += 1);
    let turned = read.iter().filter(|(.., orientation)| *orientation != 1).count();
    let labels: Vec<i64> = pictures.list.iter().filter_map(|l| l.label).collect();
    let sides = |side: fn(&(usize, usize, String, u8)) -> usize| {
        let all = read.iter().map(side);
        (all.clone().min().unwrap_or(0), all.max().unwrap_or(0))
    };
    let (widths, heights) = (sides(|r| r.0), sides(|r| r.1));
    let value = json!({
        "schema": "qc.data/1",
        "kind": "pictures",
        "samples": pictures.list.len(),
        "labelled": labels.len(),
        "classes": labels.iter().collect::<BTreeSet<_>>().len(),
        "widths": [widths.0, widths.1],
        "heights": [heights.0, heights.1],
        "modes": modes,
        "turned": turned,
    });
    let modes: Vec<String> = modes.iter().map(|(mode, n)| format!("{n} {mode}")).collect();
    let mut lines = vec![
        ("pictures", pictures.list.len().to_string()),
        ("classes", of_classes(&labels)),
        ("size", format!("{} to {} columns, {} to {} rows", widths.0, widths.1, heights.0, heights.1)),
        ("colours", modes.join(", ")),
    ];
    if turned > 0 {
        lines.push(("turned", format!("{turned} have an EXIF orientation, which some presets do not apply")));
    }
    Ok((value, lines))
}

/// The type of an array's elements.
fn elem(t: &HostTensor) -> String {
    format!("{:?}", t.data().elem()).to_lowercase()
}

fn of_arrays(arrays: &[(Option<String>, HostTensor)]) -> (Value, Lines) {
    let one = |(name, t): &(Option<String>, HostTensor)| json!({"name": name, "shape": t.dims(), "elem": elem(t)});
    let all: Vec<Value> = arrays.iter().map(one).collect();
    let value = json!({"schema": "qc.data/1", "kind": "arrays", "arrays": all});
    let line = |(name, t): &(Option<String>, HostTensor)| {
        ("array", format!("{} {} {:?}", name.as_deref().unwrap_or("(no name)"), elem(t), t.dims()))
    };
    (value, arrays.iter().map(line).collect())
}

/// The pictures that are nothing but zeros.
fn holes(bin: &PaddleBin, ui: Ui) -> Outcome<Vec<usize>> {
    let bar = ui.progress(bin.count, "read");
    let empty = |values: &mut Vec<f32>, i: usize| {
        bin.read(i, values)?;
        bar.inc(1);
        Ok(values.iter().all(|x| *x == 0.0))
    };
    let (empty, _) = in_parallel(bin.count, default_threads(), || Ok(vec![0.0; bin.values]), empty)?;
    bar.finish_and_clear();
    Ok(empty.iter().enumerate().filter(|(_, empty)| **empty).map(|(i, _)| i).collect())
}

fn of_bin(bin: &PaddleBin, holes: &[usize]) -> Outcome<(Value, Lines)> {
    let labels = bin.labels()?;
    let value = json!({
        "schema": "qc.data/1",
        "kind": "paddle-bin",
        "samples": bin.count,
        "side": bin.side(),
        "values": bin.values,
        "classes": labels.iter().collect::<BTreeSet<_>>().len(),
        "holes": holes,
    });
    let size = bin.side().map_or_else(|| format!("{} numbers", bin.values), |d| format!("3 x {d} x {d}, f32"));
    let lines = vec![
        ("pictures", bin.count.to_string()),
        ("size", size),
        ("classes", of_classes(&labels)),
        ("holes", if holes.is_empty() { "none".into() } else { format!("{} pictures of zeros", holes.len()) }),
    ];
    Ok((value, lines))
}

impl Head {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        Paths::default().reads([&self.source.source]).reads(&self.source.image_dir).writes(self.json.file())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        let Source { source, image_dir } = &self.source;
        let n = self.n as usize;
        let rows: Vec<[String; 4]> = match Given::open(source, image_dir.as_deref())? {
            Given::Pictures(pictures) => {
                let one = |l: &crate::pictures::Listed| {
                    let path = pictures.dir.join(&l.file);
                    let bytes = std::fs::read(&path).map_err(|e| Failure::io(&path, &e))?;
                    let p = Picture::decode(&bytes).map_err(|reason| PictureError::Decode { path, reason })?;
                    let dims = [p.pixels.height, p.pixels.width, p.pixels.channels];
                    let values: Vec<f32> = p.pixels.data.iter().take(SHOWN).map(|x| f32::from(*x)).collect();
                    Ok(row(l.file.clone(), l.label, &dims, &values))
                };
                pictures.list.iter().take(n).map(one).collect::<Outcome<_>>()?
            }
            Given::Bin(bin) => {
                let (labels, mut values) = (bin.labels()?, vec![0.0; bin.values]);
                let mut one = |i: usize| {
                    bin.read(i, &mut values)?;
                    Ok(row(format!("#{i}"), labels.get(i).copied(), &bin.dims()?, &values))
                };
                (0..n.min(bin.count)).map(&mut one).collect::<Outcome<_>>()?
            }
            Given::Arrays(arrays) => arrays.iter().flat_map(|(name, t)| of_items(name.as_deref(), t, n)).collect(),
        };
        let value = || {
            let one = |[name, label, shape, values]: &[String; 4]| json!({"name": name, "label": label.parse::<i64>().ok(), "shape": shape, "values": values});
            json!({"schema": "qc.data/1", "samples": rows.iter().map(one).collect::<Vec<_>>()})
        };
        ui.result(&self.json, value, || {
            table(&["sample", ">class", "shape", "first values"], rows.iter().map(|row| row.to_vec()))
        })
    }
}

fn row(name: String, label: Option<i64>, dims: &[usize], values: &[f32]) -> [String; 4] {
    let values: Vec<String> = values.iter().take(SHOWN).map(|x| format!("{x:.6}")).collect();
    [name, label.map_or_else(String::new, |l| l.to_string()), format!("{dims:?}"), values.join(" ")]
}

/// The first items of an array.
fn of_items(name: Option<&str>, t: &HostTensor, n: usize) -> Vec<[String; 4]> {
    let (count, dims) = t.dims().split_first().map_or((1, &[][..]), |(first, rest)| (*first, rest));
    let item: usize = dims.iter().product();
    let number = |i: usize| t.as_f32().map_or_else(|| t.int(i).map_or(f32::NAN, |x| x as f32), |v| v[i]);
    let one = |i: usize| {
        let values: Vec<f32> = (i * item..(i * item + item.min(SHOWN)).min(t.len())).map(number).collect();
        row(format!("{}#{i}", name.unwrap_or_default()), None, dims, &values)
    };
    (0..n.min(count)).map(one).collect()
}
