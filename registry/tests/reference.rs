//! `docs/reference/definitions.md` is written from the tables that the reader uses, and checked to be fresh.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use tidemark_registry::reference::{Entry, FileKind, Section, forms, sections};

const INTRODUCTION: &str = "\
# Definitions and settings

Every key of the definition files and of `tidemark.yaml`. `tidemark check` refuses any other key, and names the one that was probably
meant. A key without a value is as good as absent. Files are YAML with one document each; anchors, aliases and tags are not allowed.
[First steps](../first-steps.md) has whole files to begin with.

## In your editor

`tidemark schema` prints a JSON Schema (draft 2020-12) for each kind of file:

```sh
tidemark schema definitions > definitions.schema.json
tidemark schema project > project.schema.json
```

An editor with the [YAML language server](https://github.com/redhat-developer/yaml-language-server) then completes keys, shows what they
do and marks mistakes. In VS Code that is the extension *YAML* by Red Hat. Name the schema in the first line of a file; its path starts at
the folder of the file:

```yaml
# yaml-language-server: $schema=definitions.schema.json
```

Write the schemas again after an upgrade. A schema knows keys and the form of values; names, types and SQL are left to `tidemark check`.
";

#[test]
fn the_page_says_what_is_read() {
    let page = page();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/definitions.md");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &page).expect("the docs are writable");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(page, written, "run this test with UPDATE_EXPECT=1 to write docs/reference/definitions.md");
}

#[test]
fn links_lead_to_sections_and_pages() {
    let page = page();
    let headings: Vec<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect();
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
    let mut links = 0;
    for target in page.split("](").skip(1).filter_map(|behind| behind.split(')').next()) {
        let (file, heading) = target.split_once('#').unwrap_or((target, ""));
        let known = match file {
            "" => headings.iter().any(|known| known == heading),
            url if url.starts_with("https://") => true,
            file => {
                let text = fs::read_to_string(docs.join(file)).unwrap_or_else(|_| panic!("{target}"));
                heading.is_empty()
                    || text.lines().any(|line| line.starts_with('#') && anchor(line) == heading)
            }
        };
        assert!(known, "{target} leads nowhere");
        links += 1;
    }
    assert!(links >= 20, "{links} links");
}

/// The anchor that Markdown gives to a heading.
fn anchor(heading: &str) -> String {
    let kept = |character: &char| character.is_alphanumeric() || " -_".contains(*character);
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(kept)
        .collect::<String>()
        .replace(' ', "-")
}

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    page += "\n## Values\n\n| value | written |\n|---|---|\n";
    for (name, about) in forms() {
        writeln!(page, "| {name} | {} |", cell(about)).expect("a string takes all");
    }
    for file in [FileKind::Definitions, FileKind::Project] {
        for (at, section) in sections(file).iter().enumerate() {
            page += &written(section, at == 0);
        }
    }
    page
}

fn written(section: &Section, is_file: bool) -> String {
    let heading = match is_file {
        true => format!("## {}", section.path),
        false => format!("### `{}`", section.path),
    };
    let mut text = format!("\n{heading}\n\n{}\n", section.about);
    if !section.keys.is_empty() {
        text += "\n| key | value | without it | example | meaning |\n|---|---|---|---|---|\n";
    }
    section.keys.iter().for_each(|key| text += &row(key));
    text
}

fn row(Entry { name, value, absent, example, about }: &Entry) -> String {
    let example = format!("`{example}`");
    let cells = [value, absent, &example, about].map(|text| cell(text));
    format!("| `{name}` | {} |\n", cells.join(" | "))
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
