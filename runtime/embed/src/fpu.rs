//! The floating-point environment of a run.
//!
//! Hosts change rounding and flush denormals (some training frameworks do, for the whole process). Results must not
//! depend on it, so a run works under the default environment and puts the host's back.

use core::arch::asm;

/// All exceptions masked, rounding to nearest even, denormals kept.
const DEFAULT: u32 = 0x1f80;

/// The default environment, until dropped.
pub struct Rounding {
    before: u32,
}

impl Rounding {
    /// Enters the default environment on this thread.
    pub fn enter() -> Rounding {
        let before = read();
        if before != DEFAULT {
            write(DEFAULT);
        }
        Rounding { before }
    }
}

impl Drop for Rounding {
    fn drop(&mut self) {
        write(self.before);
    }
}

fn read() -> u32 {
    let mut word = 0u32;
    // SAFETY: stores MXCSR to a local.
    unsafe { asm!("stmxcsr [{}]", in(reg) &mut word, options(nostack, preserves_flags)) };
    word
}

fn write(word: u32) {
    // SAFETY: `word` is a value MXCSR had, or the default; no reserved bit is set.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &word, options(nostack, preserves_flags)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_the_host_come_back() {
        const FLUSH_TO_ZERO: u32 = 1 << 15;
        let host = read();
        write(host | FLUSH_TO_ZERO);
        {
            let _rounding = Rounding::enter();
            assert_eq!(read(), DEFAULT);
        }
        let after = read();
        write(host);
        assert_eq!(after, host | FLUSH_TO_ZERO);
    }
}
