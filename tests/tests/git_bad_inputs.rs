//! The bad inputs of class N, driven from the list: the right answer, in time, and nothing changed.

mod git_world;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::{Duration, Instant};

use base64::Engine as _;
use git_world::pack::{self, BLOB, CAPABILITIES, COMMIT, NONE, OFS_DELTA, REF_DELTA, TAG, TREE, history, line, push};
use git_world::raw::{self, Answer};
use git_world::{App, World};
use paas_server::git::Limits;

const LIST: &str = include_str!("../fixtures/bad-inputs.jsonl");
const NOW: &str = "1700000000 +0000";
/// One second by the list; more here because tests share two cores with each other.
const IN_TIME: Duration = Duration::from_secs(5);

/// A server with one app that was deployed once.
struct Bench {
    world: World,
    app: App,
    auth: String,
    tip: String,
}

impl Bench {
    async fn start() -> Self {
        let limits = Limits { max_file: 8 << 20, ..Limits::default() };
        let world = World::with_limits(limits).await;
        let app = world.app("target").await;
        let repo = world.repo();
        repo.push(&app, &["main"]).await.ok();
        let tip = repo.now(&["rev-parse", "HEAD"]).text.trim().to_owned();
        let auth = basic(&world.key);
        Self { world, app, auth, tip }
    }

    /// Everything that a rejected request must leave as it is.
    async fn state(&self) -> String {
        let builds = self.world.builds_of(&self.app).await.len();
        let releases = self.world.releases(&self.app).await.len();
        let (refs, objects) = (self.world.refs(&self.app), self.world.objects(&self.app));
        format!("{refs:?} {objects:?} {builds} {releases} {:?}", self.world.branches(&self.app).await)
    }

    async fn get(&self, path: &str, headers: &str) -> Answer {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        raw::send(self.world.port, &head, b"").await.expect("an answer")
    }

    async fn post(&self, app: &str, service: &str, headers: &str, body: &[u8]) -> Option<Answer> {
        let head = format!(
            "POST /{app}.git/git-{service} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {}\r\n\
             Content-Type: application/x-git-{service}-request\r\nContent-Length: {}\r\n{headers}\r\n",
            self.auth,
            body.len()
        );
        raw::send(self.world.port, &head, body).await
    }

    async fn receive(&self, body: &[u8]) -> Answer {
        self.post("target", "receive-pack", "", body).await.expect("an answer")
    }

    /// A push of a new branch with this pack.
    async fn pack(&self, name: &str, tip: &str, pack: &[u8]) -> Answer {
        let name = format!("refs/heads/{name}");
        self.receive(&push(&[(NONE, tip, name.as_bytes())], CAPABILITIES, pack)).await
    }

    /// Whether a push was refused: by a status, or by git's report.
    #[track_caller]
    fn rejected(&self, answer: &Answer) {
        let text = answer.text();
        let refused = answer.status >= 400 || text.contains("ng refs/") || text.contains("ng ");
        assert!(refused && !text.contains("ok refs/") && answer.status < 500, "{} {text}", answer.status);
    }

    #[track_caller]
    fn accepted(&self, answer: &Answer) {
        let text = answer.text();
        assert!(answer.status == 200 && text.contains("unpack ok") && text.contains("ok refs/"), "{answer:?} {text}");
    }

    /// A push to each of these refs is refused.
    async fn refuses_refs(&self, names: &[&[u8]]) {
        let good = history(&[], NOW, "x");
        for name in names {
            let answer = self.receive(&push(&[(NONE, &good.tip, name)], CAPABILITIES, &good.pack())).await;
            self.rejected(&answer);
        }
    }

    /// Either answer will do, if it is one.
    #[track_caller]
    fn answered(&self, answer: &Answer) {
        assert!(answer.status < 500, "{answer:?}");
        assert!(answer.status != 200 || answer.text().contains("unpack "), "{}", answer.text());
    }

    async fn run(&self, case: &str) {
        match case {
            "N06" => {
                for name in ["-o.git", "--upload-pack=id.git", "..%2f..%2fetc", "%00", "a%2fb.git", ".git", "%2e%2e"] {
                    let path = format!("/{name}/info/refs?service=git-receive-pack");
                    let answer = self.get(&path, &self.authorized()).await;
                    assert_eq!(answer.status, 404, "{name}");
                }
            }
            "N08" => {
                let (other, _) = self.world.account("other@example.com", &["global"]).await;
                self.world.app_of(&other, "foreign").await;
                for service in ["git-receive-pack", "git-upload-pack"] {
                    let path = format!("/foreign.git/info/refs?service={service}");
                    assert_eq!(self.get(&path, &self.authorized()).await.status, 404);
                }
                let good = history(&[], NOW, "x");
                let body = push(&[(NONE, &good.tip, b"refs/heads/main")], CAPABILITIES, &good.pack());
                assert_eq!(self.post("foreign", "receive-pack", "", &body).await.expect("an answer").status, 404);
            }
            "N09" => {
                for (path, headers) in [
                    ("/target.git/info/refs?service=git-receive-pack", ""),
                    ("/nowhere.git/info/refs?service=git-upload-pack", ""),
                    ("/target/info/refs?service=git-upload-pack", "Authorization: Basic !!!\r\n"),
                    ("/target/info/refs", "Authorization: Basic Og==\r\n"),
                    ("/target/info/refs", "Authorization: Digest x\r\n"),
                ] {
                    let answer = self.get(path, headers).await;
                    assert_eq!(answer.status, 401);
                    assert!(answer.head.contains("www-authenticate: basic realm="), "{}", answer.head);
                }
            }
            "N10" => {
                let reader = self.world.key(&self.world.account, &["read"]).await;
                let headers = format!("Authorization: {}\r\n", basic(&reader));
                let path = |service| format!("/target.git/info/refs?service=git-{service}");
                assert_eq!(self.get(&path("receive-pack"), &headers).await.status, 403);
                assert_eq!(self.get(&path("upload-pack"), &headers).await.status, 200);
            }
            "N11" | "N12" => {
                let long = format!("version=2{}", "x".repeat(10 * 1024));
                for asked in ["version=99", "version=2\tHOME=/", "version=2=", &long] {
                    let headers = format!("{}Git-Protocol: {asked}\r\n", self.authorized());
                    let answer = self.get("/target.git/info/refs?service=git-upload-pack", &headers).await;
                    assert_eq!(answer.status, 200);
                    assert!(answer.text().starts_with("001e# service=git-upload-pack\n0000"), "{}", answer.text());
                    assert!(answer.text().contains("refs/heads/main"), "not version 0: {}", answer.text());
                }
            }
            "N14" => {
                let good = history(&[], NOW, "gzip");
                let body = push(&[(NONE, &good.tip, b"refs/heads/zipped")], CAPABILITIES, &good.pack());
                let body = gzip(&body);
                let answer = self.post("target", "receive-pack", "Content-Encoding: gzip\r\n", &body).await;
                self.accepted(&answer.expect("an answer"));
                let cut = self.post("target", "receive-pack", "Content-Encoding: gzip\r\n", &body[..20]).await;
                self.rejected(&cut.expect("an answer"));
                let plain = self.post("target", "receive-pack", "Content-Encoding: gzip\r\n", b"0000").await;
                self.rejected(&plain.expect("an answer"));
            }
            "N16" => {
                for encoding in ["br", "zstd", "deflate", "gzip, gzip"] {
                    let headers = format!("Content-Encoding: {encoding}\r\n");
                    for service in ["receive-pack", "upload-pack"] {
                        let answer = self.post("target", service, &headers, b"0000").await.expect("an answer");
                        assert_eq!(answer.status, 415, "{encoding}");
                    }
                }
            }
            "N17" | "N18" | "N20" | "N21" => {
                for bad in ["0001", "0002", "0003", "fff1", "ffff", "zzzz", "-001", " 0a4", "+0a4", "0x04"] {
                    for service in ["receive-pack", "upload-pack"] {
                        let body = format!("{bad}{}0000", "x".repeat(200));
                        let answer = self.post("target", service, "", body.as_bytes()).await.expect("an answer");
                        assert_eq!(answer.status, 400, "{bad} {service}: {}", answer.text());
                    }
                }
            }
            "N22" => {
                let good = history(&[], NOW, "upper case");
                let body = push(&[(NONE, &good.tip, b"refs/heads/upper")], CAPABILITIES, &good.pack());
                let upper = [body[..4].to_ascii_uppercase(), body[4..].to_vec()].concat();
                self.accepted(&self.receive(&upper).await);
            }
            "N24" => {
                let good = history(&[], NOW, "x");
                let body = push(&[(NONE, &good.tip, b"refs/heads/cut")], CAPABILITIES, b"");
                for end in [0, 3, 50, body.len() - 4, body.len() - 1] {
                    assert_eq!(self.receive(&body[..end]).await.status, 400, "{end}");
                }
                // The flush is there, the pack is not, or only half of it.
                let whole = [body.as_slice(), &good.pack()].concat();
                for end in [body.len(), body.len() + 3, body.len() + 20, whole.len() - 1] {
                    self.rejected(&self.receive(&whole[..end]).await);
                }
            }
            "N25" => {
                let empty = b"0004".repeat(1_000_000);
                for service in ["receive-pack", "upload-pack"] {
                    // The answer may be lost with the connection that is cut.
                    if let Some(answer) = self.post("target", service, "", &empty).await {
                        assert_eq!(answer.status, 400);
                    }
                }
                let command = line(format!("{NONE} {NONE} refs/heads/x"));
                if let Some(answer) = self.post("target", "receive-pack", "", &command.repeat(50_000)).await {
                    assert_eq!(answer.status, 400);
                }
            }
            "N30" | "N31" => {
                for (n, capability) in
                    ["report-status teleport=2", "report-status agent=\x1b[31m\nX-Evil: 1"].iter().enumerate()
                {
                    let good = history(&[], NOW, capability);
                    let name = format!("refs/heads/{case}-{n}");
                    let body = push(&[(NONE, &good.tip, name.as_bytes())], capability, &good.pack());
                    let answer = self.receive(&body).await;
                    self.accepted(&answer);
                    assert!(!answer.head.contains("evil"));
                }
            }
            "N33" => {
                let body =
                    [line("push-cert\0report-status\n"), line("garbage\n"), line("push-cert-end\n"), b"0000".into()];
                self.rejected(&self.receive(&body.concat()).await);
            }
            "N34" | "N35" => {
                let good = history(&[], NOW, "x");
                let capabilities = format!("{CAPABILITIES} push-options");
                let options = [line("a;b=c"), b"0000".to_vec()].concat();
                let rest = [options, good.pack()].concat();
                let body = push(&[(NONE, &good.tip, b"refs/heads/options")], &capabilities, &rest);
                self.rejected(&self.receive(&body).await);
            }
            "N40" => {
                let good = history(&[], NOW, "other");
                let answer = self.pack("other", &good.tip, &good.pack()).await;
                self.accepted(&answer);
                assert!(answer.text().contains("Pushed to non-main branch, skipping build."));
                assert_eq!(self.world.builds_of(&self.app).await.len(), 1);
            }
            "N42" => {
                self.refuses_refs(&[b"refs/heads/--exec=id", b"refs/heads/-", b"refs/tags/-x", b"refs/heads/a/-b"])
                    .await
            }
            "N43" => {
                let names: Vec<Vec<u8>> = [
                    "a..b", "a~1", "a^", "a:b", "a?b", "a*", "a[b", "a\\b", "a@{1}", ".a", "a.lock", "a//b", "a/", "a.",
                ]
                .iter()
                .map(|name| format!("refs/heads/{name}").into_bytes())
                .collect();
                self.refuses_refs(&names.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
            }
            "N45" => {
                let names: [&[u8]; 6] = [
                    b"refs/heads/a\x01b",
                    b"refs/heads/a b",
                    b"refs/heads/a\x7fb",
                    b"refs/heads/a\nb",
                    b"refs/heads/\xff\xfe",
                    b"refs/heads/\x1b[2J",
                ];
                self.refuses_refs(&names).await;
            }
            "N46" => {
                self.refuses_refs(&[b"HEAD", b"refs/heads/HEAD", b"main", b"heads/main", b"", b"/etc/passwd"]).await
            }
            "N49" => {
                let long = [b"refs/heads/".as_slice(), &b"a".repeat(5000)].concat();
                let part = [b"refs/heads/".as_slice(), &b"a".repeat(250)].concat();
                self.refuses_refs(&[&long, &part]).await;
            }
            "N50" => {
                let good = history(&[], NOW, "folder");
                self.accepted(&self.pack("folder", &good.tip, &good.pack()).await);
                let answer = self.pack("folder/file", &good.tip, &good.pack()).await;
                self.rejected(&answer);
                let refs = self.world.refs(&self.app);
                assert!(refs.contains(&format!("refs/heads/folder {}", good.tip)), "{refs:?}");
                assert!(!refs.iter().any(|line| line.contains("folder/file")), "{refs:?}");
            }
            "N53" => {
                let replace = format!("refs/replace/{}", self.tip);
                let names: [&[u8]; 6] = [
                    replace.as_bytes(),
                    b"refs/notes/commits",
                    b"refs/meta/config",
                    b"refs/hidden",
                    b"refs/pull/1/head",
                    b"refs/remotes/origin/main",
                ];
                self.refuses_refs(&names).await;
            }
            "N55" => {
                let good = history(&[], NOW, "x");
                let twice = [(NONE, good.tip.as_str(), b"refs/heads/twice".as_slice()); 2];
                self.rejected(&self.receive(&push(&twice, CAPABILITIES, &good.pack())).await);
            }
            "N57" => {
                // Only the client knows whether it was forced; another commit on top of nothing is taken.
                let good = history(&[], NOW, "rewritten");
                let body = push(&[(&self.tip, &good.tip, b"refs/heads/main")], CAPABILITIES, &good.pack());
                self.accepted(&self.receive(&body).await);
            }
            "N61" => {
                let good = history(&[], NOW, "tagged");
                let tag = format!("object {}\ntype commit\ntag v9\ntagger S <s@example.com> {NOW}\n\nx\n", good.tip);
                let mut entries = good.entries;
                entries.push(pack::entry(TAG, tag.as_bytes()));
                let id = pack::id(TAG, tag.as_bytes());
                let body = push(&[(NONE, &id, b"refs/tags/v9")], CAPABILITIES, &pack::pack(4, &entries));
                self.accepted(&self.receive(&body).await);
                assert!(self.world.refs(&self.app).contains(&format!("refs/tags/v9 {id}")));
            }
            "N62" => {
                let good = history(&[], NOW, "x");
                let body = push(&[(NONE, &good.tip, b"refs/heads/cut-off")], CAPABILITIES, &good.pack());
                let answer = self.receive(&[line(format!("shallow {}", good.tip)), body].concat()).await;
                self.rejected(&answer);
                assert!(answer.text().contains("git fetch --all --unshallow"), "{}", answer.text());
            }
            "N65" => {
                let good = history(&[], NOW, "x");
                for count in [u32::MAX, 1_000_000_000, 4] {
                    self.rejected(&self.pack("count", &good.tip, &pack::pack(count, &good.entries)).await);
                }
            }
            "N66" => {
                for size in [1 << 63, u64::MAX, 1 << 40] {
                    let huge = [pack::head(BLOB, size), pack::deflate(b"x")].concat();
                    self.rejected(&self.pack("huge", &self.tip.replace('0', "1"), &pack::pack(1, &[huge])).await);
                }
            }
            "N67" => {
                // Above the limit on files (8 MB here): refused before it is stored, whatever it weighs packed.
                let zeros = vec![0; 64 << 20];
                let bomb = history(&[("100644", b"bomb", &zeros)], NOW, "x");
                let body = push(&[(&self.tip, &bomb.tip, b"refs/heads/main")], CAPABILITIES, &bomb.pack());
                let answer = self.receive(&body).await;
                self.rejected(&answer);
                assert!(answer.text().contains("bomb is larger than 8 MB"), "{}", answer.text());
            }
            "N68" => {
                let base = pack::entry(BLOB, b"hello hello hello");
                let delta = pack::deflate(&[17, 17, 0x90, 17]);
                for offset in [0, 1, 1_000_000, u64::from(u32::MAX) * 8, base.len() as u64 - 1] {
                    let entry = [pack::head(OFS_DELTA, 4), pack::back(offset), delta.clone()].concat();
                    let pack = pack::pack(2, &[base.clone(), entry]);
                    self.rejected(&self.pack("offset", &"1".repeat(40), &pack).await);
                }
            }
            "N69" => {
                let delta = pack::deflate(&[17, 17, 0x90, 17]);
                let entry = [pack::head(REF_DELTA, 4), vec![0xab; 20], delta].concat();
                self.rejected(&self.pack("thin", &"1".repeat(40), &pack::pack(1, &[entry])).await);
            }
            "N70" => {
                let good = history(&[], NOW, "deep");
                let mut entries = good.entries;
                let base = vec![b'a'; 64];
                entries.push(pack::entry(BLOB, &base));
                // Each takes the one before without its first byte, and one more at the end.
                for n in 0..50_000_u32 {
                    let before = entries.last().expect("one").len() as u64;
                    let delta = [64, 64, 0x91, 1, 63, 1, b'a' + (n % 26) as u8];
                    let entry = [pack::head(OFS_DELTA, delta.len() as u64), pack::back(before), pack::deflate(&delta)];
                    entries.push(entry.concat());
                }
                let count = u32::try_from(entries.len()).expect("few");
                self.answered(&self.pack("deep", &good.tip, &pack::pack(count, &entries)).await);
            }
            "N71" => {
                let base = pack::entry(BLOB, b"hello hello hello");
                for delta in [[17, 16, 0x90, 17], [16, 17, 0x90, 17], [17, 17, 0x90, 18], [17, 0x7f, 0x90, 17]] {
                    let entry =
                        [pack::head(OFS_DELTA, 4), pack::back(base.len() as u64), pack::deflate(&delta)].concat();
                    self.rejected(&self.pack("lie", &"1".repeat(40), &pack::pack(2, &[base.clone(), entry])).await);
                }
            }
            "N73" => {
                for name in [".git", ".GIT", "git~1", ".g\u{200c}it", ".git::$INDEX_ALLOCATION", ".git ", "..", "."] {
                    let bad = history(&[("100644", name.as_bytes(), b"x")], NOW, "x");
                    self.rejected(&self.pack("evil", &bad.tip, &bad.pack()).await);
                }
            }
            "N76" => {
                for (n, mode) in ["100777", "0", "170000", "100600", "040755"].iter().enumerate() {
                    let odd = history(&[(mode, b"odd", b"x")], NOW, "x");
                    self.answered(&self.pack(&format!("mode-{n}"), &odd.tip, &odd.pack()).await);
                }
            }
            "N79" => {
                let links: [(&str, &[u8], &[u8]); 2] =
                    [("120000", b"absolute", b"/etc/passwd"), ("120000", b"up", b"../../../../etc/passwd")];
                let good = history(&links, NOW, "links");
                self.accepted(&self.pack("links", &good.tip, &good.pack()).await);
                let archive = self.archive(&good.tip).await;
                let links: Vec<String> = archive.iter().filter_map(|file| file.link.clone()).collect();
                assert_eq!(links, ["/etc/passwd", "../../../../etc/passwd"]);
            }
            "N80" => {
                for url in ["--upload-pack=id", "ext::sh -c id", "../../x\r"] {
                    let text = format!("[submodule \"x\"]\n\tpath = x\n\turl = {url}\n");
                    let bad = history(&[], NOW, "x");
                    let tree = pack::tree(&[
                        ("100644", b".gitmodules", &pack::id(BLOB, text.as_bytes())),
                        ("100644", b"Procfile", &pack::id(BLOB, b"worker: run\n")),
                        ("160000", b"x", &self.tip),
                    ]);
                    let commit = pack::commit(&pack::id(TREE, &tree), NOW, "x");
                    let mut entries = bad.entries;
                    entries.truncate(1);
                    entries.push(pack::entry(BLOB, text.as_bytes()));
                    entries.push(pack::entry(TREE, &tree));
                    entries.push(pack::entry(COMMIT, &commit));
                    let tip = pack::id(COMMIT, &commit);
                    let body = push(&[(&self.tip, &tip, b"refs/heads/main")], CAPABILITIES, &pack::pack(4, &entries));
                    self.rejected(&self.receive(&body).await);
                }
            }
            "N82" => {
                let text = b"$Format:%H$ $Id$\r\n".as_slice();
                let attributes = b"* export-subst ident text filter=x diff=x\nhidden export-ignore\n".as_slice();
                let files: [(&str, &[u8], &[u8]); 3] =
                    [("100644", b".gitattributes", attributes), ("100644", b"file", text), ("100644", b"hidden", b"x")];
                let good = history(&files, NOW, "attributes");
                self.accepted(&self.pack("attributes", &good.tip, &good.pack()).await);
                let archive = self.archive(&good.tip).await;
                assert_eq!(archive.iter().find(|file| file.name == "file").expect("there").content, text);
                assert!(archive.iter().any(|file| file.name == "hidden"));
            }
            "N83" => {
                let long = [b"* ".as_slice(), &b"x".repeat(4 << 20), b"\n"].concat();
                let bad = history(&[("100644", b".gitattributes", &long)], NOW, "x");
                self.rejected(&self.pack("long", &bad.tip, &bad.pack()).await);
            }
            "N84" => {
                for (n, when) in
                    ["9223372036854775807 +0000", "99999999999999999999 +0000", "1700000000 -9999", "0 -0000"]
                        .iter()
                        .enumerate()
                {
                    let odd = history(&[], when, "x");
                    let name = format!("time-{n}");
                    let answer = self.pack(&name, &odd.tip, &odd.pack()).await;
                    self.answered(&answer);
                    if answer.text().contains("ok refs/") {
                        self.archive(&odd.tip).await;
                    }
                }
            }
            "N85" => {
                let message = format!("\x1b[2J\x1b]0;evil\x07{}", "x".repeat(1 << 20));
                let good = history(&[], NOW, &message);
                let body = push(&[(&self.tip, &good.tip, b"refs/heads/main")], CAPABILITIES, &good.pack());
                let answer = self.receive(&body).await;
                self.accepted(&answer);
                assert!(!answer.text().contains("evil"));
                let releases = self.world.releases(&self.app).await;
                assert!(releases.iter().all(|release| release.description.len() < 100));
            }
            "N95" => {
                let branches = self.world.branches(&self.app).await;
                let tip = &branches.iter().find(|(name, _)| name == "main").expect("main").1;
                let mut body = line(format!("want {tip} ofs-delta side-band-64k no-progress multi_ack_detailed\n"));
                body.extend_from_slice(b"0000");
                for n in 0..100_000_u64 {
                    body.extend(line(format!("have {:040x}\n", u128::from(n) * 0x9e37_79b9_7f4a_7c15 + 1)));
                }
                body.extend(line("done\n"));
                let answer = self.post("target", "upload-pack", "", &body).await.expect("an answer");
                assert_eq!(answer.status, 200);
                assert!(answer.body.windows(4).any(|w| w == b"PACK"));
            }
            // In git_push.rs: they need a client that goes away, and an app that does.
            "N89" | "N91" => {}
            other => panic!("{other} is in the list and has no test"),
        }
    }

    fn authorized(&self) -> String {
        format!("Authorization: {}\r\n", self.auth)
    }

    async fn archive(&self, commit: &str) -> Vec<git_world::Archived> {
        git_world::archive(&self.world, &self.app, commit).await
    }
}

fn basic(key: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("anyone:{key}")))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(bytes).expect("zipped");
    out.finish().expect("zipped")
}

/// Those that may be taken, as a whole or in part.
const MAY_CHANGE: [&str; 16] =
    ["N14", "N22", "N30", "N31", "N40", "N50", "N57", "N61", "N70", "N76", "N79", "N82", "N84", "N85", "N08", "N10"];

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_input_of_class_n_gets_its_answer() {
    let listed: BTreeSet<String> = LIST
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .filter(|entry| entry["cls"] == "N")
        .map(|entry| entry["id"].as_str().expect("an id").to_owned())
        .collect();
    assert!(listed.len() >= 50, "the list was not read");
    let mut late = Vec::new();
    for chunk in listed.iter().collect::<Vec<_>>().chunks(14) {
        let bench = Bench::start().await;
        for case in chunk {
            let before = bench.state().await;
            let started = Instant::now();
            eprintln!("{case}");
            bench.run(case).await;
            if started.elapsed() > IN_TIME {
                late.push(format!("{case}: {:?}", started.elapsed()));
            }
            if !MAY_CHANGE.contains(&case.as_str()) {
                assert_eq!(bench.state().await, before, "{case} changed something");
            }
            // Whatever came, the next good request is served.
            let next = bench.get("/target.git/info/refs?service=git-receive-pack", &bench.authorized()).await;
            assert_eq!(next.status, 200, "after {case}");
        }
    }
    assert!(late.is_empty(), "late: {late:?}");
}
