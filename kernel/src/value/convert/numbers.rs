//! Numbers and bools: which values convert from one type to another, and how they are parsed from text.

use super::NoInt64;

/// How many digits an int64 has at most.
const DIGITS: usize = 19;

/// The bool that an integer is.
pub(super) fn truth(number: i128) -> Option<bool> {
    match number {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// The words that databases, data frames and spreadsheets write for bools, in any case.
pub(super) fn bool_of_text(text: &str) -> Option<bool> {
    let is_any = |words: [&str; 5]| words.iter().any(|word| text.trim().eq_ignore_ascii_case(word));
    if is_any(["true", "t", "yes", "y", "1"]) {
        Some(true)
    } else if is_any(["false", "f", "no", "n", "0"]) {
        Some(false)
    } else {
        None
    }
}

/// The int64 that a float is, whose type has a significand of so many bits.
pub(super) fn int64_of_float(float: f64, bits: u32) -> Result<i64, NoInt64> {
    // 2^63 is the smallest float64 above the int64 range.
    let limit = 9_223_372_036_854_775_808.0;
    if float.trunc() != float {
        return Err(NoInt64::Fraction);
    }
    if !(-limit..limit).contains(&float) {
        return Err(NoInt64::Range);
    }
    exact(float as i64, bits)
}

/// A whole number of a float; an error beyond those that a significand of so many bits has one by one.
fn exact(number: i64, bits: u32) -> Result<i64, NoInt64> {
    if number.unsigned_abs() <= 1 << bits { Ok(number) } else { Err(NoInt64::Rounded) }
}

/// The float64 that is this number and no other.
pub(super) fn exact_float(number: i128) -> Option<f64> {
    let float = number as f64;
    (float as i128 == number).then_some(float)
}

/// The int64 that digits without anything else are.
pub(super) fn int64_of_digits(text: &str) -> Result<i64, NoInt64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !are_digits(digits) {
        return Err(NoInt64::NoNumber);
    }
    text.parse().map_err(|_| NoInt64::Range)
}

fn are_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The int64 that a text of digits is; with a point or an exponent only where a float64 would be exact.
pub(super) fn int64_of_text(text: &str) -> Result<i64, NoInt64> {
    match text.parse() {
        Ok(whole) => Ok(whole),
        Err(_) => exact(int64_of_decimal(text)?, f64::MANTISSA_DIGITS),
    }
}

/// The int64 that a number in digits is, every digit of it: `1.0` and `1e3`, but not `1.5`.
pub(super) fn int64_of_decimal(number: &str) -> Result<i64, NoInt64> {
    let is_negative = number.starts_with('-');
    let size = number.strip_prefix(['-', '+']).unwrap_or(number);
    let (mantissa, exponent) = size.split_once(['e', 'E']).unwrap_or((size, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let power = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    if ![whole, fraction, power].into_iter().all(are_digits) {
        return Err(NoInt64::NoNumber);
    }
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    let end = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
    let exponent: i64 = exponent.parse().unwrap_or(end);
    let zeros = exponent.saturating_add(whole.len() as i64).saturating_sub(significant.len() as i64);
    let zeros = usize::try_from(zeros).map_err(|_| NoInt64::Fraction)?;
    let significant = significant.trim_start_matches('0');
    if significant.len().saturating_add(zeros) > DIGITS {
        return Err(NoInt64::Range);
    }
    let sign = if is_negative { "-" } else { "" };
    format!("{sign}{significant}{}", "0".repeat(zeros)).parse().map_err(|_| NoInt64::Range)
}

/// The float64 that is nearest to a number in digits; none beyond its range.
pub(super) fn finite(digits: &str) -> Option<f64> {
    digits.parse().ok().filter(|float: &f64| float.is_finite())
}

/// The float64 that is nearest to what a text spells, with blanks around it or not. What is too large for one is none:
/// infinity is so only by name.
pub(super) fn float_of_text(text: &str) -> Option<f64> {
    let text = text.trim();
    float_of_name(text).or_else(|| finite(text))
}

/// The float64 that digits cannot spell: `NaN`, `inf`, `Infinity` and their negatives, in any case.
pub(super) fn float_of_name(text: &str) -> Option<f64> {
    let is_name = !text.contains(|character: char| character.is_ascii_digit());
    if is_name { text.parse().ok() } else { None }
}
