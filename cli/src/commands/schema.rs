//! `tidemark schema`: what the files of a repo may hold, as JSON Schema.

use tidemark_registry::reference::{FileKind, schema};

use crate::args::{Schema, SchemaFiles};
use crate::failure::Result;
use crate::output::Output;

pub(super) fn run(asked: Schema, output: Output) -> Result<()> {
    let schema = schema(match asked.files {
        SchemaFiles::Definitions => FileKind::Definitions,
        SchemaFiles::Project => FileKind::Project,
    });
    output.result(|| schema.clone(), || format!("{schema:#}"))
}
