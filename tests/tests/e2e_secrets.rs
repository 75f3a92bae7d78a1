//! A canary in the config vars: after everything that an app lives through, it is nowhere but in the app.
//!
//! The server and its router log everything there is to log meanwhile (`RUST_LOG=trace`; a few foreign crates that
//! would write down what they carry are kept to warnings by the server itself). Looked at are: every log and file of
//! the data folder, with the database and its write-ahead log; every object of the git repositories; every image as
//! `docker save` gives it, down to its base; every container's files and log, and every volume; what the engine
//! tells about each of them; and what the commands printed. Each look at what the app made also has to find
//! something that is there, or it has looked at nothing.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder,
};
use paas_tests::engine;
use paas_tests::platform::{Kind, Platform};

const SOON: Duration = Duration::from_secs(60);
/// A line in the app's own files: whoever looks at images and repositories has to find it.
const MARK: &str = "m4rk-of-the-app-5e1d";

/// The values, and in what form else they may not appear.
struct Canary {
    value: String,
    unset: String,
    /// `PAAS_CONFIG_n` of every container: config vars in the form in which they come to a dyno. Only the engine
    /// has them.
    encoded: std::sync::Mutex<BTreeSet<String>>,
}

impl Canary {
    fn new() -> Self {
        let value = "c4n4ry-3f9d1b7a5e-do-not-tell".to_owned();
        Self { unset: value.replace("c4n4ry", "unset"), value, encoded: std::sync::Mutex::default() }
    }

    fn is_in(&self, text: &str) -> bool {
        text.contains(&self.value) || text.contains(&self.unset)
    }

    /// Everything that is looked for; the beginning of what is long.
    fn forms(&self) -> Vec<String> {
        let encoded = self.encoded.lock().expect("nobody panicked");
        let long = encoded.iter().filter(|text| text.len() > 40);
        let beginnings = long.map(|text| text.chars().take(120).collect());
        [self.value.clone(), self.unset.clone()].into_iter().chain(beginnings).collect()
    }

    /// Reads all that a program writes, and says what of the canary and of `marks` is in it. grep is what reads so
    /// much in no time.
    fn found(&self, mut program: Command, marks: &[&str]) -> BTreeSet<String> {
        let line = format!("{program:?}");
        let (from, to) = std::io::pipe().expect("a pipe");
        program.stdin(Stdio::null()).stdout(to.try_clone().expect("a second handle")).stderr(to);
        let mut source = program.spawn().unwrap_or_else(|e| panic!("not run: {line}: {e}"));
        // It holds the pipe's other end, too.
        drop(program);
        let mut grep = Command::new("grep");
        grep.env("LC_ALL", "C").args(["--text", "--only-matching", "--fixed-strings"]);
        for form in self.forms().iter().map(String::as_str).chain(marks.iter().copied()) {
            grep.arg("-e").arg(form);
        }
        grep.stdin(from).stdout(Stdio::piped());
        let mut running = grep.spawn().unwrap_or_else(|e| panic!("not run: grep: {e}"));
        drop(grep);
        let mut text = String::new();
        running.stdout.take().expect("piped").read_to_string(&mut text).expect("text");
        assert!(running.wait().expect("grep ends").code().is_some_and(|code| code < 2), "grep fails");
        assert!(source.wait().expect("it ends").success(), "{line} fails");
        text.lines().map(str::to_owned).collect()
    }

    /// The canary is not in what a program writes, and every mark is.
    fn is_not_in(&self, what: &str, program: Command, marks: &[&str]) {
        let found = self.found(program, marks);
        let marks: BTreeSet<String> = marks.iter().map(|mark| (*mark).to_owned()).collect();
        assert_eq!(found, marks, "{what}: the canary, or nothing of what should be there");
    }
}

#[test]
fn a_config_vars_value_is_told_to_nobody() {
    let platform = Platform::start_with(Kind::Local, &[("RUST_LOG", "trace")]);
    let canary = Canary::new();
    let watched = AtomicBool::new(true);
    std::thread::scope(|threads| {
        let watcher = threads.spawn(|| watch(&platform, &canary, &watched));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| live(&platform, &canary)));
        watched.store(false, Ordering::Relaxed);
        let seen = watcher.join().expect("the watcher");
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
        assert!(seen > 3, "only {seen} containers were looked at");
    });
    assert!(canary.forms().len() > 2, "no container had config vars");

    let log = platform.server_log();
    assert!(log.contains(" DEBUG sqlx"), "the server logs everything there is to log");
    let key = &platform.vars()["HEROKU_API_KEY"];
    assert!(!log.contains(key.as_str()), "the API key is in the server's log");
    // Everything stands still while it is looked at: a server that lives drains and removes dynos (the restart above
    // is hardly over), and what is gone cannot be searched.
    platform.kill_server();
    in_files(&platform, &canary);
    in_repositories(&platform.data().join("git"), &canary);
    platform.with_engine(async |docker| in_engine(&docker, &platform.install(), &canary).await);
    platform.start_server(&[]);
    platform.finish();
}

/// What an app lives through, with the value in its config vars. Whatever a command prints is looked at as well,
/// but for those that are asked for the value.
fn live(platform: &Platform, canary: &Canary) {
    let app = platform.repository("flask");
    app.write("Procfile", "web: gunicorn app:app --bind 0.0.0.0:$PORT\nrelease: python -c 'print(\"released\")'\n");
    app.write("mark.txt", &format!("{MARK}\n"));
    app.commit("A release phase");
    app.paas("create secretive").done();
    app.paas(&format!("config:set SECRET={} GREETING=hi", canary.value)).done();
    app.paas(&format!("config:set UNSET={}", canary.unset)).done();
    app.paas("config:unset UNSET").done();
    let mut told = vec![app.push().done()];
    platform.serves("secretive", "GREETING=hi", SOON);
    // The app itself knows it.
    let known = app.run(&["paas", "run", "--no-tty", "python", "-c", "import os; print(len(os.environ['SECRET']))"]);
    assert_eq!(known.clone().done().stdout.trim(), canary.value.len().to_string());
    told.push(known);
    told.push(app.run(&["paas", "run:detached", "--", "python", "-c", "import os; os.environ['SECRET']"]).done());
    told.push(app.paas("config:set GREETING=ho").done());
    platform.serves("secretive", "GREETING=ho", SOON);
    told.push(app.paas("restart").done());

    // Errors: a build, a release phase and a dyno that fail.
    app.write(".python-version", "2.7\n");
    app.commit("Fails to build");
    told.push(app.push().exits(1));
    app.write(".python-version", "");
    app.git("rm -q --cached .python-version").done();
    std::fs::remove_file(app.folder().join(".python-version")).expect("removed");
    app.write("Procfile", "web: gunicorn app:app\nrelease: exit 3\n");
    app.commit("Fails to release");
    told.push(app.push().exits(1));
    app.write("Procfile", "web: exit 4\n");
    app.commit("Fails to start");
    told.push(app.push().exits(1));
    for words in ["releases", "releases:output v8", "ps", "apps:info", "builds", "logs -n 1500"] {
        told.push(app.paas(words));
    }

    // The server dies and comes back.
    platform.kill_server();
    platform.start_server(&[]);
    platform.serves("secretive", "GREETING=ho", SOON);
    told.push(app.paas("restart").done());
    std::thread::sleep(Duration::from_secs(2));
    told.push(app.paas("logs -n 1500").done());
    for ran in told {
        assert!(!canary.is_in(&ran.stdout) && !canary.is_in(&ran.stderr), "{ran}");
    }
}

/// Looks at what the engine tells about every container of the installation, for as long as `watched`; builds and
/// release phases are there for moments only.
fn watch(platform: &Platform, canary: &Canary, watched: &AtomicBool) -> usize {
    let mut seen = std::collections::HashSet::new();
    platform.with_engine(async |docker| {
        let label = format!("paas.install={}", platform.install());
        while watched.load(Ordering::Relaxed) {
            for id in containers(&docker, &label).await {
                let Ok(told) = docker.inspect_container(&id, None).await else { continue };
                let text = serde_json::to_string(&told).expect("JSON");
                assert!(!canary.is_in(&text), "the engine tells it: {text}");
                let config = told.config.unwrap_or_default();
                let env = config.env.unwrap_or_default();
                let coded =
                    env.iter().filter(|line| line.starts_with("PAAS_CONFIG_")).filter_map(|l| l.split_once('='));
                let coded: Vec<String> = coded.map(|(_, value)| value.to_owned()).collect();
                let labels = format!("{:?} {:?} {:?}", config.labels, config.cmd, config.entrypoint);
                assert!(!coded.iter().any(|coded| labels.contains(coded)), "it is in a label: {labels}");
                canary.encoded.lock().expect("nobody panicked").extend(coded);
                seen.insert(id);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    seen.len()
}

async fn containers(docker: &Docker, label: &str) -> Vec<String> {
    let filters = std::collections::HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let containers = docker.list_containers(Some(options)).await.expect("containers");
    containers.into_iter().filter_map(|container| container.id).collect()
}

/// The data folder (the database, the logs, the outputs, the objects, the layers), the server's own log, and home.
/// What is compressed there is unpacked.
fn in_files(platform: &Platform, canary: &Canary) {
    let mut files = Vec::new();
    every_file(platform.data().parent().expect("a folder"), &mut files);
    let (mut size, mut database) = (0, 0);
    for file in &files {
        let bytes = std::fs::read(file).unwrap_or_default();
        size += bytes.len();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        database += usize::from(name == "paas.db" || name == "paas.db-wal");
        let mut read = Command::new(if bytes.starts_with(&[0x1f, 0x8b]) { "zcat" } else { "cat" });
        read.arg(file);
        let found = canary.found(read, &[]);
        assert!(found.is_empty(), "it is in {}", file.display());
    }
    assert!(size > 1_000_000 && database == 2, "{size} bytes with {database} files of the database were looked at");
}

fn every_file(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            every_file(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

/// Every object of every repository: packs are compressed.
fn in_repositories(folder: &Path, canary: &Canary) {
    let mut looked = 0;
    for repository in std::fs::read_dir(folder).expect("the repositories").flatten() {
        if !repository.path().join("objects").is_dir() {
            continue;
        }
        let mut git = Command::new("git");
        git.arg("--git-dir").arg(repository.path());
        git.args(["cat-file", "--batch", "--batch-all-objects", "--unordered"]);
        canary.is_not_in("the repository", git, &[MARK]);
        looked += 1;
    }
    assert_eq!(looked, 1, "repositories in {}", folder.display());
}

/// The engine's client, on the engine that tests use.
fn docker_client() -> Command {
    let mut client = Command::new("docker");
    client.arg("--host").arg(format!("unix://{}", engine::socket().display()));
    client
}

/// Containers, images and volumes, as the engine tells of them and what is in them.
async fn in_engine(docker: &Docker, install: &str, canary: &Canary) {
    let label = format!("paas.install={install}");
    let told = containers(docker, &label).await;
    assert!(!told.is_empty(), "a dyno runs");
    for container in &told {
        let mut export = docker_client();
        export.args(["export", container]);
        canary.is_not_in("a container's files", export, &[MARK]);
        let mut logs = docker_client();
        logs.args(["logs", container]);
        canary.is_not_in("a container's log", logs, &[]);
    }

    let images = docker.list_images(None::<bollard::query_parameters::ListImagesOptions>).await.expect("images");
    let prefix = format!("paas-{install}/");
    let tags: Vec<String> = images.into_iter().flat_map(|i| i.repo_tags).filter(|t| t.starts_with(&prefix)).collect();
    assert!(tags.len() >= 2, "images of two releases: {tags:?}");
    for tag in &tags {
        for about in ["inspect", "history"] {
            let mut tell = docker_client();
            tell.args(["image", about]).args((about == "history").then_some("--no-trunc")).arg(tag);
            let marks = if about == "inspect" { &[install][..] } else { &[] };
            canary.is_not_in(&format!("{about} of {tag}"), tell, marks);
        }
    }
    let mut save = docker_client();
    save.arg("save").args(&tags);
    canary.is_not_in("the images", save, &[MARK, install]);

    let filters = std::collections::HashMap::from([("label".to_owned(), vec![label])]);
    let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
    let volumes = docker.list_volumes(Some(options)).await.expect("volumes").volumes.unwrap_or_default();
    assert!(!volumes.is_empty(), "the layers are kept in a volume");
    for volume in volumes {
        in_volume(docker, install, &tags[0], &volume.name, canary).await;
    }
}

/// Reads a volume, mounted in a container that never starts.
async fn in_volume(docker: &Docker, install: &str, image: &str, volume: &str, canary: &Canary) {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        labels: Some([("paas.install".to_owned(), install.to_owned())].into()),
        host_config: Some(HostConfig { binds: Some(vec![format!("{volume}:/volume:ro")]), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let name = format!("paas-{install}-look");
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    docker.create_container(Some(options), body).await.expect("a container");
    let mut copy = docker_client();
    copy.args(["cp", &format!("{name}:/volume"), "-"]);
    // A Python app's layers: its packages are there.
    canary.is_not_in("a volume", copy, &["gunicorn/app/wsgiapp.py"]);
    let remove = RemoveContainerOptionsBuilder::new().force(true).build();
    docker.remove_container(&name, Some(remove)).await.expect("removed");
}
