//! Bad inputs from the catalogue (`fixtures/bad-inputs.jsonl`): each listed one of the API's classes gets its answer
//! within a second. One that is refused changes nothing, no row and no file; one that is accepted changes what it
//! asked for and nothing else. What is not run here is named with the test that shows it.

mod cases;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cases::{Case, Input, World, elsewhere};
use paas_tests::api_world::Answer;
use paas_tests::database::{Changes, Database};
use paas_tests::{shown, stories};
use serde_json::Value;

/// The classes that concern the API. N, P, Q and others have suites of their own.
const CLASSES: &[&str] = &["A", "B", "C", "D", "E", "F", "H", "I", "J", "M", "O"];

/// The rule for every input.
const IN_TIME: Duration = Duration::from_secs(1);

fn catalogue() -> Vec<BTreeMap<String, String>> {
    let text = include_str!("../../fixtures/bad-inputs.jsonl");
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

/// An input as it was given, with what came of it.
struct Given {
    what: String,
    short: String,
}

/// Gives one input, and holds what it changed and how long it took against the rules.
async fn give(world: &World, id: &str, input: &Input, late: &mut Vec<String>) -> Given {
    let send = async || match input {
        Input::Ask(ask) => Some(world.api.send(ask).await),
        Input::Bytes(bytes) => world.api.raw(bytes).await,
    };
    let short = |answer: &Option<Answer>| answer.as_ref().map_or_else(|| "closed".to_owned(), Answer::short);
    let before = world.api.state().await;
    let begun = Instant::now();
    let answer = send().await;
    let mut took = begun.elapsed();
    let what = input.to_string();
    let accepted = answer.as_ref().filter(|answer| answer.status < 300);
    if let (Some(answer), Input::Ask(ask)) = (accepted, input) {
        let changes = Changes::between(&before, &world.api.state().await);
        let answer = if answer.body.is_empty() { Value::Null } else { answer.json() };
        world.changed_what_was_asked(id, ask, &answer, &changes).await;
    } else {
        // The same again, twice at once: the same class of answer. And nothing changed.
        let (one, two) = tokio::join!(send(), send());
        assert_eq!((short(&one), short(&two)), (short(&answer), short(&answer)), "{id}");
        let changes = Changes::between(&before, &world.api.state().await);
        assert_eq!(changes, Changes::default(), "{id} changed {changes}: {what}");
    }
    // Other tests run on the same cores, so that one late answer says nothing. An input that takes long does so
    // every time, whatever it is answered by then.
    for _ in 0..3 {
        if took <= IN_TIME {
            break;
        }
        let begun = Instant::now();
        send().await;
        took = begun.elapsed();
    }
    if took > IN_TIME {
        late.push(format!("{id}: {took:?} for {what}"));
    }
    Given { what, short: short(&answer) }
}

async fn every_listed_input_gets_its_answer(database: Database) {
    let world = World::new(database).await;
    let (mut ran, mut inputs, mut wrong, mut late) = (0, 0, Vec::new(), Vec::new());
    for entry in catalogue().iter().filter(|entry| CLASSES.contains(&entry["cls"].as_str())) {
        let id = entry["id"].as_str();
        if elsewhere(id).is_some() {
            continue;
        }
        let Some(Case { inputs: all, answers }) = world.case(id).await else {
            wrong.push(format!("{id} ({}) is neither run nor said to be run elsewhere", entry["input"]));
            continue;
        };
        ran += 1;
        let allowed = named(answers.unwrap_or(&entry["expected"]));
        assert!(!allowed.is_empty(), "{id}: no answer is named");
        for input in &all {
            inputs += 1;
            let Given { what, short } = give(&world, id, input, &mut late).await;
            if !fits(&short, &allowed) {
                wrong.push(format!("{id} ({}): {short}, should be {} for {what}", entry["input"], entry["expected"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(late.is_empty(), "late:\n{}", late.join("\n"));
    println!("{ran} entries with {inputs} inputs");
    assert!(ran > 130, "{ran} entries");
    let after = world.api.get("/apps/mine").await;
    assert_eq!(after.status, 200, "and a good request succeeds");
    world.api.end().await;
}

stories!(every_listed_input_gets_its_answer);

/// No entry is forgotten, and whatever is shown elsewhere is.
#[test]
fn what_is_shown_elsewhere_is_there() {
    let listed: Vec<String> = catalogue().iter().map(|entry| entry["id"].clone()).collect();
    for (id, place) in cases::ELSEWHERE {
        assert!(listed.iter().any(|known| known == id), "{id} is not listed");
        shown::assert_is_there(id, place);
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
    tokio::time::timeout(std::time::Duration::from_secs(90), cut).await.expect("it is cut");
    assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
    api.end().await;
}
