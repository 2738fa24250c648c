//! Runs a real cluster through its faults and keeps the traces:
//! `cargo run -p bellwether-conformance --example record PROGRAM DIR [KILLS] [ARGUMENT…]`.

use std::time::Duration;

use bellwether_conformance::cluster::ClusterSpec;
use bellwether_conformance::verify::{Plan, run};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let program = args.next().unwrap_or_else(|| "target/debug/bellwether".into());
    let dir = args.next().unwrap_or_else(|| "target/record".into());
    let kills = args.next().and_then(|n| n.parse().ok()).unwrap_or(2);
    std::fs::create_dir_all(&dir)?;
    let spec = ClusterSpec { arguments: args.collect(), ..ClusterSpec::new(program, dir) };
    let plan = Plan { kills, starve: true, patience: Duration::from_secs(15), ..Plan::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let report = runtime.block_on(run(spec, &plan, |what| eprintln!("{what}")))?;
    println!("findings {:?}, anomalies {:?}", report.findings, report.judgement.anomalies);
    for trace in report.traces {
        println!("{}", trace.display());
    }
    Ok(())
}
