//! What a mapping of a definition file may hold: one table for each kind of mapping.
//!
//! The same table tells the reader which keys there are ([`Shape`](crate::shape::Shape)), and the [`reference`](crate::reference)
//! what to say about them. So a key that works is documented, and a key that is documented works: a reader that asks for a
//! key which its table lacks stops every test, and tests try each key of each table.

/// A kind of mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    /// What it declares, for messages: `a view`.
    pub(crate) what: &'static str,
    /// What it is for, in Markdown.
    pub(crate) about: &'static str,
    /// The keys that it may have, in the order in which people look for them.
    pub(crate) keys: &'static [Key],
    /// Which keys exclude each other.
    pub(crate) choice: Choice,
}

/// Which keys of a mapping exclude each other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice {
    /// None do.
    Free,
    /// At most one of these may be there.
    AtMostOne(&'static [&'static str]),
    /// One of these must be there, and no other.
    ExactlyOne(&'static [&'static str]),
}

/// One key of a mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// The previous name, which still works.
    pub(crate) was: Option<&'static str>,
    /// What its value may be.
    pub(crate) takes: Takes,
    pub(crate) absent: Absent,
    /// The key and value that it belongs to: without them it must not be there, and is not required.
    pub(crate) with: Option<(&'static str, &'static str)>,
    /// A value, as it is written in YAML.
    pub(crate) example: &'static str,
    /// What it does, in Markdown.
    pub(crate) about: &'static str,
}

/// What holds where a key is absent or has no value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Absent {
    /// The definitions are refused.
    Refused,
    /// The same as with this value, as it is written in YAML. It comes from the constant that the reader uses.
    Default(fn() -> String),
    /// Something that no value says, in words.
    Means(&'static str),
}

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Takes {
    /// A text of some form.
    Scalar(Form),
    /// A whole number, from the first to the last.
    Number(u64, u64),
    /// One of some words.
    Word(fn() -> Vec<&'static str>),
    /// A mapping with these keys.
    Mapping(&'static Table),
    /// A mapping whose keys are chosen by its author: the form of the keys, and that of the values.
    Pairs(Form, Form),
    /// A list.
    List(&'static Takes),
    /// Any of these.
    Either(&'static [Takes]),
}

/// The form of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    /// Its name.
    pub(crate) name: &'static str,
    /// The regular expression that every such text matches. Without one, a number or bool of YAML is such a text too.
    pub(crate) pattern: Option<&'static str>,
    /// How it is written, in Markdown. Nothing where its name says that.
    pub(crate) about: &'static str,
}

impl Table {
    /// The key of that name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The names of all keys, without the previous ones.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        self.keys.iter().map(|key| key.name)
    }

    /// Whether a key of that name may be there, under its previous name too.
    pub(crate) fn takes(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name == name || key.was == Some(name))
    }
}

impl Key {
    /// A key that must be there.
    pub(crate) const fn required(
        name: &'static str,
        takes: Takes,
        example: &'static str,
        about: &'static str,
    ) -> Self {
        Self { name, was: None, takes, absent: Absent::Refused, with: None, example, about }
    }

    /// A key with a default.
    pub(crate) const fn default(
        name: &'static str,
        takes: Takes,
        default: fn() -> String,
        example: &'static str,
        about: &'static str,
    ) -> Self {
        Self { name, was: None, takes, absent: Absent::Default(default), with: None, example, about }
    }

    /// A key whose absence means something that no value says.
    pub(crate) const fn optional(
        name: &'static str,
        takes: Takes,
        absent: &'static str,
        example: &'static str,
        about: &'static str,
    ) -> Self {
        Self { name, was: None, takes, absent: Absent::Means(absent), with: None, example, about }
    }

    /// The description that every declaration may have.
    pub(crate) const fn description(example: &'static str) -> Self {
        let about = "What it is for, in your own words. It does not change what a feature means.";
        Self::optional("description", Takes::Scalar(TEXT), "none", example, about)
    }

    /// With a name that it had before.
    pub(crate) const fn was(self, name: &'static str) -> Self {
        Self { was: Some(name), ..self }
    }

    /// Only where another key has this value.
    pub(crate) const fn with(self, key: &'static str, value: &'static str) -> Self {
        Self { with: Some((key, value)), ..self }
    }
}

/// Any text.
pub(crate) const TEXT: Form = Form { name: "text", pattern: None, about: "" };

/// A text in which environment variables may be named.
pub(crate) const SETTING: Form = Form {
    name: "setting",
    pattern: None,
    about: "A text in which `${NAME}` is the value of an environment variable. In braces (`{url: '${REDIS_URL}'}`) it needs quotes.",
};

/// The name of what definitions declare.
pub(crate) const NAME: Form = Form {
    name: "name",
    pattern: Some("^[a-z][a-z0-9_]{0,63}$"),
    about: "Lower-case letters, digits and `_`, starting with a letter, at most 64 characters.",
};

/// The name of a field, a key or a column of a row.
pub(crate) const FIELD: Form = Form {
    name: "field name",
    pattern: Some(r"^\p{Alphabetic}[\p{Alphabetic}\p{M}\p{N}_]{0,63}$"),
    about: "Letters of any alphabet and case, digits and `_`, starting with a letter, at most 64 characters, because a field has the name of \
            its data. Two fields of a source must differ in more than their case.",
};

/// A time zone.
pub(crate) const ZONE: Form = Form {
    name: "time zone",
    pattern: Some("^[A-Za-z]"),
    about: "A name of the IANA time zone database, such as `Europe/Berlin` or `UTC`. See [times without a \
            zone](../meaning.md#times-without-a-zone).",
};

/// A length of time: what [`Span::parse`](tidemark_kernel::Span::parse) reads.
pub(crate) const SPAN: Form = Form {
    name: "length of time",
    pattern: Some("^[0-9]+(ms|s|m|h|d)$"),
    about: "A whole number and a unit, without a space: `250ms`, `10s`, `10m`, `1h`, `7d`. A day has 24 hours.",
};

/// A scalar expression.
pub(crate) const SQL: Form = Form {
    name: "SQL expression",
    pattern: None,
    about: "Scalar SQL, see [expressions](../expressions.md). Use quotes where YAML gives a character another meaning: \
            in braces around a text with a comma, anywhere around one with `: ` or ` #`.",
};
