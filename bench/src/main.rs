//! `cargo xtask bench`: our broker beside Apache Kafka and librdkafka's mock cluster, all under one load generator.
//!
//! Within a repetition each figure is measured on one system after another, so that a machine that is busy with something else is
//! so for all. Our broker and the mock are started anew for each figure; Apache Kafka is started once for each size of cluster,
//! warmed up, and gets a new topic each time.

mod connection;
mod frames;
mod kafka;
mod load;
mod machine;
mod plan;
mod process;
mod report;
mod system;
mod topic;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

use crate::plan::{Group, Plan};
use crate::report::Report;
use crate::system::Places;

/// Measures our broker, Apache Kafka and librdkafka's mock cluster side by side, and prints tables in Markdown.
#[derive(Parser)]
#[command(
    max_term_width = 120,
    after_help = "Example: cargo xtask bench --quick --only produce --nodes 3 --without mock"
)]
struct Args {
    /// Fewer scenarios and shorter runs: some minutes.
    #[arg(long)]
    quick: bool,
    /// Only these figures.
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Group>,
    /// Only clusters of so many nodes.
    #[arg(long, value_delimiter = ',', value_name = "N", default_values_t = [1, 3])]
    nodes: Vec<usize>,
    /// Leave systems out: memory, files, kafka, mock.
    #[arg(long, value_delimiter = ',', value_name = "SYSTEM")]
    without: Vec<String>,
    /// How often each figure is measured. [default: 3 with --quick, else 5]
    #[arg(long, value_name = "N")]
    repetitions: Option<usize>,
    /// Put the tables into this file, too: between the marks, if it has them.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The binary to measure. [default: target/release/bellwether]
    #[arg(long, value_name = "FILE")]
    bellwether: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf();
    let root = sources.parent().context("no workspace")?.to_path_buf();
    // CARGO_TARGET_DIR may be elsewhere; this program lies in it.
    let own = std::env::current_exe()?;
    let release = own.parent().context("no target folder")?;
    let target = release.parent().context("no target folder")?;
    let places = Places {
        bellwether: args.bellwether.clone().unwrap_or_else(|| release.join("bellwether")),
        target: target.join("bench"),
        python: target.join("bench-venv").join("bin").join("python"),
        sources,
    };
    std::fs::create_dir_all(&places.target)?;
    let plan = Plan::new(args.quick, args.repetitions, &args.only, &args.nodes, &args.without)?;
    machine::prepare(&places, &plan)?;
    let mut report = Report::default();
    let began = std::time::Instant::now();
    plan.run(&places, &mut report)?;
    let head = machine::describe(&root, &places, &plan, began.elapsed());
    let text = format!("{head}{}", report.markdown());
    println!("{text}");
    if let Some(out) = &args.out {
        let before = std::fs::read_to_string(out).unwrap_or_default();
        std::fs::write(out, report::put_into(&before, &text)).with_context(|| out.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
