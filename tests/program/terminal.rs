//! What a person at a terminal gets: help that fits, completions, manual pages, colours, the reference of settings, and the command
//! that reads the files.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{Home, pagehaul, run};
use pagehaul::settings::SETTINGS;

fn print(arguments: &[&str]) -> String {
    let run = run(pagehaul(arguments));
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{arguments:?}: {run}");
    run.stdout
}

#[test]
fn the_short_help_fits_a_screen_and_says_where_the_rest_is() {
    for (command, height) in [
        (&[][..], 24),
        (&["export"], 40),
        (&["plan"], 40),
        (&["config", "show"], 40),
        (&["replay"], 32),
        (&["status"], 24),
    ] {
        let short = print(&[command, &["-h"]].concat());
        assert!(short.lines().count() <= height, "{} lines: {short}", short.lines().count());
        assert!(short.lines().all(|line| line.chars().count() <= 80), "{short}");
    }
    let (short, long) = (print(&["export", "-h"]), print(&["export", "--help"]));
    let all = SETTINGS.iter().filter(|setting| long.contains(&format!("--{}", setting.key.replace('_', "-")))).count();
    assert_eq!(all, SETTINGS.len());
    let shown =
        SETTINGS.iter().filter(|setting| short.contains(&format!(" --{} ", setting.key.replace('_', "-")))).count();
    assert!((8..20).contains(&shown), "{shown}: {short}");
    assert!(short.contains(&format!(" of {all} settings; `pagehaul export --help` explains all.")), "{short}");
    assert!(long.len() > 3 * short.len() && !long.contains("`pagehaul export --help`"), "{long}");
}

#[test]
fn the_long_help_explains_a_setting_with_the_words_of_the_defaults() {
    let words = print(&["export", "--help"]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("so requests in flight = qps x latency. [default: 256]"), "{words}");
}

/// The words that bash offers behind these ones.
fn offered(script: &str, words: &[&str]) -> Vec<String> {
    const ASK: &str = r#"source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }
        _pagehaul pagehaul "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"; printf '%s\n' "${COMPREPLY[@]}""#;
    let asked =
        Command::new("bash").args(["--norc", "-c", ASK, "bash", script, "pagehaul"]).args(words).output().unwrap();
    assert!(asked.stderr.is_empty(), "{}", String::from_utf8_lossy(&asked.stderr));
    String::from_utf8(asked.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_the_values_of_a_setting() {
    let home = Home::new(&[]);
    let script = home.file("pagehaul.bash", print(&["completions", "bash"]).as_bytes());
    assert_eq!(offered(&script, &["export", "--pa"]), ["--page-size", "--partition-in-files"]);
    assert_eq!(offered(&script, &["export", "--end", "s"]), ["short-page"]);
    assert_eq!(offered(&script, &["export", "--progress", ""]), ["auto", "bar", "plain", "none"]);
    assert_eq!(offered(&script, &["export", "--qps", ""]), ["auto", "unlimited"]);
    assert_eq!(offered(&script, &["export", "--products", script.trim_end_matches("sh")]), [script.as_str()]);
    assert!(offered(&script, &["st"]).contains(&"status".to_owned()));
}

#[test]
fn each_shell_has_a_script_with_every_setting_and_an_unknown_shell_is_refused() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = print(&["completions", shell]);
        for setting in SETTINGS {
            assert!(script.contains(&setting.key.replace('_', "-")), "{shell}: {}", setting.key);
        }
        assert!(script.contains("short-page") || shell == "powershell", "{shell} knows no values");
    }
    assert_eq!(run(pagehaul(["completions", "tcsh"])).code, Some(2));
}

#[test]
fn every_command_has_a_manual_page_with_all_its_settings() {
    let home = Home::new(&[]);
    let pages = home.path("man/man1");
    assert_eq!(print(&["man", "--out", pages.to_str().unwrap()]), "");
    let page = |name: &str| fs::read_to_string(pages.join(name)).unwrap();
    assert_eq!(page("pagehaul.1"), print(&["man"]));
    for command in ["export", "replay", "verify", "status", "config-show", "completions"] {
        let text = page(&format!("pagehaul-{command}.1"));
        let title = format!(".TH PAGEHAUL-{} 1 ", command.to_uppercase());
        assert!(text.contains(&title) && text.contains(concat!("\"pagehaul ", env!("CARGO_PKG_VERSION"))), "{text}");
    }
    let export = page("pagehaul-export.1");
    for setting in SETTINGS {
        assert!(export.contains(&format!("\\-\\-{}", setting.key.replace('_', "\\-"))), "{}", setting.key);
    }
    assert_eq!(export.lines().filter(|line| line.starts_with("\\fBpagehaul export")).count(), 1, "a short synopsis");
}

#[test]
fn the_reference_of_settings_is_the_one_in_the_docs() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let made = print(&["config", "docs"]);
    let kept = fs::read_to_string(file).unwrap_or_default();
    assert!(made == kept, "renew it: cargo run -- config docs > docs/configuration.md");
    let longest = made.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(130), "{longest:?}");
    for setting in SETTINGS {
        assert!(made.contains(&format!("`PAGEHAUL_{}`", setting.key.to_uppercase())), "{}", setting.key);
    }
}

/// A command line as a POSIX shell divides it into words, without expansions.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (None, ' ') => words.push(std::mem::take(&mut word)),
            (None, '\'' | '"') => quote = Some(c),
            (None, '\\') => word.extend(characters.next()),
            (Some(open), close) if open == close => quote = None,
            (Some('"'), '$' | '`' | '\\' | '!') => panic!("special inside double quotes: {line}"),
            (_, c) => word.push(c),
        }
    }
    assert_eq!(quote, None, "{line}");
    words.push(word);
    words
}

/// The command that a summary names for reading the files.
fn read_line(stderr: &str) -> Option<&str> {
    stderr.lines().find_map(|line| line.strip_prefix("  read      "))
}

#[test]
fn the_command_that_reads_the_files_survives_a_hostile_name_of_the_output() {
    let home = Home::new(&[]);
    for name in ["plain", "a b", "it's", "say \"hi\"", "$(touch pwned) `id` it's!", "a[b]*?"] {
        let out = home.argument(name);
        let export = run(pagehaul(["export", "--simulate=products=2,max_videos=30,seed=5", "--out", &out]));
        let summary = export.ended(0);
        assert!(summary["read"].is_null() && summary["files"].as_u64() > Some(0), "{export}");
        let words = words(read_line(&export.stderr).unwrap_or_else(|| panic!("{export}")));
        assert_eq!(words[..2], ["duckdb", "-c"]);
        let literal =
            words[2].strip_prefix("FROM read_parquet('").and_then(|sql| sql.split_once("', hive_")).unwrap().0;
        let pattern = literal.replace("''", "'");
        let escaped = out.chars().fold(String::new(), |text, c| match c {
            '[' | '*' | '?' => text + "[" + &c.to_string() + "]",
            c => text + &c.to_string(),
        });
        assert_eq!(pattern, format!("{escaped}/region=*/*.parquet"));
        assert_eq!(words[2].matches('\'').count() % 2, 0, "{words:?}");
    }
    let empty =
        run(pagehaul(["export", "--simulate=products=2,max_videos=0", "--allow-empty", "--out", &home.argument("e")]));
    assert_eq!(read_line(&empty.stderr), None, "there are no files: {empty}");
}

#[test]
fn the_word_that_says_how_it_ended_is_coloured_only_on_request_and_never_in_json() {
    let home = Home::new(&[]);
    let colour = |out: &str, variables: &[(&str, &str)], more: &[&str]| {
        let mut command = pagehaul(["export", "--simulate=products=2,max_videos=5", "--out", &home.argument(out)]);
        command.args(more).envs(variables.iter().copied());
        let run = run(command);
        assert!(!run.stdout.contains('\x1b'), "{run}");
        run.stderr
    };
    let plain = colour("a", &[], &[]);
    assert!(plain.contains("\ncomplete\n") && !plain.contains('\x1b'), "{plain}");
    let forced = colour("b", &[("CLICOLOR_FORCE", "1")], &[]);
    assert!(forced.contains("\n\x1b[1m\x1b[32mcomplete\x1b[0m\n") && forced.matches('\x1b').count() == 3, "{forced}");
    for variables in [&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")][..], &[("NO_COLOR", "1")]] {
        assert!(!colour("a", variables, &[]).contains('\x1b'));
    }
    assert!(!colour("c", &[("CLICOLOR_FORCE", "1")], &["--log-format", "json"]).contains('\x1b'));
    let refused = colour("d", &[("CLICOLOR_FORCE", "1")], &["--page-size", "0"]);
    assert!(refused.starts_with("\x1b[1m\x1b[31merror: \x1b[0mpage_size"), "{refused}");
}
