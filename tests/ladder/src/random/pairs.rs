//! The quantized side of random models: formats of activations, stored weights and biases.

use super::Numbers;
use qc_ir::{Data, HostTensor, Quant, Store};

/// A format for values seen between `lo` and `hi`: sometimes too narrow, sometimes too wide, zero point off the middle;
/// now and then a scale of 1, which quantizers give to what was always 0. In one of six an activation is folded into the
/// range, of which quantizers take the op out.
pub fn activation(lo: f32, hi: f32, pick: u32) -> Quant {
    let mut n = Numbers::new(u64::from(pick));
    let stretch = 0.7 + 0.3 * (n.unit() + 1.0);
    let (lo, hi) = (lo.min(0.0), hi.max(0.0));
    match pick / 64 % 12 {
        0 => return Quant::per_tensor(Store::U8, (hi / 255.0).max(1e-4), 0),
        1 => return Quant::per_tensor(Store::I8, (hi.min(6.0) / 255.0).max(1e-4), -128),
        _ => {}
    }
    let scale = if pick % 64 == 63 { 1.0 } else { ((hi - lo) * stretch / 255.0).max(1e-4) };
    let zero = ((-lo / scale).round() as i32 + n.below(9) as i32 - 4).clamp(0, 255);
    match n.below(4) {
        0 => Quant::per_tensor(Store::I8, scale, zero - 128),
        1 => Quant { lo: -127, ..Quant::per_tensor(Store::I8, scale, (zero - 128).max(-127)) },
        _ => Quant::per_tensor(Store::U8, scale, zero),
    }
}

/// Weights as stored integers: s8 per output channel along `axis`, or s8 or u8 with one scale, some of them with zero
/// points that take differences out of s8.
pub fn weight(values: &[f32], dims: &[usize], axis: usize, pick: u32) -> (Quant, HostTensor) {
    let mut n = Numbers::new(u64::from(pick));
    let largest = values.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
    let (lo, hi) = values.iter().fold((0.0f32, 0.0f32), |(lo, hi), &x| (lo.min(x), hi.max(x)));
    let scale = ((hi - lo) / 255.0).max(1e-6);
    let zero = (-lo / scale).round().clamp(0.0, 255.0) as i32;
    let scales = |n: &mut Numbers| -> Vec<f32> {
        (0..dims[axis]).map(|_| largest / 127.0 * (0.5 + 0.4 * (n.unit() + 1.0))).collect()
    };
    let format = match n.below(16) {
        7 => Quant::per_tensor(Store::U8, scale, zero),
        8 => Quant::per_tensor(Store::I8, scale, zero - 128),
        9 => {
            let zeros = (0..dims[axis]).map(|_| n.below(256) as i32).collect();
            Quant { zeros, ..Quant::per_axis(Store::U8, axis, vec![scale; dims[axis]]) }
        }
        0 => Quant::per_tensor(Store::U8, largest / 127.0, 128 - n.below(3) as i32),
        1 => Quant::per_tensor(Store::I8, largest / 127.0, n.below(7) as i32 - 3),
        2 => {
            let zeros = (0..dims[axis]).map(|_| 128 - n.below(9) as i32).collect();
            Quant { zeros, ..Quant::per_axis(Store::U8, axis, scales(&mut n)) }
        }
        3 | 4 => Quant::per_tensor(Store::I8, largest / 127.0, 0),
        5 | 6 => Quant { lo: -127, ..Quant::per_axis(Store::I8, axis, scales(&mut n)) },
        _ => Quant::per_axis(Store::I8, axis, scales(&mut n)),
    };
    let inner: usize = dims[axis + 1..].iter().product();
    let stored = |(i, x): (usize, &f32)| {
        let c = i / inner.max(1) % dims[axis];
        ((x / format.scale(c)).round_ties_even() as i32 + format.zero(c)).clamp(format.lo, format.hi)
    };
    let all = values.iter().enumerate().map(stored);
    let data = match format.store {
        Store::U8 => Data::U8(all.map(|x| x as u8).collect()),
        _ => Data::I8(all.map(|x| x as i8).collect()),
    };
    let tensor = HostTensor::new(dims, data).expect("invariant: one integer per weight");
    (format, tensor)
}

/// A bias as i32 in units of the accumulator.
pub fn bias(values: &[f32], input: &Quant, weight: &Quant) -> (Quant, HostTensor) {
    let scales: Vec<f32> = (0..values.len()).map(|c| input.scale(0) * weight.scale(c)).collect();
    let stored = values.iter().zip(&scales).map(|(b, s)| (b / s).round_ties_even() as i32).collect();
    let n = values.len();
    (Quant::per_axis(Store::I32, 0, scales), HostTensor::i32([n], stored))
}
