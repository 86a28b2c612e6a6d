//! Every block of commands in the documentation is run, or says why not.
//!
//! The blocks of a page are one session of a shell in an empty folder, in their order, and each command has to succeed. What
//! is behind the language of a fence is for this test; neither GitHub nor mdBook shows it:
//!
//! | fence | what happens |
//! |---|---|
//! | `sh` | its commands are run as they are |
//! | `sh background` | it is started, and goes on until the end of the page; the next block waits until it is ready |
//! | `sh tested by tests/FILE.rs` | it is not run here; that file does so, and names the page |
//! | `sh not run: REASON` | it is not run |
//! | another language and a path | the block is written into that file |
//!
//! A comment that begins with `<!-- sh` has commands which are run and not shown.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::markdown::{Block, Page, pages, workspace};
use crate::process::binary;

/// How long the commands of a page may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Other names of the language of shells, which would hide a block from this test.
const OTHER_SHELLS: [&str; 6] = ["bash", "shell", "console", "zsh", "shell-session", "terminal"];

/// `tidemark` is the binary of this build, `dev` and `serve` listen on ports that are free, and `curl` knows and fails where the
/// status does.
const PRELUDE: &str = r#"
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait || true' EXIT
tidemark() {
  case "$1" in
    dev | serve) exec "$TIDEMARK" "$@" --http "127.0.0.1:$HTTP_PORT" --grpc 127.0.0.1:0 ;;
    *) "$TIDEMARK" "$@" ;;
  esac
}
curl() {
  command curl --silent --show-error --fail-with-body "${@//localhost:6567/127.0.0.1:$HTTP_PORT}"
}
wait_until_ready() {
  for _ in $(seq 600); do
    if command curl --silent --fail --output /dev/null "http://127.0.0.1:$HTTP_PORT/readyz"; then return; fi
    if ! kill -0 "$1"; then break; fi
    sleep 0.1
  done
  echo "what runs in the background did not become ready" >&2
  exit 1
}
set -x
"#;

/// What is to be done with a block of commands.
enum Mark<'n> {
    Run,
    Background,
    TestedBy(&'n str),
    NotRun,
}

impl<'n> Mark<'n> {
    fn of(note: &'n str) -> Result<Self, String> {
        match note {
            "" => Ok(Self::Run),
            "background" => Ok(Self::Background),
            note => {
                if let Some(file) = note.strip_prefix("tested by ") {
                    return Ok(Self::TestedBy(file));
                }
                let reason = note.strip_prefix("not run: ").unwrap_or_default();
                let words = reason.split_whitespace().count();
                let known = "expected nothing, `background`, `tested by FILE` or `not run: REASON`";
                if words < 3 { Err(format!("`{note}`: {known}, in a few words")) } else { Ok(Self::NotRun) }
            }
        }
    }
}

/// The script of a page; nothing where it has no command to run.
fn script(page: &Page) -> Result<Option<String>, Vec<String>> {
    let (mut script, mut runs, mut problems) = (PRELUDE.to_owned(), false, Vec::new());
    for block in page.blocks() {
        match step(page, &block) {
            Ok(step) => {
                runs |= block.language == "sh" && !step.is_empty();
                script += &step;
            }
            Err(problem) => problems.push(format!("{}:{}: {problem}", page.path, block.line)),
        }
    }
    if problems.is_empty() { Ok(runs.then_some(script)) } else { Err(problems) }
}

fn step(page: &Page, block: &Block) -> Result<String, String> {
    let Block { language, note, text, line } = block;
    if OTHER_SHELLS.contains(&language.as_str()) {
        return Err(format!("the language of a shell is `sh`, not `{language}`"));
    }
    if language != "sh" {
        return Ok(if note.is_empty() { String::new() } else { written(note, text) });
    }
    match Mark::of(note)? {
        Mark::Run => Ok(format!(": line {line}\n{text}")),
        Mark::Background => Ok(format!(": line {line}\n{{\n{text}}} &\nwait_until_ready $!\n")),
        Mark::TestedBy(file) => {
            let test =
                fs::read_to_string(workspace().join(file)).map_err(|error| format!("{file}: {error}"))?;
            let named = file.starts_with("tests/") && test.contains(&page.path);
            if named { Ok(String::new()) } else { Err(format!("{file} is no test that names {}", page.path)) }
        }
        Mark::NotRun => Ok(String::new()),
    }
}

fn written(path: &str, text: &str) -> String {
    format!("mkdir -p \"$(dirname '{path}')\"\ncat > '{path}' <<'END OF BLOCK'\n{text}END OF BLOCK\n")
}

/// Runs a script in an empty folder; what it said, where it fails.
fn run(page: &Page, script: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let (work, said) = (folder.path().join("work"), folder.path().join("said"));
    fs::create_dir(&work).expect("created");
    let output = File::create(&said).expect("created");
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a free port").port();
    let mut child = Command::new("bash")
        .args(["-c", script])
        .current_dir(&work)
        .env("TIDEMARK", binary())
        .env("HTTP_PORT", port.to_string())
        .env_remove("UPDATE_EXPECT")
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a file"))
        .stderr(output)
        .process_group(0)
        .spawn()
        .expect("bash runs");
    let until = Instant::now() + PATIENCE;
    let ended = loop {
        match child.try_wait().expect("a child") {
            Some(status) if status.success() => return Ok(()),
            Some(status) => break status.to_string(),
            None if Instant::now() < until => thread::sleep(Duration::from_millis(20)),
            None => {
                kill(child.id());
                drop(child.wait());
                break format!("not ended after {PATIENCE:?}");
            }
        }
    };
    let said = fs::read_to_string(&said).expect("UTF-8");
    Err(format!("{}: {ended}\n{said}", page.path))
}

/// Kills a process with all that it has started.
fn kill(group: u32) {
    drop(Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).status());
}

#[test]
fn every_block_of_commands_runs_or_says_why_not() {
    let pages = pages();
    let mut scripts = Vec::new();
    let mut problems = Vec::new();
    for page in &pages {
        match script(page) {
            Ok(script) => scripts.extend(script.map(|script| (page, script))),
            Err(found) => problems.extend(found),
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    for page in ["README.md", "docs/first-steps.md", "docs/coming-from-feast.md", "docs/operating.md"] {
        assert!(scripts.iter().any(|(found, _)| found.path == page), "{page} has no commands that are run");
    }
    let failed: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> =
            scripts.iter().map(|(page, script)| scope.spawn(move || run(page, script))).collect();
        running.into_iter().filter_map(|page| page.join().expect("it ends").err()).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn blocks_that_hide_from_the_test_are_refused() {
    let page = |text: &str| Page { path: "docs/a.md".to_owned(), text: text.to_owned() };
    let problems = |text| script(&page(text)).err().unwrap_or_default().concat();
    assert!(problems("```bash\ntidemark\n```\n").contains("`sh`, not `bash`"));
    assert!(problems("```sh ignore\ntidemark\n```\n").contains("docs/a.md:1: `ignore`: expected nothing"));
    assert!(problems("```sh not run: no\ntidemark\n```\n").contains("in a few words"));
    assert!(problems("```sh tested by tests/gone.rs\ntidemark\n```\n").contains("tests/gone.rs"));
    let other = "```sh tested by tests/arrows/main.rs\ntidemark\n```\n";
    assert!(problems(other).contains("no test that names docs/a.md"));
    assert!(matches!(script(&page("```sh not run: for a reason\nx\n```\n")), Ok(None)));
}

#[test]
fn a_command_that_fails_is_told_with_what_it_said() {
    let page = |text: &str| Page { path: "a.md".to_owned(), text: text.to_owned() };
    let told = |page: &Page| run(page, &script(page).expect("no problem").expect("commands"));
    let fine = page("```csv b/c.csv\nd\n```\n```sh\ncd b\n```\n```sh\ntest \"$(cat c.csv)\" = d\n```\n");
    assert_eq!(told(&fine), Ok(()));
    let wrong = page("```sh\ntidemark no-such-command\ntrue\n```\n");
    assert!(told(&wrong).is_err_and(|said| said.contains("unrecognized subcommand")));
}
