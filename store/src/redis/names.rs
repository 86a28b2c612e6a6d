//! The names of all entities of some generations, each generation's in order, from one pass over the keys of the database.
//!
//! Redis keeps no order and no list of what a generation holds. So `SCAN` shows every key of the database once, those of
//! other views and other programs included, and what it shows is sorted here. What does not fit into memory is written to
//! a temporary file in sorted runs, which are merged as they are read. One pass serves any number of generations: a pass
//! for each would read the keys of all views again for every view.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::vec;

use parking_lot::Mutex;
use redis::Pipeline;
use tidemark_kernel::key::EntityKey;

use super::layout::{self, Keys};
use super::link::Link;
use super::scan::Scan;
use crate::contract::Generation;
use crate::error::StoreError;
use crate::sample::Lowest;

/// How many names are held in memory before they are written to the file as runs.
const HELD: usize = 1 << 19;

/// How many bytes of a run are read at a time.
const CHUNK: u64 = 1 << 16;

/// How many keys Redis is asked for at random in one write.
const DRAWN: usize = 5000;

/// How many keys are drawn at most for a sample, for each entity that is wanted, before all names are read after all.
const DRAWS_EACH: usize = 64;

/// How many keys are drawn at most for a sample.
const DRAWS_MAX: usize = 1 << 20;

/// The generations that names belong to.
pub(super) struct Owners {
    stems: BTreeMap<Vec<u8>, usize>,
    pattern: String,
}

impl Owners {
    pub(super) fn new(prefix: &str, generations: &[Generation]) -> Self {
        let stem = |generation| Keys::new(prefix, generation).stem().as_bytes().to_vec();
        let stems = generations.iter().map(stem).zip(0..).collect();
        Self { stems, pattern: layout::pattern(prefix, generations) }
    }

    /// A `MATCH` pattern of all their entities. It may match others.
    pub(super) fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Which of the generations a name belongs to, and its entity; none if it is no entity of any of them.
    pub(super) fn entity(&self, name: &[u8]) -> Option<(usize, EntityKey)> {
        let (stem, key) = layout::entity_of(name)?;
        Some((*self.stems.get(stem)?, key))
    }
}

/// The entities of these generations, in the order of the generations.
pub(super) async fn sorted(link: &Link, generations: &[Generation]) -> Result<Vec<Sorted>, StoreError> {
    let owners = Owners::new(link.prefix(), generations);
    let mut sorter = Sorter::new(generations.len(), HELD);
    let mut scan = Scan::new(link, owners.pattern());
    while let Some(names) = scan.next().await? {
        sorter.add(names.iter().filter_map(|name| owners.entity(name))).map_err(failed)?;
    }
    sorter.finish().map_err(failed)
}

/// The file of runs cannot be written or read.
pub(super) fn failed(error: io::Error) -> StoreError {
    StoreError::io(&std::env::temp_dir().display().to_string(), "sort the names of entities in", error)
}

/// A sample of the entities of each of these generations: drawn at random, or, where that does not find enough of
/// them, from all names.
pub(super) async fn sample(
    link: &Link,
    generations: &[Generation],
    count: usize,
    seed: u64,
) -> Result<Vec<BTreeSet<EntityKey>>, StoreError> {
    let owners = Owners::new(link.prefix(), generations);
    let begin = || generations.iter().map(|_| Lowest::new(count, seed)).collect::<Vec<_>>();
    let (mut samples, mut drawn) = (begin(), 0);
    let most = count.saturating_mul(generations.len()).saturating_mul(DRAWS_EACH).min(DRAWS_MAX);
    while drawn < most {
        let Some(names) = draw(link, DRAWN).await? else { break };
        drawn += DRAWN;
        for (of, key) in names.iter().filter_map(|name| owners.entity(name)) {
            // The first that come are as good as any: which keys are drawn owes nothing to the hash.
            if !samples[of].is_full() {
                samples[of].add(key);
            }
        }
        if samples.iter().all(Lowest::is_full) {
            return Ok(samples.into_iter().map(Lowest::keys).collect());
        }
    }
    // A generation may be small, or a small part of what is there.
    samples = begin();
    let mut scan = Scan::new(link, owners.pattern());
    while let Some(names) = scan.next().await? {
        names.iter().filter_map(|name| owners.entity(name)).for_each(|(of, key)| samples[of].add(key));
    }
    Ok(samples.into_iter().map(Lowest::keys).collect())
}

/// So many names of keys of the database, drawn at random, each as often as it is drawn. None if Redis does not do that for this
/// user, or holds nothing.
pub(super) async fn draw(link: &Link, count: usize) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
    let mut calls = Pipeline::new();
    for _ in 0..count {
        calls.cmd("RANDOMKEY");
    }
    let Some(answers) = link.send_if_allowed(&calls).await? else { return Ok(None) };
    answers.into_iter().map(|answer| link.read::<Option<Vec<u8>>>(answer)).collect()
}

/// Sorts names of several generations in bounded memory.
struct Sorter {
    held: Vec<(usize, EntityKey)>,
    /// How many may be held.
    limit: usize,
    /// None while everything is held.
    file: Option<File>,
    /// Where the file ends.
    end: u64,
    /// The runs of each generation.
    runs: Vec<Vec<Run>>,
}

impl Sorter {
    fn new(generations: usize, limit: usize) -> Self {
        let runs = (0..generations).map(|_| Vec::new()).collect();
        Self { held: Vec::new(), limit, file: None, end: 0, runs }
    }

    fn add(&mut self, found: impl Iterator<Item = (usize, EntityKey)>) -> io::Result<()> {
        self.held.extend(found);
        if self.held.len() >= self.limit { self.spill() } else { Ok(()) }
    }

    fn sort(&mut self) {
        self.held.sort_unstable();
        self.held.dedup();
    }

    /// Writes what is held to the file: a run for each generation.
    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let mut file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile()?,
        };
        file.seek(SeekFrom::End(0))?;
        let mut out = BufWriter::new(&mut file);
        let mut current = None;
        for (of, key) in self.held.drain(..) {
            if current != Some(of) {
                self.runs[of].push(Run { at: self.end, end: self.end, keys: Vec::new().into_iter() });
                current = Some(of);
            }
            self.end += write_key(&mut out, &key)?;
            if let Some(run) = self.runs[of].last_mut() {
                run.end = self.end;
            }
        }
        out.flush()?;
        drop(out);
        self.file = Some(file);
        Ok(())
    }

    fn finish(mut self) -> io::Result<Vec<Sorted>> {
        if self.file.is_some() {
            self.spill()?;
        } else {
            self.sort();
            let mut keys: Vec<Vec<EntityKey>> = self.runs.iter().map(|_| Vec::new()).collect();
            self.held.drain(..).for_each(|(of, key)| keys[of].push(key));
            self.runs =
                keys.into_iter().map(|keys| vec![Run { at: 0, end: 0, keys: keys.into_iter() }]).collect();
        }
        let file = self.file.map(|file| Arc::new(Mutex::new(file)));
        Ok(self.runs.into_iter().map(|runs| Sorted::new(file.clone(), runs)).collect())
    }
}

/// The length as 4 bytes, then the bytes; how many bytes that were.
fn write_key(out: &mut impl Write, key: &EntityKey) -> io::Result<u64> {
    let bytes = key.as_bytes();
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(bytes)?;
    Ok(4 + u64::from(length))
}

/// The keys that are whole in `bytes`, and how many bytes they take.
fn whole_keys(bytes: &[u8]) -> (Vec<EntityKey>, usize) {
    let (mut keys, mut taken) = (Vec::new(), 0);
    while let Some((length, rest)) = bytes[taken..].split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some(key) = rest.get(..length) else { break };
        keys.push(EntityKey::from_bytes(key));
        taken += 4 + length;
    }
    (keys, taken)
}

/// Keys of one generation in ascending order: those in memory, then a part of the file.
struct Run {
    at: u64,
    end: u64,
    keys: vec::IntoIter<EntityKey>,
}

impl Run {
    fn next(&mut self, file: Option<&Mutex<File>>) -> io::Result<Option<EntityKey>> {
        if let Some(key) = self.keys.next() {
            return Ok(Some(key));
        }
        let Some(file) = file.filter(|_| self.at < self.end) else { return Ok(None) };
        self.read(&mut file.lock())?;
        Ok(self.keys.next())
    }

    /// Reads on until at least one key is whole.
    fn read(&mut self, file: &mut File) -> io::Result<()> {
        let mut wanted = CHUNK;
        loop {
            let length = wanted.min(self.end - self.at);
            let mut bytes = vec![0; length as usize];
            file.seek(SeekFrom::Start(self.at))?;
            file.read_exact(&mut bytes)?;
            let (keys, taken) = whole_keys(&bytes);
            if taken > 0 {
                self.at += taken as u64;
                self.keys = keys.into_iter();
                return Ok(());
            }
            if length < wanted {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            wanted *= 2;
        }
    }
}

/// The entities of one generation by ascending key, each once.
pub(super) struct Sorted {
    file: Option<Arc<Mutex<File>>>,
    runs: Vec<Run>,
    /// The next key of each run that has more; empty before the first read.
    heads: BinaryHeap<Reverse<(EntityKey, usize)>>,
    has_begun: bool,
    last: Option<EntityKey>,
}

impl Sorted {
    fn new(file: Option<Arc<Mutex<File>>>, runs: Vec<Run>) -> Self {
        Self { file, runs, heads: BinaryHeap::new(), has_begun: false, last: None }
    }

    /// The next entities, at most `count` of them; none are the end.
    pub(super) fn next(&mut self, count: usize) -> io::Result<Vec<EntityKey>> {
        if !self.has_begun {
            self.has_begun = true;
            (0..self.runs.len()).try_for_each(|run| self.advance(run))?;
        }
        let mut keys: Vec<EntityKey> = Vec::new();
        while keys.len() < count {
            let Some(Reverse((key, run))) = self.heads.pop() else { break };
            self.advance(run)?;
            if keys.last().or(self.last.as_ref()) != Some(&key) {
                keys.push(key);
            }
        }
        if let Some(last) = keys.last() {
            self.last = Some(last.clone());
        }
        Ok(keys)
    }

    fn advance(&mut self, run: usize) -> io::Result<()> {
        if let Some(key) = self.runs[run].next(self.file.as_deref())? {
            self.heads.push(Reverse((key, run)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tidemark_kernel::plan::Fingerprint;

    use super::*;

    #[test]
    fn names_are_sorted_once_each_whatever_fits_into_memory() {
        // Keys of 0 to 70 kB, in an order of their own, some of them twice.
        let key = |number: usize| {
            let mut bytes = (number as u32).to_be_bytes().to_vec();
            bytes.resize(4 + if number == 50 { 70_000 } else { number % 3 }, 7);
            EntityKey::from_bytes(bytes)
        };
        for limit in [1, 7, 64, 10_000] {
            let mut sorter = Sorter::new(3, limit);
            for step in 0..40 {
                let found = (0..10).map(|number| (step * 10 + number) * 37 % 100);
                sorter.add(found.map(|number| (number % 2 * 2, key(number)))).expect("added");
            }
            for (of, mut sorted) in sorter.finish().expect("finished").into_iter().enumerate() {
                let expected: Vec<EntityKey> =
                    (0..100).filter(|number| number % 2 * 2 == of).map(key).collect();
                let mut found = Vec::new();
                loop {
                    let next = sorted.next(7).expect("read");
                    if next.is_empty() {
                        break;
                    }
                    found.extend(next);
                }
                assert!(found == expected, "generation {of}, {limit} at a time");
            }
        }
    }

    #[test]
    fn names_belong_to_their_generation() {
        let generation = |view: &str, number| Generation {
            view: view.to_owned(),
            number,
            fingerprint: Fingerprint([7; 16]),
        };
        let all = [generation("a", 1), generation("a:1", 1), generation("b", 1), generation("a", 12)];
        let key = EntityKey::from_bytes(*b"}:{a:1:3}:");
        let owners = Owners::new("tm", &all[..3]);
        assert_eq!(owners.pattern(), "tm:{*}:*");
        for (at, of) in all.iter().enumerate() {
            let keys = Keys::new("tm", of);
            let owner = owners.entity(&keys.entity(15, &key));
            assert_eq!(owner, (at < 3).then(|| (at, key.clone())));
            assert_eq!(owners.entity(keys.bucket(15).as_bytes()), None);
        }
        assert_eq!(Owners::new("tm", &[all[0].clone(), all[3].clone()]).pattern(), "tm:{a:*}:*");
        assert_eq!(Owners::new("tm", &all[3..]).pattern(), "tm:{a:12:*}:*");
    }
}
