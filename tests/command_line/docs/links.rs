//! Every link leads somewhere, and every page is in the book.

use std::collections::{BTreeMap, BTreeSet};

use super::markdown::{Page, pages};

const SUMMARY: &str = "docs/SUMMARY.md";

/// What is wrong with a link of a page.
fn wrong(page: &Page, target: &str, anchors: &BTreeMap<std::path::PathBuf, Vec<String>>) -> Option<String> {
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let path = if path.is_empty() { page.path.rsplit('/').next().unwrap_or_default() } else { path };
    let Ok(found) = page.folder().join(path).canonicalize() else {
        return Some(format!("{}: there is no `{path}`", page.path));
    };
    let anchor = anchor?;
    match anchors.get(&found) {
        None => Some(format!("{}: `{path}` is none of the pages, so `#{anchor}` is not checked", page.path)),
        Some(headings) if headings.iter().any(|heading| heading == anchor) => None,
        Some(_) => Some(format!("{}: `{path}` has no heading `#{anchor}`", page.path)),
    }
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let at = |page: &Page| page.folder().join(page.path.rsplit('/').next().unwrap_or_default());
    let anchors = pages.iter().map(|page| (at(page), page.anchors())).collect();
    let (mut checked, mut problems) = (0, Vec::new());
    for page in &pages {
        for target in page.links().iter().filter(|target| !target.contains("://")) {
            checked += 1;
            problems.extend(wrong(page, target, &anchors));
        }
    }
    assert!(checked > 100, "only {checked} links were found");
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn every_page_is_in_the_book_once() {
    let listed = Page::read(SUMMARY).links();
    let twice: Vec<_> =
        listed.iter().filter(|one| listed.iter().filter(|other| other == one).count() > 1).collect();
    assert!(twice.is_empty(), "{SUMMARY} has {twice:?} twice");
    let listed: BTreeSet<String> = listed.into_iter().collect();
    let there = pages().into_iter().filter(|page| page.path != SUMMARY);
    let there: BTreeSet<String> =
        there.filter_map(|page| page.path.strip_prefix("docs/").map(str::to_owned)).collect();
    assert_eq!(listed, there, "{SUMMARY} lists each page below docs, and nothing else");
}
