//! `Loop` and `Scan`: a body that repeats.
//!
//! Where the number of rounds is known and the condition always true, the rounds are those of a `graph.scan`. A body in which
//! shapes or the condition depend on the number of the round, or whose states grow, is written out round by round instead, up
//! to a bounded number.

use super::body::captured;
use super::node::Node;
use super::proto::{GraphProto, NodeProto};
use super::{Importer, ports};
use crate::emit::scan::{Given, Over};
use crate::emit::{Graph, Range, Value, known_i64s};
use crate::error::Refusal;
use crate::walk::{Emitted, Walk};
use qc_ir::{Data, HostTensor};

type Result<T> = std::result::Result<T, Refusal>;

/// The most rounds that are written out one by one.
const MAX_WRITTEN_OUT: usize = 256;

const REMEDY: &str = "export the model without control flow, or with a number of rounds that is constant";

/// A body, and what it is repeated over.
struct Rounds<'a> {
    body: &'a GraphProto,
    /// What the names of states are at first.
    states: Vec<(&'a str, Value)>,
    /// What has an index for each round, along its first dim.
    sequences: Vec<(&'a str, Value)>,
    /// The name of the number of the round.
    number: Option<&'a str>,
    /// The name of the condition, which is true where the body runs; its first result is the next one.
    condition: Option<(&'a str, Value)>,
    /// The most rounds there may be; there are as many if the condition is always true.
    rounds: usize,
    reverse: bool,
    /// Which of the outputs of rounds are read.
    wanted: Vec<bool>,
}

/// What one round gave.
struct Round {
    /// Whether there is another, if that is known.
    goes_on: Option<bool>,
    states: Vec<Value>,
    outputs: Vec<Value>,
}

/// The one truth value that a tensor is known to be.
fn truth(v: &Value) -> Option<bool> {
    v.known().filter(|t| t.len() == 1).and_then(|t| t.int(0)).map(|n| n != 0)
}

fn computed_condition(v: &Value) -> Refusal {
    Refusal::unsupported("its condition is computed by the model").remedy(REMEDY).of_computed(v)
}

/// A tensor from the last index of an axis to the first.
fn flipped(g: &mut Graph, x: &Value, axis: usize) -> Result<Value> {
    let dims = g.dims(x);
    let one = |(i, &n): (usize, &usize)| match i == axis {
        true => Range { start: n as i64 - 1, end: -1, step: -1 },
        false => Range::full(n),
    };
    let ranges: Vec<Range> = dims.iter().enumerate().map(one).collect();
    g.slice(x, &ranges)
}

/// A tensor whose axis `from` stands at `to`, the others in their order.
fn with_axis_at(g: &mut Graph, x: &Value, from: usize, to: usize) -> Result<Value> {
    let mut perm: Vec<usize> = (0..g.dims(x).len()).filter(|&a| a != from).collect();
    perm.insert(to, from);
    g.transpose(x, &perm)
}

impl<'a> Importer<'a> {
    /// Walks the body once; `None` if a node of it is refused, which is reported.
    fn round(
        &mut self,
        walk: &mut Walk<'a, Value>,
        r: &Rounds<'a>,
        mut given: Vec<(&'a str, Value)>,
    ) -> Result<Option<Round>> {
        let before = walk.mark()[0];
        given.extend(r.condition.clone());
        let Some(all) = self.inside(walk, r.body, given)?.into_iter().collect::<Option<Vec<Value>>>() else {
            return Ok(None);
        };
        if walk.mark()[0] > before {
            return Ok(None);
        }
        let (next, rest) = all.split_at(usize::from(r.condition.is_some()));
        let (states, outputs) = rest.split_at(r.states.len());
        let wanted = outputs.iter().zip(&r.wanted).filter(|(_, wanted)| **wanted).map(|(v, _)| v.clone());
        let goes_on = next.first().map_or(Some(true), truth);
        Ok(Some(Round { goes_on, states: states.to_vec(), outputs: wanted.collect() }))
    }

    /// All rounds as a region that repeats; `None` if a node of it is refused, which is reported.
    fn as_region(&mut self, walk: &mut Walk<'a, Value>, r: &Rounds<'a>) -> Result<Option<Given>> {
        let (again, same): (Vec<_>, Vec<_>) =
            captured(walk, r.body).into_iter().partition(|(_, v)| walk.g.is_stored(v));
        let mut sequences = r.sequences.clone();
        if let Some(number) = r.number {
            walk.g.charge(8 * r.rounds)?;
            sequences.push((number, known_i64s((0..r.rounds as i64).collect())));
        }
        let values = |list: &[(&str, Value)]| list.iter().map(|(_, v)| v.clone()).collect::<Vec<Value>>();
        let [states, items, same_values] = [&r.states, &sequences, &same].map(|list| values(list));
        if [&states, &items, &same_values].into_iter().flatten().any(|v| walk.g.rows_of(v).is_some()) {
            return Err(Refusal::unsupported("it reads a tensor the number of whose rows only a run tells")
                .remedy("cut the model in front of it"));
        }
        let over = Over { states: &states, sequences: &items, same: &same_values, steps: r.rounds, reverse: r.reverse };
        let (open, inside) = walk.g.open_scan(&over)?;
        let names = r.states.iter().chain(&sequences).chain(&same).map(|(name, _)| *name);
        let own = inside.states.into_iter().chain(inside.items).chain(inside.same);
        let mut given: Vec<(&'a str, Value)> = names.zip(own).collect();
        let filled = again
            .into_iter()
            .try_for_each(|(name, v)| {
                given.extend(walk.g.stored_again(&v)?.map(|v| (name, v)));
                Ok(())
            })
            .and_then(|()| self.round(walk, r, given));
        match filled {
            Ok(Some(round)) if round.goes_on == Some(true) => {
                walk.g.close_scan(open, Given { states: round.states, outputs: round.outputs }).map(Some)
            }
            Ok(Some(_)) => {
                walk.g.abandon_scan(open);
                Err(Refusal::unsupported("whether it goes on is computed by the model").remedy(REMEDY))
            }
            other => {
                walk.g.abandon_scan(open);
                other.map(|_| None)
            }
        }
    }

    /// All rounds one behind the other; `None` if a node of one is refused, which is reported.
    fn written_out(&mut self, walk: &mut Walk<'a, Value>, r: &Rounds<'a>) -> Result<Option<Given>> {
        let mut states: Vec<Value> = r.states.iter().map(|(_, v)| v.clone()).collect();
        let mut rounds: Vec<Vec<Value>> = Vec::new();
        for t in 0..r.rounds {
            if t == MAX_WRITTEN_OUT {
                let reason =
                    format!("it has more than {MAX_WRITTEN_OUT} rounds, and their number or results depend on it");
                return Err(Refusal::unsupported(reason).remedy(REMEDY));
            }
            let at = if r.reverse { r.rounds - 1 - t } else { t };
            let mut given: Vec<(&'a str, Value)> = Vec::new();
            given.extend(r.states.iter().zip(&states).map(|((name, _), v)| (*name, v.clone())));
            for (name, x) in &r.sequences {
                given.push((*name, walk.g.item(x, at)?));
            }
            let number = || Value::from(HostTensor::i64(Vec::<usize>::new(), vec![t as i64]));
            given.extend(r.number.map(|name| (name, number())));
            let Some(round) = self.round(walk, r, given)? else { return Ok(None) };
            states = round.states;
            rounds.push(round.outputs);
            match round.goes_on {
                Some(true) => {}
                Some(false) => break,
                None => {
                    return Err(Refusal::unsupported("whether it goes on is computed by the model").remedy(REMEDY));
                }
            }
        }
        if r.reverse {
            rounds.reverse();
        }
        let mut outputs = Vec::new();
        for i in 0..rounds.first().map_or(0, Vec::len) {
            let parts: Vec<Value> = rounds.iter().map(|round| round[i].clone()).collect();
            outputs.push(walk.g.stack(&parts)?);
        }
        Ok(Some(Given { states, outputs }))
    }

    /// All rounds; `None` if a node of the body is refused, which is reported.
    fn repeated(&mut self, walk: &mut Walk<'a, Value>, r: &Rounds<'a>) -> Result<Option<Given>> {
        let has_scan_outputs = r.wanted.iter().any(|&wanted| wanted);
        if r.rounds == 0 && has_scan_outputs {
            return Err(Refusal::unsupported("it has no round, so its outputs have no elements")
                .remedy("export the model without it"));
        }
        if r.rounds == 0 {
            return Ok(Some(Given { states: r.states.iter().map(|(_, v)| v.clone()).collect(), outputs: Vec::new() }));
        }
        let mark = walk.mark();
        if r.rounds != usize::MAX {
            let tried = self.as_region(walk, r);
            if matches!(tried, Ok(Some(_))) || r.rounds > MAX_WRITTEN_OUT && r.condition.is_none() {
                return tried;
            }
            walk.back_to(mark);
        }
        self.written_out(walk, r)
    }

    /// Under the names of a node: the states, then the outputs that are wanted, which `then` puts as they are wanted.
    fn as_outputs(
        walk: &mut Walk<'a, Value>,
        node: &'a NodeProto,
        r: &Rounds<'a>,
        given: Option<Given>,
        mut then: impl FnMut(&mut Graph, usize, Value) -> Result<Value>,
    ) -> Result<Emitted<'a, Value>> {
        let (states, mut outputs) = match given {
            Some(given) => (given.states.into_iter().map(Some).collect(), given.outputs.into_iter()),
            None => (vec![None; r.states.len()], Vec::new().into_iter()),
        };
        let mut values: Vec<Option<Value>> = states;
        for (i, &wanted) in r.wanted.iter().enumerate() {
            let one = if wanted { outputs.next() } else { None };
            values.push(one.map(|v| then(&mut walk.g, i, v)).transpose()?);
        }
        let all = node.output.iter().zip(values).filter(|(name, _)| !name.is_empty());
        let outputs = all.map(|(name, v)| (name.as_str(), v.map(|v| walk.g.named(v, name)))).collect();
        Ok(Emitted { outputs, why: "its results are known at import" })
    }

    /// The outputs of a node from `from` on that are read; the body has `count` of them.
    fn wanted(&self, node: &NodeProto, from: usize, count: usize) -> Vec<bool> {
        let read =
            |i: usize| node.output.get(from + i).is_some_and(|o| !o.is_empty() && self.read.contains(o.as_str()));
        (0..count).map(read).collect()
    }

    /// Lowers a `Loop`.
    ///
    /// # Errors
    /// A body that does not fit, rounds without a known end, and what its rounds are refused for.
    pub(super) fn rounds(
        &mut self,
        walk: &mut Walk<'a, Value>,
        node: &'a NodeProto,
        inputs: Vec<Option<Value>>,
    ) -> Result<Emitted<'a, Value>> {
        let body = self.body_of(node)?;
        let names: Vec<&str> = ports(body).into_iter().map(|port| port.name.as_str()).collect();
        let mut inputs = inputs.into_iter();
        let [most, condition] = [inputs.next().flatten(), inputs.next().flatten()];
        let states: Option<Vec<Value>> = inputs.collect();
        let states = states.ok_or_else(|| Refusal::invalid("a state is missing"))?;
        let (Some([number, goes_on]), true) = (names.get(..2).and_then(|n| <[&str; 2]>::try_from(n).ok()), {
            names.len() == states.len() + 2 && body.output.len() > states.len()
        }) else {
            return Err(Refusal::invalid(format!(
                "its body has {} inputs and {} outputs for {} states",
                names.len(),
                body.output.len(),
                states.len()
            )));
        };
        let rounds = match &most {
            None => usize::MAX,
            Some(v) => {
                let known = v.known().filter(|t| t.len() == 1).and_then(|t| t.int(0));
                let computed = || Refusal::unsupported("the number of its rounds is computed by the model");
                let known = known.ok_or_else(|| computed().remedy(REMEDY).of_computed(v))?;
                usize::try_from(known.clamp(0, i64::from(i32::MAX))).unwrap_or(0)
            }
        };
        let rounds = match condition.as_ref().map(|v| truth(v).ok_or_else(|| computed_condition(v))).transpose()? {
            Some(false) => 0,
            Some(true) | None => rounds,
        };
        let dims = condition.as_ref().map_or_else(Vec::new, |v| walk.g.dims(v));
        let holds = HostTensor::new(dims, Data::Bool(vec![true])).map(Value::from);
        let holds = holds.ok_or_else(|| Refusal::invalid("its condition is not one truth value"))?;
        let wanted = self.wanted(node, states.len(), body.output.len() - 1 - states.len());
        let states = names[2..].iter().copied().zip(states).collect();
        let (number, condition) = (Some(number), Some((goes_on, holds)));
        let r = Rounds { body, states, sequences: Vec::new(), number, condition, rounds, reverse: false, wanted };
        let given = self.repeated(walk, &r)?;
        Self::as_outputs(walk, node, &r, given, |_, _, v| Ok(v))
    }

    /// The body of a node.
    fn body_of(&self, node: &'a NodeProto) -> Result<&'a GraphProto> {
        let graph = node.attribute.iter().find(|a| a.name == "body").and_then(|a| a.g.as_deref());
        graph.ok_or_else(|| Refusal::invalid("it has no `body`"))
    }

    /// Lowers a `Scan`.
    ///
    /// # Errors
    /// A body that does not fit, and what its rounds are refused for.
    pub(super) fn scan(
        &mut self,
        walk: &mut Walk<'a, Value>,
        node: &'a NodeProto,
        inputs: Vec<Option<Value>>,
    ) -> Result<Emitted<'a, Value>> {
        let body = self.body_of(node)?;
        let old = self.opset < 9;
        if old && inputs.first().is_some_and(Option::is_some) {
            return Err(Refusal::unsupported("its sequences have lengths of their own").remedy(REMEDY));
        }
        let given: Option<Vec<Value>> = inputs.into_iter().skip(usize::from(old)).collect();
        let given = given.ok_or_else(|| Refusal::invalid("an input is missing"))?;
        let n = Node { proto: node, inputs: Vec::new(), used: Vec::new(), opset: self.opset, files: self.source.files };
        let form = Form::of(&n, body, given.len(), old)?;
        if !old {
            return self.scanned(walk, node, &form, given);
        }
        self.per_item(walk, node, &form, given)
    }

    /// A `Scan` over sequences without a batch.
    fn scanned(
        &mut self,
        walk: &mut Walk<'a, Value>,
        node: &'a NodeProto,
        form: &Form<'a>,
        given: Vec<Value>,
    ) -> Result<Emitted<'a, Value>> {
        let r = self.over(walk, node, form, given)?;
        let ran = self.repeated(walk, &r)?;
        Self::as_outputs(walk, node, &r, ran, |g, i, v| form.output(g, i, &v, r.reverse))
    }

    /// The rounds of a `Scan`.
    fn over(
        &self,
        walk: &mut Walk<'a, Value>,
        node: &NodeProto,
        form: &Form<'a>,
        mut given: Vec<Value>,
    ) -> Result<Rounds<'a>> {
        let g = &mut walk.g;
        let inputs = given.split_off(form.states);
        let reverse = form.backwards.first() == Some(&true);
        let mut sequences = Vec::new();
        let mut rounds = None;
        for (i, x) in inputs.iter().enumerate() {
            let axis = place(form.axes[i], g.dims(x).len())?;
            let first = with_axis_at(g, x, axis, 0)?;
            let x = if form.backwards[i] == reverse { first } else { flipped(g, &first, 0)? };
            let length = g.dims(&x)[0];
            if *rounds.get_or_insert(length) != length {
                return Err(Refusal::invalid("its sequences have different lengths"));
            }
            sequences.push((form.names[form.states + i], x));
        }
        let states: Vec<_> = form.names.iter().copied().zip(given).collect();
        let wanted = self.wanted(node, states.len(), form.body.output.len() - states.len());
        let rounds = rounds.unwrap_or(0);
        Ok(Rounds { body: form.body, states, sequences, number: None, condition: None, rounds, reverse, wanted })
    }

    /// A `Scan` of operator set 8, whose tensors have a batch: item by item.
    fn per_item(
        &mut self,
        walk: &mut Walk<'a, Value>,
        node: &'a NodeProto,
        form: &Form<'a>,
        given: Vec<Value>,
    ) -> Result<Emitted<'a, Value>> {
        let items = given.first().and_then(|v| walk.g.dims(v).first().copied()).unwrap_or(0);
        if items == 0 || given.iter().any(|v| walk.g.dims(v).first() != Some(&items)) {
            return Err(Refusal::invalid("its inputs have different batches"));
        }
        let mut all: Vec<Vec<Value>> = vec![Vec::new(); node.output.len()];
        for item in 0..items {
            let mut own = Vec::new();
            for v in &given {
                own.push(walk.g.item(v, item)?);
            }
            let emitted = self.scanned(walk, node, form, own)?;
            for (name, v) in emitted.outputs {
                let Some(v) = v else { continue };
                node.output.iter().position(|o| o == name).into_iter().for_each(|i| all[i].push(v.clone()));
            }
        }
        let mut outputs = Vec::new();
        for (name, parts) in node.output.iter().zip(all) {
            let whole = if parts.len() == items { Some(walk.g.stack(&parts)?) } else { None };
            outputs.push((name.as_str(), whole));
        }
        outputs.retain(|(name, _)| !name.is_empty());
        Ok(Emitted { outputs, why: "its results are known at import" })
    }
}

/// An axis that may be counted from the end.
fn place(axis: i64, rank: usize) -> Result<usize> {
    let at = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    let at = usize::try_from(at).ok().filter(|&at| at < rank);
    at.ok_or_else(|| Refusal::invalid(format!("the axis {axis} of a tensor of rank {rank}")))
}

/// What the attributes of a `Scan` say.
struct Form<'a> {
    body: &'a GraphProto,
    names: Vec<&'a str>,
    states: usize,
    /// Of each sequence: which axis is its own, and whether it is read from the last index on.
    axes: Vec<i64>,
    backwards: Vec<bool>,
    /// The same of each output.
    output_axes: Vec<i64>,
    output_backwards: Vec<bool>,
}

impl<'a> Form<'a> {
    fn of(n: &Node<'_>, body: &'a GraphProto, inputs: usize, old: bool) -> Result<Form<'a>> {
        let names: Vec<&str> = ports(body).into_iter().map(|port| port.name.as_str()).collect();
        let sequences = n.int("num_scan_inputs")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let states = inputs.checked_sub(sequences).filter(|&states| sequences > 0 && states <= body.output.len());
        let Some(states) = states.filter(|_| names.len() == inputs) else {
            return Err(Refusal::invalid(format!(
                "its body has {} inputs and {} outputs for {inputs} inputs, of which {sequences} are sequences",
                names.len(),
                body.output.len()
            )));
        };
        let outputs = body.output.len() - states;
        let list = |name: &str, count: usize| -> Result<Vec<i64>> {
            match n.ints(name)? {
                None => Ok(vec![0; count]),
                Some(list) if list.len() == count => Ok(list.to_vec()),
                Some(list) => Err(Refusal::invalid(format!("`{name}` are {} numbers, not {count}", list.len()))),
            }
        };
        let ways = |name: &str, count: usize| Ok::<_, Refusal>(list(name, count)?.iter().map(|&w| w != 0).collect());
        Ok(Form {
            body,
            names,
            states,
            axes: if old { vec![0; sequences] } else { list("scan_input_axes", sequences)? },
            backwards: ways(if old { "directions" } else { "scan_input_directions" }, sequences)?,
            output_axes: if old { vec![0; outputs] } else { list("scan_output_axes", outputs)? },
            output_backwards: if old { vec![false; outputs] } else { ways("scan_output_directions", outputs)? },
        })
    }

    /// Output `i`, which stands at the indices of the rounds.
    fn output(&self, g: &mut Graph, i: usize, x: &Value, reverse: bool) -> Result<Value> {
        let x = if self.output_backwards[i] == reverse { x.clone() } else { flipped(g, x, 0)? };
        let axis = place(self.output_axes[i], g.dims(&x).len())?;
        with_axis_at(g, &x, 0, axis)
    }
}

#[cfg(test)]
mod tests {
    use super::super::proto::{AttributeProto, ValueInfoProto};
    use super::super::tests::{Model, bytes, floats, int, ints, longs};

    /// The nodes of a model as the body of a node; inputs and outputs by spaces.
    fn body(m: Model, inputs: &str, outputs: &str) -> AttributeProto {
        let outputs: Vec<&str> = outputs.split_whitespace().collect();
        let mut body = m.graph_attribute("body", &outputs);
        let port = |name: &str| ValueInfoProto { name: name.into(), r#type: None };
        body.g.as_mut().unwrap().input = inputs.split_whitespace().map(port).collect();
        body
    }

    /// A body whose condition is the one it is given.
    fn inner() -> Model {
        Model::new(13, &[2]).node("Identity", "c > on", &[])
    }

    /// A model with a number of rounds, a condition, and `m = -x`.
    fn outer(rounds: i64) -> Model {
        let m = Model::new(13, &[2]).constant(longs("n", &[rounds])).constant(bytes("true", 9, &[], &[1]));
        m.node("Neg", "x > m", &[])
    }

    #[test]
    fn a_loop_of_known_rounds_is_a_scan() {
        let steps = inner().node("Add", "s m > t", &[]).node("Mul", "t t > o", &[]);
        let m = outer(3).node("Loop", "n true x > last all", &[body(steps, "i c s", "on t o")]);
        let m = m.constant(longs("axis", &[0])).node("ReduceSum", "all axis > sum", &[int("keepdims", 0)]);
        let m = m.node("Sub", "last sum > y", &[]);
        // -2 x less 0, x^2 and 4 x^2.
        assert_eq!(m.run(&[1.0, 2.0]).1, [-7.0, -24.0]);
        assert!(m.dump().contains("graph.scan"));
    }

    #[test]
    fn rounds_have_numbers() {
        let steps = inner().node("Cast", "i > f", &[int("to", 1)]).node("Add", "s f > t", &[]);
        let m = outer(4).node("Loop", "n _ x > y", &[body(steps, "i c s", "on t")]);
        assert_eq!(m.run(&[1.0, 2.0]).1, [7.0, 8.0]);
        assert!(m.dump().contains("graph.scan"));
    }

    #[test]
    fn rounds_that_change_shapes_or_have_a_known_end_are_written_out() {
        let grows = |n| {
            let steps = inner().node("Concat", "s m > t", &[int("axis", 0)]);
            outer(n).node("Loop", "n true x > y", &[body(steps, "i c s", "on t")])
        };
        assert_eq!(grows(2).run(&[1.0, 2.0]), (vec![6], vec![1.0, 2.0, -1.0, -2.0, -1.0, -2.0]));
        assert!(!grows(2).dump().contains("graph.scan"));
        assert!(grows(1000).reasons()[0].contains("more than 256 rounds"), "{:?}", grows(1000).reasons());
        // The third round is the last.
        let ends = |n: &str| {
            let steps = Model::new(13, &[2]).node("Less", "i two > on", &[]).node("Add", "s m > t", &[]);
            let io = format!("{n} true x > y");
            outer(10).constant(longs("two", &[2])).node("Loop", &io, &[body(steps, "i c s", "on t")])
        };
        assert_eq!(ends("n").run(&[1.0, 2.0]).1, [-2.0, -4.0]);
        assert_eq!(ends("_").run(&[1.0, 2.0]).1, [-2.0, -4.0]);
    }

    #[test]
    fn without_a_round_states_stay() {
        let steps = || inner().node("Add", "s m > t", &[]);
        let m = outer(0).node("Loop", "n true x > y", &[body(steps(), "i c s", "on t")]);
        assert_eq!(m.run(&[1.0, 2.0]).1, [1.0, 2.0]);
        let m = outer(0).node("Loop", "n true x > _ y", &[body(steps(), "i c s", "on t t")]);
        assert!(m.reasons()[0].contains("it has no round"), "{:?}", m.reasons());
    }

    #[test]
    fn what_a_run_decides_is_refused() {
        let steps = || inner().node("Add", "s m > t", &[]);
        let refused = |m: Model, part: &str| assert!(m.reasons()[0].contains(part), "{:?}", m.reasons());
        let number = outer(1).constant(longs("axis", &[0])).node("ReduceSum", "x axis > sum", &[]);
        let number = number.node("Cast", "sum > many", &[int("to", 7)]);
        let number = number.node("Loop", "many true x > y", &[body(steps(), "i c s", "on t")]);
        refused(number, "the number of its rounds is computed");
        let before = outer(3).node("Cast", "x > b", &[int("to", 9)]).constant(longs("axis", &[0]));
        let first = before.node("Gather", "b axis > go", &[]);
        refused(first.node("Loop", "n go x > y", &[body(steps(), "i c s", "on t")]), "its condition is computed");
        let on = Model::new(13, &[2]).node("Add", "s m > t", &[]).node("ReduceMax", "t > top", &[int("keepdims", 0)]);
        let on = on.node("Cast", "top > on", &[int("to", 9)]);
        refused(outer(3).node("Loop", "n true x > y", &[body(on, "i c s", "on t")]), "whether it goes on");
        refused(outer(3).node("Loop", "n true x > y", &[body(steps(), "c s", "on t")]), "its body has 2 inputs");
        let wrong = inner().node("Reshape", "s m > t", &[]);
        refused(outer(3).node("Loop", "n true x > y", &[body(wrong, "i c s", "on t")]), "Reshape:t");
    }

    /// Running sums along the second axis of `[2, 3]`, from its end, `back` from the last one on.
    fn sums(back: i64) -> Model {
        let steps = Model::new(13, &[2]).node("Add", "s i > t", &[]).node("Identity", "t > o", &[]);
        let attrs = [
            body(steps, "s i", "t o"),
            int("num_scan_inputs", 1),
            ints("scan_input_axes", &[1]),
            ints("scan_input_directions", &[1]),
            ints("scan_output_axes", &[-1]),
            ints("scan_output_directions", &[back]),
        ];
        Model::new(13, &[2, 3]).constant(floats("zero", &[2], &[0.0; 2])).node("Scan", "zero x > _ y", &attrs)
    }

    #[test]
    fn scans_have_axes_and_directions() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(sums(1).run(&x), (vec![2, 3], vec![6.0, 5.0, 3.0, 15.0, 11.0, 6.0]));
        assert_eq!(sums(0).run(&x), (vec![2, 3], vec![3.0, 5.0, 6.0, 6.0, 11.0, 15.0]));
        assert!(sums(0).dump().contains("graph.scan"));
    }

    #[test]
    fn old_scans_have_a_batch() {
        let steps = Model::new(8, &[2]).node("Add", "s i > t", &[]).node("Identity", "t > o", &[]);
        let attrs = [body(steps, "s i", "t o"), int("num_scan_inputs", 1)];
        let m = Model::new(8, &[2, 3]).constant(floats("zero", &[2], &[0.0; 2]));
        let m = m.node("Scan", "_ zero x > _ y", &attrs);
        assert_eq!(m.run(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).1, [1.0, 3.0, 6.0, 4.0, 9.0, 15.0]);
    }
}
