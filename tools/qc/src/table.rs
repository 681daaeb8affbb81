//! Plain tables and numbers for people.

use comfy_table::{CellAlignment, Table, presets};
use std::io::IsTerminal;

/// A table without lines; columns whose heading begins with `>` are aligned to the right.
pub fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut t = Table::new();
    t.load_style(presets::NOTHING);
    t.set_header(headings.iter().map(|h| h.trim_start_matches('>')));
    for row in rows {
        t.add_row(row);
    }
    for (i, heading) in headings.iter().enumerate() {
        if let Some(column) = t.column_mut(i) {
            column.set_padding((0, 2));
            if heading.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    let mut out: String = t.lines().map(|l| l.trim_end().to_string() + "\n").collect();
    if out.ends_with("\n\n") {
        out.pop();
    }
    out
}

/// `25.9 MB`.
pub fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        _ => format!("{:.1} MB", n as f64 / 1e6),
    }
}

/// `99.9 %`, or nothing for no part of nothing.
pub fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".into(),
        _ => format!("{:.1} %", 100.0 * part as f64 / whole as f64),
    }
}

/// `text`, cut to `width` characters with an ellipsis on a terminal, unless all was asked for. What goes elsewhere is read
/// by programs, which need whole names.
pub fn cut(text: &str, width: usize, all: bool) -> String {
    match !all && std::io::stdout().is_terminal() && text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_string(),
    }
}
