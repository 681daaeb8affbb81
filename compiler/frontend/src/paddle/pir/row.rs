//! A row of the table of Paddle 3's ops.

/// One op of the `pd_op` dialect.
pub(crate) struct Row {
    /// Its name.
    pub name: &'static str,
    /// Type in a program.
    pub program: &'static str,
    /// Slot per operand.
    pub inputs: &'static [&'static str],
    /// Slot of the first result.
    pub output: &'static str,
    /// Slots of the results behind it; the others are left out.
    pub more: &'static [&'static str],
    /// Attributes that a program calls otherwise: name here, name there.
    pub renamed: &'static [(&'static str, &'static str)],
}

/// A row whose result is `Out`.
pub(crate) const fn row(name: &'static str, program: &'static str, inputs: &'static [&'static str]) -> Row {
    Row { name, program, inputs, output: "Out", more: &[], renamed: &[] }
}

impl Row {
    /// Another output slot.
    pub const fn out(self, output: &'static str) -> Row {
        Row { output, ..self }
    }

    /// Slots of further results.
    pub const fn more(self, more: &'static [&'static str]) -> Row {
        Row { more, ..self }
    }

    /// Attributes that a program calls otherwise.
    pub const fn renamed(self, renamed: &'static [(&'static str, &'static str)]) -> Row {
        Row { renamed, ..self }
    }
}
