//! What can be wrong with a model, and the list of all of it.

use crate::emit::Value;
use qc_ir::ValueId;
use std::collections::BTreeSet;
use std::fmt;
use thiserror::Error;

/// One reason why a model cannot be imported.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ImportError {
    /// The bytes are no model of a kind that is read here.
    #[error("not a model that qc reads: {reason}; {remedy}")]
    NotAModel {
        /// What the bytes look like.
        reason: String,
        /// What the user can do.
        remedy: String,
    },
    /// The file is damaged or contradicts its own format.
    #[error("broken model file: {reason}")]
    Broken {
        /// What and where.
        reason: String,
    },
    /// A node that has no counterpart here, or is wrong.
    #[error("node \"{node}\" ({op_type}): {reason}; {remedy}")]
    Node {
        /// The node's name; `op_type:first output` when it has none.
        node: String,
        /// Its op type in the model's vocabulary.
        op_type: String,
        /// What is wrong.
        reason: String,
        /// What the user can do.
        remedy: String,
        /// Inputs of the model whose values it needs.
        needs: Vec<String>,
    },
    /// A stored constant that is missing, short, left over or of the wrong kind.
    #[error("parameter \"{name}\" ({expected}): {reason}")]
    Parameter {
        /// The tensor's name.
        name: String,
        /// Element type, shape and size that the model declares.
        expected: String,
        /// What is wrong.
        reason: String,
    },
    /// An input or output that cannot be compiled as it is.
    #[error("input or output \"{name}\": {reason}; {remedy}")]
    Port {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
        /// What the user can do.
        remedy: String,
    },
    /// The model goes beyond a limit.
    #[error(transparent)]
    Limit(#[from] qc_ir::Exceeded),
    /// Another batch was asked for than the one fixed in the model.
    #[error("input \"{input}\" has the fixed batch {fixed}, so the model cannot be compiled for batch {asked}")]
    FixedBatch {
        /// The input that fixes the batch.
        input: String,
        /// The model's batch.
        fixed: i64,
        /// The batch of the options.
        asked: i64,
    },
}

/// After how many findings the walk over a model ends.
pub(crate) const MAX_ERRORS: usize = 10_000;

/// Everything that is wrong with a model, in program order, up to ten thousand findings. Never empty.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub struct ImportErrors {
    /// The findings.
    pub list: Vec<ImportError>,
}

impl ImportErrors {
    /// The limit that the model goes beyond, if it does.
    pub fn limit(&self) -> Option<&qc_ir::Exceeded> {
        self.list.iter().find_map(|e| match e {
            ImportError::Limit(exceeded) => Some(exceeded),
            _ => None,
        })
    }

    /// Inputs of the model whose values nodes need.
    pub fn needed_values(&self) -> BTreeSet<&str> {
        let mut all = BTreeSet::new();
        for e in &self.list {
            if let ImportError::Node { needs, .. } = e {
                all.extend(needs.iter().map(String::as_str));
            }
        }
        all
    }

    /// The model's own batch, if asking for another one is all that is wrong.
    pub fn fixed_batch(&self) -> Option<i64> {
        self.list.iter().try_fold(None, |_, e| match e {
            ImportError::FixedBatch { fixed, .. } => Some(Some(*fixed)),
            _ => None,
        })?
    }
}

impl From<qc_ir::Exceeded> for ImportErrors {
    fn from(exceeded: qc_ir::Exceeded) -> ImportErrors {
        ImportError::from(exceeded).into()
    }
}

impl From<ImportError> for ImportErrors {
    fn from(error: ImportError) -> ImportErrors {
        ImportErrors { list: vec![error] }
    }
}

impl fmt::Display for ImportErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [one] = self.list.as_slice() {
            return write!(f, "{one}");
        }
        write!(f, "{} things keep this model from being imported", self.list.len())?;
        for error in &self.list {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}

/// What is said of a node that contradicts the definition of its operator.
pub(crate) const INVALID: &str = "the model is not valid; check it with its own framework";

/// Why one node cannot be imported: a reason and a remedy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub reason: String,
    pub remedy: String,
    /// The computed tensor that would have to be constant.
    pub computed: Option<ValueId>,
}

impl Refusal {
    /// The model uses something that qc does not have.
    pub fn unsupported(reason: impl Into<String>) -> Refusal {
        Refusal {
            reason: reason.into(),
            remedy: "export the model without it, or report the need for it (README.md of qc says where)".into(),
            computed: None,
        }
    }

    /// The model contradicts the definition of its own operators.
    pub fn invalid(reason: impl Into<String>) -> Refusal {
        Refusal { reason: reason.into(), remedy: INVALID.into(), computed: None }
    }

    /// The same, of a tensor that would have to be constant.
    pub fn of_computed(self, v: &Value) -> Refusal {
        let computed = if let Value::Runtime(v) = v { Some(*v) } else { None };
        Refusal { computed, ..self }
    }

    /// The same reason with a better remedy.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Refusal {
        self.remedy = remedy.into();
        self
    }
}
