//! The whole capability, on the files of `tests/data` and on long ones made here.

use std::io::Read;

use aral_guest::prelude::*;
use serde_json::{Value, json};

use crate::Input;
use crate::source::{Format, source_of};

fn call(mut input: Value) -> Result<Value> {
    input["folder"] = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data").into();
    aral_guest::serve(crate::run, &input.to_string()).map(|output| serde_json::from_str(&output).unwrap())
}

fn rows(input: Value) -> Value {
    call(input).unwrap()["rows"].clone()
}

fn over(format: Format, mut input: Value, bytes: impl Read + 'static) -> Result<crate::Output> {
    input["file"] = "x".into();
    let input: Input = serde_json::from_value(input).unwrap();
    crate::query::run(&input, source_of(format, &input, Box::new(bytes))?)
}

#[test]
fn select_where_sort_limit() {
    assert_eq!(
        rows(json!({
            "file": "orders.csv", "select": ["id", "customer"],
            "where": [{"column": "total", "operator": "at_least", "value": 100}],
            "sort": [{"column": "id", "order": "descending"}], "limit": 2
        })),
        json!([["1007", "Ng, Wei"], ["1004", "Ola \"Ole\" Berg"]])
    );
}

#[test]
fn groups_and_aggregates() {
    let output = call(json!({
        "file": "orders.csv", "group_by": ["country"],
        "aggregates": [
            {"function": "count"}, {"function": "sum", "column": "total"},
            {"function": "avg", "column": "items", "name": "mean"}, {"function": "max", "column": "date"}
        ],
        "sort": [{"column": "sum_total", "order": "descending"}]
    }))
    .unwrap();
    assert_eq!(
        output["columns"],
        json!(["country", "count", "sum_total", "mean", "max_date"])
    );
    assert_eq!(
        output["rows"],
        json!([
            ["NO", 3, 341.25, 3.0, "2026-10-09"],
            ["SG", 1, 250, 1.0, "2026-10-11"],
            ["DE", 2, 99.5, 4.0, "2026-10-08"],
            ["", 1, null, 2.0, "2026-10-10"]
        ])
    );
    assert_eq!((&output["groups"], &output["rows_read"]), (&json!(4), &json!(7)));
    assert_eq!(
        output["warnings"],
        json!(["`sum_total` leaves out 1 cells that are not numbers"])
    );
}

#[test]
fn aggregates_without_groups_also_over_nothing() {
    let nothing = json!({"column": "id", "operator": "equals", "value": "no"});
    let aggregates = json!([{"function": "count"}, {"function": "min", "column": "total"}]);
    assert_eq!(
        rows(json!({"file": "orders.csv", "aggregates": aggregates})),
        json!([[7, 12.5]])
    );
    assert_eq!(
        rows(json!({"file": "orders.csv", "aggregates": aggregates, "where": [nothing]})),
        json!([[0, null]])
    );
}

#[test]
fn three_formats_one_answer() {
    let query = |file: &str| {
        rows(json!({
            "file": file, "group_by": ["kind"], "aggregates": [{"function": "sum", "column": "bytes"}],
            "where": [{"column": "status", "operator": "less", "value": 500}]
        }))
    };
    let expected = json!([["api", 1280], ["page", 5120]]);
    assert_eq!(query("requests.tsv"), expected);
    assert_eq!(query("requests.jsonl"), expected);
}

#[test]
fn json_lines_keep_their_kinds() {
    let output =
        call(json!({"file": "requests.jsonl", "select": ["status", "cached", "tags", "nowhere"], "limit": 2})).unwrap();
    assert_eq!(
        output["rows"],
        json!([[200, true, null, null], [404, null, null, null]])
    );
    assert_eq!(output["truncated"], true);
    let warnings = output["warnings"].to_string();
    assert!(
        warnings.contains("nowhere") && warnings.contains("list or an object"),
        "{warnings}"
    );
}

#[test]
fn files_without_a_header_and_other_delimiters() {
    let output = over(
        Format::Csv,
        json!({"header": false, "delimiter": ";"}),
        &b"1;b\n2;c;d\n3\n"[..],
    )
    .unwrap();
    assert_eq!(output.columns, ["1", "2"]);
    assert_eq!(json!(output.rows), json!([["1", "b"], ["2", "c"], ["3", null]]));
    assert_eq!(output.warnings, ["2 rows do not have 2 cells"]);
    let marked = over(Format::Csv, json!({}), &b"\xef\xbb\xbfa,b\n1,\xff\n"[..]).unwrap();
    assert_eq!(marked.columns, ["a", "b"]);
    assert_eq!(marked.warnings, ["1 cells are not UTF-8"]);
    assert!(over(Format::Csv, json!({}), &b""[..]).unwrap().rows.is_empty());
    assert!(over(Format::Jsonl, json!({}), &b"\n\n"[..]).unwrap().rows.is_empty());
}

#[test]
fn bad_questions() {
    let check = |input: Value, hint: &str| match call(input.clone()) {
        Err(Error::InvalidInput(text)) => assert!(text.contains(hint), "{input}: {text}"),
        other => panic!("{input}: {other:?}"),
    };
    check(json!({"file": "orders.csv", "select": ["price"]}), "`total`");
    check(json!({"file": "orders.csv", "sort": [{"column": "price"}]}), "`total`");
    check(
        json!({"file": "orders.csv", "aggregates": [{"function": "sum"}]}),
        "column",
    );
    check(
        json!({"file": "orders.csv", "select": ["id"], "group_by": ["id"]}),
        "select",
    );
    check(json!({"file": "orders.csv", "limit": 0}), "limit");
    check(json!({"file": "orders.csv", "delimiter": "\""}), "delimiter");
    check(json!({"file": "orders.csv", "order_by": "id"}), "order_by");
    check(json!({"file": "../orders.csv"}), "..");
    check(json!({"file": "/etc/passwd", "format": "csv"}), "inside the folder");
    check(json!({"file": "missing.csv"}), "missing.csv");
    check(json!({"file": "orders"}), "format");
}

#[test]
fn bad_files() {
    let check = |format: Format, bytes: &'static [u8], hint: &str| match over(format, json!({}), bytes) {
        Err(Error::InvalidInput(text)) => assert!(text.contains(hint), "{text}"),
        other => panic!("{other:?}"),
    };
    check(Format::Jsonl, b"{\"a\":1}\n{\"a\":\n", "line 2");
    check(Format::Jsonl, b"[1]\n", "line 1");
    check(Format::Jsonl, b"{\"a\":1} x\n", "line 1");
    check(Format::Jsonl, b"\x00\x01", "line 1");
}

#[test]
fn a_row_without_an_end_is_an_error_and_not_all_of_the_memory() {
    for (format, begin) in [(Format::Csv, "a\n\""), (Format::Jsonl, "{\"a\":1}\n{\"b\":\"")] {
        let endless = begin.as_bytes().chain(std::io::repeat(b'x'));
        assert!(
            matches!(over(format, json!({}), endless), Err(Error::Limit(_))),
            "{format:?}"
        );
    }
}

/// A million rows, made while they are read.
struct MillionRows {
    next: u64,
    buffer: Vec<u8>,
}

impl Read for MillionRows {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        while self.buffer.len() < target.len() && self.next < 1_000_000 {
            let number = self.next;
            let row = format!(
                "{number},name {},{}.25,{}\n",
                number % 1000,
                number % 7,
                (number * 7919) % 1_000_003
            );
            self.buffer.extend_from_slice(row.as_bytes());
            self.next += 1;
        }
        let count = self.buffer.len().min(target.len());
        target[..count].copy_from_slice(&self.buffer[..count]);
        self.buffer.drain(..count);
        Ok(count)
    }
}

fn million_rows() -> impl Read {
    MillionRows {
        next: 0,
        buffer: b"id,name,price,rank\n".to_vec(),
    }
}

#[test]
fn a_million_rows_grouped() {
    let query = json!({
        "group_by": ["name"], "aggregates": [{"function": "count"}, {"function": "sum", "column": "id"}],
        "sort": [{"column": "sum_id", "order": "descending"}], "limit": 1
    });
    let output = over(Format::Csv, query, million_rows()).unwrap();
    assert_eq!((output.rows_read, output.groups), (1_000_000, Some(1000)));
    assert_eq!(json!(output.rows), json!([["name 999", 1000, 500_499_000]]));
}

#[test]
fn a_million_rows_sorted() {
    let query = json!({"select": ["id", "rank"], "sort": [{"column": "rank", "order": "descending"}], "limit": 2});
    let output = over(Format::Csv, query, million_rows()).unwrap();
    let mut ranks: Vec<u64> = (0..1_000_000).map(|number| number * 7919 % 1_000_003).collect();
    ranks.sort_unstable_by(|one, two| two.cmp(one));
    assert_eq!(
        json!([output.rows[0][1], output.rows[1][1]]),
        json!([ranks[0].to_string(), ranks[1].to_string()])
    );
    assert_eq!(output.rows_matched, 1_000_000);
}

#[test]
fn a_million_groups_are_too_many() {
    let query = json!({"group_by": ["id"]});
    assert!(matches!(over(Format::Csv, query, million_rows()), Err(Error::Limit(text)) if text.contains("groups")));
}

#[test]
fn reading_ends_when_the_answer_is_full() {
    let output = over(
        Format::Csv,
        json!({"offset": 5, "limit": 3, "select": ["id"]}),
        million_rows(),
    )
    .unwrap();
    assert_eq!(json!(output.rows), json!([["5"], ["6"], ["7"]]));
    assert!(output.truncated && output.rows_read == 9, "{}", output.rows_read);
}
