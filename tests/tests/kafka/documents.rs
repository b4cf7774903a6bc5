//! What the documentation tells a newcomer to type works as it is written.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use squall_tests::program::root;
use squall_tests::setting::LIMIT;
use squall_tests::{Kafka, Running, files};

/// The indented lines of a document that begin with a program.
fn commands(document: &str, program: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
    let indented = text.lines().filter_map(|line| line.strip_prefix("    "));
    indented.filter(|line| line.split_whitespace().next() == Some(program)).map(str::to_owned).collect()
}

/// A folder in which the commands' relative paths lead where they do in a clone, and their outputs stay apart.
fn clone_like() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["target", "configs", "docs"] {
        symlink(root().join(name), folder.path().join(name)).expect("a link");
    }
    folder
}

fn run_in(folder: &Path, command: &str) -> Running {
    let kafka = Kafka::shared().address();
    let script = format!(
        "cd '{}' && export SQUALL__LOG__BOOTSTRAP_SERVERS='{kafka}' SQUALL__METRICS__LISTEN=127.0.0.1:0 && exec {command}",
        folder.display()
    );
    Running::start(folder, Path::new("/bin/sh"), &["-c", &script])
}

#[test]
fn every_make_target_that_is_named_exists() {
    for document in ["README.md", "docs/quickstart.md"] {
        let lines = commands(document, "make");
        assert!(!lines.is_empty(), "{document} names no target");
        for line in lines {
            let mut make = Command::new("make");
            make.arg("--dry-run").args(line.split_whitespace().skip(1)).current_dir(root());
            let output = make.output().expect("make");
            assert!(output.status.success(), "{document}: {line}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn every_command_of_readme_and_quickstart_works() {
    let folder = clone_like();
    for document in ["README.md", "docs/quickstart.md"] {
        let lines = commands(document, "target/release/squall");
        assert!(!lines.is_empty(), "{document} shows no command");
        for line in lines {
            let mut running = run_in(folder.path(), &line);
            let status = running.end(LIMIT);
            assert!(status.success(), "{document}: {line}: {status}\n{}", running.output());
        }
    }
    for output in ["out", "out/forecast", "out/fmi"] {
        assert!(!files::below(&folder.path().join(output), "nc").is_empty(), "{output} holds no NetCDF file");
    }
}
