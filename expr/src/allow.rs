//! What an expression may be written with: the one table of functions, and the operators and forms around them.
//!
//! A function is here because it gives the same bits for a row on every platform, in every batch. There is no
//! clock, no randomness, no regular expression and no function of several rows.

use std::fmt::Write as _;

use datafusion_functions::{core, string, unicode};
use tidemark_kernel::value::Type::{self, Bool, Float64, Int64, String as Text, Timestamp};

use crate::call::Work::{self, DataFusion, Kernel};
use crate::kernels::instants::{FLOORS, PARTS, epoch_ms, to_timestamp_millis};
use crate::kernels::{arithmetic, maths};

/// One entry of the documented list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The function's or operator's name.
    pub name: &'static str,
    /// How it is written, with types: `round(float64, int64) -> float64`, one line for each form.
    pub signature: String,
    /// What it does, in one sentence.
    pub summary: &'static str,
}

/// Everything that may be written in an expression: operators and forms first, then functions by name.
pub fn allowed() -> impl Iterator<Item = Allowed> {
    let forms = FORMS.iter().map(|(name, signature, summary)| Allowed {
        name,
        signature: (*signature).to_owned(),
        summary,
    });
    forms.chain(FUNCTIONS.iter().map(|function| Allowed {
        name: function.name,
        signature: function.signature(),
        summary: function.summary,
    }))
}

/// A function's entry.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    /// Other spellings.
    pub(crate) also: &'static [&'static str],
    pub(crate) shape: Shape,
    summary: &'static str,
}

/// What a function takes.
pub(crate) enum Shape {
    /// Arguments of given types.
    Fixed(&'static [Overload]),
    /// Arguments of any one type, which is also the result's; at least so many, at most so many.
    Alike { least: usize, most: usize, work: Alike },
    /// A quoted word and an instant.
    Unit { words: &'static [crate::kernels::instants::Unit], gives: Type },
}

/// Who carries out a function of arguments of one type.
pub(crate) enum Alike {
    /// The first argument that is not null; later ones are not looked at.
    Coalesce,
    /// A function of DataFusion's.
    Call(Work),
}

/// One list of types that a function takes.
pub(crate) struct Overload {
    pub(crate) takes: &'static [Type],
    /// Whether the last of them may be repeated.
    pub(crate) repeats: bool,
    pub(crate) gives: Type,
    pub(crate) work: Work,
}

impl Function {
    /// The function of that name, in any case.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        let matches = |known: &str| known.eq_ignore_ascii_case(name);
        FUNCTIONS
            .iter()
            .find(|function| matches(function.name) || function.also.iter().any(|also| matches(also)))
    }

    /// Every name that can be called.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        FUNCTIONS.iter().flat_map(|function| function.also.iter().copied().chain([function.name]))
    }

    /// How it is written, one line for each form.
    pub(crate) fn signature(&self) -> String {
        let name = self.name;
        match &self.shape {
            Shape::Fixed(overloads) => {
                let lines: Vec<_> = overloads.iter().map(|overload| overload.signature(name)).collect();
                lines.join("\n")
            }
            Shape::Alike { least: 2, most: 2, .. } => format!("{name}(T, T) -> T"),
            Shape::Alike { .. } => format!("{name}(T, ...) -> T"),
            Shape::Unit { gives, .. } => format!("{name}('unit', timestamp) -> {gives}"),
        }
    }
}

impl Overload {
    fn signature(&self, name: &str) -> String {
        let takes: Vec<_> = self.takes.iter().map(|ty| ty.name()).collect();
        let mut line = format!("{name}({}", takes.join(", "));
        let more = if self.repeats { ", ..." } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(line, "{more}) -> {}", self.gives);
        line
    }
}

const fn function(name: &'static str, forms: &'static [Overload], summary: &'static str) -> Function {
    Function { name, also: &[], shape: Shape::Fixed(forms), summary }
}

const fn of(takes: &'static [Type], gives: Type, work: Work) -> Overload {
    Overload { takes, repeats: false, gives, work }
}

const fn of_many(takes: &'static [Type], gives: Type, work: Work) -> Overload {
    Overload { takes, repeats: true, gives, work }
}

const fn alike(
    name: &'static str,
    least: usize,
    most: usize,
    work: Alike,
    summary: &'static str,
) -> Function {
    Function { name, also: &[], shape: Shape::Alike { least, most, work }, summary }
}

impl Function {
    const fn or(mut self, also: &'static [&'static str]) -> Self {
        self.also = also;
        self
    }
}

const ANY: usize = usize::MAX;

/// Names that people try, and why there is no such function.
pub(crate) static REFUSED: [(&[&str], &str); 3] = [
    (
        &[
            "now",
            "current_timestamp",
            "current_date",
            "current_time",
            "today",
            "localtime",
            "localtimestamp",
            "transaction_timestamp",
            "getdate",
            "sysdate",
        ],
        "an expression has no clock: it must give the same value whenever it is evaluated",
    ),
    (
        &["random", "rand", "uuid", "gen_random_uuid", "newid"],
        "an expression has no randomness: it must give the same value whenever it is evaluated",
    ),
    (
        &[
            "sum",
            "avg",
            "mean",
            "count",
            "min",
            "max",
            "first",
            "last",
            "last_n",
            "top_k",
            "var_pop",
            "var_samp",
            "stddev_pop",
            "stddev_samp",
            "stddev",
            "variance",
            "median",
            "approx_percentile",
            "array_agg",
            "first_value",
            "last_value",
            "string_agg",
            "approx_distinct",
            "row_number",
            "rank",
            "lag",
            "lead",
        ],
        "an expression sees one row: aggregates belong in a feature's `aggregate`",
    ),
];

/// Operators and forms: name, how it is written, what it does.
static FORMS: [(&str, &str, &str); 14] = [
    (
        "+ - *",
        "number + number -> number",
        "int64 is checked: overflow fails the row; with a float64 the result is float64",
    ),
    (
        "/",
        "number / number -> float64",
        "division by zero fails the row; of two int64 it is their exact quotient, rounded once to the nearest float64; \
         `div` is the whole quotient",
    ),
    (
        "%",
        "number % number -> number",
        "what remains of a division that is cut towards zero; division by zero fails the row",
    ),
    (
        "= <> < <= > >=",
        "T = T -> bool",
        "null if either side is null; NaN equals NaN and is greater than every number",
    ),
    ("is distinct from", "T is [not] distinct from T -> bool", "comparison where null equals null"),
    (
        "and or not",
        "bool and bool -> bool",
        "three-valued logic; the right side is not looked at where the left decides",
    ),
    ("is null", "T is [not] null -> bool", "whether there is no value"),
    ("is true", "bool is [not] true | false | unknown -> bool", "a test that is never null"),
    ("in", "T [not] in (T, ...) -> bool", "whether it equals one of the list"),
    ("between", "T [not] between T and T -> bool", "both ends included"),
    (
        "like",
        "string [not] like | ilike 'pattern' -> bool",
        "`%` is any text, `_` any character, a backslash takes the next one literally; the pattern is quoted text",
    ),
    ("||", "string || string -> string", "null if either side is null"),
    (
        "case",
        "case [T] when T then U ... [else U] end -> U",
        "the first branch that matches; others are not looked at",
    ),
    (
        "cast",
        "cast(T as type), try_cast(T as type) -> type",
        "what cannot be carried over fails the row, or is null for try_cast",
    ),
];

/// Every function, by name.
pub(crate) static FUNCTIONS: [Function; 47] = [
    function(
        "abs",
        &[of(&[Int64], Int64, Kernel(maths::abs_integers)), of(&[Float64], Float64, Kernel(maths::abs))],
        "The magnitude; the smallest int64 fails.",
    ),
    function("acos", &[of(&[Float64], Float64, Kernel(maths::acos))], "The arc cosine in radians."),
    function("asin", &[of(&[Float64], Float64, Kernel(maths::asin))], "The arc sine in radians."),
    function("atan", &[of(&[Float64], Float64, Kernel(maths::atan))], "The arc tangent in radians."),
    function(
        "atan2",
        &[of(&[Float64, Float64], Float64, Kernel(maths::atan2))],
        "The angle of (x, y), given y and x.",
    ),
    function(
        "btrim",
        &[of(&[Text], Text, DataFusion(string::btrim)), of(&[Text, Text], Text, DataFusion(string::btrim))],
        "Without spaces, or without the characters given, at both ends.",
    )
    .or(&["trim"]),
    function("cbrt", &[of(&[Float64], Float64, Kernel(maths::cbrt))], "The cube root."),
    function("ceil", &[of(&[Float64], Float64, Kernel(maths::ceil))], "The next whole number up.")
        .or(&["ceiling"]),
    alike("coalesce", 1, ANY, Alike::Coalesce, "The first that is not null; later ones are not looked at."),
    function(
        "concat",
        &[of_many(&[Text], Text, DataFusion(string::concat))],
        "The texts one after another; nulls are empty.",
    ),
    function(
        "contains",
        &[of(&[Text, Text], Bool, DataFusion(string::contains))],
        "Whether the second is in the first.",
    ),
    function("cos", &[of(&[Float64], Float64, Kernel(maths::cos))], "The cosine of radians."),
    Function {
        name: "date_part",
        also: &["datepart"],
        shape: Shape::Unit { words: &PARTS, gives: Int64 },
        summary: "A part of the instant in UTC: year, quarter, month, week (ISO), day, doy, dow (Sunday is 0), \
                  isodow (Monday is 1), hour, minute, second, epoch (whole seconds). Also extract(unit from t).",
    },
    Function {
        name: "date_trunc",
        also: &["datetrunc"],
        shape: Shape::Unit { words: &FLOORS, gives: Timestamp },
        summary: "The start in UTC of its year, quarter, month, week (from Monday), day, hour, minute or second.",
    },
    function(
        "div",
        &[of(&[Int64, Int64], Int64, Kernel(arithmetic::whole_quotients))],
        "The whole quotient, cut towards zero; division by zero and overflow fail.",
    ),
    function(
        "ends_with",
        &[of(&[Text, Text], Bool, DataFusion(string::ends_with))],
        "Whether the first ends with the second.",
    ),
    function(
        "epoch_ms",
        &[of(&[Timestamp], Int64, Kernel(epoch_ms))],
        "Milliseconds since 1970-01-01T00:00:00Z.",
    ),
    function("exp", &[of(&[Float64], Float64, Kernel(maths::exp))], "e to that power."),
    function("floor", &[of(&[Float64], Float64, Kernel(maths::floor))], "The next whole number down."),
    alike("greatest", 1, ANY, Alike::Call(DataFusion(core::greatest)), "The greatest; nulls are skipped."),
    alike("least", 1, ANY, Alike::Call(DataFusion(core::least)), "The least; nulls are skipped."),
    function(
        "left",
        &[of(&[Text, Int64], Text, DataFusion(unicode::left))],
        "The first n characters; for negative n all but the last -n.",
    ),
    function(
        "length",
        &[of(&[Text], Int64, DataFusion(unicode::character_length))],
        "The number of characters.",
    )
    .or(&["char_length", "character_length"]),
    function("ln", &[of(&[Float64], Float64, Kernel(maths::ln))], "The natural logarithm; NaN below zero."),
    function("log10", &[of(&[Float64], Float64, Kernel(maths::log10))], "The logarithm to base 10."),
    function("log2", &[of(&[Float64], Float64, Kernel(maths::log2))], "The logarithm to base 2."),
    function("lower", &[of(&[Text], Text, DataFusion(string::lower))], "In lower case, by Unicode."),
    function(
        "ltrim",
        &[of(&[Text], Text, DataFusion(string::ltrim)), of(&[Text, Text], Text, DataFusion(string::ltrim))],
        "Without spaces, or without the characters given, at the start.",
    ),
    alike(
        "nullif",
        2,
        2,
        Alike::Call(DataFusion(core::nullif)),
        "Null where both are equal, else the first.",
    ),
    function(
        "octet_length",
        &[of(&[Text], Int64, DataFusion(string::octet_length))],
        "The number of UTF-8 bytes.",
    ),
    function(
        "power",
        &[of(&[Float64, Float64], Float64, Kernel(maths::power))],
        "The first to the power of the second.",
    )
    .or(&["pow"]),
    function(
        "replace",
        &[of(&[Text, Text, Text], Text, DataFusion(string::replace))],
        "Every occurrence of the second replaced by the third.",
    ),
    function(
        "reverse",
        &[of(&[Text], Text, DataFusion(unicode::reverse))],
        "The characters in reverse order.",
    ),
    function(
        "right",
        &[of(&[Text, Int64], Text, DataFusion(unicode::right))],
        "The last n characters; for negative n all but the first -n.",
    ),
    function(
        "round",
        &[
            of(&[Float64], Float64, Kernel(maths::round)),
            of(&[Float64, Int64], Float64, Kernel(maths::round_to)),
        ],
        "To whole numbers, or to so many decimal places (at most 22), half away from zero.",
    ),
    function(
        "rtrim",
        &[of(&[Text], Text, DataFusion(string::rtrim)), of(&[Text, Text], Text, DataFusion(string::rtrim))],
        "Without spaces, or without the characters given, at the end.",
    ),
    function(
        "signum",
        &[
            of(&[Int64], Int64, Kernel(maths::signum_integers)),
            of(&[Float64], Float64, Kernel(maths::signum)),
        ],
        "-1, 0 or 1.",
    )
    .or(&["sign"]),
    function("sin", &[of(&[Float64], Float64, Kernel(maths::sin))], "The sine of radians."),
    function(
        "split_part",
        &[of(&[Text, Text, Int64], Text, DataFusion(string::split_part))],
        "The n-th part between separators, from 1; from the end for negative n; 0 fails.",
    ),
    function("sqrt", &[of(&[Float64], Float64, Kernel(maths::sqrt))], "The square root; NaN below zero."),
    function(
        "starts_with",
        &[of(&[Text, Text], Bool, DataFusion(string::starts_with))],
        "Whether the first starts with the second.",
    ),
    function(
        "strpos",
        &[of(&[Text, Text], Int64, DataFusion(unicode::strpos))],
        "Where the second first occurs in the first, in characters from 1; 0 if nowhere.",
    )
    .or(&["instr"]),
    function(
        "substr",
        &[
            of(&[Text, Int64], Text, DataFusion(unicode::substr)),
            of(&[Text, Int64, Int64], Text, DataFusion(unicode::substr)),
        ],
        "From that character (from 1) on, so many; a negative length fails.",
    )
    .or(&["substring"]),
    function("tan", &[of(&[Float64], Float64, Kernel(maths::tan))], "The tangent of radians."),
    function(
        "to_timestamp_millis",
        &[of(&[Int64], Timestamp, Kernel(to_timestamp_millis))],
        "The instant so many milliseconds after 1970-01-01T00:00:00Z; outside the years 1 to 9999 fails.",
    ),
    function(
        "trunc",
        &[
            of(&[Float64], Float64, Kernel(maths::trunc)),
            of(&[Float64, Int64], Float64, Kernel(maths::trunc_to)),
        ],
        "Towards zero, to whole numbers or to so many decimal places (at most 22).",
    ),
    function("upper", &[of(&[Text], Text, DataFusion(string::upper))], "In upper case, by Unicode."),
];
