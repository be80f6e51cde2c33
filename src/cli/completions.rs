//! `completions`: the script with which a shell completes commands, flags and their values.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};
use clap_complete::{Generator, Shell};

use super::CommandOutput;
use crate::error::Error;

const SHELL: &str = "shell";

/// The shells that have a script.
const SHELLS: [(&str, Shell); 4] =
    [("bash", Shell::Bash), ("zsh", Shell::Zsh), ("fish", Shell::Fish), ("powershell", Shell::PowerShell)];

pub(super) fn command() -> Command {
    let shell = Arg::new(SHELL).value_name("SHELL").required(true);
    let names = PossibleValuesParser::new(SHELLS.map(|(name, _)| name));
    Command::new("completions")
        .about("Print the script that completes commands and flags in a shell")
        .arg(shell.value_parser(names).help("The shell that reads the script"))
        .after_long_help(
            "Install it for the current user, and start a new shell:
  mkdir -p ~/.local/share/bash-completion/completions
  pagehaul completions bash > ~/.local/share/bash-completion/completions/pagehaul
  pagehaul completions fish > ~/.config/fish/completions/pagehaul.fish
  pagehaul completions zsh > ~/.zfunc/_pagehaul
For zsh, ~/.zshrc has `fpath+=~/.zfunc` before `compinit`. For PowerShell, add
  pagehaul completions powershell | Out-String | Invoke-Expression
to the file that $PROFILE names.",
        )
}

pub(super) fn run(flags: &ArgMatches) -> Result<CommandOutput, Error> {
    let name = flags.get_one::<String>(SHELL).map_or("", String::as_str);
    let Some((_, shell)) = SHELLS.into_iter().find(|(known, _)| *known == name) else {
        return Err(Error::Bug); // clap accepts no other name
    };
    let mut command = super::command();
    command.set_bin_name(env!("CARGO_PKG_NAME"));
    command.build();
    let mut script = Vec::new();
    let written = shell.try_generate(&command, &mut script);
    written.map_err(|source| Error::System("make the script", source))?;
    Ok(CommandOutput::text(String::from_utf8_lossy(&script).into_owned()))
}
