//! `cargo xtask fuzz`: builds the targets of `fuzz/` with the coverage that libFuzzer steers by, and runs them one after another.
//!
//! cargo-fuzz does the same with a nightly compiler and the address sanitizer. There is no unsafe code here for that to
//! look at, and without it the stable compiler will do. Nothing is written outside of `target/`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The targets, and their shares of all inputs in per mille: what takes longer gets less. A log is opened in files, a trace is
/// judged, and a configuration is a table of hundreds of keys.
const TARGETS: &[(&str, u64)] = &[
    ("request", 390),
    ("response", 270),
    ("batch", 250),
    ("compression", 50),
    ("trace", 20),
    ("config", 5),
    ("log", 15),
];

/// What cargo-fuzz sets, without the sanitizer and without a single codegen unit, which takes twice the time to build.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// How much to do.
#[derive(Clone, Copy)]
pub enum Amount {
    /// So many seconds for each target.
    Seconds(u64),
    /// So many inputs in all.
    Inputs(u64),
}

impl Amount {
    /// How the targets are built: what runs for seconds is not worth minutes of optimising.
    fn profile(self) -> &'static str {
        match self {
            Amount::Seconds(_) => "quick",
            Amount::Inputs(_) => "release",
        }
    }

    /// `30s` or `10000000`.
    pub fn parse(text: &str) -> Option<Amount> {
        match text.strip_suffix('s') {
            Some(seconds) => seconds.parse().ok().map(Amount::Seconds),
            None => text.parse().ok().map(Amount::Inputs),
        }
    }
}

/// Builds and runs all targets. False if one has a finding; its input then lies in `target/fuzz/findings`.
pub fn fuzz(root: &Path, amount: Amount) -> Result<bool, String> {
    let triple = host()?;
    let target = root.join("target/fuzz");
    let build = Command::new("cargo")
        .args(["build", "--profile", amount.profile(), "--locked", "--manifest-path", "fuzz/Cargo.toml"])
        .args(["--target", &triple])
        .arg("--target-dir")
        .arg(&target)
        .env("RUSTFLAGS", FLAGS)
        .current_dir(root)
        .status();
    if !build.map_err(|e| format!("cargo build: {e}"))?.success() {
        return Err("the fuzz targets cannot be built".into());
    }
    let (mut inputs, mut ok) = (0, true);
    for (name, share) in TARGETS {
        let (executed, good) = run(root, &target, &triple, name, *share, amount)?;
        println!(
            "fuzz {name:<12} {executed:>9} inputs {}",
            if good { "ok" } else { "FINDING, see target/fuzz/findings" }
        );
        inputs += executed;
        ok &= good;
    }
    println!("fuzz {:<12} {inputs:>9} inputs", "total");
    if inputs == 0 {
        return Err("nothing was executed".into());
    }
    Ok(ok)
}

fn run(
    root: &Path,
    target: &Path,
    triple: &str,
    name: &str,
    share: u64,
    amount: Amount,
) -> Result<(u64, bool), String> {
    let folder = |kind: &str| -> Result<PathBuf, String> {
        let path = target.join(kind).join(name);
        std::fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    };
    let findings = folder("findings")?;
    let limit = match amount {
        Amount::Seconds(seconds) => format!("-max_total_time={seconds}"),
        Amount::Inputs(inputs) => format!("-runs={}", inputs * share / 1000),
    };
    let output = Command::new(target.join(triple).join(amount.profile()).join(name))
        // New inputs go to the first folder, the second one is only read.
        .args([folder("corpus")?, root.join("fuzz/corpus").join(name)])
        .args([&limit, "-max_len=4096", "-rss_limit_mb=1024", "-timeout=20", "-print_final_stats=1", "-verbosity=0"])
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .output()
        .map_err(|e| format!("{name}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        println!("{text}");
    }
    let executed = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    Ok((executed.and_then(|n| n.trim().parse().ok()).unwrap_or(0), output.status.success()))
}

/// The machine that the compiler is for.
fn host() -> Result<String, String> {
    let output = Command::new("rustc").arg("-vV").output().map_err(|e| format!("rustc: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_string).ok_or_else(|| "rustc does not say for which machine it is".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_target_is_run_and_has_a_corpus() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let files = std::fs::read_dir(root.join("fuzz/fuzz_targets")).unwrap();
        let files = files.map(|f| f.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned());
        let run: BTreeSet<String> = TARGETS.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(files.collect::<BTreeSet<_>>(), run);
        assert_eq!(TARGETS.iter().map(|(_, share)| share).sum::<u64>(), 1000);
        for name in run {
            let corpus = std::fs::read_dir(root.join("fuzz/corpus").join(&name));
            assert!(corpus.is_ok_and(|c| c.count() > 0), "{name} has no corpus");
        }
    }
}
