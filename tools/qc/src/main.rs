//! The qc command line. Each command is one file under `cmd`.

mod args;
mod arrays;
mod cmd;
mod crash;
mod failure;
mod model;
mod pictures;
mod sink;
mod table;
mod ui;

use clap::Parser;
use cmd::Command;
use failure::INTERNAL;
use std::io::Write;
use std::process::ExitCode;
use ui::Ui;

/// Compiles trained networks (ONNX, PaddlePaddle) into INT8 CPU code.
#[derive(Parser, Debug)]
#[command(name = "qc", version, after_help = EXIT_STATUSES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say nothing but errors and what was asked for
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Complete lists instead of summaries
    #[arg(short, long, global = true)]
    verbose: bool,
}

const EXIT_STATUSES: &str = "\
Exit status: 0 success, 1 a check failed, 2 usage, 3 model invalid or not supported, 4 I/O,
5 limit (memory, time, size), 70 internal error.
Environment: QC_CPU=scalar|avx2|avx512vnni caps the instruction set; QC_NUM_THREADS, then
OMP_NUM_THREADS set the default number of threads.";

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(failure::USAGE));
        }
    };
    let ui = Ui { quiet: cli.quiet, verbose: cli.verbose };
    let Err(failure) = crash::guard(|| cli.command.run(ui)) else { return ExitCode::SUCCESS };
    let failure = if failure.status == INTERNAL { crash::keep(failure) } else { failure };
    let headed = ["error: ", "internal error: "].iter().any(|head| failure.text.starts_with(head));
    let head = if headed || failure.status == failure::CHECK { "" } else { "error: " };
    let _ = writeln!(std::io::stderr(), "{head}{}", failure.text);
    ExitCode::from(failure.status)
}
