//! Small models in every stored form, kept as files in `tests/seeds` for the mutants and the fuzz targets.
//!
//! `QC_BLESS=1 cargo test -p qc-frontend seeds` writes them anew.

use crate::onnx::tests as onnx;
use crate::paddle::tests as paddle;
use prost::Message;
use std::path::Path;

/// File names and their bytes.
fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let shapes = onnx::Model::new(11, &[-1, 2, 4, 4])
        .constant(onnx::floats("w", &[2, 2, 3, 3], &[0.5; 36]))
        .constant(onnx::floats("c", &[2], &[1.0, 2.0]))
        .constant(onnx::longs("zero", &[0]))
        .constant(onnx::longs("one", &[1]))
        .constant(onnx::longs("rest", &[-1]))
        .node("Conv", "x w c > a", &[onnx::ints("pads", &[1, 1, 1, 1]), onnx::int("group", 1)])
        .node("BatchNormalization", "a c c c c > b", &[onnx::float("epsilon", 1e-5)])
        .node("MaxPool", "b > d", &[onnx::ints("kernel_shape", &[2, 2]), onnx::int("ceil_mode", 1)])
        .node("Shape", "d > s", &[])
        .node("Slice", "s zero one zero > n", &[])
        .node("Concat", "n rest > t", &[onnx::int("axis", 0)])
        .node("Reshape", "d t > e", &[])
        .node("Softmax", "e > y", &[onnx::int("axis", 1)]);
    let pir = crate::paddle::pir::tests::small();
    let frozen = paddle::frozen_program(&[127.0, -64.0]);
    let program = paddle::Program::new(&[-1, 2, 4, 4])
        .floats("w", &[2, 2, 3, 3], &[0.5; 36])
        .floats("v", &[2], &[1.0, 2.0])
        .op("conv2d", "Input=x Filter=w", "Output=a", &[paddle::ints("paddings", &[1, 1])])
        .op("batch_norm", "X=a Scale=v Bias=v Mean=v Variance=v", "Y=b", &[])
        .op("pool2d", "X=b", "Out=c", &[paddle::text("pooling_type", "avg"), paddle::ints("ksize", &[2, 2])])
        .op("split", "X=c", "Out=d,e", &[paddle::int("num", 2), paddle::int("axis", 1)])
        .op("concat", "X=e,d", "Out=f", &[paddle::int("axis", 1)])
        .op("reshape2", "X=f", "Out=g XShape=h", &[paddle::ints("shape", &[0, -1])])
        .op(
            "slice",
            "Input=g",
            "Out=i",
            &[paddle::ints("axes", &[1]), paddle::ints("starts", &[1]), paddle::ints("ends", &[9])],
        )
        .op("scale", "X=i", "Out=y", &[paddle::float("scale", 2.0)])
        .finish();
    vec![
        ("shapes.onnx", shapes.encode()),
        ("pairs.onnx", onnx::qdq_model().encode()),
        ("float.pdmodel", program.desc.encode_to_vec()),
        ("float.pdiparams", program.combined()),
        ("frozen.pdmodel", frozen.desc.encode_to_vec()),
        ("frozen.pdiparams", frozen.combined()),
        ("pir.json", pir.json()),
        ("pir.pdiparams", pir.combined()),
    ]
}

#[test]
fn seeds_on_disk_are_what_is_built_here() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/seeds");
    for (name, bytes) in seeds() {
        let path = folder.join(name);
        if std::env::var_os("QC_BLESS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == bytes, "{name} differs; QC_BLESS=1 writes it");
    }
}
