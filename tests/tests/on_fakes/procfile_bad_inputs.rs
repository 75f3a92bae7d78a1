//! Class P of the bad inputs, as far as it concerns what exists: Procfiles, from a commit to the verdict on its push.

use std::time::Duration;

use paas_ports::outside;
use paas_server::crash_point::CrashPoints;
use paas_server::ops::accept_build::{BuildSource, Verdict, accept_build, await_verdict};
use paas_tests::core_world::Outside;

/// What a push of a Procfile comes to.
enum Comes {
    /// It is deployed, with these process types and commands.
    To(&'static [(&'static str, &'static str)]),
    /// It is declined, and the output says this.
    Declined(&'static str),
}

const FILE: i32 = 0o100_644;
const LINK: i32 = 0o120_000;

/// The listed entries, then more of their class.
fn cases() -> Vec<(&'static str, i32, Vec<u8>, Comes)> {
    let text = |t: &str| t.as_bytes().to_vec();
    vec![
        ("P01", FILE, text(""), Comes::To(&[])),
        ("P02", FILE, text("web\n"), Comes::To(&[])),
        ("P03", FILE, text("web: \n"), Comes::Declined("Procfile line 1: no command for process type web")),
        ("P05", FILE, text("web: serve\r\nworker: worker\r\n"), Comes::To(&[("web", "serve"), ("worker", "worker")])),
        ("P06", FILE, text("\u{feff}web: serve\n"), Comes::To(&[("web", "serve")])),
        ("P12", FILE, b"web: ser\0ve\n".to_vec(), Comes::Declined("Procfile is not valid UTF-8 text")),
        ("P13", LINK, text("/etc/passwd"), Comes::Declined("Procfile is a link that leads out of the app")),
        ("a link up", LINK, text("../../platform/env/TOKEN"), Comes::Declined("Procfile is a link that leads out")),
        ("a link to nothing", LINK, text("Procfile.production"), Comes::To(&[])),
        (
            "a long type",
            FILE,
            format!("web: serve\n{}: worker\n", "w".repeat(64)).into_bytes(),
            Comes::Declined("Procfile line 2: the process type wwwwwwwwwwwwwwwwwwww… is longer than 63 characters"),
        ),
        ("only comments", FILE, text("# web: no\n\n"), Comes::To(&[])),
        ("twice", FILE, text("web: worker\nweb: serve\n"), Comes::To(&[("web", "serve")])),
        ("no type", FILE, text(": serve\n../../x: serve\n-x: serve\nw b: serve\n"), Comes::To(&[])),
        ("no text", FILE, vec![0xff, 0xfe, b'w'], Comes::Declined("Procfile is not valid UTF-8 text")),
        ("too large", FILE, vec![b'a'; 65 * 1024], Comes::Declined("Procfile is too large")),
        (
            "too many",
            FILE,
            (0..101).map(|n| format!("t{n}: worker\n")).collect::<String>().into_bytes(),
            Comes::Declined("Procfile has more than 100 process types"),
        ),
        (
            "a shell's words",
            FILE,
            text("web: serve\nx: $(reboot) `id` ; rm -rf /\n"),
            Comes::To(&[("web", "serve"), ("x", "$(reboot) `id` ; rm -rf /")]),
        ),
    ]
}

/// Files that this platform does not read (yet): an app that has them is built as if it had not, whatever is in them.
const NOT_READ: [&str; 5] = ["app.json", "heroku.yml", "Dockerfile", ".dockerignore", "project.toml"];

/// Entries that are shown elsewhere.
const ELSEWHERE: [(&str, &str); 1] =
    [("P55", "tests/tests/contract/builder/docker_only.rs::profile_scripts_run_in_dynos_only")];

#[tokio::test]
async fn every_procfile_gets_its_answer() {
    let world = Outside::new();
    let core = world.start(CrashPoints::none()).await;
    let account = core.account().await;
    for (number, (id, mode, procfile, comes)) in cases().into_iter().enumerate() {
        let app = core.create_app(&format!("procfile-{number}")).await;
        core.cx.repositories.ensure(app.id()).await.expect("a repository");
        let commit = core.commit_as(&app, mode, &procfile);
        let source = BuildSource::Commit { commit: commit.clone(), branch: "main".to_owned() };
        let build = outside::task(accept_build(&core.cx, &app, &account, source)).await.expect("accepted");
        let waiting = outside::task(await_verdict(&core.cx, &app, &build.id));
        let verdict = tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("an end").expect("a verdict");
        let (releases, branches) = outside::task(async {
            let mut uow = core.cx.store.read().await.expect("a look");
            (uow.releases(&app).await.expect("releases"), uow.branches(&app).await.expect("branches"))
        })
        .await;
        match comes {
            Comes::To(types) => {
                assert_eq!(verdict, Verdict::Deployed, "{id}");
                let table = &releases.last().expect("a release").process_types;
                let found: Vec<(&str, &str)> = table.iter().map(|(t, c)| (t.as_str(), c.as_str())).collect();
                assert_eq!(found, types, "{id}");
            }
            Comes::Declined(why) => {
                assert!(matches!(&verdict, Verdict::Declined(reason) if reason.contains(why)), "{id}: {verdict:?}");
                let output = world.logs.output(&build.output).expect("an output");
                assert!(String::from_utf8_lossy(&output).contains(why), "{id}: the pusher reads it");
                assert_eq!((releases.len(), branches.len()), (2, 0), "{id}: nothing was released, no branch moved");
                assert_eq!(world.builds.runs(&build.id), 0, "{id}: nothing was built");
            }
        }
    }
    core.stop().await;
}

#[tokio::test]
async fn a_commit_by_somebody_whose_name_is_no_text_is_built() {
    let world = Outside::new();
    let core = world.start(CrashPoints::none()).await;
    let app = core.create_app("lossy").await;
    core.cx.repositories.ensure(app.id()).await.expect("a repository");
    let plain = core.commit_as(&app, FILE, b"web: serve\n");
    let repository = git2::Repository::open_bare(core.cx.repositories.path(app.id())).expect("the repository");
    let tree = repository.find_commit(plain.parse().expect("an id")).expect("the commit").tree_id();
    let who = b"J\xf6rg <j\xf6rg@example.com> 0 +0000";
    let commit = [format!("tree {tree}\nauthor ").as_bytes(), who, b"\ncommitter ", who, b"\n\n\xff\xfe\n"].concat();
    let commit = repository.odb().and_then(|odb| odb.write(git2::ObjectType::Commit, &commit)).expect("a commit");
    let source = BuildSource::Commit { commit: commit.to_string(), branch: "main".to_owned() };
    let account = core.account().await;
    let build = outside::task(accept_build(&core.cx, &app, &account, source)).await.expect("accepted");
    let waiting = outside::task(await_verdict(&core.cx, &app, &build.id));
    let verdict = tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("an end").expect("a verdict");
    assert_eq!(verdict, Verdict::Deployed);
    core.stop().await;
}

#[test]
fn every_listed_entry_of_the_class_is_shown_or_excused() {
    let shown: Vec<&str> = cases().iter().map(|case| case.0).collect();
    let list = include_str!("../../fixtures/bad-inputs.jsonl");
    let mut seen = 0;
    for line in list.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let (id, input) = (entry["id"].as_str().expect("an id"), entry["input"].as_str().expect("an input"));
        if entry["cls"] != "P" {
            continue;
        }
        seen += 1;
        let excused =
            NOT_READ.iter().any(|file| input.starts_with(file)) || ELSEWHERE.iter().any(|(known, _)| *known == id);
        assert!(shown.contains(&id) || excused, "{id} ({input}) is not shown");
    }
    for (id, place) in ELSEWHERE {
        paas_tests::shown::assert_is_there(id, place);
    }
    assert!(seen > 20, "the list has class P");
}
