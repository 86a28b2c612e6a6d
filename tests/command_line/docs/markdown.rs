//! Reading the pages: their fenced blocks, links and headings.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the workspace.
pub(super) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace")
}

/// A page of the documentation.
#[derive(Debug)]
pub(super) struct Page {
    /// From the folder of the workspace on, such as `docs/clocks.md`.
    pub(super) path: String,
    pub(super) text: String,
}

/// A fenced block, or a comment that begins with `<!-- sh`: commands that are run and not shown.
#[derive(Debug)]
pub(super) struct Block {
    /// The first word behind the fence.
    pub(super) language: String,
    /// The rest of that line.
    pub(super) note: String,
    pub(super) text: String,
    /// Of its first line in the page.
    pub(super) line: usize,
}

/// Everything below `docs`, and the pages beside it that people read first, in order of their paths.
pub(super) fn pages() -> Vec<Page> {
    let mut paths: Vec<String> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(str::to_owned).into();
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(workspace().join(&folder)).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path.to_str().expect("UTF-8").to_owned());
            }
        }
    }
    paths.sort();
    paths.into_iter().map(Page::read).collect()
}

impl Page {
    /// The page at a path from the folder of the workspace on.
    pub(super) fn read(path: impl Into<String>) -> Self {
        let path = path.into();
        let text = fs::read_to_string(workspace().join(&path));
        Self { text: text.map_err(|error| format!("{path}: {error}")).expect("a page"), path }
    }

    /// The folder that its links begin at.
    pub(super) fn folder(&self) -> PathBuf {
        workspace().join(&self.path).parent().expect("a folder").to_owned()
    }

    /// Its blocks, in order.
    pub(super) fn blocks(&self) -> Vec<Block> {
        self.split().0
    }

    /// Its blocks in one language.
    pub(super) fn blocks_in(&self, language: &str) -> Vec<Block> {
        self.blocks().into_iter().filter(|block| block.language == language).collect()
    }

    /// The blocks, and the lines of everything else.
    fn split(&self) -> (Vec<Block>, Vec<&str>) {
        let (mut blocks, mut prose): (Vec<Block>, Vec<&str>) = (Vec::new(), Vec::new());
        let mut end: Option<String> = None;
        for (number, line) in (1..).zip(self.text.lines()) {
            if let Some(fence) = &end {
                if line.trim() == fence {
                    end = None;
                } else {
                    blocks.last_mut().expect("begun").text.extend([line, "\n"]);
                }
            } else if let Some((fence, info)) = opening(line) {
                end = Some(fence);
                let (language, note) = info.split_once(' ').unwrap_or((info, ""));
                let (language, note) = (language.to_owned(), note.trim().to_owned());
                blocks.push(Block { language, note, text: String::new(), line: number });
            } else {
                prose.push(line);
            }
        }
        assert!(end.is_none(), "{}: its last block has no end", self.path);
        (blocks, prose)
    }

    /// Everything but blocks and code spans.
    fn prose(&self) -> String {
        let text = self.split().1.join("\n");
        // Every other piece between backticks is code; none of our pages has a backtick inside of code.
        text.split('`').step_by(2).collect::<Vec<_>>().join("code")
    }

    /// What its links lead to.
    pub(super) fn links(&self) -> Vec<String> {
        let prose = self.prose();
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        targets.map(|(target, _)| target.trim().to_owned()).collect()
    }

    /// What a link to each of its headings has behind the `#`: as GitHub and mdBook make it.
    pub(super) fn anchors(&self) -> Vec<String> {
        let (mut anchors, mut seen) = (Vec::new(), BTreeMap::<String, usize>::new());
        for line in self.split().1 {
            let title = line.trim_start_matches('#');
            if title.len() == line.len() || !title.starts_with(' ') {
                continue;
            }
            let anchor = anchor(title.trim());
            let before = seen.entry(anchor.clone()).or_default();
            anchors.push(if *before == 0 { anchor } else { format!("{anchor}-{before}") });
            *before += 1;
        }
        anchors
    }
}

/// The line that ends a block, and what is said of it, where a line begins one.
fn opening(line: &str) -> Option<(String, &str)> {
    let line = line.trim();
    if let Some(info) = line.strip_prefix("<!-- sh").filter(|_| !line.ends_with("-->")) {
        return Some(("-->".to_owned(), &line[line.len() - info.len() - "sh".len()..]));
    }
    let info = line.trim_start_matches('`');
    let ticks = line.len() - info.len();
    (ticks >= 3 && !info.contains('`')).then(|| ("`".repeat(ticks), info.trim()))
}

fn anchor(title: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    title.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn blocks_links_and_headings_are_found() {
    let text = "# A `b`-c: d_e\n\n[x](y.md#z)\nand `[no](link)`\n\n```sh not run: why\none\n```\n\n<!-- sh\ntwo\n-->\n\
                ````markdown\n```csv\n[no](either)\n```\n````\n## Two\n## Two\n";
    let page = Page { path: "a.md".to_owned(), text: text.to_owned() };
    assert_eq!(page.anchors(), ["a-b-c-d_e", "two", "two-1"]);
    assert_eq!(page.links(), ["y.md#z"]);
    let blocks = page.blocks();
    let found: Vec<_> = blocks
        .iter()
        .map(|Block { language, note, text, line }| (&**language, &**note, &**text, *line))
        .collect();
    let markdown = "```csv\n[no](either)\n```\n";
    let expected =
        [("sh", "not run: why", "one\n", 6), ("sh", "", "two\n", 10), ("markdown", "", markdown, 13)];
    assert_eq!(found, expected);
}
