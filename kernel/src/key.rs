//! Entity keys as bytes: the form in which stores keep and compare them.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::codec::{DecodeError, Reader, Writer};
use crate::value::{Type, Value};

/// The canonical bytes of an entity's key values. Keys are compared as bytes and never coerced: the string `42`
/// and the integer 42 are different keys.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityKey(Box<[u8]>);

impl EntityKey {
    /// The key of these values; none where one of them is null.
    #[must_use]
    pub fn encode(values: &[Value]) -> Option<Self> {
        let mut out = Writer::new();
        for value in values {
            if value.is_null() {
                return None;
            }
            value.encode(&mut out);
        }
        Some(Self(out.into_bytes().into()))
    }

    /// The values of a key of known types.
    ///
    /// # Errors
    /// Fails where the bytes are no such key.
    pub fn decode(&self, types: impl IntoIterator<Item = Type>) -> Result<Vec<Value>, DecodeError> {
        let mut from = Reader::new(&self.0);
        let values: Result<Vec<_>, _> = types.into_iter().map(|ty| Value::decode(ty, &mut from)).collect();
        from.finish()?;
        values
    }

    /// A key read back from a store.
    #[must_use]
    pub fn from_bytes(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Which of `buckets` groups of entities the key belongs to. The same on every machine and in every version: stored
    /// states depend on it.
    #[must_use]
    pub fn bucket(&self, buckets: u16) -> u16 {
        (xxh3_64(&self.0) % u64::from(buckets.max(1))) as u16
    }
}

/// In hexadecimal, for messages of code that does not know the key's types.
impl fmt::Debug for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_values_apart() {
        let types = [Type::String, Type::Int64];
        let values = [Value::string("ab"), Value::Int64(-7)];
        let key = EntityKey::encode(&values).expect("no null");
        assert_eq!(key.decode(types), Ok(values.to_vec()));
        assert_ne!(Some(key), EntityKey::encode(&[Value::string("a"), Value::string("b")]));
        assert_eq!(EntityKey::encode(&[Value::Int64(1), Value::Null]), None);
        assert_ne!(EntityKey::encode(&[Value::Int64(42)]), EntityKey::encode(&[Value::string("42")]));
    }

    /// The golden file checks that buckets never change.
    #[test]
    fn entities_spread_over_all_buckets() {
        let bucket =
            |number, buckets| EntityKey::encode(&[Value::Int64(number)]).expect("no null").bucket(buckets);
        let mut filled = [0; 16];
        (0..1600).for_each(|number| filled[usize::from(bucket(number, 16))] += 1);
        assert!(filled.iter().all(|entities| (50..150).contains(entities)), "{filled:?}");
        assert_eq!([bucket(7, 1), bucket(7, 0)], [0, 0]);
    }
}
