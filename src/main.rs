//! The `bellwether` command line: parses, calls, prints. One file for each subcommand.

mod broker;
mod check;
mod guarantees;
mod spec;
mod validate;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Kafka you can check: a model, a broker, and the traces that hold them together.
///
/// Exit codes: 0 all that was checked holds; 1 a violation was found; 2 wrong use or environment; 3 stopped before it was
/// complete.
#[derive(Parser)]
#[command(version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Broker(broker::Args),
    Check(check::Args),
    Guarantees(guarantees::Args),
    Spec(spec::Args),
    Validate(validate::Args),
    Verify(verify::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Broker(args) => broker::run(args),
        Command::Check(args) => check::run(args),
        Command::Guarantees(args) => guarantees::run(args),
        Command::Spec(args) => spec::run(args),
        Command::Validate(args) => validate::run(args),
        Command::Verify(args) => verify::run(args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}
