//! Ends the program at a signal between two files, not within one.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Takes the signals that ask a program to end. Where that is not possible they end it at once, as without this.
pub fn take() {
    let Ok(mut signals) = Signals::new([SIGHUP, SIGINT, SIGTERM]) else { return };
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let _whole = qc_compiler::output::hold();
            qc_compiler::output::discard();
            let _ = emulate_default_handler(signal);
        }
    });
}
