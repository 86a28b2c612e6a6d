//! `cargo xtask book`: the pages of `docs/` as a book of HTML, made by the program mdBook.
//!
//! The book is made of a copy, in which some links differ. A link out of `docs/` leads to the repository, because the book has
//! nothing there. A `README.md`, which GitHub shows for its folder, is an `index.md`, which web servers show.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::installed::Program;

const MDBOOK: Program = Program { name: "mdbook", package: "mdbook", version: "0.5.4" };
/// The folder of the pages, in the workspace.
const DOCS: &str = "docs";
/// Where a link out of `docs/` leads, with the path behind it.
const REPOSITORY: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/HEAD/");

/// Makes the book below `target/book`; mdBook says where.
///
/// # Errors
/// Fails where mdBook is not installed or finds a fault, and where files cannot be read or written.
pub(crate) fn run() -> Result<()> {
    MDBOOK.ensure_installed()?;
    let folder = crate::test::target()?.join("book");
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
        }
        _ => {}
    }
    let source = folder.join("source");
    let docs = Path::new(crate::WORKSPACE).join(DOCS);
    copy(&docs, &source, &mut vec![DOCS.to_owned()])?;
    let mut mdbook = Command::new("mdbook");
    crate::test::run_command(mdbook.arg("build").arg("--dest-dir").arg(folder.join("html")).arg(&source))
}

/// Copies a folder, whose path in the workspace has these parts.
fn copy(from: &Path, to: &Path, parts: &mut Vec<String>) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            parts.push(name.clone());
            copy(&path, &to.join(&name), parts)?;
            parts.pop();
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let page =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            write(to.join(indexed(&name)), relinked(&page, parts).as_bytes())?;
        } else {
            write(to.join(name), &fs::read(&path)?)?;
        }
    }
    Ok(())
}

fn write(path: PathBuf, bytes: &[u8]) -> Result<()> {
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// A page of a folder with these parts, its links as they are in the book.
fn relinked(page: &str, parts: &[String]) -> String {
    let mut pieces = page.split("](");
    let mut book = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        book += "](";
        match piece.split_once(')') {
            Some((target, rest)) if !target.contains("://") && !target.starts_with('#') => {
                book.extend([&link(target, parts), ")", rest]);
            }
            _ => book += piece,
        }
    }
    book
}

/// A relative link of a page of a folder with these parts, as it is in the book.
fn link(target: &str, parts: &[String]) -> String {
    let mut place: Vec<&str> = parts.iter().map(String::as_str).collect();
    for part in target.split('/') {
        match part {
            ".." => drop(place.pop()),
            "." | "" => {}
            part => place.push(part),
        }
    }
    if place.first() == Some(&DOCS) { indexed(target) } else { format!("{REPOSITORY}{}", place.join("/")) }
}

fn indexed(path: &str) -> String {
    path.replace("README.md", "index.md")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_out_of_the_book_lead_to_the_repository() {
        let parts = [DOCS.to_owned(), "adr".to_owned()];
        let page = "[a](../clocks.md#x), [b](../../CONTRIBUTING.md#y), [c](README.md), [d](https://e.f/g), [h](#i) ](";
        let repository = "https://github.com/tidemark-dev/tidemark/blob/HEAD";
        let expected = format!(
            "[a](../clocks.md#x), [b]({repository}/CONTRIBUTING.md#y), [c](index.md), [d](https://e.f/g), [h](#i) ]("
        );
        assert_eq!(relinked(page, &parts), expected);
    }

    #[test]
    fn every_page_is_copied_with_what_it_links_to() {
        let folder = tempfile::tempdir().unwrap();
        let docs = Path::new(crate::WORKSPACE).join(DOCS);
        copy(&docs, folder.path(), &mut vec![DOCS.to_owned()]).unwrap();
        let summary = fs::read_to_string(folder.path().join("SUMMARY.md")).unwrap();
        let pages: Vec<&str> =
            summary.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        assert!(pages.len() > 20 && pages.contains(&"index.md"), "{pages:?}");
        pages.iter().for_each(|page| assert!(folder.path().join(page).is_file(), "{page}"));
        assert!(folder.path().join("book.toml").is_file());
    }
}
