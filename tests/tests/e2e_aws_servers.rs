//! Two servers of one installation race for one app: whatever two requests come at the same moment, one to each, it ends
//! as if they had come one after the other.
//!
//! Each race is run twice, with the servers' parts exchanged. Behind each, what was answered is held against what is
//! there by the invariants, and both servers tell the same of the app's branch.

use std::time::{Duration, Instant};

use paas_domain::{DynoId, DynoName};
use paas_tests::invariants::eyes::Eyes;
use paas_tests::invariants::{Look, Promised, Promises, check};
use paas_tests::platform::{Answer, Kind, Method, Platform, Ran, Repository, Running, Second, until};
use serde_json::{Value, json};

/// How long it may take until all is as it was asked for.
const SOON: Duration = Duration::from_secs(120);
/// How far a push has come when the server that has its job is killed: it builds.
const UNDER_WAY: Duration = Duration::from_millis(1_500);

/// Which server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    First,
    Second,
}

impl Server {
    fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// A race, and its name in what a failure says.
type Run = for<'a, 'b> fn(&'b mut Race<'a>, Server);

const RACES: [(&str, Run); 13] = [
    ("two pushes", two_pushes),
    ("a push and a config var", push_and_config),
    ("two config vars", two_config_vars),
    ("one config var twice", one_config_var_twice),
    ("two process types are scaled", two_scales),
    ("a restart and a scale", restart_and_scale),
    ("one domain twice", one_domain_twice),
    ("a rollback and a config var", rollback_and_config),
    ("two one-off dynos", two_runs),
    ("one log at two servers", one_log),
    ("attached one-off dynos and a push", attached_runs_and_push),
    ("maintenance and a push", maintenance_and_push),
    ("one app's name twice", one_name_twice),
];

#[test]
fn two_servers_race_for_one_app() {
    let platform = Platform::on(Kind::Aws);
    let second = platform.second();
    let eyes = Eyes::open(&platform);
    let mut race = Race::new(&platform, &second, &eyes, "raced-0", Promises::default());
    for server in [Server::First, Server::Second] {
        for (name, run) in RACES {
            let since = Instant::now();
            run(&mut race, server);
            race.rests(name);
            eprintln!("{name}, {server:?} {:.1?}", since.elapsed());
        }
    }
    race.server_dies_under_a_push();
    for (number, server) in [(1, Server::First), (2, Server::Second)] {
        let promises = race.destroyed_twice(server);
        race = Race::new(&platform, &second, &eyes, &format!("raced-{number}"), promises);
    }
    race.destroyed_under_a_push();
    drop(race);
    drop(eyes);
    drop(second);
    platform.finish();
}

/// An app that both servers are asked about.
struct Race<'a> {
    platform: &'a Platform,
    second: &'a Second<'a>,
    eyes: &'a Eyes<'a>,
    promises: Promises,
    /// Two developers' folders.
    folders: [Repository<'a>; 2],
    name: String,
    round: usize,
}

/// Does two things at the same time.
fn at_once<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    std::thread::scope(|threads| {
        let b = threads.spawn(b);
        let a = a();
        (a, b.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

impl<'a> Race<'a> {
    /// A new app with its first release, of which two developers have the code.
    fn new(
        platform: &'a Platform,
        second: &'a Second<'a>,
        eyes: &'a Eyes<'a>,
        name: &str,
        mut promises: Promises,
    ) -> Self {
        let folders = [platform.repository("procfile-only"), platform.empty_repository("other")];
        folders[0].paas(&format!("create {name}")).done();
        let scope = eyes.scope(name);
        promises.app_made(scope.clone(), name);
        promises.of(scope.id()).says = Some(format!(" of {name}."));
        let mut race = Self { platform, second, eyes, promises, folders, name: name.to_owned(), round: 0 };
        let (commit, text) = race.change(Server::First);
        race.pushed(Server::First, &commit).done();
        race.promised().push_deployed(&commit);
        platform.serves(name, &text, SOON);
        race.fetch(Server::Second);
        race.rests("the first push");
        race
    }

    fn promised(&mut self) -> &mut Promised {
        self.promises.living(&self.name).expect("the app lives")
    }

    fn folder(&self, server: Server) -> &Repository<'a> {
        &self.folders[server as usize]
    }

    fn ask(&self, server: Server, method: Method, path: &str, body: &Value) -> Answer {
        let body = (!body.is_null()).then_some(body);
        let path = path.replace("{app}", &format!("/apps/{}", self.name));
        let answer = match server {
            Server::First => self.platform.try_api(method, &path, body),
            Server::Second => self.second.try_api(method, &path, body),
        };
        answer.unwrap_or_else(|e| panic!("the {server:?} server does not answer {method:?} {path}: {e}"))
    }

    fn git(&self, server: Server, words: &[&str], refs: &[&str]) -> Ran {
        match server {
            Server::First => self.folder(server).run(&[&["git"], words, &["aws"], refs].concat()),
            Server::Second => self.second.git(self.folder(server), words, &self.name, refs),
        }
    }

    /// The developer who works with this server has what it tells of the branch.
    fn fetch(&self, server: Server) {
        self.git(server, &["fetch", "-q"], &["main"]).done();
        self.folder(server).git("reset -q --hard FETCH_HEAD").done();
    }

    /// A new commit of this developer on what the branch has: its id, and what the app says with it.
    fn change(&mut self, server: Server) -> (String, String) {
        self.round += 1;
        let text = format!("Round {} of {}.", self.round, self.name);
        if self.round > 1 {
            self.fetch(server);
        }
        let serve = include_str!("../fixtures/apps/procfile-only/serve.pl");
        let folder = self.folder(server);
        folder.write("serve.pl", &serve.replace("Hello from procfile-only v1", &text));
        let commit = folder.commit(&text);
        self.promised().pushed.insert(commit.clone());
        (commit, text)
    }

    fn pushed(&self, server: Server, commit: &str) -> Ran {
        self.git(server, &["push"], &[&format!("{commit}:refs/heads/main")])
    }

    fn tip(&self, server: Server) -> String {
        let told = self.git(server, &["ls-remote"], &["refs/heads/main"]).done().stdout;
        told.split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// Starts `paas` with these words at a server.
    fn spawn(&self, server: Server, words: &[&str]) -> Running {
        let vars = if server == Server::Second { self.second.vars().to_vec() } else { vec![] };
        let vars: Vec<(&str, &str)> = vars.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.platform.spawn(self.folder(server).folder(), &[&["paas"], words].concat(), &vars, "")
    }

    /// Runs a one-off dyno through a server, attached, to its exit status.
    fn attached(&self, server: Server, number: usize) -> (DynoId, DynoName) {
        let word = format!("here-{}-{number}", self.round);
        let command = format!("echo {word}-$((6*7)); sleep 3; exit 7");
        let running = self.spawn(server, &["run", "--no-tty", "-a", &self.name, "--", "sh", "-c", &command]);
        let dyno = until("the one-off dyno", SOON, || {
            let dynos = self.ask(server, Method::Get, "{app}/dynos", &Value::Null).json();
            let is_it = |dyno: &&Value| dyno["command"].as_str().is_some_and(|line| line.contains(&word));
            dynos.as_array()?.iter().find(is_it).cloned()
        });
        running.wait().exits(7).says(&format!("{word}-42"));
        let text = |field: &str| dyno[field].as_str().expect("text").to_owned();
        (text("id").parse().expect("an id"), text("name").parse().expect("a name"))
    }

    /// Everything that was answered becomes true, on both servers.
    fn rests(&self, behind: &str) {
        assert_eq!(self.tip(Server::First), self.tip(Server::Second), "main behind {behind}");
        let since = Instant::now();
        loop {
            let seen = self.eyes.look(&self.promises);
            let violations = check(&Look { seen: &seen, promises: &self.promises, at_rest: true });
            if violations.is_empty() {
                return;
            }
            assert!(since.elapsed() < SOON, "at rest behind {behind}: {violations:#?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The successful releases of a commit.
    fn releases_of(&self, commit: &str) -> usize {
        let deploy = format!("Deploy {}", &commit[..8]);
        let releases = self.platform.releases(&self.name);
        let of_commit = |release: &&Value| release["description"] == *deploy && release["status"] == "succeeded";
        releases.iter().filter(of_commit).count()
    }

    fn config(&self, server: Server, key: &str) -> Value {
        self.ask(server, Method::Get, "{app}/config-vars", &Value::Null).json()[key].take()
    }

    fn set(&self, server: Server, key: &str, value: &str) -> Answer {
        self.ask(server, Method::Patch, "{app}/config-vars", &json!({key: value}))
    }

    fn promise_var(&mut self, key: &str, value: &str) {
        self.promised().config.insert(key.to_owned(), Some(value.to_owned()));
    }
}

fn two_pushes(race: &mut Race<'_>, server: Server) {
    let (one, other) = (race.change(server), race.change(server.other()));
    let (of_one, of_other) = at_once(|| race.pushed(server, &one.0), || race.pushed(server.other(), &other.0));
    assert!(of_one.code == 0 || of_other.code == 0, "both were declined: {of_one}\n{of_other}");
    let tip = race.tip(server);
    for ((commit, text), ran) in [(&one, &of_one), (&other, &of_other)] {
        assert_eq!(race.releases_of(commit), usize::from(ran.code == 0), "{commit}: {ran}");
        if tip == *commit {
            assert_eq!(ran.code, 0, "the branch names a declined commit: {ran}");
            race.platform.serves(&race.name, text, SOON);
        }
    }
    assert!([&one.0, &other.0].contains(&&tip), "the branch names {tip}");
    race.promised().deployed = Some(tip);
}

fn push_and_config(race: &mut Race<'_>, server: Server) {
    let ((commit, text), greeting) = (race.change(server), format!("hello-{}", race.round));
    let (ran, answer) = at_once(|| race.pushed(server, &commit), || race.set(server.other(), "GREETING", &greeting));
    ran.done();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(race.releases_of(&commit), 1);
    race.promised().push_deployed(&commit);
    race.promise_var("GREETING", &greeting);
    race.platform.serves(&race.name, &format!("{text}\nGREETING={greeting}\n"), SOON);
}

fn two_config_vars(race: &mut Race<'_>, server: Server) {
    let before = race.platform.releases(&race.name).len();
    let (one, other) = at_once(|| race.set(server, "ONE", "1"), || race.set(server.other(), "OTHER", "2"));
    assert_eq!((one.status, other.status), (200, 200), "{one:?} {other:?}");
    assert_eq!(race.platform.releases(&race.name).len(), before + 2);
    race.promise_var("ONE", "1");
    race.promise_var("OTHER", "2");
    // Behind the second time nothing changes any more.
    for key in ["ONE", "OTHER"] {
        let unset = race.ask(server, Method::Patch, "{app}/config-vars", &json!({key: null}));
        assert_eq!(unset.status, 200, "{unset:?}");
        race.promised().config.insert(key.to_owned(), None);
    }
}

fn one_config_var_twice(race: &mut Race<'_>, server: Server) {
    let (one, other) = (format!("one-{}", race.round), format!("other-{}", race.round));
    race.promised().config.remove("GREETING");
    let answers = at_once(|| race.set(server, "GREETING", &one), || race.set(server.other(), "GREETING", &other));
    assert_eq!((answers.0.status, answers.1.status), (200, 200), "{answers:?}");
    let kept = race.config(server, "GREETING");
    assert!(kept == *one || kept == *other, "{kept}");
    assert_eq!(kept, race.config(server.other(), "GREETING"));
    let kept = kept.as_str().expect("a value").to_owned();
    race.platform.serves(&race.name, &format!("GREETING={kept}\n"), SOON);
    race.promise_var("GREETING", &kept);
}

fn scale(race: &Race<'_>, server: Server, process_type: &str, quantity: u16) {
    let path = format!("{{app}}/formation/{process_type}");
    let answer = race.ask(server, Method::Patch, &path, &json!({"quantity": quantity}));
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn two_scales(race: &mut Race<'_>, server: Server) {
    at_once(|| scale(race, server, "web", 2), || scale(race, server.other(), "worker", 1));
    race.promised().formation.extend([("web".to_owned(), 2), ("worker".to_owned(), 1)]);
}

fn restart_and_scale(race: &mut Race<'_>, server: Server) {
    let before = race.platform.dyno_ids(&race.name, "web");
    let restart = || race.ask(server.other(), Method::Delete, "{app}/dynos", &Value::Null).status;
    let ((), restarted) = at_once(|| scale(race, server, "worker", 0), restart);
    assert_eq!(restarted, 202);
    race.promised().formation.insert("worker".to_owned(), 0);
    race.platform.have_restarted(&race.name, "web", &before);
}

/// Exactly one was answered with the first status, the other with the second.
fn one_each(answers: &(Answer, Answer), statuses: [u16; 2]) {
    let mut got = [answers.0.status, answers.1.status];
    got.sort_unstable();
    assert_eq!(got, statuses, "{answers:?}");
}

fn one_domain_twice(race: &mut Race<'_>, server: Server) {
    let host = format!("www-{}.example.test", race.platform.install());
    let add =
        |server| race.ask(server, Method::Post, "{app}/domains", &json!({"hostname": host, "sni_endpoint": null}));
    one_each(&at_once(|| add(server), || add(server.other())), [201, 422]);
    race.rests("a domain was added");
    let remove = |server| race.ask(server, Method::Delete, &format!("{{app}}/domains/{host}"), &Value::Null);
    one_each(&at_once(|| remove(server), || remove(server.other())), [200, 404]);
}

fn rollback_and_config(race: &mut Race<'_>, server: Server) {
    let before = race.platform.releases(&race.name);
    let is_of_code = |release: &&Value| release["status"] == "succeeded" && !release["slug"].is_null();
    let target = before.iter().rev().filter(is_of_code).nth(1).expect("an earlier release")["id"].clone();
    let roll_back = || race.ask(server, Method::Post, "{app}/releases", &json!({"release": target}));
    let greeting = format!("hi-{}", race.round);
    let (rolled, set) = at_once(roll_back, || race.set(server.other(), "GREETING", &greeting));
    assert_eq!((rolled.status, set.status), (201, 200), "{rolled:?} {set:?}");
    assert_eq!(race.platform.releases(&race.name).len(), before.len() + 2);
    // A rollback brings its config along: which came last decides.
    let kept = race.config(server, "GREETING");
    let promised = kept.as_str().map(str::to_owned);
    race.promised().config.insert("GREETING".to_owned(), promised.clone());
    let said = format!("GREETING={}\n", promised.unwrap_or_default());
    race.platform.serves(&race.name, &said, SOON);
}

fn two_runs(race: &mut Race<'_>, server: Server) {
    let run = |server, word: &str| {
        let count = format!("for n in 1 2 3; do echo \"run {word} count $n of 3\"; done");
        let answer = race.ask(server, Method::Post, "{app}/dynos", &json!({"attach": false, "command": count}));
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    };
    let word = format!("word-{}", race.round);
    let dynos = at_once(|| run(server, &format!("{word}-a")), || run(server.other(), &format!("{word}-b")));
    assert_ne!(dynos.0["name"], dynos.1["name"]);
    for dyno in [dynos.0, dynos.1] {
        let text = |field: &str| dyno[field].as_str().expect("text").to_owned();
        let name = text("name").parse().expect("a name");
        race.promised().one_offs.insert(text("id").parse().expect("an id"), (name, true));
    }
}

/// A dyno is linked to one of the servers. What it says, and what either server says itself, is told at both, once.
fn one_log(race: &mut Race<'_>, server: Server) {
    let both = [Server::First, Server::Second];
    let tails = both.map(|at| race.spawn(at, &["logs", "--tail", "-a", &race.name]));
    let hello = format!("HELLO_{}", race.round);
    assert_eq!(race.set(server, &hello, "1").status, 200);
    race.promise_var(&hello, "1");
    let said = format!("Set {hello} config vars");
    for tail in &tails {
        tail.writes(&said, SOON);
    }
    let word = format!("said-{}", race.round);
    let command = json!({"attach": false, "command": format!("for n in 1 2 3; do echo {word} $n; done; sleep 20")});
    let answer = race.ask(server.other(), Method::Post, "{app}/dynos", &command);
    assert_eq!(answer.status, 201, "{answer:?}");
    let dyno = answer.json();
    let text = |field: &str| dyno[field].as_str().expect("text").to_owned();
    let name = text("name").parse().expect("a name");
    race.promised().one_offs.insert(text("id").parse().expect("an id"), (name, false));
    // The dyno runs on: nothing but the other server's telling brings its lines to where it is not linked.
    for tail in &tails {
        tail.writes(&format!("{word} 3"), SOON);
    }
    let stop = race.ask(server, Method::Post, &format!("{{app}}/dynos/{}/actions/stop", text("name")), &Value::Null);
    assert_eq!(stop.status, 202, "{stop:?}");
    let once = |lines: &str, what: &str| {
        for text in [said.clone(), format!("{word} 1"), format!("{word} 2"), format!("{word} 3")] {
            assert_eq!(lines.lines().filter(|line| line.contains(&text)).count(), 1, "{what}, {text}: {lines}");
        }
    };
    for (at, tail) in both.iter().zip(&tails) {
        once(&tail.so_far().0, &format!("tail at {at:?}"));
        let read = race.spawn(*at, &["logs", "-n", "500", "-a", &race.name]).wait().done().stdout;
        once(&read, &format!("log at {at:?}"));
    }
    for tail in tails {
        tail.hang_up();
    }
}

/// Whichever server comes to start them, their clients meet them at the server that they asked.
fn attached_runs_and_push(race: &mut Race<'_>, server: Server) {
    let (commit, text) = race.change(server);
    let attached = || [0, 1, 2].map(|number| race.attached(server.other(), number));
    let (ran, dynos) = at_once(|| race.pushed(server, &commit), attached);
    ran.done();
    for (id, name) in dynos {
        race.promised().one_offs.insert(id, (name, false));
    }
    race.promised().push_deployed(&commit);
    race.platform.serves(&race.name, &text, SOON);
}

fn maintenance_and_push(race: &mut Race<'_>, server: Server) {
    let (commit, text) = race.change(server);
    let maintain = |on: bool| {
        let answer = race.ask(server.other(), Method::Patch, "{app}", &json!({"maintenance": on}));
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let (ran, ()) = at_once(|| race.pushed(server, &commit), || maintain(true));
    ran.done();
    until("the maintenance page", SOON, || (race.platform.get(&race.name).status == 503).then_some(()));
    maintain(false);
    race.platform.serves(&race.name, &text, SOON);
    race.promised().push_deployed(&commit);
}

fn one_name_twice(race: &mut Race<'_>, server: Server) {
    let name = format!("twice-{}", race.platform.install());
    let make = |server| race.ask(server, Method::Post, "/apps", &json!({"name": name}));
    one_each(&at_once(|| make(server), || make(server.other())), [201, 422]);
    let id = race.platform.app_id(&name);
    let end = |server| race.ask(server, Method::Delete, &format!("/apps/{name}"), &Value::Null);
    one_each(&at_once(|| end(server), || end(server.other())), [200, 404]);
    race.platform.app_is_gone(&id);
}

impl Race<'_> {
    /// The server that has a push's job is killed: the other one goes on with it, and the push repeated there ends with
    /// one release of its commit.
    fn server_dies_under_a_push(&mut self) {
        let (commit, text) = self.change(Server::Second);
        at_once(
            || self.pushed(Server::Second, &commit),
            || {
                std::thread::sleep(UNDER_WAY);
                self.second.kill();
            },
        );
        self.folder(Server::First).git(&format!("fetch -q {} main", self.folder(Server::Second).folder().display()));
        self.pushed(Server::First, &commit).done();
        self.platform.serves(&self.name, &text, SOON);
        assert_eq!(self.releases_of(&commit), 1);
        self.promised().push_deployed(&commit);
        self.second.start(&[]);
        self.rests("the death of a server");
    }

    /// Both servers are told to destroy the app: one of them does. Its promises are for the next app.
    fn destroyed_twice(&mut self, server: Server) -> Promises {
        let id = self.platform.app_id(&self.name);
        let end = |server| self.ask(server, Method::Delete, "{app}", &Value::Null);
        one_each(&at_once(|| end(server), || end(server.other())), [200, 404]);
        self.promised().destroyed = true;
        self.platform.app_is_gone(&id);
        self.nothing_is_on_disk(&id);
        std::mem::take(&mut self.promises)
    }

    /// The app is destroyed on one server while the other one gets a push of it.
    fn destroyed_under_a_push(&mut self) {
        let id = self.platform.app_id(&self.name);
        let (commit, _) = self.change(Server::Second);
        let end = || {
            std::thread::sleep(UNDER_WAY);
            self.ask(Server::First, Method::Delete, "{app}", &Value::Null)
        };
        let (ran, ended) = at_once(|| self.pushed(Server::Second, &commit), end);
        assert_eq!(ended.status, 200, "{ended:?}");
        assert_ne!(ran.code, 0, "the app is gone: {ran}");
        self.promised().destroyed = true;
        self.platform.app_is_gone(&id);
        self.nothing_is_on_disk(&id);
    }

    /// Nor has the second server anything of an app in its folder.
    fn nothing_is_on_disk(&self, id: &str) {
        for place in [format!("git/{id}.git"), format!("objects/sources/{id}")] {
            let place = self.second.data().join(&place);
            until(&format!("{} is gone", place.display()), SOON, || (!place.exists()).then_some(()));
        }
    }
}
