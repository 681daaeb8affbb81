//! Small valid ONNX models that ask for much work: long chains, wide nodes, values with thousands of readers.
//!
//! Each is a function of a size in bytes, so that growth can be measured: what is made from twice the bytes should take
//! twice the time and memory.

/// A model as its parts in protobuf.
#[derive(Default)]
pub struct Onnx {
    nodes: Vec<u8>,
    rest: Vec<u8>,
}

/// A varint.
pub fn varint(mut v: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while v >= 128 {
        out.push(v as u8 | 128);
        v >>= 7;
    }
    out.push(v as u8);
    out
}

/// A field of bytes.
pub fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    [varint(u64::from(number << 3 | 2)), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

/// A number as a field.
fn number(field: u32, v: u64) -> Vec<u8> {
    [varint(u64::from(field << 3)), varint(v)].concat()
}

/// An attribute of integers.
pub fn ints(name: &str, values: &[i64]) -> Vec<u8> {
    let list: Vec<u8> = values.iter().flat_map(|&v| number(8, v as u64)).collect();
    field(5, &[field(1, name.as_bytes()), list, number(20, 7)].concat())
}

/// An attribute of one integer.
pub fn int(name: &str, value: i64) -> Vec<u8> {
    field(5, &[field(1, name.as_bytes()), number(3, value as u64), number(20, 2)].concat())
}

impl Onnx {
    /// A float input; a dim that is no number is a name, `?` is nothing.
    pub fn input(&mut self, name: &str, dims: &[&str]) {
        let one = |d: &&str| match (d.parse(), *d) {
            (Ok(n), _) => field(1, &number(1, n)),
            (_, "?") => field(1, &[]),
            (_, named) => field(1, &field(2, named.as_bytes())),
        };
        let dims: Vec<u8> = dims.iter().flat_map(one).collect();
        self.rest.extend(field(11, &port_of(name, &dims)));
    }

    /// A model with one float input `x`.
    fn new(dims: &[u64]) -> Onnx {
        let mut model = Onnx::default();
        model.rest.extend(field(11, &port("x", dims)));
        model
    }

    fn len(&self) -> usize {
        self.nodes.len() + self.rest.len()
    }

    /// A node, from `inputs > outputs`.
    pub fn node(&mut self, op: &str, wires: &str, attrs: &[Vec<u8>]) {
        let (inputs, outputs) = wires.split_once('>').unwrap_or((wires, ""));
        let mut node = Vec::new();
        inputs.split_whitespace().for_each(|name| node.extend(field(1, name.as_bytes())));
        outputs.split_whitespace().for_each(|name| node.extend(field(2, name.as_bytes())));
        node.extend(field(4, op.as_bytes()));
        node.extend(attrs.concat());
        self.nodes.extend(field(1, &node));
    }

    /// A constant: data type, dims, bytes.
    pub fn constant(&mut self, name: &str, elem: u64, dims: &[u64], bytes: &[u8]) {
        let dims: Vec<u8> = dims.iter().flat_map(|&d| number(1, d)).collect();
        let tensor = [dims, number(2, elem), field(8, name.as_bytes()), field(9, bytes)].concat();
        self.rest.extend(field(5, &tensor));
    }

    /// A constant of floats.
    pub fn floats(&mut self, name: &str, dims: &[u64], values: &[f32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, 1, dims, &bytes);
    }

    fn longs(&mut self, name: &str, values: &[i64]) {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, 7, &[values.len() as u64], &bytes);
    }

    fn output(&mut self, name: &str) {
        let unknown = field(1, &number(1, 1));
        self.rest.extend(field(12, &[field(1, name.as_bytes()), field(2, &unknown)].concat()));
    }

    /// The file, with one more output.
    pub fn ending(mut self, output: &str) -> Vec<u8> {
        self.output(output);
        let graph = [self.nodes, field(2, b"g"), self.rest].concat();
        [number(1, 8), field(7, &graph), field(8, &number(2, 13))].concat()
    }

    /// Nodes `v0 > v1`, `v1 > v2`, .. until the file is `bytes` long; returns the last name.
    fn chain(&mut self, bytes: usize, mut link: impl FnMut(&mut Onnx, usize, &str, &str)) -> String {
        let mut last = "x".to_string();
        let mut i = 0;
        while self.len() < bytes {
            i += 1;
            let next = format!("v{i}");
            link(self, i, &last, &next);
            last = next;
        }
        last
    }
}

/// A float input.
fn port(name: &str, dims: &[u64]) -> Vec<u8> {
    port_of(name, &dims.iter().flat_map(|&d| field(1, &number(1, d))).collect::<Vec<u8>>())
}

/// A float input with these dims in protobuf.
fn port_of(name: &str, dims: &[u8]) -> Vec<u8> {
    let tensor = [number(1, 1), field(2, dims)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

/// One kind of model.
pub struct Bomb {
    /// What it is.
    pub name: &'static str,
    /// Makes one of about so many bytes.
    pub make: fn(usize) -> Vec<u8>,
}

/// A chain of nodes with one input each, of a type that changes from node to node.
fn unary(bytes: usize, dims: &[u64], ops: &[(&str, Vec<Vec<u8>>)]) -> Vec<u8> {
    let mut m = Onnx::new(dims);
    let last = m.chain(bytes, |m, i, a, b| {
        let (op, attrs) = &ops[i % ops.len()];
        m.node(op, &format!("{a} > {b}"), attrs);
    });
    m.ending(&last)
}

/// One node that reads `x` and a constant many times.
fn wide(bytes: usize, op: &str, attrs: &[Vec<u8>]) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    m.floats("c", &[1, 8], &[0.5; 8]);
    m.node(op, &format!("{} > y", "x c ".repeat(bytes / 6)), attrs);
    m.ending("y")
}

/// One node that reads as many tensors as a model of so many bytes may, an even number, with a name that makes the rest of
/// the file.
fn as_wide_as_allowed(bytes: usize, op: &str, attrs: &[Vec<u8>]) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    m.floats("c", &[1, 8], &[0.5; 8]);
    let reads = format!("{} > y", "x c ".repeat((2048 + bytes / 32) / 2));
    let name = field(3, &vec![b'n'; bytes.saturating_sub(m.len() + 3 * reads.len() / 2 + 64)]);
    m.node(op, &reads, &[attrs, &[name]].concat());
    m.ending("y")
}

/// Nodes that read the last 30 results each.
fn sums_of_thirty(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    let mut i = 0usize;
    while m.len() < bytes {
        i += 1;
        let name = |k: usize| if k == 0 { "x".into() } else { format!("{k:x}") };
        let names: Vec<String> = (1..=30).map(|k| name(i.max(k) - k)).collect();
        m.node("Sum", &format!("{} > {i:x}", names.join(" ")), &[]);
    }
    m.ending(&format!("{i:x}"))
}

/// One node that reads the results of many others.
fn gathered(bytes: usize, op: &str, attrs: &[Vec<u8>]) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    let mut names = String::new();
    let mut i = 0;
    while m.len() + names.len() < bytes {
        i += 1;
        m.floats(&format!("c{i}"), &[1, 8], &[i as f32; 8]);
        m.node("Add", &format!("x c{i} > a{i}"), &[]);
        names += &format!("a{i} ");
    }
    m.node(op, &format!("{names} > y"), attrs);
    m.ending("y")
}

fn add_chain(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    let last = m.chain(bytes, |m, i, a, b| match i % 2 {
        0 => m.node("Relu", &format!("{a} > {b}"), &[]),
        _ => m.node("Add", &format!("{a} x > {b}"), &[]),
    });
    m.ending(&last)
}

fn add_far(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    m.node("Relu", "x > v0", &[]);
    let last = m.chain(bytes, |m, i, a, b| m.node("Add", &format!("{a} v{} > {b}", i / 2), &[]));
    m.ending(&last)
}

fn add_constants(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    m.floats("c", &[1, 8], &[0.5; 8]);
    let last = m.chain(bytes, |m, i, a, b| m.node(["Add", "Mul"][i % 2], &format!("{a} c > {b}"), &[]));
    m.ending(&last)
}

fn diamonds(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    let last = m.chain(bytes, |m, i, a, b| {
        m.node("Sigmoid", &format!("{a} > s{i}"), &[]);
        m.node("Tanh", &format!("{a} > t{i}"), &[]);
        m.node("Mul", &format!("s{i} t{i} > {b}"), &[]);
    });
    m.ending(&last)
}

fn doubled(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    let last = m.chain(bytes, |m, _, a, b| m.node("Add", &format!("{a} {a} > {b}"), &[]));
    m.ending(&last)
}

fn concat_constants(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    let (mut names, mut i) = (String::new(), 0);
    while m.len() + names.len() < bytes {
        i += 1;
        m.floats(&format!("c{i}"), &[1, 8], &[i as f32; 8]);
        names += &format!("c{i} ");
    }
    m.node("Concat", &format!("{names} > k"), &[int("axis", 0)]);
    m.node("Add", "x k > y", &[]);
    m.ending("y")
}

fn readers(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    m.node("Relu", "x > r", &[]);
    let last = m.chain(bytes, |m, i, a, b| {
        m.node("Sigmoid", &format!("r > s{i}"), &[]);
        m.node("Add", &format!("{a} s{i} > {b}"), &[]);
    });
    m.ending(&last)
}

fn outputs(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    let last = m.chain(bytes, |m, i, a, b| {
        m.node(["Sigmoid", "Tanh", "Abs"][i % 3], &format!("{a} > {b}"), &[]);
        if i > 1 {
            m.output(a);
        }
    });
    m.ending(&last)
}

fn same_output(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    m.node("Sigmoid", "x > s", &[]);
    let mut i = 0;
    while m.len() < bytes {
        i += 1;
        m.node("Identity", &format!("s > o{i}"), &[]);
        m.output(&format!("o{i}"));
    }
    m.ending("s")
}

fn scale(m: &mut Onnx) {
    m.floats("s", &[], &[0.05]);
    m.constant("z", 2, &[], &[128]);
}

/// Pairs one after another.
fn pairs(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    scale(&mut m);
    let last = m.chain(bytes, |m, i, a, b| {
        m.node("QuantizeLinear", &format!("{a} s z > q{i}"), &[]);
        m.node("DequantizeLinear", &format!("q{i} s z > d{i}"), &[]);
        m.node(["Sigmoid", "Relu"][i % 2], &format!("d{i} > {b}"), &[]);
    });
    m.ending(&last)
}

/// Pairs on one tensor, added up in integers.
fn pairs_on_one(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    scale(&mut m);
    let last = m.chain(bytes, |m, i, a, b| {
        m.floats(&format!("s{i}"), &[], &[0.05 + i as f32 * 1e-5]);
        m.node("QuantizeLinear", &format!("x s{i} z > q{i}"), &[]);
        m.node("DequantizeLinear", &format!("q{i} s{i} z > d{i}"), &[]);
        m.node("Add", &format!("{a} d{i} > {b}"), &[]);
    });
    m.ending(&last)
}

/// A quantized chain of additions.
fn quantized_adds(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    scale(&mut m);
    m.node("QuantizeLinear", "x s z > q0", &[]);
    m.node("DequantizeLinear", "q0 s z > d0", &[]);
    let mut i = 0;
    while i == 0 || m.len() < bytes {
        i += 1;
        m.node("Add", &format!("d{} d0 > a{i}", i - 1), &[]);
        m.node("QuantizeLinear", &format!("a{i} s z > q{i}"), &[]);
        m.node("DequantizeLinear", &format!("q{i} s z > d{i}"), &[]);
    }
    m.ending(&format!("d{i}"))
}

/// Quantized additions, each between float ops whose kernels neither read nor write bytes.
fn islands(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8, 1, 1]);
    scale(&mut m);
    let last = m.chain(bytes, |m, i, a, b| {
        m.node("LRN", &format!("{a} > f{i}"), &[int("size", 1)]);
        m.node("QuantizeLinear", &format!("f{i} s z > q{i}"), &[]);
        m.node("DequantizeLinear", &format!("q{i} s z > d{i}"), &[]);
        m.node("Add", &format!("d{i} d{i} > a{i}"), &[]);
        m.node("QuantizeLinear", &format!("a{i} s z > p{i}"), &[]);
        m.node("DequantizeLinear", &format!("p{i} s z > {b}"), &[]);
    });
    m.node("LRN", &format!("{last} > y"), &[int("size", 1)]);
    m.ending("y")
}

fn quantized_moves(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    scale(&mut m);
    m.longs("a", &[2, 4]);
    m.longs("b", &[1, 8]);
    let last = m.chain(bytes, |m, i, a, b| {
        m.node("QuantizeLinear", &format!("{a} s z > q{i}"), &[]);
        m.node("DequantizeLinear", &format!("q{i} s z > d{i}"), &[]);
        m.node("Reshape", &format!("d{i} {} > {b}", ["a", "b"][i % 2]), &[]);
    });
    m.ending(&last)
}

fn quantized_convs(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 2, 4, 4]);
    scale(&mut m);
    m.constant("w", 3, &[2, 2, 1, 1], &[1, 2, 3, 4]);
    m.constant("wz", 3, &[], &[0]);
    m.node("DequantizeLinear", "w s wz > f", &[]);
    m.node("QuantizeLinear", "x s z > q0", &[]);
    m.node("DequantizeLinear", "q0 s z > d0", &[]);
    let mut i = 0;
    while m.len() < bytes {
        i += 1;
        m.node("Conv", &format!("d{} f > c{i}", i - 1), &[]);
        m.node("QuantizeLinear", &format!("c{i} s z > q{i}"), &[]);
        m.node("DequantizeLinear", &format!("q{i} s z > d{i}"), &[]);
    }
    m.ending(&format!("d{i}"))
}

/// Two convolutions called `c`: one between quantized tensors, and one of nine times the work of floats.
pub fn twins() -> Vec<u8> {
    let (mut m, name) = (Onnx::new(&[1, 2, 4, 4]), field(3, b"c"));
    scale(&mut m);
    m.constant("w", 3, &[2, 2, 1, 1], &[1, 2, 3, 4]);
    m.constant("wz", 3, &[], &[0]);
    m.floats("v", &[2, 2, 3, 3], &[0.5; 36]);
    m.node("QuantizeLinear", "x s z > xq", &[]);
    m.node("DequantizeLinear", "xq s z > xd", &[]);
    m.node("DequantizeLinear", "w s wz > wd", &[]);
    m.node("Conv", "xd wd > c", std::slice::from_ref(&name));
    m.node("QuantizeLinear", "c s z > cq", &[]);
    m.node("DequantizeLinear", "cq s z > cd", &[]);
    m.node("Softmax", "cd > t", &[]);
    m.node("Conv", "t v > y", &[name, ints("pads", &[1, 1, 1, 1])]);
    m.ending("y")
}

/// Scores and a mask whose sum `a` is quantized in steps of 39, and its softmax `p`.
pub fn quantized_mask() -> Vec<u8> {
    let mut m = Onnx::new(&[1, 4, 4]);
    m.floats("s", &[], &[39.0]);
    m.constant("z", 2, &[], &[255]);
    m.floats("mask", &[4], &[0.0, 0.0, -9945.0, -9945.0]);
    m.node("Mul", "x x > xx", &[]);
    m.node("Add", "xx mask > a", &[field(3, b"a")]);
    m.node("QuantizeLinear", "a s z > aq", &[]);
    m.node("DequantizeLinear", "aq s z > ad", &[]);
    m.node("Softmax", "ad > y", &[field(3, b"p")]);
    m.ending("y")
}

fn reshapes(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    m.longs("a", &[2, 4]);
    m.longs("b", &[1, 8]);
    let last = m.chain(bytes, |m, i, a, b| m.node("Reshape", &format!("{a} {} > {b}", ["a", "b"][i % 2]), &[]));
    m.ending(&last)
}

fn reshapes_between(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    m.longs("a", &[2, 4]);
    m.longs("b", &[1, 8]);
    let last = m.chain(bytes, |m, i, a, b| {
        m.node("Reshape", &format!("{a} {} > r{i}", ["a", "b"][i % 2]), &[]);
        m.node("Sigmoid", &format!("r{i} > {b}"), &[]);
    });
    m.ending(&last)
}

/// Slices and concatenations of one tensor.
fn cut_and_joined(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    [("lo", 0), ("mid", 4), ("hi", 8), ("axes", 1)].iter().for_each(|(name, v)| m.longs(name, &[*v]));
    let last = m.chain(bytes, |m, i, a, b| {
        m.node("Slice", &format!("{a} lo mid axes > l{i}"), &[]);
        m.node("Slice", &format!("{a} mid hi axes > h{i}"), &[]);
        m.node("Concat", &format!("h{i} l{i} > {b}"), &[int("axis", 1)]);
    });
    m.ending(&last)
}

/// Concatenations that grow by one.
fn growing(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 1]);
    let last = m.chain(bytes, |m, _, a, b| m.node("Concat", &format!("{a} x > {b}"), &[int("axis", 1)]));
    m.ending(&last)
}

fn split(bytes: usize) -> Vec<u8> {
    let n = bytes / 13;
    let mut m = Onnx::new(&[1, n as u64]);
    let names = |step: usize| (0..n).step_by(step).map(|i| format!("p{i} ")).collect::<String>();
    m.node("Split", &format!("x > {}", names(1)), &[int("axis", 1)]);
    m.node("Concat", &format!("{} > y", names(2)), &[int("axis", 1)]);
    m.ending("y")
}

/// Arithmetic on constants, which importing folds.
fn constants(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    m.floats("c", &[1, 8], &[0.5; 8]);
    m.node("Neg", "c > v0", &[]);
    let mut i = 0;
    while m.len() < bytes {
        i += 1;
        m.node(["Sigmoid", "Mul", "Transpose"][i % 3], &format!("v{} {} > v{i}", i - 1, ["", "c", ""][i % 3]), &[]);
        if i % 3 == 2 {
            i += 1;
            m.node("Transpose", &format!("v{} > v{i}", i - 1), &[]);
        }
    }
    m.node("Add", &format!("x v{i} > y"), &[]);
    m.ending("y")
}

/// Convolutions of constants, which a pass folds.
fn constant_convs(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 2, 4, 4]);
    m.floats("c", &[1, 2, 4, 4], &[0.5; 32]);
    m.floats("w", &[2, 2, 1, 1], &[0.5; 4]);
    m.node("Conv", "c w > v0", &[]);
    let mut i = 0;
    while m.len() < bytes {
        i += 1;
        m.node("Conv", &format!("v{} w > v{i}", i - 1), &[]);
    }
    m.node("Add", &format!("x v{i} > y"), &[]);
    m.ending("y")
}

/// Shape arithmetic.
fn shapes(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    let last = m.chain(bytes, |m, i, a, b| {
        m.node("Shape", &format!("{a} > h{i}"), &[]);
        m.node("Reshape", &format!("{a} h{i} > {b}"), &[]);
    });
    m.ending(&last)
}

fn convs(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 2, 4, 4]);
    m.floats("w", &[2, 2, 3, 3], &[0.1; 36]);
    let pads = ints("pads", &[1, 1, 1, 1]);
    let last = m.chain(bytes, |m, _, a, b| m.node("Conv", &format!("{a} w > {b}"), std::slice::from_ref(&pads)));
    m.ending(&last)
}

fn convs_side_by_side(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 2, 4, 4]);
    let (mut names, mut i) = (String::new(), 0);
    while m.len() + names.len() < bytes {
        i += 1;
        m.floats(&format!("w{i}"), &[1, 2, 1, 1], &[i as f32; 2]);
        m.node("Conv", &format!("x w{i} > c{i}"), &[]);
        names += &format!("c{i} ");
    }
    m.node("Concat", &format!("{names} > y"), &[int("axis", 1)]);
    m.ending("y")
}

/// A convolution with normalizations behind it, which fold into it one by one.
fn norms(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 2, 4, 4]);
    m.floats("w", &[2, 2, 1, 1], &[0.5; 4]);
    m.floats("o", &[2], &[1.0; 2]);
    m.node("Conv", "x w > c", &[]);
    m.node("BatchNormalization", "c o o o o > v0", &[]);
    let mut i = 0;
    while m.len() < bytes {
        i += 1;
        m.node("BatchNormalization", &format!("v{} o o o o > v{i}", i - 1), &[]);
    }
    m.ending(&format!("v{i}"))
}

fn products(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 4]);
    m.floats("w", &[4, 4], &[0.1; 16]);
    let last = m.chain(bytes, |m, _, a, b| m.node("MatMul", &format!("{a} w > {b}"), &[]));
    m.ending(&last)
}

fn pools(bytes: usize) -> Vec<u8> {
    let attrs = vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1, 1, 1, 1])];
    unary(bytes, &[1, 2, 4, 4], &[("MaxPool", attrs.clone()), ("AveragePool", attrs)])
}

/// The same computed again and again.
fn repeated(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    let (mut names, mut i) = (String::new(), 0);
    while m.len() + names.len() < bytes {
        i += 1;
        m.node("Sigmoid", &format!("x > s{i}"), &[]);
        names += &format!("s{i} ");
    }
    m.node("Sum", &format!("{names} > y"), &[]);
    m.ending("y")
}

/// Nodes that nothing reads.
fn dead(bytes: usize) -> Vec<u8> {
    let mut m = Onnx::new(&[1, 8]);
    m.node("Sigmoid", "x > y", &[]);
    m.chain(bytes, |m, _, a, b| m.node("Relu", &format!("{a} > {b}"), &[]));
    m.ending("y")
}

/// All kinds.
pub static BOMBS: &[Bomb] = &[
    Bomb { name: "chain of Add and Relu", make: add_chain },
    Bomb { name: "Add of results far behind", make: add_far },
    Bomb { name: "Add and Mul of a constant", make: add_constants },
    Bomb { name: "diamonds", make: diamonds },
    Bomb { name: "Add of a result to itself", make: doubled },
    Bomb { name: "Sum as wide as is allowed", make: |n| as_wide_as_allowed(n, "Sum", &[]) },
    Bomb { name: "Mean as wide as is allowed", make: |n| as_wide_as_allowed(n, "Mean", &[]) },
    Bomb { name: "Max as wide as is allowed", make: |n| as_wide_as_allowed(n, "Max", &[]) },
    Bomb { name: "Concat as wide as is allowed", make: |n| as_wide_as_allowed(n, "Concat", &[int("axis", 1)]) },
    Bomb { name: "Sum of many results", make: |n| gathered(n, "Sum", &[]) },
    Bomb { name: "Concat of many results", make: |n| gathered(n, "Concat", &[int("axis", 1)]) },
    Bomb { name: "Concat of many constants", make: concat_constants },
    Bomb { name: "many readers of one tensor", make: readers },
    Bomb { name: "many outputs", make: outputs },
    Bomb { name: "many outputs of one tensor", make: same_output },
    Bomb { name: "chain of pairs", make: pairs },
    Bomb { name: "many pairs on one tensor", make: pairs_on_one },
    Bomb { name: "chain of quantized additions", make: quantized_adds },
    Bomb { name: "quantized additions between float ops", make: islands },
    Bomb { name: "chain of quantized reshapes", make: quantized_moves },
    Bomb { name: "chain of quantized convolutions", make: quantized_convs },
    Bomb { name: "chain of functions", make: |n| unary(n, &[1, 8], &[("Sigmoid", vec![]), ("Tanh", vec![])]) },
    Bomb { name: "chain of Relu", make: |n| unary(n, &[1, 8], &[("Relu", vec![])]) },
    Bomb { name: "chain of Identity", make: |n| unary(n, &[1, 8], &[("Identity", vec![])]) },
    Bomb { name: "chain of Softmax", make: |n| unary(n, &[1, 8], &[("Softmax", vec![])]) },
    Bomb { name: "chain of Transpose", make: |n| unary(n, &[2, 8], &[("Transpose", vec![])]) },
    Bomb {
        name: "chain of Transpose and Sigmoid",
        make: |n| unary(n, &[2, 8], &[("Transpose", vec![]), ("Sigmoid", vec![])]),
    },
    Bomb { name: "chain of Reshape", make: reshapes },
    Bomb { name: "chain of Reshape and Sigmoid", make: reshapes_between },
    Bomb { name: "tensor cut and joined", make: cut_and_joined },
    Bomb { name: "Concat that grows", make: growing },
    Bomb { name: "Split into very many", make: split },
    Bomb { name: "chain of constants", make: constants },
    Bomb { name: "convolutions of constants", make: constant_convs },
    Bomb { name: "chain of shapes", make: shapes },
    Bomb { name: "chain of convolutions", make: convs },
    Bomb { name: "convolutions side by side", make: convs_side_by_side },
    Bomb { name: "chain of normalizations", make: norms },
    Bomb { name: "chain of products", make: products },
    Bomb { name: "chain of pools", make: pools },
    Bomb { name: "the same again and again", make: repeated },
    Bomb { name: "nodes that nothing reads", make: dead },
];

/// Those whose nodes have more inputs than a model of their size may.
pub static TOO_WIDE: &[Bomb] = &[
    Bomb { name: "Sum with very many inputs", make: |n| wide(n, "Sum", &[]) },
    Bomb { name: "Mean with very many inputs", make: |n| wide(n, "Mean", &[]) },
    Bomb { name: "Max with very many inputs", make: |n| wide(n, "Max", &[]) },
    Bomb { name: "Min with very many inputs", make: |n| wide(n, "Min", &[]) },
    Bomb { name: "Concat with very many inputs", make: |n| wide(n, "Concat", &[int("axis", 1)]) },
    Bomb { name: "sums of thirty results", make: sums_of_thirty },
];
