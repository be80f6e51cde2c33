//! What a description says about answers: what the values of an envelope's `code` mean, and what ends a walk.

use serde::Deserialize;

use super::Endpoint;

/// What ends a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndRule {
    /// A short page, as long as pages behind short ones, asked for now and then, do not show otherwise.
    Auto,
    /// A page with fewer rows than were asked for, or with none.
    ShortPage,
    /// Only a page with no rows.
    EmptyPage,
}

/// Values of an envelope's `code`, by what they mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codes {
    /// Success.
    pub success: Vec<i64>,
    /// The same request may succeed later.
    pub retry: Vec<i64>,
    /// Requests come too fast.
    pub throttle: Vec<i64>,
    /// The key is not accepted, or its credits are used up.
    pub stop: Vec<i64>,
    /// The page is behind the end of the list.
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
    /// The codes that it names, by what they mean.
    pub fn codes(&self) -> Codes {
        Codes {
            success: self.success_codes.clone(),
            retry: self.retry_codes.clone(),
            throttle: self.throttle_codes.clone(),
            stop: self.stop_codes.clone(),
            end_of_list: self.end_of_list_codes.clone(),
        }
    }
}
