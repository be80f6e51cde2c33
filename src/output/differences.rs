//! Which settings may change between two runs of one export.

use std::collections::BTreeMap;

use crate::settings::{CODES, DESCRIPTION, table};

pub(crate) type Identity = BTreeMap<String, String>;

/// What differs in settings that would change pages or rows. The end rule may become stricter: walks that it ended too early
/// are opened again.
pub(crate) fn of_export(was: &Identity, now: &Identity) -> Vec<String> {
    let mut found = Vec::new();
    for (key, was) in was {
        let is = now.get(key).map_or("", String::as_str);
        let stricter = key == "end" && strictness(is) > strictness(was);
        match key.as_str() {
            _ if is == was || stricter => {}
            // `dropped` follows from `columns`; and a file may describe the same call as the built-in endpoint.
            "dropped" | DESCRIPTION | CODES => {}
            "columns" => found.push(format!("columns was {}", other_columns(was, is))),
            _ => found.push(format!("{key} was {was}, now {is}")),
        }
    }
    found
}

/// The more requests an end rule spends on being right, the stricter it is.
fn strictness(end: &str) -> u8 {
    match end {
        "short-page" => 1,
        "auto" => 2,
        "empty-page" => 3,
        _ => 0,
    }
}

/// Which columns one list has and the other has not.
fn other_columns(was: &str, is: &str) -> String {
    let only = |one: &str, other: &str| {
        let other: Vec<&str> = other.split(',').collect();
        one.split(',').filter(|name| !other.contains(name)).collect::<Vec<_>>().join(",")
    };
    match (only(was, is), only(is, was)) {
        (lost, gained) if lost.is_empty() && gained.is_empty() => "in another order".to_owned(),
        (lost, gained) if gained.is_empty() => format!("with {lost}, now without"),
        (lost, gained) if lost.is_empty() => format!("without {gained}, now with"),
        (lost, gained) => format!("with {lost}, now with {gained}"),
    }
}

/// What differs in settings that would change pages. Other columns of the same call change none; `call` says whether it is the
/// same.
pub(super) fn of_replay(was: &Identity, now: &Identity) -> Vec<String> {
    let same_call = was.get("call").is_some_and(|call| now.get("call") == Some(call));
    let is_free = |key: &str| key == "columns" || key == "endpoint" && same_call;
    let of_pages =
        was.iter().filter(|(key, _)| !is_free(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    of_export(&of_pages, now)
}

/// What differs in settings that would change the pages of a list, whatever ends it: pages of an export that differs in nothing
/// else are this one's, too.
pub(crate) fn of_lists(was: &Identity, now: &Identity) -> Vec<String> {
    let was = was.iter().filter(|(key, _)| key.as_str() != "end");
    of_replay(&was.map(|(key, value)| (key.clone(), value.clone())).collect(), now)
}

/// What shows that two exports are of different lists: another call, another API, or lists that are cut at another page. Columns,
/// page size and order may have changed from one day to the next.
pub(crate) fn of_dataset(was: &Identity, now: &Identity) -> Vec<String> {
    let keys = ["call", table::BASE_URL.info.key, table::MAX_PAGES.info.key];
    let value = |identity: &Identity, key: &str| identity.get(key).map_or("unknown", String::as_str).to_owned();
    let differs = keys.into_iter().filter(|key| was.get(*key).is_none() || was.get(*key) != now.get(*key));
    differs.map(|key| format!("{key} is {}, not {}", value(was, key), value(now, key))).collect()
}

#[cfg(test)]
mod tests {
    use super::{of_dataset, of_export, of_replay};
    use std::collections::BTreeMap;

    fn identity(values: &[(&str, &str)]) -> BTreeMap<String, String> {
        values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_export_takes_no_other_columns_and_a_replay_does_but_no_other_call() {
        let was =
            identity(&[("call", "x 1"), ("columns", "a,b"), ("dropped", "none"), ("endpoint", "x 2"), ("sort", "a")]);
        let with = |key: &str, value: &str| {
            let mut now = was.clone();
            now.insert(key.to_owned(), value.to_owned());
            (of_export(&was, &now).len(), of_replay(&was, &now).len())
        };
        assert_eq!((with("columns", "a"), with("endpoint", "x 3"), with("dropped", "b")), ((1, 0), (1, 0), (0, 0)));
        assert_eq!((with("call", "x 9"), with("sort", "b"), with("new", "z")), ((1, 1), (1, 1), (0, 0)));
        let shown = |now: &str| {
            let columns = |names: &str| identity(&[("columns", names)]);
            of_export(&columns("a,b"), &columns(now)).join("; ")
        };
        assert_eq!(shown("a"), "columns was with b, now without");
        assert_eq!(shown("a,b,c"), "columns was without c, now with");
        assert_eq!(
            (shown("c,a").as_str(), shown("b,a").as_str()),
            ("columns was with b, now with c", "columns was in another order")
        );
    }

    #[test]
    fn exports_are_of_one_dataset_if_they_make_the_same_calls_to_the_same_api_whatever_else_differs() {
        let own = identity(&[("call", "x 1"), ("base_url", "u"), ("max_pages", "none"), ("columns", "a")]);
        let with = |key: &str, value: &str| {
            let mut other = own.clone();
            other.insert(key.to_owned(), value.to_owned());
            of_dataset(&other, &own)
        };
        assert!(with("columns", "a,b").is_empty() && with("page_size", "5").is_empty());
        assert_eq!(with("base_url", "v"), ["base_url is v, not u"]);
        assert_eq!(with("call", "x 2").len() + with("max_pages", "1").len(), 2);
        assert_eq!(of_dataset(&identity(&[]), &identity(&[])).len(), 3, "what is not known may differ");
    }

    #[test]
    fn the_rule_of_a_list_s_end_may_become_stricter_and_nothing_else() {
        let of = |end: &str| identity(&[("end", end)]);
        let rules = ["short-page", "auto", "empty-page"];
        for (place, was) in rules.iter().enumerate() {
            let refused = rules.map(|now| !of_export(&of(was), &of(now)).is_empty());
            assert_eq!(refused, [0, 1, 2].map(|now| now < place), "from {was}");
        }
    }
}
