//! Cases that others have published, where they are to be had (`make test-collections`): `JSONTestSuite`, and the event
//! streams of web-platform-tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mcp_session_filter::scanner::Kind;
use mcp_session_filter::scanner::Scanner;

use crate::scanner::oracle;
use crate::{events, ids, scanner};

/// All files in a folder of the collections whose names end like this, or nothing if it is not there.
fn cases(folder: &str, end: &str) -> Option<Vec<PathBuf>> {
    let collections = std::env::var_os("COLLECTIONS").map(PathBuf::from);
    let target = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/collections");
    let folder = collections.unwrap_or_else(target).join(folder);
    let Ok(entries) = fs::read_dir(&folder) else {
        println!("    skipped: there is no {folder:?}");
        return None;
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.to_str().is_some_and(|path| path.ends_with(end)))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no cases in {folder:?}");
    Some(paths)
}

/// A case as a body, and in the places of one that matter.
fn bodies(case: &[u8]) -> [Vec<u8>; 6] {
    let around = |before: &[u8], behind: &[u8]| [before, case, behind].concat();
    [
        case.to_vec(),
        around(br#"{"params":"#, br#","id":1,"method":"initialize"}"#),
        around(br#"{"id":"#, br#","method":"initialize"}"#),
        around(br#"{"method":"#, br#","method":"initialize","id":1}"#),
        around(br#"{"method":"ping","id":1,"params":"#, b"}"),
        around(br#"[{"method":"initialize"},"#, b"]"),
    ]
}

#[test]
fn no_case_of_jsons_has_a_body_judged_otherwise_than_by_a_json_parser() {
    let Some(paths) = cases("JSONTestSuite/test_parsing", ".json") else {
        return;
    };
    let mut tried: BTreeMap<String, [usize; 4]> = BTreeMap::new();
    for path in &paths {
        let name = path.file_name().unwrap().to_str().unwrap();
        let case = fs::read(path).unwrap();
        let tried = tried.entry(name[..1].to_owned()).or_default();
        tried[0] += 1;
        for body in bodies(&case) {
            scanner::check(&body);
            // A parser that takes levels one by one is slow where each piece is cut.
            if body.len() < 10_000 {
                ids::check(&body);
            }
            tried[1] += 1;
            if oracle(&body).is_some() {
                tried[2] += 1;
            } else {
                let mut scanner = Scanner::new();
                scanner.scan(&body);
                tried[3] += usize::from(scanner.finish() == Kind::Initialize);
            }
        }
    }
    for (kind, [cases, bodies, read, taken]) in tried {
        let refused = bodies - read;
        println!(
            "    {kind}: {cases} cases, {bodies} bodies; judged as by serde_json: {read} of {read}; \
             refused by it: {refused}, of these taken for an initialize: {taken}"
        );
    }
}

#[test]
fn the_events_of_web_platform_tests_are_those_that_they_expect() {
    let Some(paths) = cases("events", ".stream") else {
        return;
    };
    let mut compared = 0;
    for path in &paths {
        let stream = fs::read(path).unwrap();
        events::check(&stream);
        let expected = fs::read(path.with_extension("expected")).unwrap();
        let expected: Vec<String> = serde_json::from_slice(&expected).unwrap();
        let mut found = events::events_of_pieces(&[&stream], usize::MAX).into_iter();
        for data in &expected {
            let is_found = found.any(|event| event == data.as_bytes());
            assert!(is_found, "{path:?}: no event {data:?}");
        }
        compared += expected.len();
    }
    println!("    {} streams, {compared} events", paths.len());
}
