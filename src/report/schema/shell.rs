//! The command that shows the first rows of an export in DuckDB, ready to be pasted into a shell.

use super::load::read_parquet;
use crate::model::sanitize::sanitize;
use crate::settings::{OutputLocation, SNAPSHOT, SnapshotLabel};

/// Rows that it shows.
const ROWS: u32 = 10;

/// Of the files below an output. None where a pattern of files cannot name it, or a terminal cannot show it.
pub(crate) fn read_files(out: &OutputLocation, partition: &str, is_partition_in_files: bool) -> Option<String> {
    let files = format!("{}/{partition}=*/*.parquet", in_pattern(&text(out)?));
    command(&format!("FROM {} LIMIT {ROWS}", read_parquet(&files, partition, is_partition_in_files)))
}

/// Of a Delta table: also the replaced files are below the output, so its log says which are to be read.
pub(crate) fn read_table(out: &OutputLocation) -> Option<String> {
    let label = out.name().and_then(SnapshotLabel::of_directory);
    let root = text(&label.as_ref().map_or_else(|| out.clone(), |_| out.parent()))?;
    let root = if root.is_empty() { "." } else { &root };
    let only = label.map(|label| format!(" WHERE {SNAPSHOT} = '{}'", label.as_str())).unwrap_or_default();
    command(&format!("FROM delta_scan('{}'){only} LIMIT {ROWS}", root.replace('\'', "''")))
}

/// A location as DuckDB takes it. It reads a backslash as a slash, and a URL's percent signs as themselves.
fn text(out: &OutputLocation) -> Option<String> {
    let text = out.to_string();
    let is_other = if out.directory().is_some() { text.contains('\\') } else { text.contains('%') };
    let is_root = !text.is_empty() && text.chars().all(|c| c == '/');
    (!is_other && !is_root).then(|| text.trim_end_matches('/').to_owned())
}

/// A text as a part of a pattern of files that matches only itself.
fn in_pattern(text: &str) -> String {
    text.chars().fold(String::new(), |pattern, c| {
        pattern + &if matches!(c, '*' | '?' | '[') { format!("[{c}]") } else { c.to_string() }
    })
}

fn command(sql: &str) -> Option<String> {
    // What is shown must be what is there.
    (sanitize(sql) == sql).then(|| format!("duckdb -c {}", quoted(sql)))
}

/// A text as one word of a shell. An exclamation mark is special inside double quotes, where nothing quotes it.
fn quoted(text: &str) -> String {
    if text.contains(['"', '$', '`', '\\', '!']) {
        format!("'{}'", text.replace('\'', r"'\''"))
    } else {
        format!("\"{text}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::{quoted, read_files, read_table};
    use crate::settings::OutputLocation;

    fn files(out: &str) -> Option<String> {
        read_files(&OutputLocation::parse(out).unwrap(), "region", false)
    }

    #[test]
    fn plain_outputs_are_read_with_the_region_as_text() {
        let command = files("videos/").unwrap();
        assert_eq!(
            command,
            "duckdb -c \"FROM read_parquet('videos/region=*/*.parquet', hive_partitioning = true, hive_types = {'region': VARCHAR}) LIMIT 10\""
        );
        let command = files("s3://lake/videos").unwrap();
        assert!(command.contains("read_parquet('s3://lake/videos/region=*/*.parquet'"), "{command}");
        let in_files = read_files(&OutputLocation::parse("x").unwrap(), "region", true).unwrap();
        assert!(in_files.contains("hive_partitioning = false"), "{in_files}");
    }

    #[test]
    fn quotes_in_an_output_are_quoted_for_sql_and_then_for_the_shell() {
        let table = [
            ("a b", r#"duckdb -c "FROM read_parquet('a b/region"#),
            ("it's", r#"duckdb -c "FROM read_parquet('it''s/region"#),
            ("it's \"$HOME\"", r#"duckdb -c 'FROM read_parquet('\''it'\'''\''s "$HOME"/region"#),
            ("wow!", r"duckdb -c 'FROM read_parquet('\''wow!/region"),
            ("`id`", r"duckdb -c 'FROM read_parquet('\''`id`/region"),
            ("a[b]*c?", r#"duckdb -c "FROM read_parquet('a[[]b][*]c[?]/region"#),
        ];
        for (out, beginning) in table {
            let command = files(out).unwrap();
            assert!(command.starts_with(beginning), "{command}");
        }
        assert_eq!(quoted("a"), "\"a\"");
    }

    #[test]
    fn an_output_that_no_pattern_names_or_no_terminal_shows_has_no_such_command() {
        for out in ["a\\b", "a\nb", "a\u{1b}[2Jb", "a\u{202e}b", "s3://b/a%20b", "/", &"x/".repeat(300)] {
            assert_eq!(files(out), None, "{out:?}");
        }
    }

    #[test]
    fn a_table_is_read_by_its_log_and_a_snapshot_of_it_alone() {
        let table = |out: &str| read_table(&OutputLocation::parse(out).unwrap()).unwrap();
        assert_eq!(table("videos"), "duckdb -c \"FROM delta_scan('videos') LIMIT 10\"");
        assert_eq!(
            table("it's/snapshot=2026-11-22"),
            "duckdb -c \"FROM delta_scan('it''s') WHERE snapshot = '2026-11-22' LIMIT 10\""
        );
        assert_eq!(table("snapshot=a"), "duckdb -c \"FROM delta_scan('.') WHERE snapshot = 'a' LIMIT 10\"");
    }
}
