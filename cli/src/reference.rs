//! `docs/reference/commands.md` is what the definition of the command line gives.
//!
//! `UPDATE_EXPECT=1 cargo test -p tidemark reference` writes the page again.

use std::env;
use std::fmt::{Display, Write};
use std::fs;

use clap::builder::PossibleValue;
use clap::{Arg, Command, CommandFactory};

use crate::args::Arguments;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/commands.md");

const HEAD: &str = "\
# Commands

Every command of `tidemark` with its arguments and options, as `tidemark COMMAND --help` shows them. A test writes this page from the
definition of the command line (`cli/src/args.rs`) and compares it.
";

fn page() -> String {
    let mut root = Arguments::command();
    root.build();
    let commands: Vec<Command> =
        root.get_subcommands().filter(|command| command.get_name() != "help").cloned().collect();
    let mut page = HEAD.to_owned();
    table(
        &mut page,
        ["command", "what it does"],
        commands.iter().map(|command| {
            let name = command.get_name();
            (format!("[`{name}`](#tidemark-{name})"), about(command))
        }),
    );
    page.push_str("\n## Options of every command\n");
    table(&mut page, ["option", "meaning"], root.get_arguments().filter(|arg| arg.is_global_set()).map(row));
    text_block(&mut page, root.get_after_help());
    commands.into_iter().for_each(|command| section(&mut page, command));
    page
}

/// A command: what it does, how it is called, what it takes, and the examples of its help.
fn section(page: &mut String, mut command: Command) {
    let usage = command.render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    let _ = writeln!(page, "\n## `tidemark {}`\n\n{}.", command.get_name(), about(&command));
    text_block(page, Some(usage));
    let own = |arg: &&Arg| !arg.is_global_set() && !["help", "version"].contains(&arg.get_id().as_str());
    let (positional, options): (Vec<&Arg>, Vec<&Arg>) =
        command.get_arguments().filter(own).partition(|arg| arg.is_positional());
    for (kind, args) in [("argument", positional), ("option", options)] {
        if !args.is_empty() {
            table(page, [kind, "meaning"], args.into_iter().map(row));
        }
    }
    text_block(page, command.get_after_help());
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

/// An argument as it is written, and what it means, with its values and its default.
fn row(arg: &Arg) -> (String, String) {
    let mut meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values = arg.get_possible_values();
    if arg.get_action().takes_values() {
        let told = values.iter().filter(|value| !value.is_hide_set()).map(told);
        let told: Vec<String> = told.collect();
        if !told.is_empty() {
            let _ = write!(meaning, ". Values: {}", told.join(", "));
        }
        let defaults = arg.get_default_values();
        if !defaults.is_empty() && !arg.is_hide_default_value_set() {
            let defaults: Vec<String> =
                defaults.iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
            let _ = write!(meaning, ". Default: {}", defaults.join(" "));
        }
    }
    (format!("`{arg}`"), meaning)
}

fn told(value: &PossibleValue) -> String {
    let help = value.get_help().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("`{}`{help}", value.get_name())
}

fn table(page: &mut String, [first, second]: [&str; 2], rows: impl IntoIterator<Item = (String, String)>) {
    let _ = writeln!(page, "\n| {first} | {second} |\n|---|---|");
    for (name, meaning) in rows {
        let _ = writeln!(page, "| {} | {} |", name.replace('|', "\\|"), meaning.replace('|', "\\|"));
    }
}

fn text_block(page: &mut String, text: Option<impl Display>) {
    if let Some(text) = text {
        let _ = writeln!(page, "\n```text\n{}\n```", text.to_string().trim_end());
    }
}

#[test]
fn the_page_of_commands_is_what_the_code_gives() {
    let page = page();
    if env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(PAGE, &page).expect("written");
    }
    let found = fs::read_to_string(PAGE).unwrap_or_default();
    assert_eq!(found, page, "UPDATE_EXPECT=1 writes it again: read the difference before you commit it");
}
