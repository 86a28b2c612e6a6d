//! Keys and values as stored in Redis: format 1. `docs/redis-layout.md` has them byte by byte, with the reasons.

use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tidemark_kernel::event::Partition;
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::plan::Fingerprint;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::contract::Generation;

/// The format this version writes, and the newest it reads.
pub(super) const FORMAT: u32 = 1;

/// The name of the key that holds the format.
pub(super) fn format_key(prefix: &str) -> String {
    format!("{prefix}:format")
}

/// The name of the key that says what is wrong with all that is there; absent while all is well.
pub(super) fn damage_key(prefix: &str) -> String {
    format!("{prefix}:damaged")
}

/// The name of the hash that holds, for each source, the id of the event table that its views' states were made from.
pub(super) fn histories_key(prefix: &str) -> String {
    format!("{prefix}:histories")
}

/// The name of the hash that holds a view's generations and which of them is live.
pub(super) fn view_key(prefix: &str, view: &str) -> String {
    format!("{prefix}:{{{}}}", escape(view))
}

/// The `MATCH` pattern of all [`view_key`]s. It also matches what lies in buckets.
pub(super) fn views_pattern(prefix: &str) -> String {
    format!("{prefix}:{{*}}")
}

/// The view of a [`view_key`]; none if the name is another's.
pub(super) fn view_of(prefix: &str, name: &[u8]) -> Option<String> {
    let escaped = name.strip_prefix(format!("{prefix}:{{").as_bytes())?.strip_suffix(b"}")?;
    unescape(str::from_utf8(escaped).ok()?)
}

/// The names of the keys of one generation. Those of one bucket share a hash tag.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    stem: String,
}

impl Keys {
    pub(super) fn new(prefix: &str, generation: &Generation) -> Self {
        Self { stem: format!("{prefix}:{{{}:{}:", escape(&generation.view), generation.number) }
    }

    /// The hash that holds a bucket's positions.
    pub(super) fn bucket(&self, bucket: u16) -> String {
        format!("{}{bucket}}}", self.stem)
    }

    /// The hash that holds an entity's states.
    pub(super) fn entity(&self, bucket: u16, key: &EntityKey) -> Vec<u8> {
        let mut name = self.bucket(bucket).into_bytes();
        name.push(b':');
        name.extend_from_slice(key.as_bytes());
        name
    }

    /// What the names of all of them begin with, and those of no other generation.
    pub(super) fn stem(&self) -> &str {
        &self.stem
    }
}

/// A `MATCH` pattern of all entities of these generations, as narrow as one pattern can be.
pub(super) fn pattern(prefix: &str, generations: &[Generation]) -> String {
    match generations {
        [one] => format!("{}*}}:*", Keys::new(prefix, one).stem),
        [first, others @ ..] if others.iter().all(|other| other.view == first.view) => {
            format!("{prefix}:{{{}:*}}:*", escape(&first.view))
        }
        _ => format!("{prefix}:{{*}}:*"),
    }
}

/// The [stem](Keys::stem) of the generation, and the entity, whose states lie in the hash of this name; none if it is no
/// entity's.
pub(super) fn entity_of(name: &[u8]) -> Option<(&[u8], EntityKey)> {
    let end = name.iter().position(|byte| *byte == b'}')?;
    let stem = name[..end].iter().rposition(|byte| *byte == b':')? + 1;
    let key = name[end + 1..].strip_prefix(b":")?;
    name[stem..end].iter().all(u8::is_ascii_digit).then(|| (&name[..stem], EntityKey::from_bytes(key)))
}

/// All that could end a hash tag, part a name or be a wildcard.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.');

/// The same for a prefix, whose parts are separated by colons.
const PREFIX: &AsciiSet = &NAME.remove(b':');

fn escape(text: &str) -> String {
    utf8_percent_encode(text, NAME).to_string()
}

pub(super) fn escape_prefix(prefix: &str) -> String {
    utf8_percent_encode(prefix, PREFIX).to_string()
}

/// Undoes [`escape`]; none if it was not what made this.
fn unescape(escaped: &str) -> Option<String> {
    let text = percent_decode_str(escaped).decode_utf8().ok()?.into_owned();
    (escape(&text) == escaped).then_some(text)
}

/// The bytes of a checksum.
pub(super) const SUM: usize = 4;

/// A state with the checksum that binds it to the name of its hash and to its partition. The checksum comes last, so that
/// neither sealing nor unsealing moves the state.
pub(super) fn seal(name: &[u8], partition: Partition, mut state: Vec<u8>) -> Vec<u8> {
    let sum = checksum(name, partition, &state);
    state.extend_from_slice(&sum);
    state
}

/// The state of a sealed one; none if it is not what was sealed here.
pub(super) fn unseal(name: &[u8], partition: Partition, mut sealed: Vec<u8>) -> Option<Vec<u8>> {
    let (state, sum) = sealed.split_last_chunk::<SUM>()?;
    if checksum(name, partition, state) != *sum {
        return None;
    }
    sealed.truncate(sealed.len() - SUM);
    Some(sealed)
}

/// A part of a state but the first, with the checksum that binds it to its number as well.
pub(super) fn seal_part(name: &[u8], partition: Partition, number: i64, mut part: Vec<u8>) -> Vec<u8> {
    let sum = checksum_of_part(name, partition, number, &part);
    part.extend_from_slice(&sum);
    part
}

/// The part of a sealed one; none if it is not what was sealed here.
pub(super) fn unseal_part<'a>(
    name: &[u8],
    partition: Partition,
    number: i64,
    sealed: &'a [u8],
) -> Option<&'a [u8]> {
    let (part, sum) = sealed.split_last_chunk::<SUM>()?;
    (checksum_of_part(name, partition, number, part) == *sum).then_some(part)
}

fn checksum(name: &[u8], partition: Partition, state: &[u8]) -> [u8; SUM] {
    low(xxh3_64_with_seed(state, place(name, partition)))
}

fn checksum_of_part(name: &[u8], partition: Partition, number: i64, part: &[u8]) -> [u8; SUM] {
    let place = xxh3_64_with_seed(&number.to_le_bytes(), place(name, partition));
    low(xxh3_64_with_seed(part, place))
}

fn place(name: &[u8], partition: Partition) -> u64 {
    xxh3_64_with_seed(name, u64::from(partition.0.cast_unsigned()))
}

fn low(hash: u64) -> [u8; SUM] {
    let [a, b, c, d, ..] = hash.to_le_bytes();
    [a, b, c, d]
}

/// What a field of an entity's hash holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// The first part of the state of a partition.
    First(Partition),
    /// The other part of this number.
    Part(Partition, i64),
    /// The numbers of the other parts, so that they are found without reading all fields.
    Numbers(Partition),
}

impl Field {
    /// The field of this name; none if it is no entity's.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        let name = str::from_utf8(name).ok()?;
        if let Some(partition) = name.strip_suffix('+') {
            return Some(Self::Numbers(Partition(number(partition)?)));
        }
        match name.split_once('.') {
            None => Some(Self::First(Partition(number(name)?))),
            Some((partition, part)) => Some(Self::Part(Partition(number(partition)?), number(part)?)),
        }
    }
}

/// A number as it is written here, and in no other spelling.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_usual = !digits.starts_with(['+', '0']) || text == "0";
    text.parse().ok().filter(|_| is_usual)
}

/// How the live generation is written, and named to scripts: `number fingerprint`.
pub(super) fn generation_text(generation: &Generation) -> String {
    format!("{} {}", generation.number, generation.fingerprint)
}

/// The generation of `view` that [`generation_text`] wrote.
pub(super) fn generation_of(view: &str, text: &str) -> Option<Generation> {
    let (number, fingerprint) = text.split_once(' ')?;
    Some(Generation {
        view: view.to_owned(),
        number: number.parse().ok()?,
        fingerprint: Fingerprint::parse(fingerprint)?,
    })
}

/// How far a generation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not every bucket has its positions yet.
    Begun,
    /// All there.
    Complete,
    /// Being removed.
    Dropped,
}

/// The stage and the generation that a field of a view's hash records.
pub(super) fn record_of(view: &str, number: &str, value: &str) -> Option<(Stage, Generation)> {
    let (stage, fingerprint) = value.split_once(' ')?;
    let stage = match stage {
        "begun" => Stage::Begun,
        "complete" => Stage::Complete,
        "dropped" => Stage::Dropped,
        _ => return None,
    };
    Some((stage, generation_of(view, &format!("{number} {fingerprint}"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(view: &str) -> Generation {
        Generation { view: view.to_owned(), number: 1_763_900_000_000_000, fingerprint: Fingerprint([7; 16]) }
    }

    /// The bytes of format 1. If this fails, what a released version wrote can no longer be read.
    #[test]
    fn format_1_never_changes() {
        let keys = Keys::new("tm:shop", &generation("payments"));
        let key = EntityKey::from_bytes(*b"\0}\xff");
        let name = keys.entity(3, &key);
        assert_eq!(format_key("tm:shop"), "tm:shop:format");
        assert_eq!(damage_key("tm:shop"), "tm:shop:damaged");
        assert_eq!(histories_key("tm:shop"), "tm:shop:histories");
        assert_eq!(view_key("tm:shop", "payments"), "tm:shop:{payments}");
        assert_eq!(keys.bucket(3), "tm:shop:{payments:1763900000000000:3}");
        assert_eq!(name, b"tm:shop:{payments:1763900000000000:3}:\0}\xff");
        let all = pattern("tm:shop", &[generation("payments")]);
        assert_eq!(all, "tm:shop:{payments:1763900000000000:*}:*");
        assert_eq!(generation_text(&generation("payments")), format!("1763900000000000 {}", "07".repeat(16)));
        assert_eq!(seal(b"name", Partition::FILE, b"state".to_vec()), b"state\xb8\x53\x83\x12");
        let part = |number| seal_part(b"name", Partition::FILE, number, b"part".to_vec());
        assert_eq!(part(1_763_900_000), b"part\x7d\x03\xc2\x2d");
        assert_eq!(part(-1), b"part\x96\x5e\x74\x04");
    }

    #[test]
    fn fields_are_told_apart() {
        for (name, field) in [
            ("0", Field::First(Partition(0))),
            ("-2", Field::First(Partition::PUSH)),
            ("0.1763900000", Field::Part(Partition(0), 1_763_900_000)),
            ("-1.-7", Field::Part(Partition::FILE, -7)),
            ("12.-9223372036854775808", Field::Part(Partition(12), i64::MIN)),
            ("3+", Field::Numbers(Partition(3))),
        ] {
            assert_eq!(Field::of(name.as_bytes()), Some(field), "{name}");
        }
        for wrong in [
            "",
            "color",
            ".",
            "0.",
            ".1",
            "+",
            "0.1+",
            "0.1.2",
            "0 ",
            "2147483648",
            "\u{fc}",
            "+5",
            "05",
            "-0",
            "0.+7",
            "0.07",
        ] {
            assert_eq!(Field::of(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(Field::of(b"\xff"), None);
    }

    #[test]
    fn names_are_read_back() {
        let keys = Keys::new("tm", &generation("payments"));
        for bytes in [b"".as_slice(), b"k", b"}:", b":{x}:", &[0, 255, 10]] {
            let key = EntityKey::from_bytes(bytes);
            assert_eq!(entity_of(&keys.entity(15, &key)), Some((keys.stem().as_bytes(), key)));
        }
        for foreign in [keys.bucket(3).as_bytes(), b"x", b"tm:{payments:1:x}:k", b"tm:{payments}:k", b"}:k"] {
            assert_eq!(entity_of(foreign), None);
        }

        for view in ["payments", "a b", "a}b", "a:1:2}:e", "ünï*?[x]\\", "%41", ""] {
            let name = view_key("tm", view);
            assert_eq!(view_of("tm", name.as_bytes()).as_deref(), Some(view), "{name}");
            let tag = name.split(['{', '}']).nth(1).expect("a tag");
            assert_eq!(name, format!("tm:{{{tag}}}"), "the tag is the whole of the view");
        }
        for other in
            ["tm:{payments:1:2}", "tm:{payments:1:2}:x}", "tm:{%4}", "tm:{%6a}", "tn:{a}", "tm:format"]
        {
            assert_eq!(view_of("tm", other.as_bytes()), None, "{other}");
        }
        assert_eq!(escape_prefix("tm:my shop{1}*"), "tm:my%20shop%7B1%7D%2A");
        let ascii: String = (0..128u8).map(char::from).collect();
        let left_alone = |escape: fn(&str) -> String| -> String {
            ascii.chars().filter(|plain| escape(&plain.to_string()).len() == 1).collect()
        };
        let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
        assert_eq!(left_alone(escape), format!("-.0123456789{letters}"));
        assert_eq!(left_alone(escape_prefix), format!("-.0123456789:{letters}"));
        assert_eq!(escape("\u{0}\u{7f}%\u{fc}"), "%00%7F%25%C3%BC");
    }

    #[test]
    fn records_are_read_back() {
        let of = generation("payments");
        assert_eq!(generation_of("payments", &generation_text(&of)), Some(of.clone()));
        let fingerprint = of.fingerprint;
        for (stage, word) in
            [(Stage::Begun, "begun"), (Stage::Complete, "complete"), (Stage::Dropped, "dropped")]
        {
            let record = record_of("payments", "1763900000000000", &format!("{word} {fingerprint}"));
            assert_eq!(record, Some((stage, of.clone())));
        }
        for wrong in ["", "complete", "complete 07", "lost 07070707070707070707070707070707"] {
            assert_eq!(record_of("payments", "1", wrong), None, "{wrong}");
        }
        assert_eq!(record_of("payments", "x", &format!("complete {fingerprint}")), None);
    }

    #[test]
    fn a_seal_holds_a_state_in_its_place() {
        let sealed = seal(b"name", Partition(0), b"state".to_vec());
        assert_eq!(unseal(b"name", Partition(0), sealed.clone()), Some(b"state".to_vec()));
        assert_eq!(unseal(b"namf", Partition(0), sealed.clone()), None);
        assert_eq!(unseal(b"name", Partition(1), sealed.clone()), None);
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert_eq!(unseal(b"name", Partition(0), flipped), None);
            assert_eq!(unseal(b"name", Partition(0), sealed[..at].to_vec()), None);
        }
        let empty = seal(b"", Partition(0), Vec::new());
        assert_eq!(unseal(b"", Partition(0), empty), Some(Vec::new()));
    }

    #[test]
    fn a_seal_holds_a_part_in_its_place() {
        let sealed = seal_part(b"name", Partition(0), 7, b"part".to_vec());
        assert_eq!(unseal_part(b"name", Partition(0), 7, &sealed), Some(&b"part"[..]));
        assert_eq!(unseal_part(b"namf", Partition(0), 7, &sealed), None);
        assert_eq!(unseal_part(b"name", Partition(1), 7, &sealed), None);
        assert_eq!(unseal_part(b"name", Partition(0), 8, &sealed), None);
        assert_eq!(unseal(b"name", Partition(0), sealed.clone()), None, "it is no first part");
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert_eq!(unseal_part(b"name", Partition(0), 7, &flipped), None);
            assert_eq!(unseal_part(b"name", Partition(0), 7, &sealed[..at]), None);
        }
        assert_eq!(
            unseal_part(b"", Partition(0), 0, &seal_part(b"", Partition(0), 0, Vec::new())),
            Some(&b""[..])
        );
    }
}
