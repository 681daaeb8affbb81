//! The SSD of the shared folder in every generation of Paddle, imported and run by the interpreter: its boxes, scores, prior
//! boxes and detections.
#![allow(clippy::unwrap_used)]

use qc_frontend::{Bytes, NoFiles, Options, Source, import};
use qc_ir::{Data, HostTensor};
use std::path::{Path, PathBuf};

fn shared() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("QC_SHARED").map_or(beside, PathBuf::from).join("spec/models/fp32");
    let found = folder.exists();
    if !found {
        println!("SKIPPED 1: {} is not there (QC_SHARED)", folder.display());
    }
    found.then_some(folder)
}

/// What is left of an output when rows that a run did not fill are cut off.
fn filled(t: &HostTensor, count: Option<i64>) -> HostTensor {
    let Some(count) = count else { return t.clone() };
    let mut dims = t.dims().to_vec();
    let row = t.len() / dims[0];
    dims[0] = count as usize;
    HostTensor::new(dims, Data::F32(t.as_f32().unwrap()[..row * count as usize].to_vec())).unwrap()
}

/// The outputs of a program on the pictures of `golden`, by name.
fn outputs(program: &Path, params: &Path, image: &HostTensor) -> Vec<(String, HostTensor)> {
    let read = |path: &Path| Bytes::from(std::fs::read(path).unwrap());
    let source = Source { name: "ssd".into(), model: read(program), params: Some(read(params)), files: &NoFiles };
    let batch = Some(image.dims()[0] as i64);
    let model = import(&source, &Options { batch, ..Options::default() }).unwrap();
    assert!(qc_ir::verify(&model.module, &qc_dialects::REGISTRY).is_empty());
    let found = qc_dialects::interpret(&model.module, std::slice::from_ref(image)).unwrap();
    let count = |t: &HostTensor| (0..t.len()).map(|i| t.int(i).unwrap()).sum();
    let one = |(port, t): (&qc_frontend::Port, &HostTensor)| {
        (port.name.clone(), filled(t, port.counted.map(|c| count(&found[c.by]))))
    };
    model.outputs.iter().zip(&found).map(one).collect()
}

fn distance(a: &HostTensor, b: &HostTensor) -> f32 {
    let pairs = a.as_f32().unwrap().iter().zip(b.as_f32().unwrap());
    pairs.fold(0.0, |most, (a, b)| if (a - b).is_nan() { f32::INFINITY } else { most.max((a - b).abs()) })
}

#[test]
fn the_detector_of_every_generation() {
    let Some(folder) = shared() else { return };
    let programs = [
        ("ssd_p18/golden.npz", "ssd_p18/combined/model", "ssd_p18/combined/params", 4),
        ("ssd_p18/golden.npz", "ssd_p26/model.pdmodel", "ssd_p26/model.pdiparams", 4),
        ("ssd_p26dy/golden.npz", "ssd_p26dy/model.pdmodel", "ssd_p26dy/model.pdiparams", 3),
        ("ssd_p33pir/golden.npz", "ssd_p33pir/model.json", "ssd_p33pir/model.pdiparams", 3),
    ];
    for (golden, program, params, least) in programs {
        let bytes = std::fs::read(folder.join(golden)).unwrap();
        let mut archive = qc_arrays::Archive::new(&bytes).unwrap();
        let image = archive.get("image").unwrap();
        let found = outputs(&folder.join(program), &folder.join(params), &image);
        let shapes: Vec<_> = found.iter().map(|(name, t)| (name, t.dims())).collect();
        println!("{program}: {shapes:?}");
        let mut equal = 0;
        for name in ["nms", "decoded", "scores", "prior"] {
            let Ok(want) = archive.get(name) else { continue };
            // Names differ between generations, shapes tell outputs apart.
            let alike = found.iter().filter(|(_, t)| t.as_f32().is_some() && t.dims() == want.dims());
            let nearest = alike.map(|(_, t)| distance(t, &want)).reduce(f32::min);
            println!("{program}: {name} {nearest:?}");
            equal += usize::from(nearest.is_some_and(|d| d < 1e-4));
        }
        assert!(equal >= least, "{program}: {equal} equal");
    }
}
