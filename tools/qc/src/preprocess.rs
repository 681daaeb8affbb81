//! `--preprocess` and the options that change a preset, from the command line or from a `preprocess.toml`.

use crate::failure::{Failure, Outcome};
use crate::pictures::read_text;
use crate::ui::Ui;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser};
use qc_runtime::Note;
use qc_runtime::pictures::opencv::Interpolation;
use qc_runtime::pictures::pillow::{Filter, Order};
use qc_runtime::pictures::tensorflow::Centers;
use qc_runtime::pictures::{Channels, Fit, Layout, PRESETS, Preset, Reading, Resampling, Scale, Short, Sides, Size};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The option of a compilation that records the recipe.
const RECORDED: &str = "preprocess";

/// Readings by name.
const READINGS: &[(&str, Reading)] = &[
    ("pillow", Reading::Pillow),
    ("pillow-own-mode", Reading::PillowOwnMode),
    ("opencv", Reading::OpenCv),
    ("upright", Reading::Upright),
];

/// Filters by name.
const FILTERS: &[(&str, Resampling)] = &[
    ("pillow-nearest", Resampling::Pillow(Filter::Nearest, Order::Pillow12)),
    ("pillow-box", Resampling::Pillow(Filter::Box, Order::Pillow12)),
    ("pillow-bilinear", Resampling::Pillow(Filter::Bilinear, Order::Pillow12)),
    ("pillow-bicubic", Resampling::Pillow(Filter::Bicubic, Order::Pillow12)),
    ("pillow-lanczos", Resampling::Pillow(Filter::Lanczos, Order::Pillow12)),
    ("pillow13-box", Resampling::Pillow(Filter::Box, Order::Pillow13)),
    ("pillow13-bilinear", Resampling::Pillow(Filter::Bilinear, Order::Pillow13)),
    ("pillow13-bicubic", Resampling::Pillow(Filter::Bicubic, Order::Pillow13)),
    ("pillow13-lanczos", Resampling::Pillow(Filter::Lanczos, Order::Pillow13)),
    ("opencv-nearest", Resampling::OpenCv(Interpolation::Nearest)),
    ("opencv-linear", Resampling::OpenCv(Interpolation::Linear)),
    ("opencv-area", Resampling::OpenCv(Interpolation::Area)),
    ("tf1-bilinear", Resampling::TensorFlow(Centers::Corner)),
    ("tf2-bilinear", Resampling::TensorFlow(Centers::Half)),
];

const COLOURS: &[(&str, Channels)] = &[("rgb", Channels::Rgb), ("bgr", Channels::Bgr), ("gray", Channels::Gray)];

const LAYOUTS: &[(&str, Layout)] = &[("chw", Layout::Chw), ("hwc", Layout::Hwc)];

/// How pictures become numbers.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Preprocessing")]
pub struct PresetArg {
    /// How pictures become numbers: a preset, or a file whose keys are `preset` and the names of the options below. The EXIF
    /// orientation is applied where the preset says so, since the libraries of the others do not
    #[arg(long = "preprocess", id = "preprocess", value_name = "PRESET|FILE.toml", value_parser = PresetParser)]
    preset: Option<String>,
    #[command(flatten)]
    changes: Changes,
}

/// What is other than in a preset.
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Changes {
    /// The preset, in a file.
    #[arg(skip)]
    preset: Option<String>,
    /// Subtracted from scaled values: one number, or one for each channel in the model's order
    #[arg(long, value_name = "M,...", value_delimiter = ',', allow_negative_numbers = true, requires = "preprocess")]
    mean: Option<Vec<f64>>,
    /// What is divided by after that: one number, or one for each channel
    #[arg(long, value_name = "S,...", value_delimiter = ',', requires = "preprocess")]
    std: Option<Vec<f64>>,
    /// What 8-bit values are multiplied by: a number, or 1/NUMBER to divide
    #[arg(long, value_name = "X", requires = "preprocess")]
    scale: Option<String>,
    /// Rows and columns of the result, where no model says them
    #[arg(long, value_name = "H[xW]", requires = "preprocess")]
    size: Option<String>,
    /// What is resized to: pixels of the short side, `stretch` or `letterbox` for the size, `keep` for nothing
    #[arg(long, value_name = "N|HOW", requires = "preprocess")]
    resize: Option<String>,
    /// Cut the centre out: rows and columns of the result
    #[arg(long, value_name = "H[xW]", requires = "preprocess")]
    crop: Option<String>,
    /// How pixels are resized, to the last bit; `pillow13` begins with rows where that is less work, as Pillow does from 13 on,
    /// which is seen in pictures more than twice as tall as wide; presets have the order of older ones
    #[arg(long, value_name = "FILTER", value_parser = names(FILTERS), requires = "preprocess")]
    filter: Option<String>,
    /// Whose rules of reading a file count: of the EXIF orientation, which `opencv` and `upright` apply, of 16 bits, of
    /// inks; `pillow-own-mode` converts colours behind the resizing
    #[arg(long, value_name = "RULES", value_parser = names(READINGS), requires = "preprocess")]
    read: Option<String>,
    /// Where channels stand
    #[arg(long, value_name = "LAYOUT", value_parser = names(LAYOUTS), requires = "preprocess")]
    layout: Option<String>,
    /// Which channels there are, in which order
    #[arg(long, value_name = "CHANNELS", value_parser = names(COLOURS), requires = "preprocess")]
    color: Option<String>,
}

fn names<T>(table: &[(&'static str, T)]) -> PossibleValuesParser {
    PossibleValuesParser::new(table.iter().map(|(name, _)| PossibleValue::new(*name)))
}

/// Names of presets, and of files that end in `.toml`.
#[derive(Clone)]
struct PresetParser;

impl PresetParser {
    fn known() -> PossibleValuesParser {
        let value = |p: &'static Preset| PossibleValue::new(&*p.name).help(p.summary);
        PossibleValuesParser::new(PRESETS.iter().map(value))
    }
}

impl TypedValueParser for PresetParser {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        match Path::new(value).extension().is_some_and(|e| e == "toml") {
            true => StringValueParser::new().parse_ref(command, arg, value),
            false => Self::known().parse_ref(command, arg, value),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let values: Vec<PossibleValue> = Self::known().possible_values()?.collect();
        Some(Box::new(values.into_iter()))
    }
}

impl PresetArg {
    /// The preset of this name with nothing changed.
    pub fn named(name: &str) -> PresetArg {
        PresetArg { preset: Some(name.into()), changes: Changes::default() }
    }

    /// Whether a preset is given.
    pub fn is_given(&self) -> bool {
        self.preset.is_some()
    }

    /// The file that is read.
    pub fn file(&self) -> Option<PathBuf> {
        self.preset.as_ref().map(PathBuf::from).filter(|path| path.extension().is_some_and(|e| e == "toml"))
    }

    /// The preset with its changes, if one is given.
    ///
    /// # Errors
    /// I/O, or what makes no sense.
    pub fn get(&self) -> Outcome<Option<Preset>> {
        let Some(name) = &self.preset else { return Ok(None) };
        let preset = match self.file() {
            Some(path) => read_file(&path)?,
            None => base(name).map_err(Failure::usage)?,
        };
        self.changes.apply(preset).map(Some).map_err(|text| Failure::usage(format!("--{text}")))
    }
}

fn base(name: &str) -> Result<Preset, String> {
    let known = || PRESETS.iter().map(|p| &*p.name).collect::<Vec<_>>().join(", ");
    Preset::named(name).cloned().ok_or_else(|| format!("preset: there is no preset `{name}`; presets are {}", known()))
}

/// The preset that a file describes.
fn read_file(path: &Path) -> Outcome<Preset> {
    let text = read_text(path)?;
    let changes: Result<Changes, _> = toml::from_str(&text);
    let changes = changes.map_err(|e| Failure::content(path, e.message()))?;
    let preset = base(changes.preset.as_deref().unwrap_or("none")).and_then(|preset| changes.apply(preset));
    preset.map_err(|text| Failure::content(path, text))
}

/// The recipe that a compiled model records.
pub fn recorded(note: &Note) -> Option<&str> {
    note.options.get(RECORDED).map(String::as_str)
}

/// Tells if ranges are of pictures that are prepared in another way, as `recorded` with them.
pub fn compare(recorded: Option<&str>, preset: &Preset, ui: Ui) {
    let recipe = |text: &str| text.split_once(": ").map_or(text, |(_, recipe)| recipe).to_string();
    if let Some(recorded) = recorded
        && recipe(recorded) != recipe(&preset.to_string())
    {
        ui.warn(&format!(
            "the model's ranges are of pictures prepared otherwise\n  there  {recorded}\n  here   {preset}"
        ));
    }
}

fn size(name: &str, text: &str) -> Result<Size, String> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    let side = |text: &str| text.parse().ok().filter(|n| (1..=1 << 14).contains(n));
    match (side(height), side(width)) {
        (Some(height), Some(width)) => Ok(Size { height, width }),
        _ => Err(format!("{name}: `{text}` is no size; write 224 or 48x320, rows first")),
    }
}

fn find<T: Copy>(name: &str, table: &[(&str, T)], text: &str) -> Result<T, String> {
    let known = || table.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let found = table.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| format!("{name}: `{text}` is none of {}", known()))
}

impl Changes {
    /// A preset with these changes; an error begins with the name of the option.
    fn apply(&self, mut preset: Preset) -> Result<Preset, String> {
        let nothing = Changes { preset: self.preset.clone(), ..Changes::default() };
        if *self == nothing {
            return Ok(preset);
        }
        if let Some(text) = &self.color {
            preset.channels = find("color", COLOURS, text)?;
        }
        if let Some(text) = &self.layout {
            preset.layout = find("layout", LAYOUTS, text)?;
        }
        if let Some(text) = &self.read {
            preset.reading = find("read", READINGS, text)?;
        }
        if let Some(text) = &self.filter {
            preset.resampling = find("filter", FILTERS, text)?;
        }
        let n = preset.channels.count();
        if let Some(mean) = &self.mean {
            preset.mean = per_channel("mean", mean, n)?;
        }
        if let Some(std) = &self.std {
            preset.std = per_channel("std", std, n)?;
            if preset.std.contains(&0.0) {
                return Err("std: nothing is divided by 0".into());
            }
        }
        if let Some(text) = &self.scale {
            preset.scale = scale(text)?;
        }
        self.apply_sizes(&mut preset)?;
        let whole = matches!(preset.fit, Fit::Stretch | Fit::Centre(_));
        if matches!(preset.resampling, Resampling::TensorFlow(_)) && !whole {
            return Err("filter: TensorFlow's go with --resize stretch only".into());
        }
        if !preset.name.ends_with('*') {
            preset.name = format!("{}*", preset.name).into();
        }
        Ok(preset)
    }

    fn apply_sizes(&self, preset: &mut Preset) -> Result<(), String> {
        let crop = self.crop.as_deref().map(|text| size("crop", text)).transpose()?;
        let asked = self.size.as_deref().map(|text| size("size", text)).transpose()?;
        if crop.is_some() && asked.is_some() && crop != asked {
            return Err("crop: what is cut out is the size of the result; leave --size out".into());
        }
        preset.size = crop.or(asked).or(preset.size);
        preset.fit = match (self.resize.as_deref(), preset.fit) {
            (None, Fit::ShortSide(..) | Fit::Cut) => preset.fit,
            (None, fit) if crop.is_none() => fit,
            (None, _) => return Err("crop: of what, says --resize N for a short side, or --resize keep".into()),
            (Some("stretch" | "letterbox"), _) if crop.is_some() => {
                return Err("crop: nothing is left to be cut out of what has the size".into());
            }
            (Some("stretch"), _) => Fit::Stretch,
            (Some("letterbox"), fit @ Fit::Letterbox { .. }) => fit,
            (Some("letterbox"), _) => Fit::Letterbox { grow: true, centred: true, stride: None },
            (Some("keep"), _) => {
                if crop.is_some() {
                    Fit::Cut
                } else {
                    Fit::Keep
                }
            }
            (Some(text), fit) => {
                let sides = if let Fit::ShortSide(_, sides) = fit { sides } else { Sides::Rounded };
                let side = text.parse().ok().filter(|n| (1..=1 << 14).contains(n));
                let side = side.ok_or_else(|| format!("resize: `{text}` is no number, stretch, letterbox or keep"))?;
                Fit::ShortSide(Short::Pixels(side), sides)
            }
        };
        Ok(())
    }
}

fn per_channel(name: &str, values: &[f64], n: usize) -> Result<[f64; 3], String> {
    match *values {
        _ if values.iter().any(|x| !x.is_finite()) => Err(format!("{name}: give finite numbers")),
        [x] => Ok([x; 3]),
        [a, b, c] if n == 3 => Ok([a, b, c]),
        _ => Err(format!("{name}: {} numbers for {n} channels; give one, or one for each", values.len())),
    }
}

fn scale(text: &str) -> Result<Scale, String> {
    let number = |text: &str| text.trim().parse::<f32>().ok().filter(|x| x.is_finite() && *x != 0.0);
    let scale = match text.split_once('/') {
        Some((one, by)) if one.trim() == "1" => number(by).map(Scale::Divide),
        Some(_) => None,
        None => number(text).map(Scale::Multiply),
    };
    scale.ok_or_else(|| format!("scale: `{text}` is no factor; write a number or 1/255"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn changed(text: &str) -> Result<Preset, String> {
        let changes: Changes = toml::from_str(text).map_err(|e| e.message().to_string())?;
        base(changes.preset.as_deref().unwrap_or("none")).and_then(|preset| changes.apply(preset))
    }

    #[test]
    fn a_file_changes_a_preset() {
        let text = "preset = 'imagenet'\nmean = [0.5]\nstd = [0.25, 0.5, 1]\nscale = '0.5'\nresize = '40'\ncrop = '32x48'\n\
                    filter = 'opencv-area'\nread = 'opencv'\nlayout = 'hwc'\ncolor = 'bgr'";
        let preset = changed(text).unwrap();
        assert_eq!((preset.mean, preset.std, preset.scale), ([0.5; 3], [0.25, 0.5, 1.0], Scale::Multiply(0.5)));
        assert_eq!(preset.fit, Fit::ShortSide(Short::Pixels(40), Sides::Truncated));
        assert_eq!((preset.size, preset.layout), (Some(Size { height: 32, width: 48 }), Layout::Hwc));
        assert_eq!((preset.channels, preset.reading), (Channels::Bgr, Reading::OpenCv));
        assert_eq!((&*preset.name, preset.resampling), ("imagenet*", Resampling::OpenCv(Interpolation::Area)));
        assert_eq!(changed("preset = 'yolo'").unwrap(), base("yolo").unwrap());
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (text, reason) in [
            ("mean = [1, 2]", "mean: 2 numbers for 3 channels; give one, or one for each"),
            ("color = 'gray'\nmean = [1, 2, 3]", "mean: 3 numbers for 1 channels; give one, or one for each"),
            ("std = [0]", "std: nothing is divided by 0"),
            ("scale = '2/255'", "scale: `2/255` is no factor; write a number or 1/255"),
            ("size = '0x3'", "size: `0x3` is no size; write 224 or 48x320, rows first"),
            ("crop = '3'", "crop: of what, says --resize N for a short side, or --resize keep"),
            (
                "crop = '3'\nsize = '4'\nresize = '5'",
                "crop: what is cut out is the size of the result; leave --size out",
            ),
            ("crop = '3'\nresize = 'letterbox'", "crop: nothing is left to be cut out of what has the size"),
            ("resize = 'big'", "resize: `big` is no number, stretch, letterbox or keep"),
            ("color = 'cmyk'", "color: `cmyk` is none of rgb, bgr, gray"),
            ("preset = 'yolo'\nfilter = 'tf1-bilinear'", "filter: TensorFlow's go with --resize stretch only"),
        ] {
            assert_eq!(changed(text).unwrap_err(), reason);
        }
        assert!(changed("means = [1]").unwrap_err().contains("unknown field `means`"));
    }
}
