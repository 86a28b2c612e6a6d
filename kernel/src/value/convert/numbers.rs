//! Numbers and bools: where one type's value is another's, and how text spells them.

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

/// The int64 that a float is; none where it has a fraction, is out of range, or not finite.
pub(super) fn whole(float: f64) -> Option<i64> {
    // 2^63 is the first float64 behind those that an int64 holds.
    let limit = 9_223_372_036_854_775_808.0;
    (float.trunc() == float && (-limit..limit).contains(&float)).then_some(float as i64)
}

/// The float64 that is this number and no other.
pub(super) fn exact_float(number: i128) -> Option<f64> {
    let float = number as f64;
    (float as i128 == number).then_some(float)
}

/// The int64 that digits without anything else are.
pub(super) fn int64_of_digits(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let are_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if are_digits { text.parse().ok() } else { None }
}

/// The int64 that a text spells, with blanks around it or not. A fraction of zeros is what pandas makes of whole numbers
/// beside a null. An exponent is not read: codes such as `32E0134` look like one.
pub(super) fn int64_of_text(text: &str) -> Option<i64> {
    let text = text.trim();
    match text.split_once('.') {
        Some((number, zeros)) if !zeros.is_empty() && zeros.bytes().all(|zero| zero == b'0') => {
            number.parse().ok()
        }
        _ => text.parse().ok(),
    }
}

/// The int64 that a number in digits is, exactly: `1.0` and `1e3`, but not `1.5`.
pub(super) fn int64_of_number(number: &str) -> Option<i64> {
    if let Ok(whole) = number.parse() {
        return Some(whole);
    }
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (is_negative, size) = mantissa.strip_prefix('-').map_or((false, mantissa), |size| (true, size));
    let (whole, fraction) = size.split_once('.').unwrap_or((size, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let point = i64::try_from(whole.len()).ok()?.checked_add(exponent.parse().ok()?)?;
    let zeros = usize::try_from(point.checked_sub(i64::try_from(significant.len()).ok()?)?).ok()?;
    let significant = significant.trim_start_matches('0');
    if significant.len() > DIGITS || zeros > DIGITS {
        return None;
    }
    let size = significant.parse::<i128>().ok()? * 10_i128.pow(u32::try_from(zeros).ok()?);
    i64::try_from(if is_negative { -size } else { size }).ok()
}

/// The float64 that is nearest to what a text spells, with blanks around it or not. What is too large for one is none:
/// infinity is so only by name.
pub(super) fn float_of_text(text: &str) -> Option<f64> {
    let text = text.trim();
    float_of_name(text).or_else(|| text.parse().ok().filter(|float: &f64| float.is_finite()))
}

/// The float64 that digits cannot spell: `NaN`, `inf`, `Infinity` and their negatives, in any case.
pub(super) fn float_of_name(text: &str) -> Option<f64> {
    let is_name = !text.contains(|character: char| character.is_ascii_digit());
    if is_name { text.parse().ok() } else { None }
}
