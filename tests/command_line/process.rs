//! Runs the binary and checks its output.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value as Json;

/// The binary that was built beside this test.
pub(crate) fn binary() -> PathBuf {
    let test = env::current_exe().expect("this test has a path");
    let folder = test.ancestors().nth(2).expect("target/PROFILE/deps");
    let binary = folder.join(format!("tidemark{}", env::consts::EXE_SUFFIX));
    assert!(binary.is_file(), "{} is missing: cargo build --workspace", binary.display());
    binary
}

/// A process that ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let ran =
            Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
        assert!(!ran.stderr.contains("panicked"), "{ran:#?}");
        ran
    }

    /// Asserts that it did what was asked.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// Asserts that it ended with exit code 1, nothing on stdout and one clear message that has all `parts`.
    #[track_caller]
    pub(crate) fn refused(self, parts: &[&str]) -> Self {
        assert_eq!(self.code, Some(1), "{self:#?}");
        assert_eq!(self.stdout, "", "{self:#?}");
        let errors = self.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "one message, and one only: {self:#?}");
        parts.iter().for_each(|part| assert!(self.stderr.contains(part), "no `{part}` in {self:#?}"));
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.stdout).map_err(|error| format!("{error}: {self:#?}")).expect("JSON")
    }
}

/// Runs `tidemark` in a folder.
#[track_caller]
pub(crate) fn tidemark<A: AsRef<OsStr>>(folder: &Path, arguments: &[A]) -> Ran {
    let output =
        Command::new(binary()).args(arguments).current_dir(folder).env_remove("UPDATE_EXPECT").output();
    Ran::of(output.expect("it runs"))
}

/// Runs `tidemark` where no file may grow beyond `blocks` of 512 bytes: what a full disk looks like from inside.
#[track_caller]
pub(crate) fn tidemark_with_small_disk(folder: &Path, blocks: u32, arguments: &str) -> Ran {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec '{}' {arguments}", binary().display());
    let output = Command::new("sh").args(["-c", &script]).current_dir(folder).output();
    Ran::of(output.expect("sh runs"))
}
