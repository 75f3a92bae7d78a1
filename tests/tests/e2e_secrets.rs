//! A canary in the config vars: after everything that an app lives through, it is nowhere but in the app.
//!
//! The server and its router log everything there is to log meanwhile (`RUST_LOG=trace`; a few foreign crates that
//! would write down what they carry are kept to warnings by the server itself). Looked at are: every log and file of
//! the data folder, with the database and its write-ahead log; every object of the git repositories; every image as
//! `docker save` gives it, down to its base; every container's files and log, and every volume; what the engine
//! tells about each of them; and what the commands printed. Each look at what the app made also has to find
//! something that is there, or it has looked at nothing.
//!
//! On AWS the same life, and looked at are also: every task definition that was ever registered, services and tasks
//! with their tags and their events, what EventBridge told, every line in CloudWatch, every object in S3, every row in
//! PostgreSQL, and what Secrets Manager tells of its secrets. Only their values have it.

#[path = "secrets/account.rs"]
mod account;
#[path = "secrets/canary.rs"]
mod canary;
#[path = "secrets/engine.rs"]
mod engine;
#[path = "secrets/files.rs"]
mod files;
#[path = "secrets/life.rs"]
mod life;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use canary::Canary;
use paas_tests::on_each_platform;
use paas_tests::platform::{Kind, Platform};

on_each_platform!(a_config_vars_value_is_told_to_nobody);

/// A line in the app's own files: whoever looks at images and repositories has to find it.
const MARK: &str = "m4rk-of-the-app-5e1d";

fn a_config_vars_value_is_told_to_nobody(kind: Kind) {
    let platform = Platform::start_with(kind, &[("RUST_LOG", "trace")]);
    let canary = Canary::new();
    let events = (kind == Kind::Aws).then(|| account::Events::read_along(&platform));
    let watched = AtomicBool::new(true);
    let told = std::thread::scope(|threads| {
        let watcher = threads.spawn(|| match kind {
            Kind::Local => engine::watch(&platform, &canary, &watched),
            Kind::Aws => account::watch(&platform, &canary, &watched),
        });
        let ended = catch_unwind(AssertUnwindSafe(|| life::live(&platform, &canary)));
        watched.store(false, Ordering::Relaxed);
        let seen = watcher.join().expect("the watcher");
        let told = ended.unwrap_or_else(|panic| resume_unwind(panic));
        assert!(seen > 3, "only {seen} containers or secrets were looked at");
        told
    });
    assert!(canary.came_to_dynos(), "no dyno had config vars");
    for ran in told {
        assert!(!canary.is_in(&ran.stdout) && !canary.is_in(&ran.stderr), "{ran}");
    }

    let log = platform.server_log();
    assert!(log.contains(" DEBUG sqlx"), "the server logs everything there is to log");
    let key = &platform.vars()["HEROKU_API_KEY"];
    assert!(!log.contains(key.as_str()), "the API key is in the server's log");
    // Everything stands still while it is looked at: a server that lives drains and removes dynos (the restart above
    // is hardly over), and what is gone cannot be searched.
    platform.kill_server();
    files::in_data(&platform, &canary);
    files::in_repositories(&platform.data().join("git"), &canary);
    platform.with_engine(async |docker| engine::in_engine(&docker, &platform.install(), kind, &canary).await);
    if let Some(events) = events {
        account::in_account(&platform, &canary);
        events.are_without(&canary);
    }
    platform.start_server(&[]);
    platform.finish();
}
