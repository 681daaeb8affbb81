//! Outputs whose rows a run counts, as Rust, C and Python see them.
#![allow(clippy::unwrap_used)]

use qc_compiler::{CompileOptions, Compiler, ContextOptions, ModelFile, TargetCpu, write_artefact};
use qc_ir::NoSink;
use qc_tests::bombs::{Onnx, int};
use std::process::Command;

const BOXES: usize = 5;

/// The best boxes of two classes: rows `picture, class, place`, and the boxes themselves, centred at 0.
fn detector() -> Vec<u8> {
    let mut m = Onnx::default();
    m.input("boxes", &["1", "5", "4"]);
    m.input("scores", &["1", "2", "5"]);
    m.constant("each", 7, &[1], &3i64.to_le_bytes());
    m.floats("iou", &[1], &[0.5]);
    m.floats("least", &[1], &[0.2]);
    m.constant("column", 7, &[1], &2i64.to_le_bytes());
    m.constant("flat", 7, &[1], &(-1i64).to_le_bytes());
    m.constant("table", 7, &[2], &[5i64, 4].map(i64::to_le_bytes).concat());
    m.node("NonMaxSuppression", "boxes scores each iou least > chosen", &[]);
    m.node("Gather", "chosen column > places", &[int("axis", 1)]);
    m.node("Reshape", "places flat > at", &[]);
    m.node("Reshape", "boxes table > rows", &[]);
    m.node("Gather", "rows at > found", &[int("axis", 0)]);
    m.node("Neg", "found > y", &[]);
    m.ending("y")
}

fn compiled() -> qc_compiler::Compiled {
    let options = CompileOptions { target: TargetCpu::Host, name: Some("detector".into()), ..Default::default() };
    let file = ModelFile::from_bytes("detector.onnx", detector(), None);
    Compiler::new(options).compile_file(&file, &mut NoSink).unwrap()
}

/// Boxes that do not overlap.
fn boxes() -> Vec<f32> {
    (0..BOXES).flat_map(|i| [0.0, 2.0 * i as f32, 1.0, 2.0 * i as f32 + 1.0]).collect()
}

#[test]
fn a_run_says_how_many_rows_it_found() {
    let compiled = compiled();
    let predictor = compiled.jit().unwrap();
    let mut context = predictor.context(&ContextOptions::default()).unwrap();
    let counted = context.outputs()[0].counted.unwrap();
    assert_eq!((counted.axis, context.outputs()[counted.by].name.as_str()), (0, "y.rows"));
    assert!(context.filled_shape(0).is_err(), "there was no run");
    context.input_mut::<f32>("boxes", 1).unwrap().copy_from_slice(&boxes());
    // Of the first class three of four, of the second class one, then none.
    for (scores, places) in
        [(vec![0.5, 0.0, 0.9, 0.3, 0.4, 0.1, 0.1, 0.1, 0.7, 0.2], vec![2, 0, 4, 3]), (vec![0.1; 2 * BOXES], vec![])]
    {
        context.input_mut::<f32>("scores", 1).unwrap().copy_from_slice(&scores);
        context.run().unwrap();
        assert_eq!(context.output_shape("y").unwrap(), [6, 4]);
        assert_eq!(context.filled_shape("y").unwrap(), [places.len(), 4]);
        let want: Vec<f32> = places.iter().flat_map(|&p: &usize| boxes()[4 * p..][..4].to_vec()).map(|x| -x).collect();
        assert_eq!(context.output::<f32>("y").unwrap()[..want.len()], want);
        assert_eq!(context.output::<i32>("y.rows").unwrap(), [places.len() as i32]);
    }
}

const PROGRAM: &str = r#"
#include "detector.h"
#include <stdio.h>

int main(void)
{
    static const float boxes[] = {0, 0, 1, 1, 0, 2, 1, 3, 0, 4, 1, 5, 0, 6, 1, 7, 0, 8, 1, 9};
    static const float scores[] = {.5f, 0, .9f, .3f, .4f, .1f, .1f, .1f, .7f, .2f};
    detector_ctx *ctx = NULL;
    size_t rows, i;
    if (detector_create(&ctx, NULL) != 0 || detector_in_boxes(ctx, boxes) != 0 || detector_in_scores(ctx, scores) != 0)
        return 1;
    if (detector_run(ctx) != 0)
        return 2;
    rows = detector_filled_y(ctx);
    for (i = 0; i < rows; i++)
        printf("%g ", detector_out_y(ctx)[4 * i + 1]);
    detector_destroy(ctx);
    return 0;
}
"#;

#[test]
fn the_header_counts_rows_for_c() {
    let dir = tempfile::tempdir().unwrap();
    write_artefact(&compiled(), &dir.path().join("detector.so")).unwrap();
    std::fs::write(dir.path().join("main.c"), PROGRAM).unwrap();
    let mut command = Command::new("cc");
    command.args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "main.c", "detector.so", "-o", "main"]);
    let Ok(built) = command.arg("-Wl,-rpath,$ORIGIN").current_dir(dir.path()).output() else {
        println!("SKIPPED 1: cc is not installed");
        assert!(std::env::var_os("QC_REQUIRE_TOOLS").is_none(), "cc is required");
        return;
    };
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let run = Command::new(dir.path().join("main")).output().unwrap();
    assert_eq!((run.status.code(), String::from_utf8_lossy(&run.stdout).trim()), (Some(0), "-4 -0 -8 -6"));
}
