//! docs/CLI.md, and the manual and the completions of the Debian package, are generated from the definitions of the arguments.

use std::fmt::Write as _;

use clap::{Arg, Command};
use clap_complete::Shell;

use super::{completions, description, man};
use crate::generated_page::assert_current;

const HEAD: &str = "\
# Commands

Every command and its options, as `ssegate COMMAND --help` shows them. This page is generated from the definitions of the
arguments: `UPDATE_DOCS=1 cargo test cli::reference` writes it, and a test fails while they differ. `ssegate man` prints
it as a manual page, `ssegate completions` completes it in a shell.

The exit status is 0 for success, 1 for a failure, and 64 for a mistake in the arguments or the
configuration; `healthcheck` and `metrics` exit with 1 for a configuration that is not valid, `token --inspect` with
1 for a token that is not good.

Secrets are best given as `@FILE` or in the variables `SSEGATE_TOKEN`, `SSEGATE_TOKEN_KEY`, `SSEGATE_URL_KEY` and
`SSEGATE_REVOCATION_KEY`: other users see arguments.

`-c FILE`, before or after the command, reads another configuration than `./gateway.yaml`, and `-c -` reads standard
input. `pub`, `sub`, `reload`, `revoke`, `healthcheck`, `metrics` and `token` need no variables that are secrets of the gateway
alone, such as `${JWT_KEY}`.

";

/// What a text of clap is in Markdown: paragraphs, whose angle brackets and bars are not markup.
fn markdown(text: &str) -> String {
    let paragraphs = text.trim().split("\n\n").map(|text| {
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        line.replace('<', "&lt;").replace('|', "\\|").replace('*', "\\*")
    });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

fn about(command: &Command) -> String {
    let text = command.get_long_about().or_else(|| command.get_about());
    markdown(&text.map(ToString::to_string).unwrap_or_default())
}

/// How an argument is written: `-c, --config <FILE>`, or `<CHANNEL>`.
fn written(argument: &Arg) -> String {
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let names = [short, long].into_iter().flatten().collect::<Vec<_>>().join(", ");
    let takes_values = argument.get_action().takes_values();
    let values = argument.get_value_names().filter(|_| takes_values).unwrap_or_default();
    let values = values.iter().map(|value| format!("<{value}>")).collect::<Vec<_>>().join(" ");
    format!("{names} {values}").trim().to_owned()
}

/// The default of an argument, and its possible values.
fn remarks(argument: &Arg) -> String {
    let mut remarks = String::new();
    let mut remark = |name: &str, values: Vec<String>| {
        if !values.is_empty() {
            remarks.push_str(&format!(" [{name}: {}]", values.join(", ")));
        }
    };
    if argument.get_action().takes_values() {
        let defaults = argument.get_default_values().iter();
        remark("default", defaults.map(|value| format!("`{}`", value.to_string_lossy())).collect());
        let possible = argument.get_possible_values();
        remark("one of", possible.iter().map(|value| format!("`{}`", value.get_name())).collect());
    }
    remarks
}

/// The section of one command.
fn section(command: &mut Command) -> String {
    let usage = command.render_usage().to_string();
    let usage =
        usage.trim_start_matches("Usage: ").split_whitespace().collect::<Vec<_>>().join(" ");
    let mut text = format!("{}\n\n```text\n{usage}\n```\n", about(command));
    let arguments: Vec<_> =
        command.get_arguments().filter(|argument| argument.get_id() != "help").collect();
    if !arguments.is_empty() {
        text.push_str("\n| | |\n|---|---|\n");
    }
    for argument in arguments {
        let help = argument.get_long_help().or_else(|| argument.get_help());
        let help = markdown(&help.map(ToString::to_string).unwrap_or_default());
        let (written, help) = (written(argument).replace('|', "\\|"), help.replace("\n\n", "<br>"));
        writeln!(text, "| `{written}` | {help}{} |", remarks(argument)).expect("a string");
    }
    if let Some(after) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        write!(text, "\n```text\n{}\n```\n", after.to_string().trim()).expect("a string");
    }
    text
}

fn generated() -> String {
    let mut root = description();
    root.build();
    let mut text = HEAD.to_owned();
    text.push_str("| | |\n|---|---|\n");
    let is_shown = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
    for command in root.get_subcommands().filter(is_shown) {
        let (name, about) = (command.get_name(), command.get_about().cloned().unwrap_or_default());
        let about = markdown(&about.to_string());
        writeln!(text, "| [`ssegate {name}`](#ssegate-{name}) | {about} |").expect("a string");
    }
    let names: Vec<_> =
        root.get_subcommands().filter(is_shown).map(|c| c.get_name().to_owned()).collect();
    let after = root.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    write!(text, "\n{}\n", markdown(&after)).expect("a string");
    for name in names {
        let command = root.find_subcommand_mut(&name).expect("it was listed");
        write!(text, "\n## `ssegate {name}`\n\n{}", section(command)).expect("a string");
    }
    text
}

#[test]
fn the_reference_in_the_docs_is_generated_from_the_arguments() {
    assert_current("docs/CLI.md", &generated(), "cli::reference");
}

#[test]
fn the_manual_and_the_completions_of_the_package_are_what_the_commands_print() {
    // Not of which commit: they stand in it.
    let manual = man::pages(description().version(env!("CARGO_PKG_VERSION")));
    let script = completions::script;
    for (name, text) in [
        ("ssegate.1", manual.expect("writing to a Vec does not fail")),
        ("ssegate.bash", script(Shell::Bash)),
        ("ssegate.fish", script(Shell::Fish)),
        ("_ssegate", script(Shell::Zsh)),
    ] {
        let text = String::from_utf8(text).expect("UTF-8");
        assert_current(&format!("deploy/generated/{name}"), &text, "cli::reference");
    }
}
