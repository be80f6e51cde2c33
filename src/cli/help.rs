//! What the help and a shell's completion say of a setting: `-h` has one line each of what a newcomer needs, `--help` explains
//! all of them.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command, Error, ValueHint};

use crate::settings::{Layers, SETTINGS, SettingInfo, explanation, table};

/// The settings that `-h` of a command with all of them shows.
const FIRST: &[SettingInfo] = &[
    table::PRODUCTS.info,
    table::SIMULATE.info,
    table::OUT.info,
    table::SNAPSHOT.info,
    table::SINCE.info,
    table::QPS.info,
    table::MAX_PAGES.info,
    table::MAX_CREDITS.info,
    table::MAX_DURATION.info,
    table::DEADLINE.info,
    table::COLUMNS.info,
    table::DROP_COLUMNS.info,
    table::RETRY_FAILED.info,
    table::REPAIR.info,
    table::TOKEN_FILE.info,
];

/// A command with many settings: its `-h` shows the first ones, and says how to see all. `name`: as it is typed.
pub(super) fn with_short_help(command: Command, name: &str, example: Option<&str>) -> Command {
    let is_setting = |arg: &Arg| SETTINGS.iter().any(|setting| setting.key == arg.get_id().as_str());
    let is_hidden = |arg: &Arg| is_setting(arg) && FIRST.iter().all(|setting| setting.key != arg.get_id().as_str());
    let all = command.get_arguments().filter(|arg| is_setting(arg)).count();
    let hidden = command.get_arguments().filter(|arg| is_hidden(arg)).count();
    let example = example.map(|example| format!("Example:\n  {example}\n\n")).unwrap_or_default();
    let others = format!("These are {} of {all} settings; `pagehaul {name} --help` explains all.", all - hidden);
    let command = command.mut_args(|arg| if is_hidden(&arg) { arg.hide_short_help(true) } else { arg });
    command.after_help(format!("{example}{others}"))
}

/// A setting's flag with its help and its possible values.
pub(super) fn explained(flag: Arg, setting: &SettingInfo, built_in: Option<&Layers>) -> Arg {
    let mut shown = built_in.into_iter().flat_map(Layers::shown);
    let value = shown.find(|(key, value, _)| *key == setting.key && *value != "none" && !setting.value.is_empty());
    let default = value.map(|(_, value, _)| format!(" [default: {value}]")).unwrap_or_default();
    let long = explanation(setting.key);
    let flag = flag.help(format!("{}{default}", setting.help)).long_help(format!("{long}{default}"));
    if setting.value.is_empty() {
        return flag;
    }
    flag.value_parser(Words(words(setting.value))).value_hint(hint(setting.value)).hide_possible_values(true)
}

/// The words among what a value may be, as its placeholder says it: `auto` and `unlimited` of `N|auto|unlimited`.
fn words(placeholder: &'static str) -> Vec<&'static str> {
    let is_word = |word: &&str| word.len() > 1 && word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    placeholder.split('|').filter(is_word).collect()
}

/// What else a value may be.
fn hint(placeholder: &str) -> ValueHint {
    match placeholder.split('|').find(|kind| matches!(*kind, "FILE" | "DIR")) {
        Some("FILE") => ValueHint::FilePath,
        Some(_) => ValueHint::DirPath,
        None => ValueHint::Other,
    }
}

/// Any text: the settings check values, with their source in the message. Shells complete these words.
#[derive(Clone)]
struct Words(Vec<&'static str>);

impl TypedValueParser for Words {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let values = self.0.iter().map(|word| PossibleValue::new(*word));
        (!self.0.is_empty()).then(|| -> Box<dyn Iterator<Item = PossibleValue> + '_> { Box::new(values) })
    }
}
