//! Kafka's `DumpLogSegments` over our files: it must read all of them, and complain about none.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The tool, if it can be run here.
pub struct Dump {
    class_path: Option<String>,
}

impl Dump {
    /// Asks Maven for the tool and what it needs. Without a JDK or Maven it is left out, and that is said.
    pub fn find() -> Dump {
        let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka-dump/pom.xml");
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka-dump.classpath");
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-f"]).arg(pom).arg("dependency:build-classpath");
        maven.arg(format!("-Dmdep.outputFile={}", out.display()));
        let class_path = match (Command::new("java").arg("-version").output(), maven.output()) {
            (Ok(java), Ok(maven)) if java.status.success() && maven.status.success() => {
                Some(std::fs::read_to_string(out).expect("the class path"))
            }
            (java, maven) => {
                let why = |output: std::io::Result<Output>| match output {
                    Ok(output) => format!("{} {}", output.status, String::from_utf8_lossy(&output.stdout).trim()),
                    Err(e) => e.to_string(),
                };
                println!("NOT CHECKED: Kafka's dump tool does not read the files, because it cannot be run here.");
                println!("  java: {}\n  mvn: {}", why(java), why(maven));
                None
            }
        };
        Dump { class_path }
    }

    /// Lets the tool read every segment, index and snapshot in these folders.
    pub fn read(&self, folders: &[PathBuf]) {
        let Some(class_path) = &self.class_path else { return };
        let files = |suffixes: &[&str]| -> Vec<String> {
            let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
            let paths = entries.map(|entry| entry.unwrap().path());
            let wanted = paths.filter(|path| path.extension().is_some_and(|e| suffixes.iter().any(|s| e == *s)));
            wanted.map(|path| path.to_string_lossy().into_owned()).collect()
        };
        let read = |files: &[String], options: &[&str]| {
            let mut tool = Command::new("java");
            // The heap's size is no concern of ours, its start is.
            tool.args([
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "-cp",
                class_path,
                "kafka.tools.DumpLogSegments",
            ]);
            let output = tool.args(options).args(["--files", &files.join(",")]).output().expect("java");
            let (said, complained) =
                (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr));
            // It has no logger here, and says so.
            let complaints: Vec<_> = complained.lines().filter(|line| !line.starts_with("SLF4J:")).collect();
            assert!(output.status.success() && complaints.is_empty(), "{options:?}: {}", complaints.join("\n"));
            for bad in ["invalid bytes at the end", "isvalid: false"] {
                let line = said.lines().find(|line| line.contains(bad));
                assert_eq!(line, None, "{options:?}");
            }
            assert_eq!(said.matches("Dumping ").count(), files.len(), "{options:?} read other files");
            said
        };
        // One argument may have 128 KiB, and the names of all files have more.
        let run = |files: &[String], options: &[&str]| -> String {
            files.chunks(500).map(|some| read(some, options)).collect()
        };
        let all = files(&["log", "index", "timeindex", "snapshot"]);
        let said = run(&all, &["--deep-iteration", "--print-data-log"]);
        assert!(said.contains("baseOffset: ") && said.contains("timestamp: ") && said.contains("producerId: "));
        let indexes = files(&["index", "timeindex"]);
        run(&indexes, &["--verify-index-only"]);
        let said = run(&indexes, &["--index-sanity-check"]);
        // Of an empty offset index it says that it is empty, of an empty time index that it has passed.
        let good = said.matches("passed sanity check.").count() + said.matches(" is empty.").count();
        assert_eq!(good, indexes.len(), "not every index has passed");
        println!("Kafka's tool has read {} files, {} of them indexes", all.len(), indexes.len());
    }
}
