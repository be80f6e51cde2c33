//! The end of a list and the meanings of an envelope's `code`, as a description declares them.

use serde::Deserialize;

use super::Endpoint;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndRule {
    /// A short page, until a page requested after one shows that lists continue.
    Auto,
    /// A page with fewer rows than requested, or with none.
    ShortPage,
    /// Only a page without rows.
    EmptyPage,
}

/// Values of an envelope's `code`, by meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codes {
    pub success: Vec<i64>,
    /// The same request may succeed later.
    pub retry: Vec<i64>,
    pub throttle: Vec<i64>,
    /// The API key is not accepted, or its credits are spent.
    pub stop: Vec<i64>,
    /// The page is after the end of the list.
    pub end_of_list: Vec<i64>,
}

impl Codes {
    /// What an export's identity records of them.
    pub fn words(&self) -> String {
        let Self { success, retry, throttle, stop, end_of_list } = self;
        let lists = [
            ("success", success),
            ("retry", retry),
            ("throttle", throttle),
            ("stop", stop),
            ("end_of_list", end_of_list),
        ];
        let list = |(word, codes): (&str, &Vec<i64>)| {
            let codes: Vec<String> = codes.iter().map(i64::to_string).collect();
            format!("{word}={}", codes.join(","))
        };
        lists.map(list).join(" ")
    }
}

impl Endpoint {
    pub(crate) fn codes(&self) -> Codes {
        Codes {
            success: self.success_codes.clone(),
            retry: self.retry_codes.clone(),
            throttle: self.throttle_codes.clone(),
            stop: self.stop_codes.clone(),
            end_of_list: self.end_of_list_codes.clone(),
        }
    }
}
