//! The qc command line. Each command is one file under `cmd`.

mod args;
mod arrays;
mod best;
mod calibration;
mod checker;
mod cmd;
mod config;
mod crash;
mod failure;
mod given;
mod held;
mod islands;
mod judge;
mod measure;
mod metric;
mod mixed;
mod model;
mod paddle_bin;
mod paddle_text;
mod pair;
mod paths;
mod pictures;
mod preprocess;
mod quality;
mod samples;
mod sides;
mod signals;
mod sink;
mod table;
mod ui;

use clap::{CommandFactory, FromArgMatches, Parser};
use cmd::Command;
use failure::{Failure, INTERNAL, Outcome};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use ui::Ui;

/// Compiles trained networks (ONNX, PaddlePaddle) into INT8 CPU code.
#[derive(Parser, Debug)]
#[command(name = "qc", version, after_help = exit_statuses())]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say nothing but errors and what was asked for
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Complete lists instead of summaries
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Read options from FILE; by default from qc.toml here and from qc/config.toml of the user's configuration
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Write the options in effect to FILE, which --config reads
    #[arg(long, value_name = "FILE", global = true)]
    dump_config: Option<PathBuf>,
}

/// What is said below the help of all commands.
fn exit_statuses() -> String {
    let tiers = qc_kernels::Tier::ALL.iter().map(|tier| tier.name()).collect::<Vec<_>>().join("|");
    format!(
        "\
Exit status: 0 success, 1 a check failed, 2 usage, 3 model invalid or not supported, 4 I/O,
5 limit (memory, time, size), 70 internal error.
Environment: QC_CPU={tiers} caps the instruction set; QC_NUM_THREADS, then
OMP_NUM_THREADS set the default number of threads."
    )
}

fn main() -> ExitCode {
    let Err(failure) = crash::guard(run) else { return ExitCode::SUCCESS };
    if failure.text.is_empty() {
        return ExitCode::from(failure.status);
    }
    let failure = if failure.status == INTERNAL { crash::keep(failure) } else { failure };
    let headed = ["error: ", "internal error: "].iter().any(|head| failure.text.starts_with(head));
    let head = if headed || failure.status == failure::CHECK { "" } else { "error: " };
    let _ = writeln!(std::io::stderr(), "{head}{}", failure.text);
    ExitCode::from(failure.status)
}

/// Parses the command line and carries the command out.
fn run() -> Outcome {
    let mut command = Cli::command();
    // Where no option gives data to inputs, the name is free.
    for name in ["accuracy", "check", "compile", "inspect", "quantize"] {
        command = command.mut_subcommand(name, |c| c.mut_arg("constant", |a| a.visible_alias("input")));
    }
    command.build();
    let (args, files) = config::with_files(&command, std::env::args_os().collect())?;
    let parsed = command.try_get_matches_from_mut(args);
    let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (mut cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(e) => {
            // The parser has printed all there is to say.
            let _ = e.print();
            let status = u8::try_from(e.exit_code()).unwrap_or(failure::USAGE);
            return if status == 0 { Ok(()) } else { Err(Failure::new(status, "")) };
        }
    };
    signals::take();
    cli.command.bind_numbers();
    let ui = Ui { quiet: cli.quiet, verbose: cli.verbose };
    if ui.verbose {
        files.iter().for_each(|path| ui.note(&format!("options  from {}", path.display())));
    }
    cli.command.paths().writes(&cli.dump_config).reads(&cli.config).check()?;
    if let Some(path) = &cli.dump_config {
        qc_compiler::write_whole(path, config::effective(&command, &matches).as_bytes())?;
    }
    cli.command.run(ui)
}
