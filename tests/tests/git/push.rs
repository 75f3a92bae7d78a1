//! `git push` from outside, with the real git: what deploys, what is kept, what is refused, and what is heard.

use std::time::Duration;

use crate::world::{Repo, World};
use paas_ports::fake::FakeScript;
use paas_ports::{BuildFailure, BuildVerdict, outside};
use paas_server::git::Limits;

#[tokio::test(flavor = "multi_thread")]
async fn a_push_deploys_and_the_same_again_is_up_to_date() {
    let world = World::start().await;
    let (app, repo) = (world.app("happy").await, world.repo());
    let run = repo.push(&app, &["main"]).await.ok();
    let run = run.shows("remote: Building source:").shows("remote: -----> Fake app detected").shows("Released v3");
    let run = run.shows("remote: Verifying deploy... done.").shows("* [new branch]      main -> main");
    run.shows_not("rejected");
    let tip = repo.now(&["rev-parse", "HEAD"]).text.trim().to_owned();
    assert_eq!(world.refs(&app), [format!("refs/heads/main {tip}")]);
    assert_eq!(world.branches(&app).await, [("main".to_owned(), tip)]);
    repo.push(&app, &["main"]).await.ok().shows("Everything up-to-date");
    repo.commit("more", "files");
    repo.push(&app, &["main"]).await.ok().shows("Released v4");
    assert_eq!(world.releases(&app).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pushed_can_be_cloned_and_fetched() {
    let world = World::start().await;
    let (app, repo) = (world.app("cloned").await, world.repo());
    let copy = world.folder.path().join("copy");
    let copy_text = copy.to_str().expect("text").to_owned();
    repo.git(&["clone", &app.url, &copy_text]).await.ok().shows("You appear to have cloned an empty repository.");
    std::fs::remove_dir_all(&copy).expect("removed");
    repo.push(&app, &["main"]).await.ok();
    repo.git(&["clone", "-q", &app.url, &copy_text]).await.ok();
    let copy = Repo::at(copy);
    assert_eq!(copy.now(&["log", "--format=%H"]).text, repo.now(&["log", "--format=%H"]).text);
    // Enough commits that the fetch's request is compressed.
    for n in 0..60 {
        copy.commit("mine", format!("{n}"));
    }
    repo.commit("theirs", "x");
    repo.push(&app, &["main"]).await.ok();
    for version in ["0", "1", "2"] {
        let protocol = format!("protocol.version={version}");
        copy.now(&["update-ref", "-d", "refs/remotes/origin/main"]);
        copy.git(&["-c", &protocol, "fetch", "origin"]).await.ok();
        let tip = repo.now(&["rev-parse", "HEAD"]).text;
        assert_eq!(copy.now(&["rev-parse", "origin/main"]).text, tip, "protocol {version}");
    }
    let shallow = world.folder.path().join("shallow").to_str().expect("text").to_owned();
    repo.git(&["clone", "-q", "--depth", "1", &app.url, &shallow]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn output_comes_as_it_is_written() {
    let world = World::start().await;
    let (app, repo) = (world.app("live").await, world.repo());
    world
        .builds
        .script(FakeScript::says("-----> half a li").waits("gate").then_says("ne\n\u{fffd}\x1b[1mbold\x1b[0m\n"));
    let mut push = repo.spawn(&["push", &app.url, "main"]);
    push.says("Building source:").await;
    world.builds.open("gate");
    let run = push.ends().await.ok();
    run.shows("remote: -----> half a line").shows("\u{fffd}\x1b[1mbold\x1b[0m");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_pushes_come_in_chunks() {
    let world = World::start().await;
    let (app, repo) = (world.app("large").await, world.repo());
    let mut noise = vec![0_u8; 6 * 1024 * 1024];
    let mut state = 1_u64;
    for byte in &mut noise {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 33) as u8;
    }
    repo.commit("noise", noise);
    repo.push(&app, &["main"]).await.ok().shows("Released v3");
    repo.commit("small", "x");
    repo.git(&["-c", "http.postBuffer=65536", "push", &app.url, "main"]).await.ok().shows("Released v4");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_ones_own_apps_are_there() {
    let world = World::start().await;
    let (app, repo) = (world.app("mine").await, world.repo());
    let (other, others_key) = world.account("other@example.com", &["global"]).await;
    world.app_of(&other, "theirs").await;
    let url = |name: &str, key: &str| world.url(name, key);

    repo.git(&["push", &url("mine", "wrong"), "main"]).await.fails().shows("Authentication failed");
    let anonymous = format!("http://127.0.0.1:{}/mine.git", world.port);
    repo.git(&["push", &anonymous, "main"]).await.fails().shows("could not read Username");
    let run = repo.git(&["push", &url("theirs", &world.key), "main"]).await.fails();
    run.shows("remote: !     No such app as theirs.").shows("not found");
    repo.git(&["push", &url("nowhere", &world.key), "main"]).await.fails().shows("No such app as nowhere.");
    repo.git(&["fetch", &url("mine", &others_key), "main"]).await.fails().shows("No such app as mine.");

    let reader = world.key(&world.account, &["read"]).await;
    let run = repo.git(&["push", &url("mine", &reader), "main"]).await.fails();
    run.shows("Your API key does not allow this.").shows("403");
    repo.git(&["ls-remote", &url("mine", &reader)]).await.ok();
    let nobody = world.key(&world.account, &["identity"]).await;
    repo.git(&["ls-remote", &url("mine", &nobody)]).await.fails().shows("403");
    assert!(world.builds_of(&app).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn shallow_clones_are_told_what_to_do() {
    let world = World::start().await;
    let (app, repo) = (world.app("shallow").await, world.repo());
    repo.commit("second", "x");
    let shallow = world.folder.path().join("shallow");
    let (from, to) = (format!("file://{}", repo.path.display()), shallow.to_str().expect("text"));
    repo.now(&["clone", "-q", "--depth", "1", &from, to]);
    let shallow = Repo::at(shallow);
    let run = shallow.push(&app, &["HEAD:main"]).await.fails();
    let run = run
        .shows("Push rejected, source repository is a shallow clone. Unshallow it with `git fetch --all --unshallow`");
    run.shows("! [remote rejected] HEAD -> main (pre-receive hook declined)");
    assert!(world.refs(&app).is_empty() && world.builds_of(&app).await.is_empty());
    // A shallow clone of what is here already lacks nothing.
    repo.push(&app, &["main"]).await.ok();
    let ours = world.folder.path().join("ours");
    repo.git(&["clone", "-q", "--depth", "1", &app.url, ours.to_str().expect("text")]).await.ok();
    let ours = Repo::at(ours);
    ours.commit("third", "x");
    ours.push(&app, &["HEAD:main"]).await.ok().shows("Released v4");
}

#[tokio::test(flavor = "multi_thread")]
async fn submodules_are_refused_and_leave_nothing() {
    let world = World::start().await;
    let (app, repo, library) = (world.app("modular").await, world.repo(), world.repo());
    let from = library.path.to_str().expect("text");
    repo.now(&["submodule", "--quiet", "add", from, "vendor/deep/library"]);
    repo.commit_all();
    let before = world.objects(&app);
    let run = repo.push(&app, &["main"]).await.fails();
    let run = run.shows("Push rejected: the commit has a git submodule").shows("vendor/deep/library");
    run.shows("! [remote rejected] main -> main (pre-receive hook declined)");
    assert!(world.builds_of(&app).await.is_empty() && world.refs(&app).is_empty());
    let after: Vec<String> = world.objects(&app).into_iter().filter(|o| o != "info" && o != "pack").collect();
    assert_eq!(after, before);
    // Elsewhere they are nobody's business.
    repo.push(&app, &["main:other"]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_branches_and_tags_are_kept_and_said() {
    let world = World::start().await;
    let (app, repo) = (world.app("branches").await, world.repo());
    repo.now(&["tag", "v1"]);
    repo.now(&["tag", "-a", "v2", "-m", "annotated"]);
    let run = repo.push(&app, &["main:feature/x", "v1", "v2"]).await.ok();
    run.shows("remote: Pushed to non-main branch, skipping build.").shows("[new tag]         v2 -> v2");
    assert!(world.builds_of(&app).await.is_empty());
    let names = |refs: Vec<String>| -> Vec<String> {
        refs.iter().map(|line| line.split(' ').next().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(world.refs(&app)), ["refs/heads/feature/x", "refs/tags/v1", "refs/tags/v2"]);

    // Together with main, each is answered for.
    repo.commit("more", "x");
    let run = repo.push(&app, &["main", "main:other"]).await.ok();
    run.shows("Released v3").shows("skipping build").shows("main -> other").shows("main -> main");
    // A name that is a folder of another cannot be kept.
    let run = repo.push(&app, &["main:feature/x/y", "main:third"]).await.fails();
    run.shows("! [remote rejected] main -> feature/x/y").shows("main -> third");
    repo.push(&app, &["main:main/x"]).await.fails().shows("is not a branch or tag that can be kept here");
    // Atomic ones move together or not at all.
    let run = repo.push(&app, &["--atomic", "main:fourth", "main:third/x"]).await.fails();
    run.shows("another ref of this atomic push was refused");
    repo.push(&app, &["--delete", "other", "feature/x", "v1"]).await.ok().shows("[deleted]");
    assert_eq!(names(world.refs(&app)), ["refs/heads/main", "refs/heads/third", "refs/tags/v2"]);
    repo.push(&app, &["--delete", "main"]).await.fails().shows("is what is deployed and cannot be deleted");
    repo.commit("again", "x");
    repo.push(&app, &["main", "main:master"]).await.fails().shows("Push main or master, not both");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_may_be_rewritten() {
    let world = World::start().await;
    let (app, repo) = (world.app("forced").await, world.repo());
    repo.push(&app, &["main"]).await.ok();
    repo.now(&["commit", "-q", "--amend", "-m", "another"]);
    repo.push(&app, &["main"]).await.fails().shows("[rejected]");
    repo.push(&app, &["--force", "main"]).await.ok().shows("Released v4").shows("(forced update)");
    let tip = repo.now(&["rev-parse", "HEAD"]).text.trim().to_owned();
    assert_eq!(world.refs(&app), [format!("refs/heads/main {tip}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_fails_declines_the_push() {
    let world = World::start().await;
    let (app, repo) = (world.app("failing").await, world.repo());
    repo.push(&app, &["main"]).await.ok();
    let before = world.refs(&app);
    repo.commit("broken", "x");
    let failure = BuildFailure::Buildpack(1);
    world.builds.script(FakeScript::says("-----> Trying\n").ends(BuildVerdict::Failed(failure)));
    let run = repo.push(&app, &["main", "main:kept"]).await;
    assert_eq!(run.code, Some(1));
    let run = run.shows("remote: -----> Trying").shows("Push rejected");
    run.shows("! [remote rejected] main -> main (pre-receive hook declined)").shows("main -> kept");
    assert_eq!(world.refs(&app).last(), before.last());
    // Nothing is up to date: the same commit is built again.
    world.builds.script(FakeScript::default());
    repo.push(&app, &["main"]).await.ok().shows("Released v4");
    assert_eq!(world.builds_of(&app).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_serves_already_moves_its_branch() {
    let world = World::start().await;
    let (app, repo) = (world.app("served").await, world.repo());
    repo.push(&app, &["main"]).await.ok();
    world
        .eventually("the job's end", async || {
            let pending = async {
                world
                    .cx
                    .store
                    .read()
                    .await
                    .expect("read")
                    .next_due_job(paas_tests::core_world::TAKES)
                    .await
                    .expect("jobs")
            };
            outside::task(pending).await.is_none()
        })
        .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    // As after a crash between the release and the branch.
    outside::task(async {
        let mut uow = world.cx.begin().await.expect("begun");
        uow.delete_branch(&app.scope, "main").await.expect("deleted");
        uow.save().await.expect("saved");
    })
    .await;
    let run = repo.push(&app, &["main"]).await.ok();
    run.shows("is released as v3 and serves").shows("[new branch]      main -> main");
    assert_eq!(world.builds_of(&app).await.len(), 1);
    assert_eq!(world.refs(&app).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_said() {
    let limits = Limits { max_pack: 100_000, max_updates: 3, pushes_per_app: 1, ..Limits::default() };
    let world = World::with_limits(limits).await;
    let (app, repo) = (world.app("limited").await, world.repo());
    let run = repo.push(&app, &["main:a", "main:b", "main:c", "main:d"]).await.fails();
    run.shows("it changes 4 refs, and 3 is the most");
    let mut noise = vec![0_u8; 3 * 1024 * 1024];
    getrandom_like(&mut noise);
    repo.commit("noise", noise);
    let run = repo.push(&app, &["main"]).await.fails();
    run.shows("pack exceeds maximum allowed size");
    assert!(world.objects(&app).iter().all(|name| name == "info" || name == "pack"), "{:?}", world.objects(&app));

    repo.now(&["reset", "-q", "--hard", "HEAD^"]);
    world.builds.script(FakeScript::says("-----> Words\n").waits("gate"));
    let mut push = repo.spawn(&["push", &app.url, "main"]);
    push.says("Words").await;
    repo.push(&app, &["main"]).await.fails().shows("Too many pushes or fetches of this app").shows("429");
    world.builds.open("gate");
    push.ends().await.ok();
}

fn getrandom_like(bytes: &mut [u8]) {
    let mut state = 99_u64;
    for byte in bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 33) as u8;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_unpacks_to_too_much_is_refused_and_leaves_nothing() {
    let limits = Limits { max_unpacked: 1 << 20, ..Limits::default() };
    let world = World::with_limits(limits).await;
    let (app, repo) = (world.app("bomb").await, world.repo());
    repo.commit("zeros", vec![0; 8 << 20]);
    // Also where it would not be built.
    for target in ["main:other", "main"] {
        let run = repo.push(&app, &[target]).await.fails();
        run.shows("Push rejected: it unpacks to more than 1 MB").shows("[remote rejected]");
        assert!(world.objects(&app).iter().all(|name| name == "info" || name == "pack"), "{:?}", world.objects(&app));
    }
    assert!(world.refs(&app).is_empty() && world.builds_of(&app).await.is_empty());
    // As much that is what it weighs is no bomb.
    repo.now(&["reset", "-q", "--hard", "HEAD^"]);
    let mut noise = vec![0_u8; 4 << 20];
    getrandom_like(&mut noise);
    repo.commit("noise", noise);
    repo.push(&app, &["main"]).await.ok().shows("Released v3");
}

/// A commit of 20 objects that stands for 10^18 files: each folder names the next one ten times.
fn bomb(repo: &Repo) -> String {
    let repository = git2::Repository::open(&repo.path).expect("a repository");
    let (mut inner, mut mode) = (repository.blob(b"x").expect("a blob"), 0o100_644);
    for _ in 0..18 {
        let mut tree = repository.treebuilder(None).expect("a tree");
        for n in 0..10 {
            tree.insert(format!("f{n}"), inner, mode).expect("an entry");
        }
        (inner, mode) = (tree.write().expect("written"), 0o040_000);
    }
    let who = git2::Signature::now("dev", "dev@example.com").expect("a name");
    let tree = repository.find_tree(inner).expect("a tree");
    repository.commit(Some("refs/heads/bomb"), &who, &who, "bomb", &tree, &[]).expect("a commit").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_folders_that_stand_for_countless_files_are_refused_at_once() {
    let world = World::start().await;
    let (app, repo) = (world.app("folders").await, world.repo());
    bomb(&repo);
    let run = repo.push(&app, &["bomb:main"]).await.fails();
    let run = run.shows("Push rejected: the commit has more than 300000 files and folders.");
    run.shows("! [remote rejected] bomb -> main (pre-receive hook declined)");
    assert!(world.objects(&app).iter().all(|name| name == "info" || name == "pack"), "{:?}", world.objects(&app));
    assert!(world.refs(&app).is_empty() && world.builds_of(&app).await.is_empty());
    // The same folders a few times over are no obstacle.
    for folder in ["a", "b", "c/a", "c/b"] {
        repo.write(&format!("{folder}/file"), "x");
    }
    repo.commit_all();
    repo.push(&app, &["main"]).await.ok().shows("Released v3");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_commit_or_has_no_files_is_refused() {
    let world = World::start().await;
    let (app, repo) = (world.app("strange").await, world.repo());
    let blob = repo.now(&["hash-object", "-w", "Procfile"]).text.trim().to_owned();
    repo.now(&["tag", "blob", &blob]);
    repo.push(&app, &["blob"]).await.fails().shows("does not name a commit");
    repo.now(&["rm", "-q", "Procfile"]);
    repo.now(&["commit", "-q", "-m", "empty"]);
    repo.push(&app, &["main"]).await.fails().shows("the commit has no files");
    assert!(world.refs(&app).is_empty());
}
