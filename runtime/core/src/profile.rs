//! Time per step of the program.

use crate::predictor::Shared;
use qc_embed::abi::StepTime;
use qc_embed::text::c_bytes;
use qc_kernels::Tier;

/// Times of the steps of a context's tier, accumulated over [`crate::Context::run_profiled`].
#[derive(Debug, Clone)]
pub struct Profile {
    pub(crate) times: Vec<StepTime>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone)]
struct Row {
    name: String,
    op: String,
    batch: u32,
    macs: u64,
    weights_bytes: u64,
    data_bytes: u64,
    tasks: u64,
}

/// One step of one variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileRow<'p> {
    /// Names of the source nodes, separated by `+`.
    pub name: &'p str,
    /// The operation.
    pub op: &'p str,
    /// Batch of the variant the step belongs to.
    pub batch: u32,
    /// Tasks the step is cut into.
    pub tasks: u64,
    /// Multiply-accumulates of one call.
    pub macs: u64,
    /// Bytes of the constants of one call.
    pub weights_bytes: u64,
    /// Bytes of the other buffers of one call, each counted whole and once.
    pub data_bytes: u64,
    /// Calls so far.
    pub calls: u64,
    /// Wall time of all calls in nanoseconds.
    pub ns: u64,
}

impl Profile {
    /// An empty profile of the steps of tier `tier`, in the order the executor reports them.
    pub(crate) fn new(shared: &Shared, tier: u32) -> Profile {
        let mut rows = Vec::new();
        for variant in
            shared.model.variants().iter().filter(|v| Tier::from_needs(v.features).is_some_and(|t| t as u32 == tier))
        {
            for step in variant.program() {
                // SAFETY: strings of a model are NUL-terminated and live as long as it.
                let text = |text| String::from_utf8_lossy(unsafe { c_bytes(text) }).into_owned();
                let (name, op) = (text(step.name), text(step.op));
                rows.push(Row {
                    name,
                    op,
                    batch: variant.batch as u32,
                    macs: step.macs,
                    weights_bytes: step.weights_bytes,
                    data_bytes: step.data_bytes,
                    tasks: step.tasks,
                });
            }
        }
        Profile { times: vec![StepTime::default(); rows.len()], rows }
    }

    /// All steps: variants in model order, steps in order of execution.
    pub fn rows(&self) -> impl Iterator<Item = ProfileRow<'_>> {
        self.rows.iter().zip(&self.times).map(|(row, time)| ProfileRow {
            name: &row.name,
            op: &row.op,
            batch: row.batch,
            tasks: row.tasks,
            macs: row.macs,
            weights_bytes: row.weights_bytes,
            data_bytes: row.data_bytes,
            calls: time.calls,
            ns: time.ns,
        })
    }

    /// Time of all steps in nanoseconds.
    pub fn total_ns(&self) -> u64 {
        self.times.iter().map(|time| time.ns).sum()
    }

    /// Sets all times and counts to zero.
    pub fn clear(&mut self) {
        self.times.fill(StepTime::default());
    }
}
