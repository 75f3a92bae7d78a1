//! What each entry of class N sends, on a server with one app that was deployed once.
//!
//! Every answer is held against the rules at once: a push that is refused changed no row, no ref, no pack and no
//! file; one that is taken changed what it asked for and nothing else; and each was answered in time.

mod packs;
mod refs;
mod requests;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use paas_server::git::Limits;
use paas_tests::database::{Changes, Dump, dump_sqlite, files};

use crate::world::pack::{CAPABILITIES, NONE, history, push};
use crate::world::raw::{self, Answer};
use crate::world::{App, World};

const NOW: &str = "1700000000 +0000";
/// The rule for every input.
const IN_TIME: Duration = Duration::from_secs(1);
/// For a push that is taken: git's processes and a whole deploy, on a busy machine.
const DEPLOYED_WITHIN: Duration = Duration::from_secs(30);

/// What a push of a branch or a tag changes that deploys nothing; there may be such a pack already.
const KEPT: &[&str] = &["branches +1, packs +1, refs +1", "branches +1, refs +1"];
/// What a push to the branch that deploys changes: a build with its job and output, the image and the release that
/// came of it, and the branch.
const DEPLOYED: &[&str] =
    &["apps -1 +1, branches -1 +1, builds +1, images +1, jobs +1, outputs +1, packs +1, refs -1 +1, releases +1"];

/// A server with one app that was deployed once, and what is wrong with it.
pub(crate) struct Bench {
    world: World,
    app: App,
    auth: String,
    tip: String,
    /// How everything was when it was last looked at.
    seen: tokio::sync::Mutex<Dump>,
    wrong: Mutex<Vec<String>>,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let limits = Limits { max_file: 8 << 20, max_unpacked: 32 << 20, ..Limits::default() };
        let world = World::with_limits(limits).await;
        let app = world.app("target").await;
        let repo = world.repo();
        repo.push(&app, &["main"]).await.ok();
        let tip = repo.now(&["rev-parse", "HEAD"]).text.trim().to_owned();
        let auth = basic(&world.key);
        let bench = Self { world, app, auth, tip, seen: tokio::sync::Mutex::default(), wrong: Mutex::default() };
        *bench.seen.lock().await = bench.quiet().await;
        bench
    }

    /// Runs a case. What is wrong is in [`Bench::wrong`].
    pub(crate) async fn run(&self, case: &str) {
        let known = self.requests(case).await || self.refs(case).await || self.packs(case).await;
        // In push.rs: they need a client that goes away, and an app that does.
        assert!(known || ["N89", "N91"].contains(&case), "{case} is in the list and has no test");
        self.unchanged(case).await;
        // Whatever came, the next good request is served.
        let next = self.get("/target.git/info/refs?service=git-receive-pack", &self.authorized()).await;
        assert_eq!(next.status, 200, "after {case}");
    }

    /// What was not as it must be.
    pub(crate) fn wrong(self) -> Vec<String> {
        self.wrong.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// Everything that a request could have changed: rows, refs, packs (and what is in quarantine), and the uploads.
    async fn state(&self) -> Dump {
        let folder = self.world.folder.path();
        let mut state = dump_sqlite(&format!("sqlite:{}", folder.join("paas.db").display())).await;
        // A pack is more than one file, and which ones depends on git's version.
        let packs: BTreeSet<String> = self.world.objects(&self.app).iter().map(|name| stem(name)).collect();
        state.insert("packs".to_owned(), packs.into_iter().collect());
        state.insert("refs".to_owned(), self.world.refs(&self.app));
        state.insert("files".to_owned(), files(&folder.join("objects"), &[]));
        state
    }

    /// Takes how everything is now for how it should be: a case has set something up.
    async fn look(&self) {
        *self.seen.lock().await = self.state().await;
    }

    /// How everything is once nothing changes any more: the last steps of a deploy come after its answer.
    async fn quiet(&self) -> Dump {
        let until = Instant::now() + Duration::from_secs(60);
        let mut before = self.state().await;
        loop {
            tokio::time::sleep(Duration::from_millis(150)).await;
            let now = self.state().await;
            if now == before && !self.world.works_on(&self.app).await {
                return now;
            }
            assert!(Instant::now() < until, "it never settles");
            before = now;
        }
    }

    async fn changes(&self) -> Changes {
        let mut seen = self.seen.lock().await;
        let now = self.state().await;
        let changes = Changes::between(&seen, &now);
        *seen = now;
        changes
    }

    async fn unchanged(&self, what: &str) {
        let changes = self.changes().await;
        if changes != Changes::default() {
            self.say(format!("{what} changed {changes}"));
        }
    }

    async fn get(&self, path: &str, headers: &str) -> Answer {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        self.send(&head, b"").await.expect("an answer")
    }

    async fn post(&self, app: &str, service: &str, headers: &str, body: &[u8]) -> Option<Answer> {
        let head = format!(
            "POST /{app}.git/git-{service} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {}\r\n\
             Content-Type: application/x-git-{service}-request\r\nContent-Length: {}\r\n{headers}\r\n",
            self.auth,
            body.len()
        );
        self.send(&head, body).await
    }

    /// Sends a request and measures how long its answer takes.
    ///
    /// One that is refused may be late three times: other programs run on the same cores, and one that takes long
    /// does so every time. One that is taken cannot be sent again; that it comes to an end is all that is asked of it.
    async fn send(&self, head: &str, body: &[u8]) -> Option<Answer> {
        let begun = Instant::now();
        let answer = raw::send(self.world.port, head, body).await;
        let mut took = begun.elapsed();
        let taken = answer.as_ref().is_some_and(|answer| answer.text().contains("ok refs/"));
        let limit = if taken { DEPLOYED_WITHIN } else { IN_TIME };
        for _ in 0..3 {
            if taken || took <= limit {
                break;
            }
            let begun = Instant::now();
            raw::send(self.world.port, head, body).await;
            took = begun.elapsed();
        }
        if took > limit {
            let line = head.lines().next().unwrap_or_default();
            self.say(format!("{line} with {} bytes took {took:?}", body.len()));
        }
        answer
    }

    async fn receive(&self, body: &[u8]) -> Answer {
        self.post("target", "receive-pack", "", body).await.expect("an answer")
    }

    /// A push of a new branch with this pack.
    async fn pack(&self, name: &str, tip: &str, pack: &[u8]) -> Answer {
        let name = format!("refs/heads/{name}");
        self.receive(&push(&[(NONE, tip, name.as_bytes())], CAPABILITIES, pack)).await
    }

    /// A push was refused, by a status or by git's report, and changed nothing.
    async fn rejected(&self, answer: &Answer) {
        let text = answer.text();
        let refused = answer.status >= 400 || text.contains("ng refs/") || text.contains("ng ");
        assert!(refused && !text.contains("ok refs/") && answer.status < 500, "{} {text}", answer.status);
        self.unchanged(&text).await;
    }

    /// A push was taken: this ref is there, and what else changed is one of `named`, all of it the app's.
    async fn taken(&self, answer: &Answer, name: &str, tip: &str, named: &[&str]) {
        let text = answer.text();
        assert!(answer.status == 200 && text.contains("unpack ok") && text.contains("ok refs/"), "{answer:?} {text}");
        let changes = self.changes().await;
        let said = changes.to_string();
        if !named.contains(&said.as_str()) || changes.came("refs") != [format!("{name} {tip}")] {
            self.say(format!("{name}: changed {said}, refs {:?}", changes.came("refs")));
        }
        let others = changes.rows_without(self.app.scope.id().as_str(), &["refs", "packs"]);
        if !others.is_empty() {
            self.say(format!("{name}: changed more than the app: {others:?}"));
        }
    }

    /// A push of a ref that deploys nothing was taken.
    async fn keeps(&self, answer: &Answer, name: &str, tip: &str) {
        self.taken(answer, name, tip, KEPT).await;
    }

    async fn keeps_branch(&self, answer: &Answer, name: &str, tip: &str) {
        self.keeps(answer, &format!("refs/heads/{name}"), tip).await;
    }

    /// A push to the branch that deploys was taken.
    async fn deploys(&self, answer: &Answer, tip: &str) {
        self.quiet().await;
        self.taken(answer, "refs/heads/main", tip, DEPLOYED).await;
    }

    /// Either answer will do, if what it says is what happened.
    async fn answered(&self, answer: &Answer, branch: &str, tip: &str) {
        if answer.text().contains("ok refs/") {
            self.keeps_branch(answer, branch, tip).await;
        } else {
            self.rejected(answer).await;
        }
    }

    /// A push to each of these refs is refused.
    async fn refuses_refs(&self, names: &[&[u8]]) {
        let good = history(&[], NOW, "x");
        for name in names {
            let answer = self.receive(&push(&[(NONE, &good.tip, name)], CAPABILITIES, &good.pack())).await;
            self.rejected(&answer).await;
        }
    }

    fn authorized(&self) -> String {
        format!("Authorization: {}\r\n", self.auth)
    }

    async fn archive(&self, commit: &str) -> Vec<crate::world::Archived> {
        crate::world::archive(&self.world, &self.app, commit).await
    }
}

/// `pack-0123abcd` of `pack-0123abcd.idx`.
fn stem(name: &str) -> String {
    name.split('.').next().unwrap_or(name).to_owned()
}

fn basic(key: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("anyone:{key}")))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(bytes).expect("zipped");
    out.finish().expect("zipped")
}
