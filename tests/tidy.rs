//! The source tree is tidy: no leftovers, no paths of one machine, files that a person can hold in mind, links that lead somewhere.
//!
//! Each check is a function from a file's text to what is wrong with it, and the last test shows each a text that is wrong.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Rust files may have this many lines, unless [`LONG`] gives a reason.
const MAX_LINES: usize = 700;
/// Longest line of prose.
const MAX_PROSE: usize = 200;

/// Files with more than [`MAX_LINES`] lines, and why they are one file all the same.
const LONG: &[(&str, &str)] = &[];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files under the root with one of these extensions or names, as (path from the root, text). Build output is left out.
fn files(endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().unwrap().is_dir() {
                if !["target", ".git", ".venv", "node_modules", "__pycache__"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if endings.iter().any(|e| name == *e || name.ends_with(&format!(".{e}"))) {
                let from_root = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                found.push((from_root, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(found.len() > 5, "found only {} files {endings:?} under {}", found.len(), root().display());
    found
}

/// Runs a check on all files and fails with everything that it found.
fn check(endings: &[&str], wrong: impl Fn(&str, &str) -> Vec<String>) {
    let mut all = Vec::new();
    for (path, text) in files(endings) {
        all.extend(wrong(&path, &text).into_iter().map(|what| format!("{path}: {what}")));
    }
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

/// What is wrong with single lines: the numbers of those in which `bad` finds something, and what.
fn lines_with(text: &str, bad: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let found = text.lines().enumerate().filter_map(|(i, line)| Some((i + 1, bad(line)?)));
    found.map(|(number, what)| format!("line {number} has {what}")).collect()
}

/// Work left undone, and tests that do not run. The words are put together, so that this file does not have them.
fn leftovers(_path: &str, text: &str) -> Vec<String> {
    let words = [("TO", "DO"), ("FIX", "ME"), ("XX", "X")].map(|(a, b)| format!("{a}{b}"));
    let calls = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!("));
    let bad: Vec<String> = words.into_iter().chain(calls).chain([format!("#[{}", "ignore")]).collect();
    lines_with(text, |line| bad.iter().find(|b| line.contains(b.as_str())).cloned())
}

/// Absolute paths of somebody's machine. The temporary folder is asked of the system, never written down.
fn machine_paths(_path: &str, text: &str) -> Vec<String> {
    let bad = ["work", "home", "root", "Users", "tmp"].map(|folder| format!("/{folder}/"));
    // Such a path begins a word: it is not inside of "a/home/y" or "https://host/home/y".
    let begins_a_word =
        |before: &str| before.chars().next_back().is_none_or(|c| !c.is_alphanumeric() && !"._-}$/~)".contains(c));
    lines_with(text, |line| {
        let has = |b: &&String| line.match_indices(b.as_str()).any(|(at, _)| begins_a_word(&line[..at]));
        bad.iter().find(has).cloned()
    })
}

fn first_line_is_a_doc(_path: &str, text: &str) -> Vec<String> {
    let first = text.lines().next().unwrap_or("");
    if first.starts_with("//! ") {
        vec![]
    } else {
        vec![format!("the first line must say what the file is for: {first}")]
    }
}

fn not_too_long(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    let allowed = LONG.iter().any(|(long, _)| *long == path);
    match (lines > MAX_LINES, allowed) {
        (true, false) => vec![format!("{lines} lines: look for the second idea in it, or list it with a reason")],
        (false, true) => vec!["is listed as long, and is not".to_string()],
        _ => vec![],
    }
}

/// Lines outside of code blocks, with their index.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

fn prose_is_broken_into_lines(_path: &str, text: &str) -> Vec<String> {
    let long = prose(text).filter(|(_, line)| !line.starts_with('|') && line.chars().count() > MAX_PROSE);
    long.map(|(i, _)| format!("line {} has more than {MAX_PROSE} characters", i + 1)).collect()
}

/// The anchors of a page: its headings, in lower case, without punctuation, spaces as hyphens. mdBook and GitHub agree on that.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|(_, line)| line.starts_with('#'));
    let anchor = |(_, line): (usize, &str)| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        heading
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    headings.map(anchor).collect()
}

/// Links to files of ours that are not there, or to a heading that the file does not have.
fn links_resolve(path: &str, text: &str) -> Vec<String> {
    // A link's text may go over the end of a line; its target may not.
    let whole: String = prose(text).map(|(_, line)| format!("{line}\n")).collect();
    let mut wrong = Vec::new();
    for (at, _) in whole.match_indices("](") {
        let target = whole[at + 2..].split(')').next().unwrap_or("");
        if target.contains("://") {
            continue;
        }
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let page: PathBuf = match file {
            "" => root().join(path),
            _ => root().join(path).parent().unwrap().join(file),
        };
        if !page.exists() {
            wrong.push(format!("link to {target}: no such file"));
        } else if !anchor.is_empty() {
            let there = if file.is_empty() { text.to_string() } else { fs::read_to_string(&page).unwrap_or_default() };
            if !anchors(&there).contains(anchor) {
                wrong.push(format!("link to {target}: no such heading"));
            }
        }
    }
    wrong
}

#[test]
fn no_file_has_leftovers() {
    check(&["rs", "py", "toml"], leftovers);
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    check(&["rs", "md", "toml", "py", "sh", "run", "json", "ndjson", "txt"], machine_paths);
}

#[test]
fn every_rust_file_begins_with_what_it_is_for() {
    check(&["rs"], first_line_is_a_doc);
}

#[test]
fn no_rust_file_is_too_long_without_a_reason() {
    check(&["rs"], not_too_long);
    for (path, why) in LONG {
        assert!(root().join(path).exists() && why.len() > 20, "{path}: {why}");
    }
}

#[test]
fn prose_has_short_lines_and_links_that_resolve() {
    check(&["md"], |path, text| [prose_is_broken_into_lines(path, text), links_resolve(path, text)].concat());
}

#[test]
fn every_page_of_the_specs_is_in_the_summary() {
    let summary = fs::read_to_string(root().join("specs/SUMMARY.md")).unwrap();
    for (path, _) in files(&["md"]) {
        if let Some(page) = path.strip_prefix("specs/").filter(|page| *page != "SUMMARY.md") {
            assert!(summary.contains(&format!("({page})")), "specs/SUMMARY.md does not list {page}");
        }
    }
}

#[test]
fn each_check_finds_what_it_is_for() {
    assert_eq!(leftovers("a.rs", &format!("// TO{}: later", "DO")).len(), 1);
    assert_eq!(leftovers("a.rs", &format!("    #[{}]", "ignore")).len(), 1);
    assert_eq!(leftovers("a.rs", "fn fixture() {}").len(), 0);

    assert_eq!(machine_paths("a.md", &format!("see {}/x", "/home")).len(), 1);
    assert_eq!(machine_paths("a.md", &format!("\"{}/main\"", "/work")).len(), 1);
    assert_eq!(machine_paths("a.md", "https://host/home/x, ./work/, src/root/").len(), 0);

    assert_eq!(first_line_is_a_doc("a.rs", "use std::fs;\n//! late").len(), 1);
    assert_eq!(not_too_long("a.rs", &"x\n".repeat(MAX_LINES + 1)).len(), 1);
    assert_eq!(not_too_long("a.rs", &"x\n".repeat(MAX_LINES)).len(), 0);

    let long = "x".repeat(MAX_PROSE + 1);
    assert_eq!(prose_is_broken_into_lines("a.md", &long).len(), 1);
    assert_eq!(prose_is_broken_into_lines("a.md", &format!("```\n{long}\n```\n| {long} |")).len(), 0);

    assert_eq!(links_resolve("README.md", "# A b\n[x](nowhere.md) [y](#a-b) [z](#c) [w](Cargo.toml)").len(), 2);
    assert!(anchors("### rule[fetch.leader-epoch]").contains("rulefetchleader-epoch"));
}
