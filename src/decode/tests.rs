//! How each kind of cell and row is decoded.

use super::{Decoded, Decoder, Response};
use crate::endpoint::{BUILT_IN, ColumnKind, EXTRA, Endpoint, FETCHED_AT, PAGE_NUM, Role};
use crate::model::clock::Utc64;
use crate::model::page::{AttemptId, ItemId, ItemIx, PageNum, Request};
use crate::simulator::{ApiRequest, Simulator, SimulatorSettings};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;

const ID: &str = "1729382310407603945";

fn endpoint() -> Endpoint {
    Endpoint::parse(BUILT_IN).unwrap()
}

fn decode_body(body: &[u8]) -> Decoded {
    let endpoint = endpoint();
    let (attempt, item, page) = (AttemptId(1), ItemIx(1), PageNum(3));
    let response = Response {
        request: Request { attempt, item, id: ItemId::new(ID), page },
        at: Utc64(9),
        body: body.to_vec().into(),
    };
    Decoder::new(&endpoint, |_| true).decode(&[response]).unwrap()
}

fn decode(rows: &str) -> Decoded {
    decode_body(format!(r#"{{"code":0,"message":"success","data":[{rows}],"requestId":"x"}}"#).as_bytes())
}

/// A row with its identity and one more field.
fn with(field: &str) -> Decoded {
    decode(&format!(r#"{{"video_id":"7","product_id":"{ID}","region":"ID",{field}}}"#))
}

fn text(decoded: &Decoded, column: &str) -> Option<String> {
    let array = decoded.rows.column_by_name(column).unwrap().as_string::<i32>();
    array.is_valid(0).then(|| array.value(0).to_owned())
}

fn int(decoded: &Decoded, column: &str) -> Option<i64> {
    let array = decoded.rows.column_by_name(column).unwrap().as_primitive::<Int64Type>();
    array.is_valid(0).then(|| array.value(0))
}

#[test]
fn the_documented_row_is_typed_exactly() {
    let row = r#"{"create_time":"1628504241","data_size":"3307751","duration":38,"height":"1024","width":"576","region":"ID",
        "product_id":"1729382310407603945","total_video_sale_gmv_amt":0,"total_views_cnt":2560,"user_id":"6788316924469380097",
        "video_desc":"Promo \u263a ☺","video_id":"6994372454948900122","hash_tag":null}"#;
    let decoded = decode(row);
    assert_eq!(text(&decoded, "video_id").unwrap(), "6994372454948900122");
    assert_eq!(text(&decoded, "video_desc").unwrap(), "Promo ☺ ☺");
    assert_eq!((int(&decoded, "data_size"), int(&decoded, "height")), (Some(3_307_751), Some(1_024)));
    assert_eq!((int(&decoded, "total_views_cnt"), text(&decoded, "hash_tag")), (Some(2_560), None));
    let time = decoded.rows.column_by_name("create_time").unwrap().as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!(time, 1_628_504_241_000_000);
    assert_eq!(decoded.partitions, [Some("ID".into())]);
    assert_eq!(text(&decoded, EXTRA), None);
    let own = decoded.rows.column_by_name(PAGE_NUM).unwrap().as_primitive::<Int32Type>().value(0);
    let at = decoded.rows.column_by_name(FETCHED_AT).unwrap().as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!((own, at), (3, 9));
}

#[test]
fn numbers_are_read_from_any_exact_notation_and_others_go_to_extra() {
    let whole = [("17", 17), ("\"17\"", 17), ("-3", -3), ("1.0", 1), ("1e3", 1_000), ("\"2.0\"", 2)];
    for (raw, value) in whole.into_iter().chain([("9223372036854775807", i64::MAX), ("-0", 0)]) {
        let decoded = with(&format!(r#""total_digg_cnt":{raw}"#));
        assert_eq!((int(&decoded, "total_digg_cnt"), text(&decoded, EXTRA)), (Some(value), None), "{raw}");
    }
    for raw in
        ["\"48%\"", "1.5", "-1e300", "9223372036854775808", "true", "[1]", "{\"a\":1}", "\"\"", "\"NaN\"", "\" 1\""]
    {
        let decoded = with(&format!(r#""total_digg_cnt":{raw}"#));
        assert_eq!(int(&decoded, "total_digg_cnt"), None, "{raw}");
        assert_eq!(text(&decoded, EXTRA).unwrap(), format!(r#"{{"total_digg_cnt":{raw}}}"#));
    }
    for (raw, value) in [
        ("2627.73", Some(2_627.73)),
        ("\"2627.73\"", Some(2_627.73)),
        ("5", Some(5.0)),
        ("1e999", None),
        ("\"inf\"", None),
    ] {
        let decoded = with(&format!(r#""total_video_sale_gmv_amt":{raw}"#));
        let array = decoded.rows.column_by_name("total_video_sale_gmv_amt").unwrap().as_primitive::<Float64Type>();
        assert_eq!(array.is_valid(0).then(|| array.value(0)), value, "{raw}");
    }
}

#[test]
fn a_time_outside_of_its_range_goes_to_extra() {
    for raw in ["1628504241000", "0", "-1", "292277026596", "\"yesterday\""] {
        let decoded = with(&format!(r#""create_time":{raw}"#));
        assert!(decoded.rows.column_by_name("create_time").unwrap().is_null(0), "{raw}");
        assert_eq!(text(&decoded, EXTRA).unwrap(), format!(r#"{{"create_time":{raw}}}"#));
    }
}

#[test]
fn a_time_in_iso_8601_is_read_if_it_is_unambiguous_and_loses_nothing() {
    let micros = |decoded: &Decoded| {
        let times = decoded.rows.column_by_name("create_time").unwrap().as_primitive::<TimestampMicrosecondType>();
        times.is_valid(0).then(|| times.value(0))
    };
    for (raw, time) in [
        (r#""2021-08-09T10:17:21Z""#, 1_628_504_241_000_000),
        (r#""2021-08-09 10:17:21.25+00:00""#, 1_628_504_241_250_000),
        (r#""2021-08-09T12:17:21.000001+02:00""#, 1_628_504_241_000_001),
        (r#""2021-08-09T10:17:21\u005a""#, 1_628_504_241_000_000),
    ] {
        let decoded = with(&format!(r#""create_time":{raw}"#));
        assert_eq!((micros(&decoded), text(&decoded, EXTRA)), (Some(time), None), "{raw}");
    }
    for raw in [
        r#""2021-08-09T10:17:21""#,
        r#""2021-08-09""#,
        r#""2021-08-09T10:17:21.0000001Z""#,
        r#""1970-01-01T00:00:00Z""#,
        r#""2100-01-01T00:00:00Z""#,
    ] {
        let decoded = with(&format!(r#""create_time":{raw}"#));
        assert_eq!(micros(&decoded), None, "{raw}");
        assert_eq!(text(&decoded, EXTRA).unwrap(), format!(r#"{{"create_time":{raw}}}"#));
    }
}

#[test]
fn an_identity_that_is_a_number_with_an_exponent_or_a_fraction_is_a_reject_and_no_duplicate() {
    let decoded = decode(
        r#"{"video_id":6994372454948900122},{"video_id":6.9943724549489e18},{"video_id":6.9943724549489e18,"a":1},
        {"video_id":12},{"video_id":12.0},{"video_id":12.5},{"video_id":1E3},{"video_id":-1.0},{"video_id":"1.5e3"}"#,
    );
    let page = &decoded.pages[0];
    assert_eq!((page.received, page.keys.len(), page.foreign, decoded.rows.num_rows()), (9, 3, 0, 3));
    let reason = "the identity is a number with an exponent or a fraction, which may be rounded";
    assert!(page.rejects.iter().all(|reject| reject.reason == reason), "{:?}", page.rejects);
    let raws: Vec<_> = page.rejects.iter().map(|reject| reject.raw.as_str()).collect();
    assert_eq!(raws[1], r#"{"video_id":6.9943724549489e18,"a":1}"#);
    // The item's column is a part of the identity too.
    let decoded = decode(&format!(
        r#"{{"video_id":"7","product_id":1.729382310407604e18}},{{"video_id":"7","product_id":{ID}}}"#
    ));
    assert_eq!((decoded.pages[0].rejects.len(), decoded.pages[0].foreign, decoded.pages[0].keys.len()), (1, 0, 1));
    assert_eq!(decoded.pages[0].rejects[0].reason, reason);
}

#[test]
fn every_column_takes_every_json_type_and_no_row_is_lost() {
    for column in endpoint().columns.iter().filter(|column| column.role != Role::Identity) {
        for raw in ["null", "\"text\"", "\"12\"", "7", "1.5", "true", "[]", "{}"] {
            let row = format!(r#"{{"video_id":"7","{}":{raw}}}"#, column.name);
            let decoded = decode(&row);
            assert_eq!(decoded.rows.num_rows(), 1, "{row}");
            let written = decoded.rows.column_by_name(&column.name);
            let is_null = written.map_or_else(|| decoded.partitions[0].is_none(), |array| array.is_null(0));
            let in_extra = text(&decoded, EXTRA).is_some_and(|extra| extra.contains(&column.name));
            assert_eq!(is_null && raw != "null", in_extra, "{row}");
            assert!(column.kind != ColumnKind::Utf8 || is_null != raw.starts_with(['"', '7', '1']), "{row}");
        }
    }
}

#[test]
fn ids_sent_as_numbers_keep_every_digit() {
    let decoded = decode(r#"{"video_id":6994372454948900122,"product_id":1729382310407603945}"#);
    assert_eq!(text(&decoded, "video_id").unwrap(), "6994372454948900122");
    assert_eq!(text(&decoded, "product_id").unwrap(), ID);
}

#[test]
fn unknown_fields_and_the_first_of_two_equal_ones_go_to_extra() {
    let decoded = with(r#""new":{"a":[1,"x"]},"duration":1,"duration":2,"quo\"te":null"#);
    assert_eq!(int(&decoded, "duration"), Some(2));
    let extra: serde_json::Value = serde_json::from_str(&text(&decoded, EXTRA).unwrap()).unwrap();
    assert_eq!(extra, serde_json::json!({"new": {"a": [1, "x"]}, "duration": 1, "quo\"te": null}));
}

#[test]
fn unknown_fields_whose_names_are_not_unicode_have_different_names() {
    let decoded = with(r#""\ud83d":1,"\ud83e":2,"\u0061":3"#);
    assert_eq!(text(&decoded, EXTRA).unwrap(), r#"{"\"\\ud83d\"":1,"\"\\ud83e\"":2,"a":3}"#);
}

#[test]
fn half_a_surrogate_pair_loses_neither_the_row_nor_its_text() {
    let decoded = with(r#""video_desc":"cut \ud83d""#);
    assert!(text(&decoded, "video_desc").unwrap().starts_with("cut \u{fffd}"));
    assert_eq!(text(&decoded, EXTRA).unwrap(), r#"{"video_desc":"\"cut \\ud83d\""}"#);
    let invalid =
        decode_body(b"{\"code\":0,\"data\":[{\"video_id\":\"7\",\"video_desc\":\"a\xffb\"},{\"video_id\":\"8\"}]}");
    assert_eq!((invalid.rows.num_rows(), text(&invalid, "video_desc").unwrap().as_str()), (2, "a\u{fffd}b"));
}

#[test]
fn a_partition_value_that_no_directory_name_can_contain_goes_to_extra() {
    let long = "x".repeat(300);
    for value in ["", long.as_str(), crate::model::partition::DEFAULT] {
        let decoded = decode(&format!(r#"{{"video_id":"7","region":"{value}"}}"#));
        assert_eq!(text(&decoded, EXTRA).unwrap(), format!(r#"{{"region":"{value}"}}"#));
    }
    for row in [r#"{"video_id":"7","region":null}"#, r#"{"video_id":"7"}"#] {
        let decoded = decode(row);
        assert_eq!((text(&decoded, EXTRA), &decoded.partitions[0]), (None, &None));
    }
}

#[test]
fn a_partition_column_in_the_files_says_what_the_names_of_the_directories_say() {
    let endpoint = endpoint();
    let names = ["video_id", "product_id", "region"].map(str::to_owned);
    let long = "x".repeat(300);
    let values = [r#""ID""#.to_owned(), r#""""#.to_owned(), format!("\"{long}\""), "null".to_owned(), "17".to_owned()];
    let rows: Vec<_> = values.iter().map(|value| format!(r#"{{"video_id":"7","region":{value}}}"#)).collect();
    let body = format!(r#"{{"code":0,"data":[{}]}}"#, rows.join(",")).into();
    let (attempt, item, page) = (AttemptId(1), ItemIx(1), PageNum(3));
    let response = Response { request: Request { attempt, item, id: ItemId::new(ID), page }, at: Utc64(9), body };
    let decoded = Decoder::for_columns(&endpoint, &names).decode(&[response]).unwrap();
    let columns: Vec<_> = decoded.rows.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(columns, ["video_id", "product_id", "region", FETCHED_AT, PAGE_NUM, EXTRA]);
    let in_files = decoded.rows.column_by_name("region").unwrap().as_string::<i32>();
    let in_names: Vec<_> = decoded.partitions.iter().map(|value| value.as_deref()).collect();
    assert_eq!(in_files.iter().collect::<Vec<_>>(), in_names);
    assert_eq!(in_names[..4], [Some("ID"), None, None, None]);
}

#[test]
fn rows_that_cannot_be_published_become_rejects_with_reason_and_exact_text_and_lose_no_other_row() {
    let rows =
        r#"{"video_id":"7"}, 17, {"video_id": null}, {"video_id":"8","product_id":"99"}, "x", {"video_id":"9"}, null"#;
    let decoded = decode(rows);
    let page = &decoded.pages[0];
    assert_eq!((decoded.rows.num_rows(), page.keys.len(), page.received, page.foreign), (2, 2, 7, 1));
    let rejects: Vec<_> = page.rejects.iter().map(|reject| (&*reject.reason, reject.raw.as_str())).collect();
    let expected = [
        ("the row is not a JSON object", "17"),
        ("the row has no identity", r#"{"video_id": null}"#),
        ("the row belongs to 99", r#"{"video_id":"8","product_id":"99"}"#),
        ("the row is not a JSON object", "\"x\""),
        ("the row is not a JSON object", "null"),
    ];
    assert_eq!(rejects, expected);
}

#[test]
fn rows_without_identity_among_good_ones_keep_their_own_text() {
    let decoded = decode(r#"{"video_id":"7"},{"a":1},{"video_id":"8"},{"b":2}"#);
    let raws: Vec<_> = decoded.pages[0].rejects.iter().map(|reject| reject.raw.as_str()).collect();
    assert_eq!((decoded.rows.num_rows(), raws), (2, vec![r#"{"a":1}"#, r#"{"b":2}"#]));
}

#[test]
fn the_item_column_is_the_requested_item_even_if_a_row_does_not_repeat_it() {
    assert_eq!(text(&decode(r#"{"video_id":"7"}"#), "product_id").unwrap(), ID);
}

#[test]
fn dropped_columns_are_not_written_and_not_in_extra_either() {
    let endpoint = endpoint();
    let only = Decoder::new(&endpoint, |column| column.name == "duration");
    let body = bytes::Bytes::from_static(
        br#"{"code":0,"data":[{"video_id":"7","video_desc":"x","duration":3,"video_desc":"y","region":"ID"}]}"#,
    );
    let (attempt, item, page) = (AttemptId(1), ItemIx(1), PageNum(3));
    let decoded = only
        .decode(&[Response { request: Request { attempt, item, id: ItemId::new(ID), page }, at: Utc64(9), body }])
        .unwrap();
    let names: Vec<_> = decoded.rows.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["video_id", "product_id", "duration", FETCHED_AT, PAGE_NUM, EXTRA]);
    assert_eq!(text(&decoded, EXTRA), None);
    assert_eq!(decoded.partitions[0].as_deref(), Some("ID"));
}

#[test]
fn keys_differ_exactly_if_identities_do() {
    let decoded = decode(r#"{"video_id":"7"},{"video_id":"8"},{"video_id":7}"#);
    let keys = &decoded.pages[0].keys;
    assert!(keys[0] != keys[1] && keys[0] == keys[2]);
}

/// Keys stand in ledgers, and what is in the files is compared with them.
#[test]
fn a_key_is_this_part_of_this_digest() {
    let key = |texts: &[&'static str]| super::key_of(texts.iter().map(|text| Some((*text).into()))).unwrap();
    assert_eq!(crate::endpoint::hex(&key(&["7"])), "8cab34f098edf53c484c70e3df513439");
    assert_eq!(crate::endpoint::hex(&key(&["7", "ab"])), "0d32a26bc611416bf84bd34f53a20dac");
    assert_eq!(decode(r#"{"video_id":"7"}"#).pages[0].keys, [key(&["7"])]);
}

#[test]
fn an_id_that_is_not_unicode_has_another_key_than_an_id_that_is_its_json_text() {
    let decoded = decode(
        r#"{"video_id":"\ud800"},{"video_id":"\"\\ud800\""},{"video_id":"\"\\\"\\\\\\\\ud800\\\"\""},{"video_id":"\"\\\"\\\\ud800\\\"\""}"#,
    );
    let keys = &decoded.pages[0].keys;
    let distinct: std::collections::HashSet<_> = keys.iter().collect();
    assert_eq!((keys.len(), distinct.len()), (4, 4));
    // The texts in a file make the same keys: `verify` has nothing else.
    let ids = decoded.rows.column_by_name("video_id").unwrap().as_string::<i32>();
    let keys_of_file: Vec<_> = ids.iter().map(|id| super::key_of([id.map(Into::into)].into_iter()).unwrap()).collect();
    assert_eq!(&keys_of_file, keys);
}

#[test]
fn pages_of_a_group_are_decoded_independently() {
    let endpoint = endpoint();
    let simulator = Simulator::new(&endpoint, SimulatorSettings::default()).unwrap();
    let query = format!("product_id={ID}&page_num=1&page_size=7");
    let body =
        simulator.respond(&ApiRequest { path: &endpoint.path, query: &query, authorization: Some("Bearer x") }).body;
    let response = |attempt| {
        let request = Request { attempt: AttemptId(attempt), item: ItemIx(1), id: ItemId::new(ID), page: PageNum(1) };
        Response { request, at: Utc64(9), body: body.clone() }
    };
    let decoder = Decoder::new(&endpoint, |_| true);
    let (one, two) = (decoder.decode(&[response(1)]).unwrap(), decoder.decode(&[response(1), response(2)]).unwrap());
    let rows = one.rows.num_rows();
    assert_eq!(one.rows, two.rows.slice(0, rows));
    assert_eq!(one.rows, two.rows.slice(rows, rows));
    assert_eq!(two.pages[1].keys, one.pages[0].keys);
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic_or_lose_count(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let decoded = decode_body(&body);
        let page = &decoded.pages[0];
        prop_assert_eq!(page.received, page.keys.len() + page.rejects.len());
        prop_assert_eq!(decoded.rows.num_rows(), page.keys.len());
    }

    #[test]
    fn a_mutated_page_keeps_one_row_or_reject_for_each_entry(at in 0_usize..4_000, byte in any::<u8>()) {
        let endpoint = endpoint();
        let simulator = Simulator::new(&endpoint, SimulatorSettings::default()).unwrap();
        let query = format!("product_id={ID}&page_num=1&page_size=3");
        let response = simulator.respond(&ApiRequest { path: &endpoint.path, query: &query, authorization: Some("Bearer x") });
        let mut body = response.body.to_vec();
        if let Some(slot) = body.get_mut(at) {
            *slot = byte;
        }
        let decoded = decode_body(&body);
        let page = &decoded.pages[0];
        prop_assert_eq!(page.received, page.keys.len() + page.rejects.len());
        prop_assert_eq!(decoded.partitions.len(), decoded.rows.num_rows());
    }

    #[test]
    fn any_json_value_in_an_unknown_field_is_preserved(value in any_json(), pretty in any::<bool>(), name in "[a-z\"\\\\é]{0,6}!") {
        let row = serde_json::json!({ "video_id": "7", name.as_str(): value });
        let response = serde_json::json!({ "code": 0, "message": value, "data": [17, row, [value], row] });
        let body = if pretty { serde_json::to_string_pretty(&response) } else { serde_json::to_string(&response) }.unwrap();
        let decoded = decode_body(body.as_bytes());
        prop_assert_eq!((decoded.rows.num_rows(), decoded.pages[0].rejects.len()), (2, 2));
        let extra: serde_json::Value = serde_json::from_str(&text(&decoded, EXTRA).unwrap()).unwrap();
        prop_assert_eq!(&extra[name.as_str()], &value);
        let reject: serde_json::Value = serde_json::from_str(&decoded.pages[0].rejects[1].raw).unwrap();
        prop_assert_eq!(&reject[0], &value);
    }
}

/// Any JSON value, some levels deep.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<String>().prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}
