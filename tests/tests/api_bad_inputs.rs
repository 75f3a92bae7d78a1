//! Bad inputs from the catalogue (`fixtures/bad-inputs.jsonl`): each listed one of the API's classes gets its answer,
//! changes nothing, and takes no time. What is not run here is named with the place that has it, or the reason.

mod bad_inputs;

use std::collections::BTreeMap;

use bad_inputs::{Case, Run, World, elsewhere};
use paas_tests::database::Database;
use paas_tests::stories;
use serde_json::Value;

/// The classes that concern the API. N, P, Q and others have suites of their own.
const CLASSES: &[&str] = &["A", "B", "C", "D", "E", "F", "H", "I", "J", "M", "O"];

fn catalogue() -> Vec<BTreeMap<String, String>> {
    let text = include_str!("../fixtures/bad-inputs.jsonl");
    let line = |line| {
        let line: BTreeMap<String, Value> = serde_json::from_str(line).expect("JSON");
        line.into_iter().map(|(key, value)| (key, value.as_str().unwrap_or_default().to_owned())).collect()
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(line).collect()
}

/// Status and error id of every answer that an entry names: `404 not_found / 422 invalid_params`.
fn named(expected: &str) -> Vec<(u16, Option<String>)> {
    let words: Vec<&str> =
        expected.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| !w.is_empty()).collect();
    let status = |word: &str| if word.len() == 3 { word.parse().ok().filter(|n| (200..600).contains(n)) } else { None };
    let mut found = Vec::new();
    for (i, word) in words.iter().enumerate() {
        let Some(status) = status(word) else { continue };
        let id = words
            .get(i + 1)
            .filter(|next| next.contains('_') || ["unauthorized", "forbidden", "conflict"].contains(next));
        found.push((status, id.map(|id| (*id).to_owned())));
    }
    found
}

fn fits(short: &str, allowed: &[(u16, Option<String>)]) -> bool {
    let (status, id) = short.split_once(' ').unwrap_or((short, ""));
    allowed.iter().any(|(s, wanted)| s.to_string() == status && wanted.as_deref().is_none_or(|wanted| wanted == id))
}

async fn every_listed_input_gets_its_answer(database: Database) {
    let world = World::new(database).await;
    let (mut ran, mut inputs, mut wrong) = (0, 0, Vec::new());
    for entry in catalogue().iter().filter(|entry| CLASSES.contains(&entry["cls"].as_str())) {
        let id = entry["id"].as_str();
        if elsewhere(id).is_some() {
            continue;
        }
        let Some(Case { run, answers }) = world.case(id).await else {
            wrong.push(format!("{id} ({}) is neither run nor said to be run elsewhere", entry["input"]));
            continue;
        };
        ran += 1;
        let allowed = named(answers.unwrap_or(&entry["expected"]));
        assert!(!allowed.is_empty(), "{id}: no answer is named");
        let before = world.api.database.dump().await;
        let mut changes = false;
        let given = match run {
            Run::Asks(asks) => {
                let mut given = Vec::new();
                for ask in &asks {
                    inputs += 1;
                    let answer = world.api.send(ask).await;
                    changes |= answer.status < 300;
                    // The same again, at once: the same class of answer.
                    if answer.status >= 400 {
                        let (one, two) = tokio::join!(world.api.send(ask), world.api.send(ask));
                        assert_eq!((one.short(), two.short()), (answer.short(), answer.short()), "{id}");
                    }
                    given.push((format!("{ask:?}"), answer.short()));
                }
                given
            }
            Run::Bytes(all) => {
                let mut given = Vec::new();
                for bytes in &all {
                    inputs += 1;
                    let answer =
                        world.api.raw(bytes).await.map_or_else(|| "closed".to_owned(), |answer| answer.short());
                    changes |= answer.starts_with('2');
                    given.push((String::from_utf8_lossy(bytes).into_owned(), answer));
                }
                given
            }
        };
        for (what, short) in given {
            if !fits(&short, &allowed) {
                let what: String = what.chars().take(300).collect();
                wrong.push(format!("{id} ({}): {short}, should be {} for {what}", entry["input"], entry["expected"]));
            }
        }
        if !changes {
            assert_eq!(world.api.database.dump().await, before, "{id} changed something");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{ran} entries with {inputs} inputs");
    assert!(ran > 130, "{ran} entries");
    let after = world.api.get("/apps/mine").await;
    assert_eq!(after.status, 200, "and a good request succeeds");
    world.api.end().await;
}

stories!(every_listed_input_gets_its_answer);

/// No entry is forgotten, and no reason outlives its entry.
#[test]
fn reasons_are_about_entries() {
    let listed: Vec<String> = catalogue().iter().map(|entry| entry["id"].clone()).collect();
    for (id, reason) in bad_inputs::ELSEWHERE {
        assert!(listed.iter().any(|known| known == id), "{id} is not listed");
        assert!(reason.len() > 10, "{id}");
    }
}

/// A45: a head that comes a byte at a time is cut, and nobody else waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_head_is_cut() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let api = paas_tests::api_world::ApiWorld::still(Database::sqlite()).await;
    let begun = std::time::Instant::now();
    let mut slow = tokio::net::TcpStream::connect(api.address).await.expect("the server listens");
    slow.write_all(b"GET /apps HTTP/1.1\r\n").await.expect("sent");
    let mut got = Vec::new();
    let cut = async {
        loop {
            if slow.write_all(b"a").await.is_err() {
                break;
            }
            let read = tokio::time::timeout(std::time::Duration::from_secs(3), slow.read_buf(&mut got)).await;
            if matches!(read, Ok(Ok(0) | Err(_))) {
                break;
            }
            assert_eq!(api.get("/account").await.status, 200);
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(40), cut).await.expect("it is cut");
    assert!(begun.elapsed() < std::time::Duration::from_secs(36), "{:?}", begun.elapsed());
    api.end().await;
}
