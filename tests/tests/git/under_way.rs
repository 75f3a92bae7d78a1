//! What pushes meet that are under way: each other, a closed terminal, the end of the server or of the app.

use std::time::Duration;

use crate::world::{Outside, Repo, World};
use paas_domain::BuildStatus;
use paas_ports::fake::FakeScript;
use paas_server::git::Limits;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_commit_attaches_to_its_running_build() {
    let world = World::start().await;
    let (app, repo) = (world.app("attach").await, world.repo());
    world.builds.script(FakeScript::says("-----> First words\n").waits("gate").then_says("-----> Last words\n"));
    let mut first = repo.spawn(&["push", &app.url, "main"]);
    first.says("First words").await;
    let mut second = repo.spawn(&["push", &app.url, "main"]);
    second.says("First words").await;
    // The first one's terminal is closed.
    first.child.start_kill().expect("killed");
    world.builds.open("gate");
    second.ends().await.ok().shows("Last words").shows("Released v3");
    let builds = world.builds_of(&app).await;
    assert_eq!(builds.len(), 1);
    assert_eq!(world.builds.runs(&builds[0].id), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_terminal_cancels_nothing() {
    let world = World::start().await;
    let (app, repo) = (world.app("closed").await, world.repo());
    world.builds.script(FakeScript::says("-----> Words\n").waits("gate"));
    let mut push = repo.spawn(&["push", &app.url, "main"]);
    push.says("Words").await;
    push.child.kill().await.expect("killed");
    world.builds.open("gate");
    world.eventually("the release", async || world.releases(&app).await.len() == 3).await;
    world.eventually("the branch", async || !world.branches(&app).await.is_empty()).await;
    repo.push(&app, &["main"]).await.ok().shows("Everything up-to-date");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_push_supersedes_a_waiting_one() {
    let world = World::start().await;
    let (app, repo) = (world.app("newer").await, world.repo());
    world.builds.script(FakeScript::says("-----> Running\n").waits("gate"));
    let mut running = repo.spawn(&["push", &app.url, "main"]);
    running.says("Running").await;
    let waiting = {
        repo.commit("second", "x");
        repo.spawn(&["push", &app.url, "main"])
    };
    world.eventually("two builds", async || world.builds_of(&app).await.len() == 2).await;
    repo.commit("third", "x");
    let newest = repo.spawn(&["push", &app.url, "main"]);
    let run = waiting.ends().await.fails();
    run.shows("superseded by a newer push").shows("! [remote rejected] main -> main (pre-receive hook declined)");
    world.builds.open("gate");
    running.ends().await.ok();
    newest.ends().await.ok().shows("Released v4");
    let statuses: Vec<BuildStatus> = world.builds_of(&app).await.into_iter().map(|build| build.status).collect();
    assert_eq!(statuses, [BuildStatus::Succeeded, BuildStatus::Failed, BuildStatus::Succeeded]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_says_that_the_build_continues() {
    let world = World::start().await;
    let (app, repo) = (world.app("stopping").await, world.repo());
    world.builds.script(FakeScript::says("-----> Words\n").waits("gate"));
    let mut push = repo.spawn(&["push", &app.url, "main"]);
    push.says("Words").await;
    world.cx.repositories.stop_following();
    let run = push.ends().await.fails();
    run.shows("The build continues: push again to see it.").shows("[remote rejected] main -> main");
    world.builds.open("gate");
    world.eventually("the branch", async || !world.branches(&app).await.is_empty()).await;
}

#[test]
fn a_server_that_dies_loses_no_push() {
    let outside = Outside::new();
    outside.builds.script(FakeScript::says("-----> Words\n").waits("gate").then_says("-----> More words\n"));
    let client = tokio::runtime::Runtime::new().expect("a runtime");
    // A runtime of its own: dropped, every task of the server is gone between two awaits, as in a crash.
    let server = tokio::runtime::Runtime::new().expect("a runtime");
    let world = server.block_on(World::on(&outside, Limits::default()));
    let (app, repo) = (server.block_on(world.app("crash")), world.repo());
    let mut push = {
        let _in = client.enter();
        repo.spawn(&["push", &app.url, "main"])
    };
    client.block_on(push.says("Words"));
    server.shutdown_background();
    client.block_on(push.ends()).fails();
    drop(world);

    let server = tokio::runtime::Runtime::new().expect("a runtime");
    let world = server.block_on(World::on(&outside, Limits::default()));
    let app = server.block_on(world.find("crash"));
    assert_eq!(world.refs(&app), [""; 0], "the tip moved");
    let mut push = {
        let _in = client.enter();
        repo.spawn(&["push", &app.url, "main"])
    };
    client.block_on(push.says("Words"));
    outside.builds.open("gate");
    client.block_on(push.ends()).ok().shows("More words").shows("Released v3");
    assert_eq!(server.block_on(world.builds_of(&app)).len(), 1);
    server.shutdown_background();
}

/// Pushes once the test says so: git has been told where the branches are by then.
fn push_later(
    repo: &Repo,
    app: &crate::world::App,
    args: &[&str],
) -> (crate::world::repo::Background, std::path::PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    let (asked, go) = (repo.path.join(".git/asked"), repo.path.join(".git/go"));
    for file in [&asked, &go] {
        let _ = std::fs::remove_file(file);
    }
    let hook = repo.path.join(".git/hooks/pre-push");
    std::fs::create_dir_all(hook.parent().expect("a folder")).expect("a folder");
    std::fs::write(&hook, "#!/bin/sh\ntouch .git/asked\nwhile [ ! -e .git/go ]; do sleep 0.02; done\n")
        .expect("written");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let push = repo.spawn(&[&["push"], args, &[app.url.as_str(), "main"]].concat());
    while !asked.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    (push, go)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_does_not_know_of_a_newer_one_drops_nothing() {
    let world = World::start().await;
    let (app, ours) = (world.app("stale").await, world.repo());
    ours.push(&app, &["main"]).await.ok();
    let copy = |name: &str| {
        let (from, to) = (ours.path.to_str().expect("text"), world.folder.path().join(name));
        ours.now(&["clone", "-q", from, to.to_str().expect("text")]);
        Repo::at(to)
    };
    let theirs = copy("theirs");
    theirs.commit("their", "change");
    let (stale, go) = push_later(&theirs, &app, &[]);
    let newer = ours.commit("our", "change");
    ours.push(&app, &["main"]).await.ok().shows("Released v4");
    std::fs::write(go, "").expect("written");
    let run = stale.ends().await;
    assert_eq!(run.code, Some(1));
    let run = run.shows("Push rejected: main has moved since you fetched it.").shows("[remote rejected] main -> main");
    run.shows("(fetch first: the ref has moved)");
    assert_eq!(world.branches(&app).await, [("main".to_owned(), newer)]);
    assert_eq!(world.builds_of(&app).await.len(), 2);

    // With the newer one in its history a push drops nothing, whatever it was told before.
    let merged = copy("merged");
    let last = ours.commit("our", "second change");
    merged.now(&["pull", "-q", "--ff-only", ours.path.to_str().expect("text"), "main"]);
    let both = merged.commit("their", "change");
    let (behind, go) = push_later(&merged, &app, &[]);
    ours.push(&app, &["main"]).await.ok().shows("Released v5");
    assert_eq!(world.branches(&app).await, [("main".to_owned(), last)]);
    std::fs::write(go, "").expect("written");
    behind.ends().await.ok().shows("Released v6");
    assert_eq!(world.branches(&app).await, [("main".to_owned(), both)]);

    // Who says so may drop what is there.
    ours.now(&["commit", "-q", "--amend", "-m", "another"]);
    ours.push(&app, &["--force", "main"]).await.ok().shows("Released v7").shows("(forced update)");
    let (stale, go) = push_later(&theirs, &app, &["--force"]);
    let newest = ours.commit("our", "third change");
    ours.push(&app, &["main"]).await.ok().shows("Released v8");
    std::fs::write(go, "").expect("written");
    stale.ends().await.fails().shows("fetch first");
    assert_eq!(world.branches(&app).await, [("main".to_owned(), newest)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_goes_away_ends_its_pushes_and_stays_away() {
    let world = World::start().await;
    let (app, repo) = (world.app("gone").await, world.repo());
    world.builds.script(FakeScript::says("-----> Words\n").waits("gate"));
    let mut push = repo.spawn(&["push", &app.url, "main"]);
    push.says("Words").await;
    world.cx.repositories.remove(app.scope.id()).await.expect("removed");
    push.ends().await.fails();
    repo.push(&app, &["main"]).await.fails().shows("No such app");
    assert!(!world.path(&app).exists());
    assert_eq!(world.cx.repositories.all().await.expect("listed"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_pushes_at_once() {
    let world = World::start().await;
    let mut pushes = Vec::new();
    for n in 0..20 {
        // Half of them to one app: each to a branch of its own.
        let app = world.app(&format!("many-{n}")).await;
        let shared = if n == 0 { app.clone() } else { pushes_app(&pushes) };
        let repo = world.repo();
        let (app, target) = if n % 2 == 0 { (app, "main".to_owned()) } else { (shared, format!("branch-{n}")) };
        let push = repo.spawn(&["push", &app.url, &format!("main:{target}")]);
        pushes.push((app, push));
    }
    for (_, push) in pushes {
        push.ends().await.ok();
    }
}

fn pushes_app(pushes: &[(crate::world::App, crate::world::repo::Background)]) -> crate::world::App {
    pushes[0].0.clone()
}
