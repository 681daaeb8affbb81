//! Where dumps of the intermediate representation go: the terminal, a directory, and the reproducer of a failure.

use crate::args::DebugArgs;
use crate::crash::temporary;
use crate::failure::{Failure, INTERNAL, Outcome};
use qc_ir::Sink;
use std::io::Write;
use std::path::PathBuf;

/// A sink for one compilation.
pub struct Dumps {
    tree: Option<PathBuf>,
    reproducer: PathBuf,
    /// Whether there is a reproducer.
    kept: bool,
    /// Number of the current state in the directory. Pipelines count from zero each; files count on.
    state: usize,
    pipelines: Vec<String>,
    failed: Option<Failure>,
}

impl Dumps {
    /// The sink that the options ask for.
    pub fn new(debug: &DebugArgs) -> Dumps {
        Dumps {
            tree: debug.print_ir_tree_dir.clone(),
            reproducer: debug.crash_reproducer.clone().unwrap_or_else(|| temporary("reproducer", "qir")),
            kept: false,
            state: 0,
            pipelines: Vec::new(),
            failed: None,
        }
    }

    /// Passes on a result; a failure with a reproducer names it, and a dump that could not be written is a failure.
    pub fn finish<T>(self, result: Result<T, impl Into<Failure>>) -> Outcome<T> {
        let result = result.map_err(Into::into).map_err(|f: Failure| {
            if !self.kept || f.status != INTERNAL {
                return f;
            }
            let path = self.reproducer.display();
            Failure { text: format!("{}\n  reproducer: {path}; replay it with `qc opt {path}`", f.text), ..f }
        });
        match self.failed {
            Some(failed) if result.is_ok() => Err(failed),
            _ => result,
        }
    }

    fn write(&mut self, path: PathBuf, bytes: &[u8]) {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        let made = parent.map_or(Ok(()), std::fs::create_dir_all).map_err(|e| Failure::io(&path, &e));
        let written = made.and_then(|()| Ok(qc_compiler::write_whole(&path, bytes)?));
        if let (Err(e), None) = (written, &self.failed) {
            self.failed = Some(e);
        }
    }
}

impl Sink for Dumps {
    fn text(&mut self, text: &str) {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        let _ = write!(std::io::stderr().lock(), "{text}{end}");
    }

    fn file(&mut self, name: &str, bytes: &[u8]) {
        if let Some(extension) = name.strip_prefix("reproducer.") {
            self.kept = true;
            self.write(self.reproducer.with_extension(extension), bytes);
            return;
        }
        let Some(tree) = self.tree.clone() else { return };
        if name == "pipeline.txt" {
            self.pipelines.push(String::from_utf8_lossy(bytes).into_owned());
            let all = self.pipelines.join(",");
            return self.write(tree.join(name), all.as_bytes());
        }
        // The text of a state comes first, its constants follow.
        self.state += usize::from(name.ends_with(".qir"));
        let pass = name.split_once('_').map_or(name, |(_, pass)| pass);
        self.write(tree.join(format!("{:03}_{pass}", self.state.saturating_sub(1))), bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_internal_error_names_its_reproducer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.qir");
        let debug = DebugArgs { crash_reproducer: Some(path.clone()), ..DebugArgs::default() };
        let mut dumps = Dumps::new(&debug);
        dumps.file("reproducer.qir", b"// pipeline: cse\n");
        dumps.file("reproducer.consts", b"");
        let failed = dumps.finish(Err::<(), _>(Failure::new(INTERNAL, "internal error: x")));
        let text = failed.err().map(|f| f.text).unwrap_or_default();
        assert!(text.contains(&format!("`qc opt {}`", path.display())), "{text}");
        assert!(path.is_file() && path.with_extension("consts").is_file());
    }

    #[test]
    fn states_of_several_pipelines_count_on() {
        let dir = tempfile::tempdir().unwrap();
        let debug = DebugArgs { print_ir_tree_dir: Some(dir.path().into()), ..DebugArgs::default() };
        let mut dumps = Dumps::new(&debug);
        for name in ["000_import.qir", "pipeline.txt", "001_cse.qir", "001_cse.consts", "000_import.qir"] {
            dumps.file(name, b"x");
        }
        dumps.finish(Ok::<(), Failure>(())).unwrap_or_default();
        let mut names: Vec<String> = std::fs::read_dir(dir.path())
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["000_import.qir", "001_cse.consts", "001_cse.qir", "002_import.qir", "pipeline.txt"]);
    }

    #[test]
    fn a_dump_that_cannot_be_written_is_a_failure() {
        let debug = DebugArgs { print_ir_tree_dir: Some("/proc/none/x".into()), ..DebugArgs::default() };
        let mut dumps = Dumps::new(&debug);
        dumps.file("000_import.qir", b"x");
        assert_eq!(dumps.finish(Ok::<(), Failure>(())).err().map(|f| f.status), Some(crate::failure::IO));
    }
}
