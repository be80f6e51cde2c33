//! What the built program makes of an API that fails: which exit code, which item is named, and how many requests that costs.
//! `tests/runs/judgement` has the decisions in full.

use crate::common::{Answer, Api, Home, ids, numbered, run, simulator};

/// Waits that make a failing page fail soon.
const HASTY: [&str; 8] =
    ["--retry-base-delay", "5ms", "--retry-max-delay", "10ms", "--retry-attempts", "3", "--max-outage", "300ms"];

#[test]
fn a1_a_key_that_is_refused_at_the_start_costs_three_requests_and_no_product() {
    let api = Api::start(|_| Answer::refusal(401, "apiKey is null"));
    let home = Home::new(&(0..300).map(|id| id.to_string()).collect::<Vec<_>>());
    let summary = run(home.export(&api.base_url(), &["--qps", "500"])).ended(7);
    assert_eq!((api.requests(), &summary["products"]["failed"]), (3, &0.into()), "{summary}");
    assert_eq!((&summary["credits"]["billed"], &summary["credits"]["in_doubt"]), (&0.into(), &0.into()));
}

#[test]
fn rows_without_their_identity_are_neither_complete_nor_silent() {
    for (products, code) in [(3, 3), (40, 10)] {
        let api = Api::start(|_| Answer::page(&[r#"{"id":"1","region":"US"}"#.to_owned(), r#"{"id":"2"}"#.to_owned()]));
        let home = Home::new(&numbered(products));
        let summary = run(home.export(&api.base_url(), &["--max-in-flight", "2"])).ended(code);
        assert_eq!((&summary["products"]["complete"], &summary["rows"]["published"]), (&0.into(), &0.into()));
        assert_eq!(summary["rows"]["rejected"], summary["rows"]["received"]);
        assert!(home.path("out/_rejects").exists() && !home.path("out/_SUCCESS").exists());
        assert!(api.requests() <= 25, "it stops before it has paid for the whole list");
    }
}

#[test]
fn one_product_that_always_fails_does_not_end_every_run_as_a_temporary_failure() {
    let simulator = simulator("products=6,max_videos=25");
    let ids = ids(&simulator);
    let bad = ids[0].clone();
    let api = Api::but(&simulator, move |request| {
        (request.product == bad).then(|| Answer::refusal(500, "Internal server error"))
    });
    let home = Home::new(&ids);
    for _ in 0..3 {
        let summary = run(home.export(&api.base_url(), &HASTY)).ended(3);
        assert_eq!((&summary["products"]["failed"], &summary["products"]["complete"]), (&1.into(), &5.into()));
    }
}

#[test]
fn a_wrong_path_stops_the_run_before_it_has_tried_the_whole_list() {
    let api = Api::start(|_| Answer::new(404, "page not found"));
    let home = Home::new(&numbered(300));
    run(home.export(&api.base_url(), &["--max-in-flight", "4", "--retry-base-delay", "5ms"])).ended(10);
    assert!(api.requests() <= 21, "{} requests", api.requests());
}

#[test]
fn a_200_that_breaks_off_is_requested_at_most_twice() {
    let api = Api::start(|_| Answer::new(200, r#"{"code":0,"message":"success","data":["#));
    let home = Home::new(&numbered(2));
    let summary = run(home.export(&api.base_url(), &["--retry-base-delay", "5ms"])).ended(10);
    assert!(api.requested().values().all(|times| *times == 2), "{:?}", api.requested());
    assert_eq!(summary["products"]["open"], 2, "of an API that gave no page at all no product is blamed: {summary}");
}

#[test]
fn a_success_without_a_list_is_reported_to_have_none() {
    let simulator = simulator("products=6,max_videos=25");
    let ids = ids(&simulator);
    for (data, is) in [(r#"{"more":{}}"#, "an object"), ("\"rows\"", "a string")] {
        let (bad, body) = (ids[0].clone(), format!(r#"{{"code":0,"message":"success","data":{data}}}"#));
        let api = Api::but(&simulator, move |request| (request.product == bad).then(|| Answer::new(200, body.clone())));
        let summary = run(Home::new(&ids).export(&api.base_url(), &HASTY)).ended(3);
        let message = format!("HTTP 200, code 0: data is {is}, not a list of rows; page 1");
        assert_eq!(summary["failures"][0]["error"], message, "{summary}");
    }
}
