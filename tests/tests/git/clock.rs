//! How long a push of one commit takes beside one to `file://`, and beside other pushes. Prints; asserts only
//! what a busy machine cannot upset. `cargo test -p paas-tests --features bench --test git clock -- --nocapture`.

use std::time::{Duration, Instant};

use crate::world::World;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_one_commit() {
    let world = World::start().await;
    let (app, repo) = (world.app("clock").await, world.repo());
    let bare = world.folder.path().join("bare.git");
    repo.now(&["init", "-q", "--bare", bare.to_str().expect("text")]);
    let file = format!("file://{}", bare.display());
    for n in 0..50 {
        repo.write(&format!("file-{n}"), format!("{n}"));
    }
    repo.commit_all();
    repo.git(&["push", "-q", &file, "main"]).await.ok();
    repo.push(&app, &["main:kept", "main"]).await.ok();
    let (mut files, mut kept, mut deployed, mut nothing) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for n in 0..15 {
        repo.commit("file-1", format!("round {n}"));
        let clock = async |args: &[&str]| {
            let started = Instant::now();
            repo.git(&[&["push"], args].concat()).await.ok();
            started.elapsed()
        };
        files.push(clock(&[&file, "main"]).await);
        kept.push(clock(&[&app.url, "main:kept"]).await);
        deployed.push(clock(&[&app.url, "main"]).await);
        nothing.push(clock(&[&app.url, "main"]).await);
    }
    eprintln!(
        "one commit: file:// {:?}, kept branch {:?}, deployed with a fake build {:?}; nothing new {:?}",
        median(files),
        median(kept.clone()),
        median(deployed),
        median(nothing)
    );
    let mut pushes = Vec::new();
    for n in 0..20 {
        let app = world.app(&format!("one-of-{n}")).await;
        let repo = world.repo();
        repo.push(&app, &["main:kept"]).await.ok();
        repo.commit("more", "x");
        pushes.push((app, repo));
    }
    let mut tasks = tokio::task::JoinSet::new();
    for (app, repo) in pushes {
        tasks.spawn(async move {
            let started = Instant::now();
            repo.push(&app, &["main:kept"]).await.ok();
            started.elapsed()
        });
    }
    let together = tasks.join_all().await;
    eprintln!("20 at the same time: p50 {:?}, single {:?}", median(together), median(kept));
}
