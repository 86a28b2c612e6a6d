//! `tidemark verify`: every state rebuilt from history and compared with the stored one.

use std::num::NonZeroUsize;

use serde_json::{Value as Json, json};
use tidemark_engine::Project;
use tidemark_prove::verify::{Mismatch, Verified};

use crate::args::{Global, Verify};
use crate::clock;
use crate::console::Level;
use crate::failure::{Failure, Result, show};
use crate::output::{Output, count, counted, duration};
use crate::progress::{Bars, Step, Unit, say};
use crate::project::open;

/// How many mismatches are spelled out.
const SHOWN: usize = 20;

pub(super) async fn run(asked: Verify, global: &Global, output: Output) -> Result<()> {
    let project = open(global).await?;
    let bars = Bars::default();
    let began = clock::stopwatch();
    let mut watch = |done| {
        let unit = Unit::Each("entities");
        bars.show(Step { task: "verifying", subject: "", unit, done, total: None, note: "" });
    };
    let verified = project.verify(asked.sample.map(NonZeroUsize::get), &mut watch).await?;
    bars.clear();
    let took = duration(began.elapsed());
    output.result(|| describe(&verified), || format!("{} ({took})", summary(&verified)))?;
    if verified.states == 0 && verified.values == 0 && verified.mismatches.is_empty() {
        let message = "nothing was compared: no view holds a state, and no event is one that a view can see";
        let help = "take events in with `tidemark ingest`; `tidemark status` says how far every source is";
        show(Level::Warning, message, Some(help));
    }
    tell(&verified.mismatches, &project);
    if verified.mismatches.is_empty() { Ok(()) } else { Err(Failure::Told) }
}

fn summary(verified: &Verified) -> String {
    let states = counted(verified.states, "state");
    let mismatches = match verified.mismatches.len() {
        1 => "1 mismatch".to_owned(),
        many => format!("{} mismatches", count(many as u64)),
    };
    let entities = match verified.entities {
        1 => "1 entity".to_owned(),
        many => format!("{} entities", count(many)),
    };
    let (values, telling) = (counted(verified.values, "value"), count(verified.telling));
    format!("{states} of {entities} and {values} ({telling} neither null nor 0) compared, {mismatches}")
}

fn tell(mismatches: &[Mismatch], project: &Project) {
    mismatches.iter().take(SHOWN).for_each(|mismatch| say(format_args!("mismatch: {mismatch}")));
    if mismatches.len() > SHOWN {
        say(format_args!("… and {} more", count((mismatches.len() - SHOWN) as u64)));
    }
    if !mismatches.is_empty() {
        let remove = if project.is_embedded() {
            "move the online store away".to_owned()
        } else {
            format!("delete the keys `{}:*` from Redis", project.prefix())
        };
        say(format_args!("help: {remove} and start again; its states are backfilled from history"));
    }
}

fn describe(verified: &Verified) -> Json {
    let mismatches = verified.mismatches.iter().map(|mismatch| {
        json!({
            "view": mismatch.view, "entity": mismatch.entity, "partition": mismatch.partition.map(|partition| partition.to_string()),
            "what": mismatch.what,
        })
    });
    json!({
        "entities": verified.entities, "states": verified.states, "values": verified.values,
        "neither_null_nor_0": verified.telling,
        "mismatches": mismatches.collect::<Vec<_>>(),
    })
}
