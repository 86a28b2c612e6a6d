//! How much memory a process may use.

use crate::key::Form;
use crate::problem::Problem;
use crate::shape::{Reading, Shape};

/// The least: what readers, writers and an embedded store need beside the states.
pub(super) const LEAST: usize = 64 << 20;

const UNITS: [(&str, usize); 6] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// How an amount of memory is written.
pub(super) const MEMORY: Form = Form {
    name: "amount of memory",
    pattern: Some(r"^[0-9]+\s*(KiB|MiB|GiB|kB|MB|GB)$"),
    about: "A whole number and a unit: `512MiB`, `2GiB` (powers of 1024), or `kB`, `MB`, `GB` (powers of 1000).",
};

/// An amount of whole KiB as it is written: in the largest power of 1024 that it is a multiple of.
pub(super) fn written(bytes: usize) -> String {
    let [kibi, mebi, gibi, ..] = UNITS;
    let (name, unit) = [gibi, mebi].into_iter().find(|(_, unit)| bytes.is_multiple_of(*unit)).unwrap_or(kibi);
    format!("{}{name}", bytes / unit)
}

/// The setting of that name, in bytes.
pub(super) fn read(shape: &Shape<'_>, key: &str, reading: &mut Reading<'_>) -> Option<usize> {
    let text = shape.text(key, reading)?;
    let bytes = parse(&text.value);
    let message = match bytes {
        None => format!("`{}` is no amount of memory", text.value),
        Some(bytes) if bytes < LEAST => format!("`{}` of memory is too little", text.value),
        Some(_) => return bytes,
    };
    let help = "write a whole number and one of KiB, MiB, GiB, kB, MB, GB, at least 64MiB: 512MiB, 2GiB";
    reading.report(Problem::error(text.place, message).help(help.to_owned()));
    None
}

fn parse(text: &str) -> Option<usize> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<usize>().ok()?.checked_mul(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_has_a_unit() {
        assert_eq!(parse("2GiB"), Some(2 << 30));
        assert_eq!(parse("512 MiB"), Some(512 << 20));
        assert_eq!(parse("3GB"), Some(3_000_000_000));
        for text in ["2GiB", "1536MiB", "1KiB"] {
            assert_eq!(parse(text).map(written).as_deref(), Some(text));
        }
        for none in ["", "2", "GiB", "2gib", "-1GiB", "1.5GiB", "2GiB!", "99999999999999999999GiB"] {
            assert_eq!(parse(none), None, "{none}");
        }
    }
}
