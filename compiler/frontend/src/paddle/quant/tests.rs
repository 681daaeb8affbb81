//! Fake quantization of every era, in programs built in code.

use crate::paddle::program::OpAttr;
use crate::paddle::tests::{Program, flag, float, frozen_program, int, ints};
use crate::{Disposition, Options};

/// The pair that a threshold of 2 becomes, with these bounds.
fn pair_of_two(lo: i32) -> String {
    format!("q<i8, [0.015748031], [0], {lo}, 127>")
}

#[test]
fn all_observers_become_the_same_pair() {
    let old = |op_type: &str, attrs: &[OpAttr]| {
        Program::new(&[1, 2])
            .floats("s", &[1], &[2.0])
            .op(op_type, "X=x InScale=s", "Out=q OutScale=s", attrs)
            .op("fake_dequantize_max_abs", "X=q Scale=s", "Out=y", &[float("max_range", 127.0)])
            .finish()
    };
    for op_type in ["fake_quantize_range_abs_max", "fake_quantize_moving_average_abs_max"] {
        let dump = old(op_type, &[int("bit_length", 8)]).dump();
        assert!(dump.contains(&pair_of_two(-127)), "{dump}");
        assert!(!dump.contains("graph.mul") && !dump.contains("graph.div"), "{dump}");
        // The newer way of rounding keeps the lowest step.
        assert!(old(op_type, &[int("round_type", 0)]).dump().contains(&pair_of_two(-128)));
        assert!(old(op_type, &[int("bit_length", 4)]).reasons()[0].contains("4 bits"));
    }
    let both = Program::new(&[1, 2])
        .floats("s", &[1], &[2.0])
        .op("fake_quantize_dequantize_moving_average_abs_max", "X=x InScale=s", "Out=y OutScale=s", &[])
        .finish();
    assert!(both.dump().contains(&pair_of_two(-127)));
    let linear = Program::new(&[1, 2])
        .floats("s", &[], &[2.0])
        .floats("z", &[], &[0.0])
        .op("quantize_linear", "X=x Scale=s ZeroPoint=z", "Y=q", &[int("quant_axis", -1)])
        .op("dequantize_linear", "X=q Scale=s ZeroPoint=z", "Y=y", &[int("quant_axis", -1)])
        .finish();
    assert!(linear.dump().contains(&pair_of_two(-128)));
}

#[test]
fn scales_of_fake_ops_win_over_attributes() {
    let mut program = frozen_program(&[127.0, -64.0]);
    for op in &mut program.desc.blocks[0].ops {
        op.attrs.push(float("out_threshold", 9.0));
        op.attrs.push(float("Out0_threshold", 9.0));
    }
    assert_eq!(program.dump(), frozen_program(&[127.0, -64.0]).dump());
}

#[test]
fn measured_scales_leave_the_tensor_float_and_say_so() {
    let program = |dequantize: &str, scales: &str, attrs: &[OpAttr]| {
        Program::new(&[1, 1, 1, 2])
            .floats("w", &[2, 1, 1, 1], &[127.0, -64.0])
            .floats("c", &[2], &[0.5, 0.25])
            .op("fake_quantize_abs_max", "X=x", "Out=q OutScale=s", &[int("bit_length", 8)])
            .op("conv2d", "Input=q Filter=w", "Output=a", &[])
            .op(dequantize, &format!("X=a {scales}"), "Out=y", attrs)
            .finish()
    };
    // max_range is 127 * 127 / the weight's threshold of 0.5.
    let one = program("fake_dequantize_max_abs", "Scale=s", &[float("max_range", 127.0 * 127.0 / 0.5)]);
    let per_channel = program("fake_channel_wise_dequantize_max_abs", "Scales=c,s", &[ints("quant_bits", &[8, 8])]);
    for (program, second) in [(one, 0.5), (per_channel, 0.25)] {
        let (_, y) = program.run(&[1.0, 5.0]);
        let want = [0.5, 2.5, -64.0 / 127.0 * second, -64.0 / 127.0 * second * 5.0];
        assert!(y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{y:?} {want:?}");
        let dump = program.dump();
        assert!(!dump.contains("graph.quantize") && dump.matches("graph.dequantize").count() == 1, "{dump}");
        let report = program.import(&Options::default()).unwrap().report;
        let Disposition::Folded(why) = report[0].disposition else { panic!("{report:?}") };
        assert!(why.contains("measured anew in every run") && why.contains("stays float"));
    }
    let both = Program::new(&[1, 2]).op("fake_quantize_dequantize_abs_max", "X=x", "Out=y OutScale=s", &[]).finish();
    assert_eq!(both.run(&[0.3, -7.0]).1, [0.3, -7.0]);
    let pair = Program::new(&[1, 2])
        .op("fake_quantize_abs_max", "X=x", "Out=q OutScale=s", &[])
        .op("fake_dequantize_max_abs", "X=q Scale=s", "Out=y", &[float("max_range", 127.0)])
        .finish();
    assert_eq!(pair.run(&[0.3, -7.0]).1, [0.3, -7.0]);
    // The units themselves are known to nobody.
    let lost = Program::new(&[1, 2])
        .op("fake_quantize_abs_max", "X=x", "Out=q OutScale=s", &[])
        .op("relu", "X=q", "Out=y", &[])
        .finish();
    assert!(lost.reasons()[0].contains("measured anew"));
}

#[test]
fn weights_of_training_programs_are_stored_in_bytes() {
    let program = |quantize: &str, dequantize: &str, scales: &str, attrs: &[OpAttr]| {
        Program::new(&[1, 1, 1, 2])
            .floats("w", &[2, 1, 1, 1], &[0.5, -0.2])
            .op(quantize, "X=w", "Out=wq OutScale=ws", &[])
            .op(dequantize, &format!("X=wq {scales}"), "Out=wd", attrs)
            .op("conv2d", "Input=x Filter=wd", "Output=y", &[])
            .finish()
    };
    let one = program("fake_quantize_abs_max", "fake_dequantize_max_abs", "Scale=ws", &[float("max_range", 127.0)]);
    let two = program(
        "fake_channel_wise_quantize_abs_max",
        "fake_channel_wise_dequantize_max_abs",
        "Scales=ws",
        &[ints("quant_bits", &[8])],
    );
    // -0.2 of 0.5 is -50.8 steps.
    for (program, second) in [(one, -51.0 / 127.0 * 0.5), (two, -0.2)] {
        let (_, y) = program.run(&[1.0, 2.0]);
        let want = [0.5, 1.0, second, 2.0 * second];
        assert!(y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{y:?} {want:?}");
        let dump = program.dump();
        assert!(dump.contains("q<i8") && dump.matches("graph.dequantize").count() == 1, "{dump}");
        assert!(!dump.contains("graph.mul"), "{dump}");
    }
}

#[test]
fn linear_weights_are_bytes_or_integers_in_floats() {
    let program = |weight: fn(Program) -> Program| {
        weight(Program::new(&[1, 1, 1, 2]))
            .floats("s", &[2], &[0.5, 0.25])
            .floats("z", &[2], &[0.0, 0.0])
            .op("dequantize_linear", "X=w Scale=s ZeroPoint=z", "Y=d", &[int("quant_axis", 0)])
            .op("conv2d", "Input=x Filter=d", "Output=y", &[])
            .finish()
    };
    let bytes = program(|p| p.bytes("w", &[2, 1, 1, 1], &[127, -64]));
    let floats = program(|p| p.floats("w", &[2, 1, 1, 1], &[127.0, -64.0]));
    assert_eq!(bytes.dump(), floats.dump());
    assert!(bytes.dump().contains("graph.dequantize"));
    let (_, y) = bytes.run(&[1.0, 2.0]);
    let want = [0.5, 1.0, -64.0 / 127.0 * 0.25, -64.0 / 127.0 * 0.5];
    assert!(y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{y:?} {want:?}");
    // Numbers that are no integers are multiplied as written.
    let literal = program(|p| p.floats("w", &[2, 1, 1, 1], &[127.0, -63.5]));
    let (_, y) = literal.run(&[1.0, 2.0]);
    assert!((y[2] + 63.5 / 127.0 * 0.25).abs() < 1e-6, "{y:?}");
}

#[test]
fn linear_ops_without_their_partner_are_literal() {
    let differing = Program::new(&[1, 2])
        .floats("s", &[1], &[127.0])
        .floats("t", &[1], &[254.0])
        .op("quantize_linear", "X=x Scale=s", "Y=q", &[int("quant_axis", -1)])
        .op("dequantize_linear", "X=q Scale=t", "Y=y", &[int("quant_axis", -1)])
        .finish();
    assert_eq!(differing.run(&[1.4, -500.0]).1, [2.0, -256.0]);
    let alone = Program::new(&[1, 2])
        .floats("t", &[1], &[254.0])
        .op("dequantize_linear", "X=x Scale=t", "Y=y", &[int("quant_axis", -1)])
        .finish();
    assert_eq!(alone.run(&[1.5, -3.0]).1, [3.0, -6.0]);
    let no_scale = Program::new(&[1, 2])
        .op("quantize_linear", "X=x", "Y=q", &[])
        .op("dequantize_linear", "X=q", "Y=y", &[])
        .finish();
    assert_eq!(no_scale.run(&[1.4, -500.0]).1, [1.4, -500.0]);
    let report = no_scale.import(&Options::default()).unwrap().report;
    assert_eq!(report[0].disposition, Disposition::Folded("it has no scale, so its tensor stays float"));
    let observer = Program::new(&[1, 2])
        .floats("s", &[1], &[1.0])
        .op("quantize_linear", "X=x Scale=s", "Y=q", &[flag("only_observer", true)])
        .op("dequantize_linear", "X=q Scale=s", "Y=y", &[flag("only_observer", true)])
        .finish();
    assert_eq!(observer.run(&[1.4, -500.0]).1, [1.4, -500.0]);
}
