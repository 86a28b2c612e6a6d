//! `tidemark init`: an example repo to start from.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use serde_json::json;
use tidemark_offline::durable::{Beside, create_folder};

use crate::args::Init;
use crate::failure::{Failure, io_failure};
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
    write(&init.dir)?;
    let dir = init.dir.display().to_string();
    let names: Vec<&str> = EXAMPLE.iter().map(|(name, _)| *name).collect();
    output.result(|| json!({"dir": dir, "files": names}), || said(&dir, &names))
}

fn said(dir: &str, names: &[&str]) -> String {
    format!(
        "wrote {} into {dir}\n\nnext:\n  cd {dir}\n  tidemark check     # what the definitions are\n  \
         tidemark test      # what they mean, by example\n  \
         tidemark dev       # run it, and edit payments.yaml while it runs",
        names.join(", ")
    )
}

/// Writes the example into a folder, which is created where it is missing.
pub(super) fn write(dir: &Path) -> Result<()> {
    for (name, text) in EXAMPLE {
        let path = dir.join(name);
        create_folder(path.parent().unwrap_or(dir))?;
        let mut file = Beside::create(&path)?;
        file.file().write_all(text.as_bytes()).map_err(io_failure("write", &path))?;
        file.finish()?;
    }
    Ok(())
}

fn refuse_others(dir: &Path) -> Result<()> {
    let occupied = dir.is_file() || fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if !occupied {
        return Ok(());
    }
    let message = format!("{} is not an empty folder", dir.display());
    Err(Failure::fixable(message, "give a new folder, or one with nothing in it").into())
}
