//! The reference of all settings as Markdown, from the table of settings and the comments of `config/default.toml`.

use clap::{Arg, Command};

use crate::settings::{DEFAULTS, PREFIX, SETTINGS, SettingInfo, explanation};

/// Maximum columns of a line of text.
const WIDTH: usize = 130;

const HEAD: &str = "# Settings

This page is made by `pagehaul config docs`; the texts are those of `config/default.toml`. A flag overrides the variable, which
overrides the key in a file given with `--config FILE`, which overrides the built-in value. \"none\" means not set. Times and sizes
have a unit (500ms, 30s, 5m, 1h; 48MiB, 2GiB). Unknown keys and variables are errors. `pagehaul config show` prints the effective
settings and where each comes from.

Under each setting are its flag, its variable, its key with the built-in value, and the commands that take the flag. `config show`
takes all of them.
";

/// The whole page.
pub(super) fn text() -> String {
    let program = super::command();
    let entries = SETTINGS.chunk_by(|one, next| one.section == next.section).map(|settings| {
        let section = settings.first().map_or("", |setting| setting.section);
        let entries: String = settings.iter().map(|setting| entry(setting, &program)).collect();
        format!("\n## {section}\n{entries}")
    });
    HEAD.to_owned() + &entries.collect::<String>()
}

fn entry(setting: &SettingInfo, program: &Command) -> String {
    let flag = setting.key.replace('_', "-");
    let value = if setting.value.is_empty() { String::new() } else { format!(" {}", setting.value) };
    let variable = format!("{PREFIX}{}", setting.key.to_ascii_uppercase());
    let is_key = |line: &&str| line.split(" = ").next() == Some(setting.key);
    let built_in = DEFAULTS.lines().find(is_key).unwrap_or_default();
    let commands = commands(program, setting).join(", ");
    let names = format!("`--{flag}{value}`; `{variable}`; `{built_in}`; {commands}");
    format!("\n### {flag}\n\n{}\n\n{}\n", wrapped(&plain(&explanation(setting.key))), wrapped(&names))
}

/// The commands that take a setting as a flag.
fn commands<'a>(program: &'a Command, setting: &SettingInfo) -> Vec<&'a str> {
    // Flags that are no settings are in no section.
    let is_flag = |arg: &Arg| arg.get_id() == setting.key && arg.get_help_heading() == Some(setting.section);
    let takes = |command: &&Command| command.get_arguments().any(is_flag);
    program.get_subcommands().filter(takes).map(Command::get_name).collect()
}

/// The text without what Markdown would take for its own.
fn plain(text: &str) -> String {
    text.replace('*', "\\*").replace('<', "\\<").replace(" _", " \\_")
}

/// The text in lines of at most [`WIDTH`] columns, where its words are shorter.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}
