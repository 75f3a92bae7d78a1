//! Repositories: their archives, and their refs as a projection of rows.

use crate::world::{Archived, World, archive};
use paas_ports::{PortError, outside};
use paas_server::git::{self, Limits};

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_the_tree_and_always_the_same() {
    let world = World::start().await;
    let (app, repo) = (world.app("archive").await, world.empty_repo());
    repo.write("bin/run", "#!/bin/sh\n");
    repo.write("Procfile", "worker: run\n");
    let long = "a-long-name-".repeat(15);
    repo.write(&format!("deep/{long}/{long}/file"), "deep");
    let large: Vec<u8> = (0..9_000_000_u32).map(|n| (n % 251) as u8).collect();
    repo.write("large", &large);
    std::os::unix::fs::symlink("bin/run", repo.path.join("link")).expect("a link");
    std::os::unix::fs::symlink(format!("{long}/{long}"), repo.path.join("long-link")).expect("a link");
    repo.now(&["add", "-A"]);
    repo.now(&["update-index", "--chmod=+x", "bin/run"]);
    repo.now(&["commit", "-q", "-m", "x"]);
    let commit = repo.now(&["rev-parse", "HEAD"]).text.trim().to_owned();
    repo.push(&app, &["main:kept"]).await.ok();

    let found = archive(&world, &app, &commit).await;
    let file = |name: &str| -> &Archived { found.iter().find(|file| file.name == name).expect(name) };
    assert_eq!(file("bin/run").mode, 0o755);
    assert_eq!(file("Procfile").mode, 0o644);
    assert_eq!(file("Procfile").content, b"worker: run\n");
    assert_eq!(file("large").content, large);
    assert_eq!(file(&format!("deep/{long}/{long}/file")).content, b"deep");
    assert_eq!(file("link").link.as_deref(), Some("bin/run"));
    assert_eq!(file("long-link").link, Some(format!("{long}/{long}")));

    let (one, two) = (world.folder.path().join("one.tar"), world.folder.path().join("two.tar"));
    for into in [&one, &two] {
        world.cx.repositories.archive(app.scope.id(), &commit, into).await.expect("an archive");
    }
    assert_eq!(std::fs::read(&one).expect("one"), std::fs::read(&two).expect("two"));
    let missing = world.cx.repositories.archive(app.scope.id(), &"1".repeat(40), &one).await;
    assert!(matches!(missing, Err(PortError::NotFound(_))), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_have_limits_and_no_submodules() {
    let limits = Limits { max_file: 1 << 20, max_tree: 2 << 20, max_entries: 20, ..Limits::default() };
    let world = World::with_limits(limits).await;
    let (app, repo, library) = (world.app("limits").await, world.repo(), world.repo());
    let into = world.folder.path().join("out.tar");
    let refused = async |commit: &str| {
        repo.push(&app, &["--force", "main:kept"]).await.ok();
        let refused = world.cx.repositories.archive(app.scope.id(), commit, &into).await;
        refused.expect_err("refused").to_string()
    };
    let large = repo.commit("large", vec![1; (1 << 20) + 1]);
    assert!(refused(&large).await.contains("large is larger than 1 MB"));
    for n in 0..3 {
        repo.write(&format!("part-{n}"), vec![n; 900_000]);
    }
    repo.now(&["rm", "-q", "large"]);
    let together = repo.commit_all();
    assert!(refused(&together).await.contains("larger than 2 MB together"));
    for n in 0..30 {
        repo.write(&format!("small-{n}"), "x");
    }
    repo.now(&["rm", "-q", "part-0", "part-1", "part-2"]);
    let many = repo.commit_all();
    assert!(refused(&many).await.contains("more than 20 files"));
    repo.now(&["reset", "-q", "--hard", "HEAD~2"]);
    repo.now(&["rm", "-q", "large"]);
    repo.now(&["submodule", "--quiet", "add", library.path.to_str().expect("text"), "lib"]);
    let modular = repo.commit_all();
    assert!(refused(&modular).await.contains("lib is a git submodule"));
}

#[tokio::test(flavor = "multi_thread")]
async fn refs_that_drifted_are_repaired_before_anyone_sees_them() {
    let world = World::start().await;
    let (app, repo) = (world.app("drift").await, world.repo());
    repo.now(&["tag", "v1"]);
    repo.push(&app, &["main", "main:x/y", "v1"]).await.ok();
    let right = world.refs(&app);
    let bare = crate::world::Repo::at(world.path(&app));
    let blob = repo.now(&["rev-parse", "HEAD:Procfile"]).text.trim().to_owned();
    let drift = |how: &[&str]| drop(bare.now(how));
    std::fs::write(world.path(&app).join("refs/heads/main"), format!("{blob}\n")).expect("written");
    drift(&["update-ref", "-d", "refs/heads/x/y"]);
    drift(&["update-ref", "refs/heads/x", "refs/tags/v1"]);
    drift(&["update-ref", "refs/notes/x", "refs/tags/v1"]);
    drift(&["pack-refs", "--all"]);
    drift(&["symbolic-ref", "refs/heads/alias", "refs/tags/v1"]);
    drift(&["symbolic-ref", "HEAD", "refs/heads/nowhere"]);
    let seen = repo.git(&["ls-remote", "--symref", &app.url]).await.ok();
    assert_eq!(world.refs(&app), right);
    seen.shows("ref: refs/heads/main\tHEAD").shows_not("alias").shows_not("notes");

    // With only master, that is what a clone checks out.
    outside::task(async {
        let mut uow = world.cx.begin().await.expect("begun");
        let commit = repo.now(&["rev-parse", "HEAD"]).text.trim().to_owned();
        uow.delete_branch(&app.scope, "main").await.expect("deleted");
        uow.set_branch(&app.scope, "master", &commit, world.cx.now()).await.expect("set");
        // A commit that is not there is left out, and hurts nobody.
        uow.set_branch(&app.scope, "lost", &"1".repeat(40), world.cx.now()).await.expect("set");
        uow.save().await.expect("saved");
        git::refresh(&world.cx, &app.scope).await.expect("refreshed");
    })
    .await;
    repo.git(&["ls-remote", "--symref", &app.url]).await.ok().shows("ref: refs/heads/master\tHEAD").shows_not("lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_made_again_of_its_packs() {
    let outside_world = crate::world::Outside::new();
    let world = World::on_host(&outside_world, "one").await;
    let (app, repo) = (world.app("cache").await, world.repo());
    repo.push(&app, &["main"]).await.ok();
    repo.commit("more", "more");
    repo.push(&app, &["main", "main:kept"]).await.ok();
    let (refs, tip) = (world.refs(&app), repo.now(&["rev-parse", "HEAD"]).text.trim().to_owned());

    for lost in ["", "objects/pack"] {
        std::fs::remove_dir_all(world.path(&app).join(lost)).expect("removed");
        repo.git(&["ls-remote", &app.url]).await.ok().shows(&tip);
        assert_eq!(world.refs(&app), refs, "made again without {lost:?}");
        let clone = world.empty_repo();
        clone.git(&["fetch", "-q", &app.url, "kept"]).await.ok();
        assert_eq!(clone.now(&["rev-parse", "FETCH_HEAD"]).text.trim(), tip);
    }
    std::fs::remove_dir_all(world.path(&app)).expect("removed");
    let into = world.folder.path().join("out.tar");
    world.cx.repositories.archive(app.scope.id(), &tip, &into).await.expect("an archive");
    // Git sends only what is new, and what it builds on has come back.
    std::fs::remove_dir_all(world.path(&app)).expect("removed");
    repo.commit("more", "and more");
    repo.push(&app, &["main"]).await.ok();

    world.cx.repositories.remove(app.scope.id()).await.expect("removed");
    let left = world.cx.objects.list("packs").await.expect("a list");
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_have_what_others_received() {
    let outside_world = crate::world::Outside::new();
    let (one, two) = (World::on_host(&outside_world, "one").await, World::on_host(&outside_world, "two").await);
    let (app, repo) = (one.app("shared").await, one.repo());
    let there = two.find("shared").await;
    for (n, app) in [&app, &there, &app, &there].into_iter().enumerate() {
        repo.commit("n", n.to_string());
        repo.push(app, &["main"]).await.ok();
    }
    let tip = repo.now(&["rev-parse", "HEAD"]).text;
    for (world, app) in [(&one, &app), (&two, &there)] {
        let clone = world.empty_repo();
        clone.git(&["fetch", "-q", &app.url, "main"]).await.ok();
        assert_eq!(clone.now(&["rev-parse", "FETCH_HEAD"]).text, tip);
    }
    assert_eq!(one.builds_of(&app).await.len(), 4);
}
