//! Problems in the manner of rustc.

use std::borrow::Cow;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};

use super::{Problem, Severity};
use crate::file::{Files, Place};

/// Whether rendered problems carry terminal colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// ANSI escapes.
    Always,
    /// Text alone.
    Never,
}

/// Wide enough for any line people write; terminals wrap better than we cut.
const WIDTH: usize = 240;

/// Each problem with its source line, an empty line between them and a line end after the last.
pub(super) fn render(files: &Files, problems: &[Problem], colour: Colour) -> String {
    let renderer = match colour {
        Colour::Always => Renderer::styled(),
        Colour::Never => Renderer::plain(),
    };
    let renderer = renderer.term_width(WIDTH);
    let rendered: Vec<String> =
        problems.iter().map(|problem| renderer.render(&[group(files, problem)]) + "\n").collect();
    rendered.join("\n")
}

fn group<'p>(files: &'p Files, problem: &'p Problem) -> Group<'p> {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = level.primary_title(&problem.message).elements(elements(files, problem));
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(help));
    }
    group
}

fn elements<'p>(files: &'p Files, problem: &'p Problem) -> Vec<Element<'p>> {
    let file = files.file(problem.place);
    if file.text.is_empty() {
        let origin = Origin::path(files.path(problem.place)).into();
        let reason = problem.label.as_deref().map(|label| Level::NOTE.message(label).into());
        return std::iter::once(origin).chain(reason).collect();
    }
    let label = problem.label.as_deref();
    let primary = AnnotationKind::Primary.span(underlined(files, problem.place)).label(label);
    let snippet = snippet(files, problem.place).annotation(primary);
    let Some((place, label)) = &problem.related else {
        return vec![snippet.into()];
    };
    let context = AnnotationKind::Context.span(underlined(files, *place)).label(label.as_str());
    if place.file == problem.place.file {
        return vec![snippet.annotation(context).into()];
    }
    vec![snippet.into(), self::snippet(files, *place).annotation(context).into()]
}

fn snippet(files: &Files, place: Place) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
    Snippet::source(Cow::Borrowed(files.file(place).text.as_str())).path(files.path(place))
}

/// The part of a place on its first line; a piece that is missing is shown where it should be.
fn underlined(files: &Files, place: Place) -> Range<usize> {
    let (start, end) = files.file(place).first_line(place.start, place.end);
    start..end
}
