//! Python environments with pinned packages, made in the target folder by whoever comes first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Why there is no environment.
#[derive(Debug, thiserror::Error)]
pub enum VenvError {
    /// A file or a process could not be made.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Python or pip failed; without a network, for instance.
    #[error("{command} failed:\n{said}")]
    Failed {
        /// What was tried.
        command: String,
        /// The end of its standard error.
        said: String,
    },
}

/// The `python` of an environment in `folder` with what `requirements` (the path of a requirements.txt) asks for, and
/// nothing else. It is made, or made anew, if the requirements are not those it was made for.
pub fn python(folder: &Path, requirements: &Path) -> Result<PathBuf, VenvError> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| VenvError::Io { path, source }
    };
    let python = folder.join("bin").join("python");
    let wanted = fs::read(requirements).map_err(io(requirements))?;
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(io(parent))?;
    }
    let lock = folder.with_extension("lock");
    let file = fs::File::create(&lock).map_err(io(&lock))?;
    // Several threads and processes may want it at the same time; the lock ends with the file.
    file.lock().map_err(io(&lock))?;
    let made = folder.join("made-for.txt");
    if fs::read(&made).ok().as_ref() != Some(&wanted) {
        if folder.exists() {
            // A half-made environment is worth nothing.
            fs::remove_dir_all(folder).map_err(io(folder))?;
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        let pip = ["-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--requirement"];
        run(Command::new(&python).args(pip).arg(requirements))?;
        fs::write(&made, wanted).map_err(io(&made))?;
    }
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), VenvError> {
    let shown = format!("{command:?}");
    let path = PathBuf::from(command.get_program());
    let output = command.output().map_err(|source| VenvError::Io { path, source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    Err(VenvError::Failed { command: shown, said: lines[lines.len().saturating_sub(15)..].join("\n") })
}
