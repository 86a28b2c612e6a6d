//! The lists of decision records, invariants and metrics are complete.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;

use super::markdown::{Page, pages, workspace};

/// Words that look like the id of an invariant and are the names of something else.
const OTHER_NAMES: [&str; 6] = ["UTF", "SHA", "KIP", "ISO", "RFC", "CRC"];

/// The cells of the rows of all tables of a page, without what is around code.
fn rows(page: &Page) -> Vec<Vec<String>> {
    let rows = page.text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("|-"));
    let cells = |row: &str| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    rows.map(cells).collect()
}

#[test]
fn every_decision_record_is_listed_with_its_title_and_status() {
    let index = Page::read("docs/adr/README.md");
    let mut listed = rows(&index);
    listed.remove(0);
    let records: Vec<Page> = pages().into_iter().filter(|page| page.path.starts_with("docs/adr/0")).collect();
    assert_eq!(listed.len(), records.len(), "one row for each record: {listed:#?}");
    for (row, record) in listed.iter().zip(&records) {
        let file = record.path.rsplit('/').next().expect("a name");
        let title = record.text.lines().next().and_then(|line| line.strip_prefix("# "));
        let (number, title) = title.and_then(|line| line.split_once(". ")).expect("# NUMBER. TITLE");
        assert_eq!(file.split('-').next().and_then(|number| number.parse::<u32>().ok()), number.parse().ok());
        let status = record.text.lines().find_map(|line| line.strip_prefix("**Status:** "));
        let status = status.and_then(|status| status.split(';').next()).expect("a status");
        let [listed_number, listed_title, decision, listed_status] = &row[..] else {
            panic!("{}: {row:?}", index.path)
        };
        assert_eq!(listed_number, number, "{file}");
        assert_eq!(*listed_title, format!("[{title}]({file})"), "{file}");
        assert_eq!(listed_status, status, "{file}");
        assert!(decision.len() > 20, "{file}: what was decided, in one line");
    }
}

/// The ids of invariants in a text, such as `PARITY-1`.
fn ids(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    let is_id = |word: &&str| {
        word.split_once('-').is_some_and(|(name, number)| {
            name.len() >= 3
                && name.bytes().all(|byte| byte.is_ascii_uppercase())
                && !number.is_empty()
                && number.bytes().all(|byte| byte.is_ascii_digit())
                && !OTHER_NAMES.contains(&name)
        })
    };
    words.filter(is_id).map(str::to_owned).collect()
}

/// The ids in the code, each with the file that has it.
fn cited(folder: &Path, found: &mut BTreeSet<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            cited(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && path != workspace().join(file!())
        {
            let text = fs::read_to_string(&path).expect("UTF-8");
            let relative = path.strip_prefix(workspace()).expect("below it").to_string_lossy().into_owned();
            found.extend(ids(&text).into_iter().map(|id| (id, relative.clone())));
        }
    }
}

#[test]
fn every_invariant_is_listed_with_the_files_that_name_it() {
    let page = Page::read("docs/invariants.md");
    let mut listed = BTreeSet::new();
    for row in rows(&page).iter().skip(1) {
        let id = row[0].trim_matches('`').to_owned();
        let files = row[2..].iter().flat_map(|cell| cell.split('`').skip(1).step_by(2));
        listed.extend(files.map(|file| (id.clone(), file.to_owned())));
    }
    let mut found = BTreeSet::new();
    cited(&workspace(), &mut found);
    assert!(!found.is_empty());
    let missing: Vec<_> = found.difference(&listed).collect();
    let hint = "a word that is no invariant belongs to OTHER_NAMES";
    assert!(missing.is_empty(), "{} lacks {missing:#?}; {hint}", page.path);
    // A file of the page may prove an invariant without naming it, but it has to be there, and one has to name it.
    for (id, file) in &listed {
        assert!(workspace().join(file).exists(), "{id}: there is no {file}");
        assert!(found.iter().any(|(named, _)| named == id), "no code names {id}");
    }
}

#[test]
fn ids_are_told_from_other_words() {
    let text = "`ANS-1` (PARITY-12), UTF-8, A-1, up-to-2, sha-1, STATE-, KIP-320.";
    assert_eq!(ids(text), ["ANS-1", "PARITY-12"].map(str::to_owned).into());
}

const METRICS: &str = "docs/reference/metrics.md";

/// `UPDATE_EXPECT=1` writes the tables of the page again, between their marks.
#[test]
fn every_metric_is_listed_as_it_is_declared() {
    let declared =
        [("online", tidemark_online::metrics::declared()), ("ingest", tidemark_ingest::metrics::declared())];
    let mut expected = Page::read(METRICS).text;
    for (part, metrics) in declared {
        let rows = metrics.iter().map(|metric| {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            format!(
                "| `{}` | {} | {} | {} |\n",
                metric.name,
                metric.kind.name(),
                labels.join(", "),
                metric.help
            )
        });
        let table =
            format!("| metric | type | labels | meaning |\n|---|---|---|---|\n{}", rows.collect::<String>());
        let (begin, end) = (format!("<!-- metrics of {part} -->\n\n"), "\n<!-- end -->");
        let start = expected.find(&begin).expect("the mark of a table") + begin.len();
        let length = expected[start..].find(end).expect("the mark of its end");
        expected.replace_range(start..start + length, &table);
    }
    if env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(workspace().join(METRICS), &expected).expect("written");
    }
    assert_eq!(Page::read(METRICS).text, expected, "UPDATE_EXPECT=1 writes it again");
}

/// In prose and in tables a metric is written `tidemark_…`, perhaps with labels, or with what a histogram puts behind it.
#[test]
fn metrics_that_pages_name_are_declared() {
    let declared = [tidemark_online::metrics::declared(), tidemark_ingest::metrics::declared()].concat();
    let names: BTreeSet<&str> = declared.iter().map(|metric| metric.name).collect();
    for page in pages() {
        let words = page.text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let prefixes =
            ["tidemark_ingest_", "tidemark_lookup", "tidemark_push_", "tidemark_http_", "tidemark_grpc_"];
        for word in words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))) {
            let bare = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
            // `tidemark_http_*` stands for several.
            let is_several = word.ends_with('_') && names.iter().any(|name| name.starts_with(word));
            let known = is_several || names.contains(word) || bare.is_some_and(|bare| names.contains(bare));
            assert!(known, "{} names `{word}`, which is no metric", page.path);
        }
    }
}
