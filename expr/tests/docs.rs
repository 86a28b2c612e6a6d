//! `docs/expressions.md` is written from the allow list, and checked to be fresh.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use tidemark_expr::allow::allowed;

const INTRODUCTION: &str = "\
# Expressions

Filters, inputs and derived features are scalar SQL, checked when they are defined: names, types and functions. A row's value
depends on that row alone. Arithmetic is checked: a row that divides by zero, overflows or cannot be cast is null.

What may be written is listed here. Everything on the list gives the same bits on every machine and in any batch; that is why
there is no clock, no randomness and no regular expression. Column names are case-sensitive, functions are not. An int64 is
taken where a float64 is asked for; nothing else is coerced, so write the `cast`.

| what | written | meaning |
|---|---|---|
";

#[test]
fn the_list_in_the_docs_is_the_allow_list() {
    let mut page = INTRODUCTION.to_owned();
    for entry in allowed() {
        let signature: Vec<String> =
            entry.signature.lines().map(|line| format!("`{}`", line.replace('|', "\\|"))).collect();
        let name = entry.name.replace('|', "\\|");
        writeln!(page, "| `{name}` | {} | {} |", signature.join("<br>"), entry.summary.replace('|', "\\|"))
            .expect("writable");
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/expressions.md");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &page).expect("the docs are writable");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(page, written, "run this test with UPDATE_EXPECT=1 to write docs/expressions.md");
}
