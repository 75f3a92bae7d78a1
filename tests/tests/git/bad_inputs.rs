//! The bad inputs of class N, driven from the list: the right answer, in time; what is refused changed nothing, and
//! what is taken changed only what it asked for.

mod cases;

use std::collections::BTreeSet;

use cases::Bench;

const LIST: &str = include_str!("../../fixtures/bad-inputs.jsonl");

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_input_of_class_n_gets_its_answer() {
    let listed: BTreeSet<String> = LIST
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .filter(|entry| entry["cls"] == "N")
        .map(|entry| entry["id"].as_str().expect("an id").to_owned())
        .collect();
    assert!(listed.len() >= 50, "the list was not read");
    let mut wrong = Vec::new();
    for chunk in listed.iter().collect::<Vec<_>>().chunks(14) {
        let bench = Bench::start().await;
        for case in chunk {
            eprintln!("{case}");
            bench.run(case).await;
        }
        wrong.extend(bench.wrong());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
