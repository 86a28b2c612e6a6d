//! Cells: parsing and writing values and answers in a scenario's tables.

use tidemark_kernel::{Status, Time, Type, Value};

/// The day that times of day belong to: `08:30` is 2026-01-01T08:30Z.
const DAY: &str = "2026-01-01";

/// The value that a cell spells; none where it spells none of that type.
///
/// Nothing and `null` are null. Text is bare, or in double quotes where it would be misread. Times are RFC 3339,
/// may lack seconds and zone, and where they lack the date it is 2026-01-01. Bytes are hexadecimal.
pub(crate) fn value(ty: Type, text: &str) -> Option<Value> {
    if text.is_empty() || text == "null" {
        return Some(Value::Null);
    }
    Some(match ty {
        Type::Bool => Value::Bool(text.parse().ok()?),
        Type::Int64 => Value::Int64(text.parse().ok()?),
        Type::Float64 => Value::float(text.parse().ok()?),
        Type::String if text.starts_with('"') => Value::string(&serde_json::from_str::<String>(text).ok()?),
        Type::String => Value::string(text),
        Type::Timestamp => Value::Timestamp(time(text)?),
        Type::Bytes => Value::Bytes(bytes(text)?.into()),
    })
}

/// The instant that a cell spells.
pub(crate) fn time(text: &str) -> Option<Time> {
    Time::parse(text).or_else(|| Time::parse(&format!("{DAY}T{text}")))
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(digit).collect()
}

/// An instant as cells spell it: the time of day alone where the day is 2026-01-01.
pub(crate) fn spell_time(time: Time) -> String {
    let text = time.to_string();
    let text = text.strip_prefix(DAY).and_then(|rest| rest.strip_prefix('T')).unwrap_or(&text);
    let text = text.strip_suffix('Z').unwrap_or(text);
    let text = text.strip_suffix(".000").unwrap_or(text);
    let short = text.strip_suffix(":00").filter(|short| short.contains(':'));
    short.unwrap_or(text).to_owned()
}

/// A value as cells spell it.
pub(crate) fn spell(value: &Value) -> String {
    match value {
        Value::String(text) => spell_text(text),
        Value::Timestamp(time) => spell_time(*time),
        Value::List(values) => {
            let values: Vec<String> = values.iter().map(spell).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Counts(counts) => {
            let counts: Vec<String> =
                counts.iter().map(|(value, count)| format!("{}: {count}", spell(value))).collect();
            format!("[{}]", counts.join(", "))
        }
        Value::Float64(float) if float.fract() == 0.0 && float.abs() < 1e15 => format!("{float}"),
        other => other.to_string(),
    }
}

fn spell_text(text: &str) -> String {
    let plain = |character: char| character.is_alphanumeric() || " _-.@/+ß".contains(character);
    let bare = !text.is_empty() && text != "null" && text.trim() == text && text.chars().all(plain);
    if bare { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// A value and its status as cells spell them: the status is left out where the value tells it.
pub(crate) fn spell_answer(value: &Value, status: Status) -> String {
    let value_text = spell(value);
    if status == Status::of(value) { value_text } else { format!("{value_text} ({status})") }
}

/// Whether an expected cell means this value and status. A scalar may be spelled in any way that reads back as it.
pub(crate) fn means(text: &str, ty: Option<Type>, value: &Value, status: Status) -> bool {
    if text == spell_answer(value, status) {
        return true;
    }
    let (spelled, expected) = split_status(text);
    let Some(read) = ty.and_then(|ty| self::value(ty, spelled)) else { return false };
    read == *value && expected.unwrap_or_else(|| Status::of(&read)) == status
}

/// Takes ` (status)` off the end of a cell.
fn split_status(text: &str) -> (&str, Option<Status>) {
    let named = |(name, status): &(&str, Status)| {
        let rest = text.strip_suffix(')')?.strip_suffix(name)?.strip_suffix('(')?;
        Some((rest.trim_end(), Some(*status)))
    };
    Status::NAMED.iter().find_map(named).unwrap_or((text, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_spelled() {
        for (ty, text) in [
            (Type::Int64, "-7"),
            (Type::Float64, "0.1"),
            (Type::Float64, "NaN"),
            (Type::Float64, "-inf"),
            (Type::Float64, "3"),
            (Type::String, "settled"),
            (Type::String, "\"null\""),
            (Type::String, "\"a|\\\"b\""),
            (Type::Timestamp, "08:30"),
            (Type::Timestamp, "08:30:00.125"),
            (Type::Timestamp, "2025-12-31T08:30"),
            (Type::Bytes, "00ff"),
            (Type::Bool, "true"),
        ] {
            let value = value(ty, text).unwrap_or_else(|| panic!("{text} is a {ty}"));
            assert_eq!(spell(&value), text, "{value:?}");
        }
        assert_eq!(value(Type::Int64, "1.5"), None);
        assert_eq!(value(Type::Int64, ""), Some(Value::Null));
        assert_eq!(spell(&Value::Float64(1e300)), "1e300");
    }

    #[test]
    fn the_status_is_told_by_the_value_unless_it_is_another() {
        let zero = Value::Int64(0);
        assert_eq!(spell_answer(&zero, Status::Present), "0");
        assert_eq!(spell_answer(&Value::Null, Status::Null), "null");
        assert_eq!(spell_answer(&zero, Status::NotFound), "0 (not_found)");
        assert!(means("0 (not_found)", Some(Type::Int64), &zero, Status::NotFound));
        assert!(!means("0", Some(Type::Int64), &zero, Status::NotFound));
        assert!(means("", Some(Type::Int64), &Value::Null, Status::Null));
        assert!(means("1.50", Some(Type::Float64), &Value::float(1.5), Status::Present));
        assert!(!means("1.5000000001", Some(Type::Float64), &Value::float(1.5), Status::Present));
    }
}
