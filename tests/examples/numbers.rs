//! Takes the numbers that a note about the platform wants, and prints them as tables: a push until the first 200
//! answer, our build alone (through the builder's port) and `docker build` of the same onto the same base, each for
//! the first time, with nothing changed and with the app changed; and a commit's way by git with and without us.
//!
//! `cargo run -p paas-tests --example numbers`, with the variables that `make test` sets. It wants a quiet machine.
//! The builder and the server are those of this build: a debug build's own work (tar, hashes) is slower.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use paas_domain::{AppId, BuildId, ConfigVars};
use paas_ports::{BuildSpec, BuildVerdict, Builder as _};
use paas_tests::platform::{Platform, Repository, until};
use paas_tests::story_builder::StoryBuilder;

/// How often each of the short ones is measured; the median counts.
const TIMES: usize = 5;

struct Case {
    fixture: &'static str,
    /// The file that a change of the app changes.
    answer: &'static str,
    dockerfile: String,
}

fn main() {
    // The images that our builds build on, so that both sides install the same onto the same.
    let base = std::env::var("PAAS_TEST_BUILDER").expect("not run: PAAS_TEST_BUILDER is not set");
    let start = format!(
        "FROM {base}\nUSER root\nCOPY ca.crt /ca.crt\nENV PIP_CERT=/ca.crt NODE_EXTRA_CA_CERTS=/ca.crt \
         SSL_CERT_FILE=/ca.crt PATH=/opt/paas/node/bin:/usr/local/bin:/usr/bin:/bin\nWORKDIR /app\n"
    );
    let cases = [
        Case {
            fixture: "flask",
            answer: "app.py",
            dockerfile: format!(
                "{start}COPY requirements.txt ./\nRUN /opt/paas/bin/uv venv --quiet --python /opt/paas/python/3.13/bin/python3 /venv && \
                 VIRTUAL_ENV=/venv /opt/paas/bin/uv pip install --quiet --compile-bytecode -r requirements.txt\n\
                 COPY . .\nENTRYPOINT []\nCMD /venv/bin/gunicorn app:app --bind 0.0.0.0:$PORT\n"
            ),
        },
        Case {
            fixture: "express",
            answer: "index.js",
            dockerfile: format!(
                "{start}COPY package.json package-lock.json ./\nRUN npm ci --omit=dev\nCOPY . .\n\
                 ENTRYPOINT []\nCMD node index.js\n"
            ),
        },
    ];
    let platform = Platform::default();
    println!("The first ones once, the others the median of {TIMES}:\n");
    println!("| what | {} |", cases.iter().map(|case| case.fixture).collect::<Vec<_>>().join(" | "));
    println!("| --- | {} |", cases.iter().map(|_| "---:").collect::<Vec<_>>().join(" | "));
    let columns: Vec<Vec<(&str, Duration)>> = cases.iter().map(|case| column(&platform, case)).collect();
    for (at, (what, _)) in columns[0].iter().enumerate() {
        let cells: Vec<String> = columns.iter().map(|column| format!("{:.2} s", column[at].1.as_secs_f64())).collect();
        println!("| {what} | {} |", cells.join(" | "));
    }
    git(&platform);
    platform.finish();
}

fn column(platform: &Platform, case: &Case) -> Vec<(&'static str, Duration)> {
    let app = platform.repository(case.fixture);
    let name = format!("my-{}", case.fixture);
    app.paas(&format!("create {name}")).done();
    let mut version = 1;
    let first = push_until_200(platform, &app, &name, &format!("{} v1", case.fixture));
    let unchanged = median(|| {
        app.commit("Nothing");
        push_until_200(platform, &app, &name, &format!("{} v{version}", case.fixture))
    });
    let changed = median(|| {
        let text = |n| format!("{} v{n}", case.fixture);
        app.replace(case.answer, &text(version), &text(version + 1));
        version += 1;
        app.commit("A change");
        push_until_200(platform, &app, &name, &text(version))
    });

    let alone = Alone::start();
    let alone_first = alone.build(&app);
    let alone_unchanged = median(|| alone.build(&app));
    let alone_changed = median(|| {
        let text = |n| format!("{} v{n}", case.fixture);
        app.replace(case.answer, &text(version), &text(version + 1));
        version += 1;
        app.commit("A change");
        alone.build(&app)
    });
    alone.finish();

    let folder = app.folder();
    std::fs::copy(std::env::var("PAAS_TEST_CA_BUNDLE").expect("a bundle"), folder.join("ca.crt")).expect("a copy");
    std::fs::write(folder.join("Dockerfile"), &case.dockerfile).expect("a file");
    std::fs::write(folder.join(".dockerignore"), ".git\n").expect("a file");
    let tag = format!("paas-{}/numbers-{}", platform.install(), case.fixture);
    let docker_first = docker_build(folder, &tag, true);
    let docker_unchanged = median(|| docker_build(folder, &tag, false));
    let docker_changed = median(|| {
        let text = |n| format!("{} v{n}", case.fixture);
        app.replace(case.answer, &text(version), &text(version + 1));
        version += 1;
        docker_build(folder, &tag, false)
    });
    let removed = Command::new("docker").args(["image", "rm", "--force", &tag]).output().expect("docker runs");
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    vec![
        ("push → 200, first", first),
        ("push → 200, a commit that changes nothing", unchanged),
        ("push → 200, the app changed", changed),
        ("our build alone, first", alone_first),
        ("our build alone, nothing changed", alone_unchanged),
        ("our build alone, the app changed", alone_changed),
        ("`docker build`, first", docker_first),
        ("`docker build`, nothing changed", docker_unchanged),
        ("`docker build`, the app changed", docker_changed),
    ]
}

fn push_until_200(platform: &Platform, app: &Repository<'_>, name: &str, text: &str) -> Duration {
    let since = Instant::now();
    app.push().done();
    platform.serves(name, text, Duration::from_secs(5));
    since.elapsed()
}

/// The builder by its port, as the server's job calls it, for one app in an installation of its own.
struct Alone {
    runtime: tokio::runtime::Runtime,
    builder: StoryBuilder,
    app: AppId,
}

impl Alone {
    fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let builder = runtime.block_on(StoryBuilder::stock());
        Self { runtime, builder, app: AppId::new() }
    }

    /// From a commit's files to an image that can run: detect, build, export, and what is kept for the next one.
    fn build(&self, app: &Repository<'_>) -> Duration {
        let build = BuildId::new();
        let source = self.builder.folder.path().join(format!("{build}.tar"));
        app.git(&format!("archive --output={} HEAD", source.display())).done();
        let (app, config, timeout) = (self.app.clone(), ConfigVars::new(), Duration::from_secs(900));
        let spec = BuildSpec { app, build, source, commit: None, config, timeout };
        let since = Instant::now();
        self.runtime.block_on(async {
            let driver = self.builder.driver();
            let (output, mut lines) = tokio::sync::mpsc::channel::<bytes::Bytes>(16);
            let mut said = Vec::new();
            let listen = async {
                while let Some(bytes) = lines.recv().await {
                    said.extend_from_slice(&bytes);
                }
            };
            let (verdict, ()) = tokio::join!(driver.build(&spec, output), listen);
            let verdict = verdict.expect("the builder works");
            assert_eq!(verdict, BuildVerdict::Succeeded, "{}", String::from_utf8_lossy(&said));
            let (output, mut lines) = tokio::sync::mpsc::channel::<bytes::Bytes>(16);
            let listen = async { while lines.recv().await.is_some() {} };
            let (image, ()) = tokio::join!(driver.export(&spec, output), listen);
            image.expect("exported");
            driver.tidy(&spec.app, &spec.build).await.expect("tidied");
        });
        since.elapsed()
    }

    fn finish(&self) {
        self.runtime.block_on(self.builder.finish());
    }
}

fn docker_build(folder: &Path, tag: &str, cold: bool) -> Duration {
    let since = Instant::now();
    let mut docker = Command::new("docker");
    // The default bridge cannot ask a resolver on the host's own loopback, which our builds can.
    docker
        .args(["build", "--quiet", "--network", "host", "--tag", tag])
        .args(cold.then_some("--no-cache"))
        .arg(".")
        .current_dir(folder);
    let built = docker.env("DOCKER_BUILDKIT", "0").output().expect("docker runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    since.elapsed()
}

/// One commit on a branch that deploys nothing, to us and to a bare repository beside it.
fn git(platform: &Platform) {
    let app = platform.repository("static");
    app.paas("create carried").done();
    let bare = platform.home().join("bare.git");
    app.git(&format!("init -q --bare {}", bare.display())).done();
    app.git(&format!("remote add file file://{}", bare.display())).done();
    let push = |to: &str| {
        app.commit("One more");
        app.git(&format!("push -q {to} HEAD:refs/heads/topic")).done().took
    };
    let _ = (push("aws"), push("file"));
    let (ours, file) = (median(|| push("aws")), median(|| push("file")));
    println!("\n| one commit by git, median of {TIMES} | |\n| --- | ---: |");
    println!("| to the platform, a branch that deploys nothing | {:.0} ms |", ours.as_secs_f64() * 1000.0);
    println!("| to `file://` | {:.0} ms |", file.as_secs_f64() * 1000.0);
    until("the branch is there", Duration::from_secs(5), || {
        app.git("ls-remote aws refs/heads/topic").stdout.contains("topic").then_some(())
    });
}

fn median(mut measure: impl FnMut() -> Duration) -> Duration {
    let mut all: Vec<Duration> = (0..TIMES).map(|_| measure()).collect();
    all.sort();
    all[TIMES / 2]
}
