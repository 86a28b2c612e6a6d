//! The bins of the sketch: counts of magnitudes between 1e-9 and 1e12.

use std::cmp::Ordering;
use std::iter;

use smallvec::SmallVec;

use crate::aggregate::sorted::{self, Item};
use crate::codec::{DecodeError, Reader, Writer};

/// The least magnitude; what is below counts as this.
const LEAST: f64 = 1e-9;
/// The greatest magnitude; what is above counts as this.
const GREATEST: f64 = 1e12;
/// How much larger the upper edge of a bin is than the lower. The relative error of the best representative is
/// `(GROWTH - 1) / (GROWTH + 1)` = 0.0099: what is missing to 0.01 is far more than edges can err by rounding.
const GROWTH: f64 = 1.02;
/// How many bins there are.
const BINS: usize = 2443;
/// Up to so many bins in use are kept apart, each with its index. A small tile's values often lie far apart.
const FEW: usize = 32;

/// The upper edges of the bins, which belong to them; an edge below is the lower one. Made of multiplications
/// alone, they are the same on every machine, as no logarithm would be.
static EDGES: [f64; BINS] = edges();

const fn edges() -> [f64; BINS] {
    let mut edges = [LEAST; BINS];
    let mut i = 1;
    while i < BINS {
        edges[i] = edges[i - 1] * GROWTH;
        i += 1;
    }
    assert!(edges[BINS - 2] < GREATEST && GREATEST <= edges[BINS - 1]);
    edges
}

/// The bin of a magnitude above zero.
pub(super) fn index(magnitude: f64) -> u16 {
    let magnitude = magnitude.min(GREATEST);
    EDGES.partition_point(|edge| *edge < magnitude) as u16
}

/// The magnitude with the least relative error to all others of its bin.
fn representative(index: u16) -> f64 {
    const BELOW_EDGE: f64 = 2.0 / (1.0 + GROWTH);
    if index == 0 { LEAST } else { EDGES[usize::from(index)] * BELOW_EDGE }
}

/// Counts by bin. The form is decided by how many bins are in use, so that equal counts are equal bins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bins {
    /// Up to [`FEW`] bins in use.
    Few(SmallVec<[Bin; 1]>),
    /// Every bin from the first to the last in use.
    Many(Range),
}

/// A bin in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bin {
    index: u16,
    count: u64,
}

/// Counts of adjacent bins; the first and the last are in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    first: u16,
    counts: Vec<u64>,
}

impl Item for Bin {
    fn place(&self, other: &Self) -> Ordering {
        self.index.cmp(&other.index)
    }

    fn absorb(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
    }
}

impl Default for Bins {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl Bins {
    /// Counts `count` magnitudes of one bin; `count` is not 0.
    pub(super) fn add(&mut self, index: u16, count: u64) {
        match self {
            Self::Few(bins) => sorted::insert(bins, Bin { index, count }),
            Self::Many(range) => range.add(Bin { index, count }),
        }
        self.promote();
    }

    /// Adds all counts of `other`.
    pub(super) fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::Few(mine), Self::Few(theirs)) => sorted::unite(mine, theirs),
            (Self::Many(mine), Self::Few(theirs)) => theirs.iter().for_each(|bin| mine.add(*bin)),
            (Self::Many(mine), Self::Many(theirs)) => mine.merge(theirs),
            (Self::Few(mine), Self::Many(theirs)) => {
                let mut range = theirs.clone();
                mine.iter().for_each(|bin| range.add(*bin));
                *self = Self::Many(range);
            }
        }
        self.promote();
    }

    fn promote(&mut self) {
        if let Self::Few(bins) = self
            && bins.len() > FEW
        {
            let mut range = Range { first: bins[0].index, counts: Vec::new() };
            bins.iter().for_each(|bin| range.add(*bin));
            *self = Self::Many(range);
        }
    }

    /// How many magnitudes there are.
    pub(super) fn total(&self) -> u64 {
        self.in_use().fold(0, |total, bin| total.saturating_add(bin.count))
    }

    /// The magnitude of a rank, from 0, within the relative error; the greatest where there are fewer.
    pub(super) fn magnitude(&self, rank: u64) -> f64 {
        let mut seen = 0u64;
        let bin = self.in_use().find(|bin| {
            seen = seen.saturating_add(bin.count);
            seen > rank
        });
        bin.map_or(GREATEST, |bin| representative(bin.index))
    }

    /// The bins in use, by magnitude.
    fn in_use(&self) -> impl Iterator<Item = Bin> {
        let (few, many) = match self {
            Self::Few(bins) => (bins.as_slice(), None),
            Self::Many(range) => (&[][..], Some(range)),
        };
        few.iter().copied().chain(many.into_iter().flat_map(Range::in_use))
    }

    /// The number of bins in use, then for each how many bins were skipped before it, and its count.
    pub(super) fn encode(&self, out: &mut Writer) {
        out.varint(self.in_use().count() as u64);
        let mut next = 0;
        for Bin { index, count } in self.in_use() {
            out.varint(u64::from(index - next));
            out.varint(count);
            next = index + 1;
        }
    }

    /// Reads what [`Bins::encode`] wrote.
    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut bins = SmallVec::new();
        let mut next = 0;
        for _ in 0..from.count(2)? {
            let start = from.clone();
            let (skipped, count) = (from.varint()?, from.varint()?);
            let index = skipped.checked_add(next).filter(|index| *index < BINS as u64 && count > 0);
            let index = index.ok_or_else(|| start.malformed("a bin in use"))?;
            bins.push(Bin { index: index as u16, count });
            next = index + 1;
        }
        let mut bins = Self::Few(bins);
        bins.promote();
        Ok(bins)
    }
}

impl Range {
    fn add(&mut self, bin: Bin) {
        self.cover(bin.index, 1);
        let count = &mut self.counts[usize::from(bin.index - self.first)];
        *count = count.saturating_add(bin.count);
    }

    fn merge(&mut self, other: &Self) {
        self.cover(other.first, other.counts.len());
        let from = usize::from(other.first - self.first);
        for (mine, theirs) in self.counts[from..].iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// Extends both ends as far as needed to hold `length` bins from `first` on.
    fn cover(&mut self, first: u16, length: usize) {
        if first < self.first {
            let missing = usize::from(self.first - first);
            self.counts.splice(..0, iter::repeat_n(0, missing));
            self.first = first;
        }
        let end = usize::from(first - self.first) + length;
        if end > self.counts.len() {
            self.counts.resize(end, 0);
        }
    }

    fn in_use(&self) -> impl Iterator<Item = Bin> {
        let bins = (self.first..).zip(&self.counts).map(|(index, count)| Bin { index, count: *count });
        bins.filter(|bin| bin.count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::RELATIVE_ERROR;

    /// The error grows with the distance from the representative, so that checking both ends checks the whole bin.
    #[test]
    fn every_value_of_a_bin_is_near_its_representative() {
        for bin in 1..BINS {
            let (least, greatest) = (EDGES[bin - 1].next_up(), EDGES[bin]);
            for value in [least, greatest] {
                assert_eq!(usize::from(index(value)), bin.min(usize::from(index(GREATEST))));
                let error = (representative(bin as u16) / value - 1.0).abs();
                assert!(error < RELATIVE_ERROR, "bin {bin}: {error} for {value}");
            }
        }
        assert_eq!(representative(index(LEAST)), LEAST);
    }

    #[test]
    fn magnitudes_are_clamped() {
        assert_eq!(index(f64::from_bits(1)), 0);
        assert_eq!(index(LEAST), 0);
        assert_eq!(index(LEAST.next_up()), 1);
        assert_eq!(usize::from(index(GREATEST)), BINS - 1);
        assert_eq!(index(f64::INFINITY), index(GREATEST));
        assert!((representative(index(GREATEST)) / GREATEST - 1.0).abs() < RELATIVE_ERROR);
    }

    #[test]
    fn bins_never_change() {
        assert_eq!([1e-6, 0.01, 1.0, 99.99, 1e6].map(index), [349, 814, 1047, 1280, 1745]);
        let edges = [1, 1000, 2442].map(|bin| EDGES[bin].to_bits());
        assert_eq!(edges, [0x3e11_8601_e7ac_bc27, 0x3fd9_7d2b_0581_91f5, 0x426d_366a_3b08_325e]);
        let representatives = [1, 1000, 2442].map(|bin| representative(bin).to_bits());
        assert_eq!(representatives, [0x3e11_5997_6e40_91bc, 0x3fd9_3c8f_fb50_20fd, 0x426c_ec5f_0a4a_043f]);
    }
}
