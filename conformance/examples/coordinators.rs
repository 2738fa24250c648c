//! Writes the part of the trace corpus that group coordinators make: `cargo run -p bellwether-conformance --features mutants
//! --example coordinators [DIR]`.

use std::path::PathBuf;

use bellwether_conformance::coordinate::World;
use bellwether_conformance::coordinate::scenes::{SCENES, config, life};
use bellwether_core::Rules;

fn main() -> std::io::Result<()> {
    let dir = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "conformance/traces".into()));
    let mut world = World::new(config(), Rules::all());
    life(&mut world);
    std::fs::write(dir.join("good/groups.ndjson"), world.file("groups", vec![]))?;
    for (rule, scene) in SCENES {
        let mut world = World::new(config(), Rules::without(*rule));
        scene(&mut world);
        let path = dir.join("bad").join(format!("{rule}.ndjson"));
        std::fs::write(path, world.file(rule.id(), vec![*rule]))?;
    }
    Ok(())
}
