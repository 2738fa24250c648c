//! Writes the part of the trace corpus that comes from the model: `cargo run -p bellwether-conformance --example corpus DIR`.

use std::path::PathBuf;

use bellwether_conformance::walk::{Plan, Walk};
use bellwether_model::replication::Rules;

fn main() -> std::io::Result<()> {
    let dir = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "conformance/traces/good".into()));
    let plan = Plan {
        brokers: 3,
        combined: true,
        partitions: 1,
        min_isr: 2,
        unclean: false,
        elr: false,
        spares: 0,
        operators: false,
        lossy: false,
        rules: Rules::ALL,
        drivable: false,
        steps: 250,
    };
    let walks = [
        ("walk-one-partition", 1, plan.clone()),
        ("walk-two-partitions", 2, Plan { partitions: 2, combined: false, ..plan.clone() }),
        ("walk-unclean-lossy", 3, Plan { unclean: true, lossy: true, min_isr: 1, ..plan.clone() }),
        ("walk-elr", 5, Plan { elr: true, lossy: true, ..plan.clone() }),
        ("walk-five-brokers", 4, Plan { brokers: 5, ..plan }),
    ];
    for (name, seed, plan) in walks {
        std::fs::write(dir.join(name).with_extension("ndjson"), Walk::new(seed, plan).one_file())?;
    }
    Ok(())
}
