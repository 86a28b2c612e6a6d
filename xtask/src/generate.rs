//! The code generated from the `.proto` files, without protoc: protox parses, prost and tonic write.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Relative to the `proto` crate.
const INCLUDES: &str = "proto";
const FILES: [&str; 1] = ["tidemark/serving/v1/serving.proto"];
const GENERATED: &str = "src/generated";
const DESCRIPTORS: &str = "descriptors.bin";

/// Writes what the `.proto` files give, and removes what they no longer give.
pub(crate) fn write() -> Result<()> {
    let folder = proto_crate().join(GENERATED);
    let fresh = generate()?;
    for name in read(&folder)?.keys().filter(|name| !fresh.contains_key(*name)) {
        fs::remove_file(folder.join(name))?;
    }
    for (name, content) in &fresh {
        fs::write(folder.join(name), content).with_context(|| format!("cannot write {name}"))?;
    }
    Ok(())
}

/// Fails unless what is checked in is what the `.proto` files give.
pub(crate) fn check() -> Result<()> {
    let folder = proto_crate().join(GENERATED);
    let (fresh, found) = (generate()?, read(&folder)?);
    let stale: Vec<&str> = fresh
        .keys()
        .chain(found.keys())
        .filter(|name| fresh.get(*name) != found.get(*name))
        .map(String::as_str)
        .collect();
    ensure!(
        stale.is_empty(),
        "{} is stale in {}: run cargo xtask generate",
        stale.join(", "),
        folder.display()
    );
    Ok(())
}

/// File names and their content.
type Files = BTreeMap<String, Vec<u8>>;

fn generate() -> Result<Files> {
    let mut compiler = protox::Compiler::new([proto_crate().join(INCLUDES)])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    let folder = tempfile::tempdir()?;
    tonic_prost_build::configure()
        .out_dir(folder.path())
        .btree_map(".")
        .compile_fds(compiler.file_descriptor_set())?;
    let mut files = read(folder.path())?;
    compiler.include_source_info(false);
    files.insert(DESCRIPTORS.into(), compiler.encode_file_descriptor_set());
    Ok(files)
}

fn read(folder: &Path) -> Result<Files> {
    let read = || {
        fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()).and_then(|path| Ok((name(&path), fs::read(&path)?))))
            .collect::<std::io::Result<Files>>()
    };
    read().with_context(|| format!("cannot read {}", folder.display()))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn proto_crate() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto")
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_checked_in_is_fresh() {
        super::check().unwrap();
    }
}
