//! `tidemark init`: an example repo to start from.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::json;
use tidemark_offline::durable::FileError;
use tidemark_offline::durable::{Beside, create_folder};
use tidemark_registry::Project;

use crate::args::Init;
use crate::failure::{Failure, Result};
use crate::output::Output;

/// The example repo, file by file.
const EXAMPLE: [(&str, &str); 4] = [
    ("tidemark.yaml", include_str!("../../../feature_repo/tidemark.yaml")),
    ("payments.yaml", include_str!("../../../feature_repo/payments.yaml")),
    ("README.md", include_str!("../../../feature_repo/README.md")),
    ("tests/a_stolen_card.md", include_str!("../../../feature_repo/tests/a_stolen_card.md")),
];

pub(super) fn run(init: &Init, output: Output) -> Result<()> {
    refuse_others(&init.dir)?;
    create_folder(&init.dir)?;
    let project = project_of(&init.dir)?;
    write(&init.dir, &project)?;
    let dir = init.dir.display().to_string();
    let names: Vec<&str> = EXAMPLE.iter().map(|(name, _)| *name).collect();
    output.result(|| json!({"dir": dir, "project": project, "files": names}), || said(&dir, &project, &names))
}

/// The project is named after its folder: names distinguish projects in what they share, such as a Redis.
fn project_of(dir: &Path) -> Result<String> {
    let dir = dir.canonicalize().map_err(FileError::of("find", dir))?;
    Ok(Project::name_from(&dir.file_name().unwrap_or_default().to_string_lossy()))
}

fn said(dir: &str, project: &str, names: &[&str]) -> String {
    format!(
        "wrote {} into {dir}, project `{project}`\n\nnext:\n  cd {dir}\n  tidemark check     # what the definitions are\n  \
         tidemark test      # what they mean, by example\n  \
         tidemark dev       # run it, and edit payments.yaml while it runs",
        names.join(", ")
    )
}

/// The name of the example's project.
pub(super) const EXAMPLE_PROJECT: &str = "shop";

/// Writes the example into a folder, which is created where it is missing, as a project of this name.
pub(super) fn write(dir: &Path, project: &str) -> Result<()> {
    for (name, text) in EXAMPLE {
        let text = if name == "tidemark.yaml" { settings(text, project) } else { text.to_owned() };
        let path = dir.join(name);
        create_folder(path.parent().unwrap_or(dir))?;
        let mut file = Beside::create(&path)?;
        file.file().write_all(text.as_bytes()).map_err(FileError::of("write", &path))?;
        file.finish()?;
    }
    Ok(())
}

/// The example's settings with another project name.
fn settings(text: &str, project: &str) -> String {
    let named = |text: &str, key: &str| {
        text.replacen(&format!("{key}: {EXAMPLE_PROJECT}"), &format!("{key}: {project}"), 1)
    };
    named(&named(text, "project"), "client.id")
}

fn refuse_others(dir: &Path) -> Result<()> {
    let occupied = dir.is_file() || fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if !occupied {
        return Ok(());
    }
    let message = format!("{} is not an empty folder", dir.display());
    Err(Failure::mistake(message, "give a new folder, or one with nothing in it"))
}
