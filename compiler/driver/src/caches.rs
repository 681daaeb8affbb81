//! Ranges as other tools write and read them.
//!
//! | kind | file | what it says of a tensor |
//! |---|---|---|
//! | `trt` | TensorRT's calibration table | bits of the scale, threshold / 127, in hex |
//! | `ort` | ONNX Runtime's `save_tensors_data` | smallest and largest value |
//! | `ort-json` | its `calibration.json` | the same, without the method |
//! | `ort-table` | its `calibration.cache` | the threshold, as text |
//! | `ort-flatbuffers` | its `calibration.flatbuffers`, for TensorRT there | the same |
//! | `paddle` | the `scale_dict` of its quantizers, as JSON | the threshold; lists are of weights |
//!
//! A threshold is a largest magnitude: it says nothing of signs, and what is known of the values decides (`ranges::attach`). ONNX Runtime
//! writes the larger end instead, which is no threshold where all values are negative; such a file is refused.

mod flatbuffers;

use crate::ranges::{Range, Ranges, SCHEMA};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// TensorRT's table.
    TensorRt,
    /// ONNX Runtime's reusable cache.
    OnnxRuntime,
    /// ONNX Runtime's `calibration.json`.
    OnnxRuntimeJson,
    /// ONNX Runtime's `calibration.cache`.
    OnnxRuntimeTable,
    /// ONNX Runtime's `calibration.flatbuffers`.
    OnnxRuntimeFlatbuffers,
    /// Paddle's dictionary of thresholds.
    Paddle,
}

/// Kinds by their names.
const KINDS: &[(&str, Cache)] = &[
    ("trt", Cache::TensorRt),
    ("ort", Cache::OnnxRuntime),
    ("ort-json", Cache::OnnxRuntimeJson),
    ("ort-table", Cache::OnnxRuntimeTable),
    ("ort-flatbuffers", Cache::OnnxRuntimeFlatbuffers),
    ("paddle", Cache::Paddle),
];

impl std::str::FromStr for Cache {
    type Err = String;

    fn from_str(name: &str) -> Result<Cache, String> {
        let found = KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
        let known = || KINDS.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ");
        found.ok_or_else(|| format!("`{name}` is no kind of calibration cache; kinds are {}", known()))
    }
}

type Tensors = BTreeMap<String, Range>;

/// Reads a file of one of the kinds; nothing if it is of none.
///
/// # Errors
/// A sentence: what of the file cannot be used.
pub(crate) fn read(bytes: &[u8]) -> Option<Result<Ranges, String>> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    let (method, tensors) = match text {
        Some(text) if text.starts_with("TRT-") => (method_of_table(text), of_table(text)),
        Some(text) => match serde_json::from_str::<Map<String, Value>>(text) {
            Ok(fields) if fields.contains_key("schema") => return None,
            Ok(fields) => of_json(&fields)?,
            Err(_) => ("a cache of ONNX Runtime".into(), of_lines(text)?),
        },
        None => ("a cache of ONNX Runtime".into(), of_pairs(&flatbuffers::read(bytes)?)),
    };
    Some(tensors.and_then(|tensors| checked(tensors, method)))
}

fn checked(tensors: Tensors, method: String) -> Result<Ranges, String> {
    let bad = |r: &Range| !(r.min.is_finite() && r.max.is_finite() && r.min <= r.max);
    if let Some((name, r)) = tensors.iter().find(|(_, r)| bad(r)) {
        return Err(format!("the range {}..{} of \"{name}\" is no interval", r.min, r.max));
    }
    Ok(Ranges { schema: SCHEMA.into(), generator: method.clone(), method, tensors, ..Ranges::default() })
}

/// A range of magnitudes up to a threshold.
fn within(name: &str, threshold: f64) -> Result<(String, Range), String> {
    if threshold < 0.0 {
        return Err(format!(
            "the threshold {threshold} of \"{name}\" is negative: the tool wrote the larger end of negative values, which is no \
             threshold; calibrate again, or take the tensor out, which then stays f32"
        ));
    }
    let end = threshold as f32;
    Ok((name.to_string(), Range::new(-end, end)))
}

fn method_of_table(text: &str) -> String {
    let kind = text.lines().next().unwrap_or_default().rsplit('-').next().unwrap_or_default().trim();
    format!("a table of TensorRT ({kind})")
}

fn of_table(text: &str) -> Result<Tensors, String> {
    let lines = text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty());
    let one = |(i, line): (usize, &str)| {
        let (name, bits) = line.rsplit_once(':').ok_or_else(|| format!("line {} is not `TENSOR: SCALE`", i + 1))?;
        let bits = u32::from_str_radix(bits.trim(), 16);
        let bits = bits.map_err(|_| format!("line {}: the scale is not 8 hex digits", i + 1))?;
        within(name.trim(), f64::from(f32::from_bits(bits)) * STEPS)
    };
    lines.map(one).collect()
}

/// Steps of a format on one side of 0.
const STEPS: f64 = 127.0;

/// Lines of `TENSOR THRESHOLD`; nothing if they are something else.
fn of_lines(text: &str) -> Option<Result<Tensors, String>> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let pair = |line: &&str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_string(), value.parse::<f64>().ok()?.to_string()))
    };
    let pairs: Option<Vec<(String, String)>> = lines.iter().map(pair).collect();
    pairs.filter(|pairs| !pairs.is_empty()).map(|pairs| of_pairs(&pairs))
}

fn of_pairs(pairs: &[(String, String)]) -> Result<Tensors, String> {
    let one = |(name, value): &(String, String)| {
        let threshold = value.trim().parse().map_err(|_| format!("`{value}` of \"{name}\" is no number"))?;
        within(name, threshold)
    };
    pairs.iter().map(one).collect()
}

/// Objects of ONNX Runtime or Paddle; nothing if they are something else.
fn of_json(fields: &Map<String, Value>) -> Option<(String, Result<Tensors, String>)> {
    let (data, method) = match fields.get("CLS").and_then(Value::as_str) {
        Some("TensorsData") => {
            let value = fields.get("calibration_method").and_then(|m| m.get("value")).and_then(Value::as_str);
            let kind = value.and_then(|value| value.rsplit('.').next()).unwrap_or("unknown");
            (fields.get("data")?.as_object()?, format!("a cache of ONNX Runtime ({kind})"))
        }
        _ => (fields, "a cache of ONNX Runtime".to_string()),
    };
    let is_tensor = |v: &Value| v.get("CLS").and_then(Value::as_str) == Some("TensorData");
    if !data.is_empty() && data.values().all(is_tensor) {
        return Some((method, data.iter().map(|(name, v)| of_ends(name, v)).collect()));
    }
    let is_threshold = |v: &Value| v.is_number() || v.as_array().is_some_and(|all| all.iter().all(Value::is_number));
    (!fields.is_empty() && fields.values().all(is_threshold)).then(|| {
        let scalars = fields.iter().filter_map(|(name, v)| match v.as_array().map(Vec::as_slice) {
            None => Some((name, v.as_f64()?)),
            Some([one]) => Some((name, one.as_f64()?)),
            // Of the channels of a weight, which are quantized by themselves.
            Some(_) => None,
        });
        ("thresholds of Paddle".into(), scalars.map(|(name, threshold)| within(name, threshold)).collect())
    })
}

fn of_ends(name: &str, tensor: &Value) -> Result<(String, Range), String> {
    let end = |field: &str| {
        let value = tensor.get(field)?;
        let value = value.get("data").map_or(value, |data| data.get(0).unwrap_or(data));
        value.as_f64()
    };
    match (end("lowest"), end("highest")) {
        (Some(low), Some(high)) => Ok((name.to_string(), Range::new(low as f32, high as f32))),
        _ => Err(format!("\"{name}\" has no `lowest` and `highest`")),
    }
}

impl Cache {
    /// The bytes of a file with these ranges.
    pub fn write(self, ranges: &Ranges) -> Vec<u8> {
        let tensors = &ranges.tensors;
        let thresholds = || tensors.iter().map(|(name, r)| (name, f64::from(r.min.abs().max(r.max.abs()))));
        let text = match self {
            Cache::TensorRt => {
                let line = |(name, t): (&String, f64)| format!("{name}: {:08x}\n", ((t / STEPS) as f32).to_bits());
                // Readers compare the kind with their calibrator, whatever found the thresholds.
                "TRT-8XXX-EntropyCalibration2 \n".to_string() + &thresholds().map(line).collect::<String>()
            }
            Cache::OnnxRuntime => {
                let method = json!({ "CLS": "CalibrationMethod", "value": "CalibrationMethod.MinMax" });
                let all = json!({ "CLS": "TensorsData", "data": ends(tensors), "calibration_method": method, "smooth_quant": false });
                all.to_string()
            }
            Cache::OnnxRuntimeJson => ends(tensors).to_string(),
            Cache::OnnxRuntimeTable => thresholds().map(|(name, t)| format!("{name} {t}\n")).collect(),
            Cache::OnnxRuntimeFlatbuffers => {
                let pairs: Vec<_> = thresholds().map(|(name, t)| (name.as_str(), t.to_string())).collect();
                return flatbuffers::write(&pairs);
            }
            Cache::Paddle => {
                let all: Map<String, Value> = thresholds().map(|(name, t)| (name.clone(), t.into())).collect();
                Value::from(all).to_string()
            }
        };
        text.into_bytes()
    }
}

/// Smallest and largest values as ONNX Runtime writes arrays of NumPy.
fn ends(tensors: &Tensors) -> Value {
    let array = |x: f32| json!({ "data": [x], "dtype": "float32", "CLS": "numpy.array" });
    let one = |r: &Range| json!({ "lowest": array(r.min), "highest": array(r.max), "CLS": "TensorData" });
    tensors.iter().map(|(name, r)| (name.clone(), one(r))).collect::<Map<String, Value>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges() -> Ranges {
        let tensors = [("relu: 0", (0.0, 6.421_161_7)), ("sym", (-5.964_175, 6.155_749)), ("neg", (-3.5, -0.25))];
        let tensors = tensors.map(|(name, (min, max))| (name.to_string(), Range::new(min, max)));
        Ranges { method: "auto".into(), tensors: tensors.into(), ..Ranges::default() }
    }

    #[test]
    fn what_is_written_is_read() {
        for (name, kind) in KINDS {
            let read = read(&kind.write(&ranges())).unwrap_or_else(|| panic!("{name}")).unwrap();
            for (tensor, own) in &ranges().tensors {
                let threshold = own.min.abs().max(own.max);
                let (low, high) = match kind {
                    Cache::OnnxRuntime | Cache::OnnxRuntimeJson => (own.min, own.max),
                    _ => (-threshold, threshold),
                };
                let found = read.tensors[tensor];
                // A scale is threshold / 127, rounded.
                let near = |a: f32, b: f32| (a - b).abs() <= b.abs() * 1e-7;
                assert!(near(found.min, low) && near(found.max, high), "{name}: {tensor} {found:?}");
            }
            assert_eq!(name.parse::<Cache>(), Ok(*kind));
        }
        assert!("tensorrt".parse::<Cache>().unwrap_err().contains("kinds are trt, ort,"));
    }

    #[test]
    fn what_tools_wrote_is_read() {
        let table = "TRT-8XXX-EntropyCalibration2 \nrelu_1.tmp_0: 3d8007eb\nscope:x: 3bf21428\n";
        let found = read(table.as_bytes()).unwrap().unwrap();
        assert_eq!(found.method, "a table of TensorRT (EntropyCalibration2)");
        assert_eq!(found.tensors["relu_1.tmp_0"].max, f32::from_bits(0x3d80_07eb) * 127.0);
        assert!(found.tensors.contains_key("scope:x"));
        let of_entropy = r#"{"CLS": "TensorsData", "data": {"sym": {"lowest": -5.5, "highest": 6.25, "hist": {"data": [0, 1]},
            "CLS": "TensorData"}}, "calibration_method": {"CLS": "CalibrationMethod", "value": "CalibrationMethod.Entropy"}}"#;
        let found = read(of_entropy.as_bytes()).unwrap().unwrap();
        assert_eq!((found.method.as_str(), found.tensors["sym"].min), ("a cache of ONNX Runtime (Entropy)", -5.5));
        let of_paddle = br#"{"relu_0.tmp_0": 6.4, "fc_0.w_0": [1.0, 2.0], "x": [2.5]}"#;
        let found = read(of_paddle).unwrap().unwrap();
        assert_eq!(found.tensors.keys().collect::<Vec<_>>(), ["relu_0.tmp_0", "x"]);
    }

    #[test]
    fn what_is_no_threshold_is_refused() {
        let refused = |bytes: &[u8]| read(bytes).unwrap().unwrap_err();
        assert!(refused(b"relu 6.5\nneg -0.0102\n").contains("of \"neg\" is negative"));
        assert!(refused(b"TRT-8XXX-Entropy\nx: 7f80000\ny 1\n").contains("line 3 is not"));
        assert!(refused(b"TRT-8XXX-Entropy\nx: 7f800000\n").contains("is no interval"));
        assert!(refused(b"TRT-8XXX-Entropy\nx: one\n").contains("line 2: the scale is not 8 hex digits"));
        assert!(refused(br#"{"x": {"CLS": "TensorData", "lowest": 1.0}}"#).contains("\"x\" has no `lowest`"));
        for other in
            [&b"{\"schema\": \"qc.ranges/1\"}"[..], b"{}", b"", b"words and more words", b"{\"x\": \"y\"}", &[0; 64]]
        {
            assert!(read(other).is_none(), "{other:?}");
        }
    }
}
