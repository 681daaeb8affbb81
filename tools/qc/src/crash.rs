//! Defects of qc: panics are caught, reported in one sentence, and kept as a file to send.

use crate::failure::{Failure, INTERNAL, Outcome};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;

/// Text of the last panic: message, place, stack.
static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Runs a command; a panic becomes a failure of status 70.
pub fn guard(command: impl FnOnce() -> Outcome) -> Outcome {
    std::panic::set_hook(Box::new(|info| {
        let stack = std::backtrace::Backtrace::force_capture();
        if let Ok(mut last) = LAST.lock() {
            *last = Some(format!("{info}\n{stack}\n"));
        }
    }));
    catch_unwind(AssertUnwindSafe(command)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(Failure::new(INTERNAL, format!("internal error: {text}")))
    })
}

/// A file of this process in the temporary directory.
pub fn temporary(what: &str, extension: &str) -> PathBuf {
    std::env::temp_dir().join(format!("qc-{what}-{}.{extension}", std::process::id()))
}

/// Writes what is known about an internal error to a file and adds its path to the message.
pub fn keep(failure: Failure) -> Failure {
    let panic = LAST.lock().ok().and_then(|mut last| last.take()).unwrap_or_default();
    let line: Vec<String> = std::env::args().collect();
    let text = format!("qc {}\n{line:?}\n\n{}\n\n{panic}", env!("CARGO_PKG_VERSION"), failure.text);
    let path = temporary("crash", "txt");
    match qc_compiler::write_whole(&path, text.as_bytes()) {
        Ok(()) => Failure {
            text: format!("{}\n  this is a defect of qc; please report it with {}", failure.text, path.display()),
            ..failure
        },
        Err(_) => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_status_70_with_a_report() {
        let Err(failure) = guard(|| panic!("the {} broke", "planner")) else { panic!("it must fail") };
        let _ = std::panic::take_hook();
        assert_eq!((failure.status, failure.text.as_str()), (INTERNAL, "internal error: the planner broke"));
        let kept = keep(failure);
        let path = kept.text.rsplit(' ').next().map(PathBuf::from).unwrap();
        let report = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        assert!(report.contains("the planner broke") && report.contains("crash.rs"), "{report}");
    }
}
