//! States in parts, so that a store writes what has changed of a large state and not all of it.
//!
//! A state is one string of bytes: its first part, and then its other parts by ascending number.
//! [`PartitionState`](crate::PartitionState) decides which parts there are and what is in them; a store keeps them
//! apart, and gives the whole back.

/// A write of one state: the parts that have changed, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The first part, which every state has. It changes with every event.
    pub first: Vec<u8>,
    /// Other parts by ascending number, each once; none removes the part.
    pub parts: Vec<(i64, Option<Vec<u8>>)>,
    /// What to do with parts that are not named here.
    pub rest: Rest,
}

/// What to do with parts of a state that a [`StateChange`] does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// The other parts are removed: this is the whole state, whatever is stored.
    Removed,
    /// The writer knows that nothing but a first part was stored, if anything. This is the whole state, and a store need not
    /// look for other parts.
    Absent,
    /// The other parts stay as they are. Where the state is not stored any more, nothing may be written: the caller
    /// must give it whole.
    Kept,
}

impl StateChange {
    /// A whole state that has one part.
    #[must_use]
    pub const fn whole(bytes: Vec<u8>) -> Self {
        Self { first: bytes, parts: Vec::new(), rest: Rest::Removed }
    }

    /// How many bytes are written.
    #[must_use]
    pub fn size(&self) -> usize {
        let others = self.parts.iter().filter_map(|(_, part)| part.as_ref());
        self.first.len() + others.map(Vec::len).sum::<usize>()
    }
}
