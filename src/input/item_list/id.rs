//! Checks one entry of a list: an id, or the reason why it is not one.
//!
//! Each request costs a credit, so an entry that cannot be an id is an error. The usual causes are known (mostly
//! spreadsheets): the error names the likely one and the remedy.

use crate::endpoint::id_form::IdPattern;
use crate::model::page::ItemId;
use crate::model::sanitize::{KEY_PREFIX, Sanitized};

/// Longest id, bytes.
const LONGEST: usize = 256;

#[derive(Clone, Copy, Debug)]
pub(super) enum Position<'a> {
    Line {
        is_first: bool,
    },
    /// A cell of this column of a table.
    Cell(&'a str),
}

/// Reads an entry as an id; `None` if it is empty.
pub(super) fn checked(
    entry: &[u8],
    position: Position<'_>,
    form: Option<&IdPattern>,
) -> Result<Option<ItemId>, String> {
    let id = trimmed(std::str::from_utf8(entry).map_err(|_| "the id is not UTF-8".to_owned())?);
    if let Some(control) = id.chars().find(|c| c.is_control()) {
        let cause = if control == '\t' { ": is it a row of a table?" } else { "" };
        return Err(format!("the id has the control character U+{:04X}{cause}", u32::from(control)));
    }
    if id.contains(KEY_PREFIX) {
        return Err("the id looks like an API key, which must not be in a list".to_owned());
    }
    if id.len() > LONGEST {
        let cause = suffix(form.and_then(|_| likely_cause(id, position)));
        return Err(format!("the id is longer than {LONGEST} bytes{cause}"));
    }
    if id.is_empty() {
        return Ok(None);
    }
    let Some(form) = form else {
        let is_row = matches!(position, Position::Line { .. }) && id.contains(',');
        return if is_row { Err(ROW.to_owned()) } else { Ok(Some(ItemId::new(id))) };
    };
    if form.fits(id) {
        return Ok(Some(ItemId::new(id)));
    }
    let visible = id.replace(is_zero_width, "");
    if form.fits(&visible) {
        return Ok(Some(ItemId::new(&visible)));
    }
    let cause = suffix(likely_cause(&visible, position));
    Err(format!("`{}` does not have the form of an id, {}{cause}", Sanitized(&visible), Sanitized(&form.to_string())))
}

fn suffix(cause: Option<&str>) -> String {
    cause.map(|cause| format!(": {cause}")).unwrap_or_default()
}

/// Strips white space and zero-width characters from both ends.
pub(crate) fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || is_zero_width(c))
}

/// Zero-width spaces and joiners, and the byte order mark, which text copied from web pages and documents often has.
fn is_zero_width(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}')
}

/// Other invisible characters. They are not stripped, because they may replace something.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2061}'..='\u{206f}')
}

/// The cause for a line that looks like a row of a table.
const ROW: &str = "it looks like a row of a table: name the column with --product-column";

/// Patterns of entries that are not ids, each with its likely cause and the remedy. The first pattern that matches the whole
/// entry counts.
const CAUSES: [(&str, &str); 14] = [
    (r"[+-]?[0-9]+([.,][0-9]*)?[eE][+-]?[0-9]+", "a spreadsheet rounded it; export the column as text"),
    (
        r"[0-9]{1,3}((?:[,. _']|\u{a0}|\u{202f}|\u{2019})[0-9]{3}){2,}",
        "it has thousands separators; export the column as text or as plain numbers",
    ),
    (
        r"[+-]?[0-9]+\.[0-9]*",
        "it passed through a column of floats, which may have rounded it; export the column as text or as whole numbers",
    ),
    (r"(?s)(?:'|`|\u{2018}|\u{2019}|\u{b4}).*", "it begins with an apostrophe, as spreadsheets mark text; remove it"),
    (r#"(?s)(?:[{}\[\]]|"[^"]*"\s*:).*"#, "it is JSON; a list is text with one id per line, CSV or Parquet"),
    (
        r#"(?s)(?:"|\u{201c}|\u{201d}|\u{201e}|\u{ab}).*"#,
        "it is in quotes; remove them, or read the list as a table with --product-column",
    ),
    (r"(?s)=.*", "it is a spreadsheet formula; export its value as text"),
    (r"(?s)(?:[a-zA-Z][a-zA-Z0-9+.-]*://|www\.|[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}/).*", "it is a link; give the id alone"),
    (r"(?i)null|none|nan|nil|n/a|na|<na>|undefined|\\n|-+", "it means a missing value; leave it out"),
    (r"(?s)#.*", "it is a spreadsheet error or a comment"),
    (r"[+-][0-9]+", "it has a sign"),
    (r"[0-9]+", "it has too few or too many digits: is a line break missing between two ids?"),
    (r"(?s)[^#]+#.*", "it has a comment; put white space before the #"),
    (r"(?s).*[;|].*", "it has several values; give one id per line, or name the column with --product-column"),
];

fn likely_cause(text: &str, position: Position<'_>) -> Option<&'static str> {
    let known = CAUSES.iter().find(|(what, _)| IdPattern::new(what).is_ok_and(|what| what.fits(text)));
    if let Some((_, cause)) = known {
        return Some(cause);
    }
    let is_name = text.starts_with(|c: char| c.is_alphabetic() || c == '_') && !text.contains([',', '/']);
    match position {
        Position::Cell(column) if text == column => Some("it is the column's header again"),
        Position::Line { is_first: true } if is_name => {
            Some("it looks like a header; remove it, or read the list as a table with --product-column")
        }
        Position::Line { .. } if text.contains(',') => Some(ROW),
        _ if text.contains(is_invisible) => Some("it has invisible characters; type it again"),
        _ if text.chars().any(|c| !c.is_ascii() && c.is_numeric()) => {
            Some("its digits are not the ASCII digits 0 to 9")
        }
        _ if text.contains(char::is_whitespace) => Some("it has several values; give one id per line"),
        Position::Line { .. } | Position::Cell(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{CAUSES, Position, checked};
    use crate::endpoint::id_form::IdPattern;

    const LINE: Position<'_> = Position::Line { is_first: false };
    const CELL: Position<'_> = Position::Cell("id");

    fn digits(entry: &str, position: Position<'_>) -> Result<Option<String>, String> {
        let form = IdPattern::new("[0-9]{1,32}").unwrap();
        checked(entry.as_bytes(), position, Some(&form)).map(|id| id.map(|id| id.as_str().to_owned()))
    }

    #[test]
    fn what_is_no_id_is_refused_with_its_text_and_the_likely_cause() {
        let table = [
            ("1.7295E+18", "a spreadsheet rounded it"),
            ("1,7295e+18", "a spreadsheet rounded it"),
            ("1E18", "a spreadsheet rounded it"),
            ("1729382310407603101.0", "a column of floats"),
            ("1729382310407603101.", "a column of floats"),
            ("17.25", "a column of floats"),
            ("'1729382310407603945", "an apostrophe"),
            ("’1729382310407603945", "an apostrophe"),
            ("\"1729382310407603945\"", "in quotes"),
            ("“1729382310407603945”", "in quotes"),
            ("=\"1729382310407603945\"", "a spreadsheet formula"),
            ("1,729,382,310,407,603,945", "thousands separators"),
            ("1.729.382.310.407.603.945", "thousands separators"),
            ("1 729 382 310 407 603 945", "thousands separators"),
            ("1\u{a0}729\u{a0}382", "thousands separators"),
            ("1\u{202f}729\u{202f}382", "thousands separators"),
            ("1’729’382", "thousands separators"),
            ("1_729_382", "thousands separators"),
            ("https://www.tiktok.com/view/product/1729382310407603945", "a link"),
            ("www.tiktok.com/view/product/1729382310407603945", "a link"),
            ("shop.tiktok.com/view/product/1729382310407603945?region=ID", "a link"),
            ("{\"product_id\":\"1729382310407603945\"}", "it is JSON"),
            ("[1729382310407603945]", "it is JSON"),
            ("]", "it is JSON"),
            ("\"product_id\": \"1729382310407603945\",", "it is JSON"),
            ("NULL", "a missing value"),
            ("nan", "a missing value"),
            ("N/A", "a missing value"),
            ("-", "a missing value"),
            ("#REF!", "a spreadsheet error"),
            ("-17", "a sign"),
            ("+17", "a sign"),
            ("17293823104076039451729382310407603946", "too many digits"),
            ("17#18", "white space before the #"),
            ("17;18", "several values"),
            ("17|18", "several values"),
            ("17 18", "several values"),
            ("17\u{200e}18", "invisible characters"),
            ("١٧٢٩", "the ASCII digits"),
            ("１７２９", "the ASCII digits"),
        ];
        for (entry, cause) in table {
            for position in [LINE, Position::Line { is_first: true }, CELL] {
                let error = digits(entry, position).unwrap_err();
                let shown: String = entry.chars().take(1).filter(char::is_ascii).collect();
                assert!(error.starts_with('`') && error.contains(&shown), "{entry}: {error}");
                assert!(error.contains("the form of an id, [0-9]{1,32}: "), "{entry}: {error}");
                assert!(error.contains(cause), "{entry}: {error}");
            }
        }
    }

    #[test]
    fn what_an_entry_may_be_also_hangs_on_where_it_stands() {
        let first = Position::Line { is_first: true };
        let table = [
            ("product_id", first, "it looks like a header"),
            ("Product ID", first, "it looks like a header"),
            ("товар", first, "it looks like a header"),
            ("name,product_id", first, "--product-column"),
            ("17,18", LINE, "--product-column"),
            ("id", CELL, "it is the column's header"),
            ("17\t18", LINE, "U+0009: is it a row of a table?"),
        ];
        for (entry, position, cause) in table {
            let error = digits(entry, position).unwrap_err();
            assert!(error.contains(cause), "{entry}: {error}");
        }
        for (entry, position) in [("product_id", LINE), ("other", CELL), ("17,18", CELL), ("abc", LINE)] {
            let error = digits(entry, position).unwrap_err();
            assert!(error.ends_with("the form of an id, [0-9]{1,32}"), "no cause is made up for {entry}: {error}");
        }
    }

    #[test]
    fn characters_without_width_are_stripped() {
        let around = "\u{feff}\u{200b} 17\u{200c}\u{200d}\u{2060} \u{feff}";
        assert_eq!(digits(around, LINE).unwrap().unwrap(), "17");
        assert_eq!(checked(around.as_bytes(), CELL, None).unwrap().unwrap().as_str(), "17");
        for c in ["\u{200b}", "\u{200c}", "\u{200d}", "\u{2060}", "\u{feff}"] {
            assert_eq!(digits(&format!("1729{c}382"), LINE).unwrap().unwrap(), "1729382", "{c:?}");
            assert_eq!(digits(c, LINE), Ok(None), "{c:?}");
        }
        // Where nothing says what an id looks like, they may be a part of it.
        let family = "\u{1f468}\u{200d}\u{1f467}";
        assert_eq!(checked(family.as_bytes(), LINE, None).unwrap().unwrap().as_str(), family);
        let any = IdPattern::new("(?s).+").unwrap();
        assert_eq!(checked(family.as_bytes(), LINE, Some(&any)).unwrap().unwrap().as_str(), family);
    }

    #[test]
    fn a_refusal_is_short_and_shows_neither_a_key_nor_a_character_that_acts() {
        let error = digits(&format!("https://x/{}", "\u{202e}y".repeat(60)), LINE).unwrap_err();
        assert!(error.chars().count() < 350 && !error.contains('\u{202e}'), "{error}");
        let error = digits(&format!("{{\"id\":17,\"name\":\"{}\"}}", "x".repeat(300)), LINE).unwrap_err();
        assert!(error.starts_with("the id is longer than 256 bytes: it is JSON"), "{error}");
        let error = digits("17 sk_live_abcdef", LINE).unwrap_err();
        assert!(error.contains("looks like an API key") && !error.contains("abcdef"), "{error}");
    }

    #[test]
    fn every_cause_is_an_expression() {
        for (what, _) in CAUSES {
            IdPattern::new(what).unwrap();
        }
    }

    #[test]
    fn without_a_form_any_text_is_an_id_but_no_row_of_a_table() {
        for id in ["1.7295E+18", "'17", "product_id", "17#18", "{}"] {
            assert_eq!(checked(id.as_bytes(), LINE, None).unwrap().unwrap().as_str(), id);
        }
        assert!(checked(b"17,18", LINE, None).unwrap_err().contains("--product-column"));
        assert_eq!(checked(b"17,18", CELL, None).unwrap().unwrap().as_str(), "17,18");
        let pairs = IdPattern::new("[0-9]+,[0-9]+").unwrap();
        assert_eq!(checked(b"17,18", LINE, Some(&pairs)).unwrap().unwrap().as_str(), "17,18");
    }
}
