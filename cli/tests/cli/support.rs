//! The real binary against a small HTTP server, both as a test wants them.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

pub(crate) const ID: &str = "01234567-89ab-cdef-0123-456789abcdef";
pub(crate) const AT: &str = "2026-01-02T03:04:05Z";

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

/// What to answer.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(body: Value) -> Self {
        Self::text(200, "application/json", &body.to_string())
    }

    pub(crate) fn error(status: u16, id: &str, message: &str) -> Self {
        Self { status, ..Self::json(json!({"id": id, "message": message})) }
    }

    pub(crate) fn text(status: u16, kind: &str, body: &str) -> Self {
        Self { status, headers: vec![("content-type".into(), kind.into())], body: body.into() }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

type Routes = Arc<Mutex<HashMap<String, Vec<Answer>>>>;

/// A server on a port of its own. A route answers its answers in turn, and the last one for ever.
pub(crate) struct Stub {
    pub(crate) port: u16,
    routes: Routes,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Stub {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (routes, asked) = (Routes::default(), Arc::new(Mutex::new(Vec::new())));
        let stub = Self { port, routes: Arc::clone(&routes), asked: Arc::clone(&asked) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (routes, asked) = (Arc::clone(&routes), Arc::clone(&asked));
                std::thread::spawn(move || serve(stream, &routes, &asked));
            }
        });
        stub
    }

    pub(crate) fn url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    pub(crate) fn on(&self, route: &str, answer: Answer) -> &Self {
        self.routes.lock().expect("lock").entry(route.to_owned()).or_default().push(answer);
        self
    }

    pub(crate) fn answers(&self, route: &str, body: Value) -> &Self {
        self.on(route, Answer::json(body))
    }

    pub(crate) fn forget(&self, route: &str) {
        self.routes.lock().expect("lock").remove(route);
    }

    /// The lines asked so far, as `GET /apps/hello`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("lock").iter().map(|a| a.line.clone()).collect()
    }

    /// The last request of this line.
    pub(crate) fn last(&self, line: &str) -> Asked {
        let asked = self.asked.lock().expect("lock");
        asked.iter().rfind(|a| a.line == line).cloned().unwrap_or_else(|| panic!("{line} was never asked: {asked:?}"))
    }

    /// What `line` carried, as JSON.
    pub(crate) fn sent(&self, line: &str) -> Value {
        serde_json::from_str(&self.last(line).body).expect("JSON")
    }
}

fn serve(stream: TcpStream, routes: &Routes, asked: &Mutex<Vec<Asked>>) {
    let mut input = BufReader::new(stream.try_clone().expect("clone"));
    let mut stream = stream;
    loop {
        let mut first = String::new();
        if input.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let line = first.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
        let mut headers = HashMap::new();
        loop {
            let mut header = String::new();
            input.read_line(&mut header).expect("a header");
            match header.trim_end().split_once(':') {
                Some((name, value)) => headers.insert(name.to_lowercase(), value.trim().to_owned()),
                None => break,
            };
        }
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some_and(|t| t == "chunked") {
            loop {
                let mut size = String::new();
                input.read_line(&mut size).expect("a chunk");
                let size = u64::from_str_radix(size.trim(), 16).expect("a size");
                input.by_ref().take(size).read_to_end(&mut body).expect("a chunk");
                input.read_line(&mut String::new()).expect("the end of a chunk");
                if size == 0 {
                    break;
                }
            }
        } else {
            let length = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
            input.by_ref().take(length).read_to_end(&mut body).expect("a body");
        }
        let answer = {
            let mut routes = routes.lock().expect("lock");
            match routes.get_mut(&line) {
                Some(answers) if answers.len() > 1 => answers.remove(0),
                Some(answers) => answers[0].clone(),
                None => {
                    let mut body = json!({"id": "not_found", "message": "Couldn't find that app.", "resource": "app"});
                    body["asked"] = line.clone().into();
                    Answer { status: 404, ..Answer::json(body) }
                }
            }
        };
        asked.lock().expect("lock").push(Asked { line, headers, body: String::from_utf8_lossy(&body).into_owned() });
        let mut head = format!("HTTP/1.1 {} X\r\ncontent-length: {}\r\n", answer.status, answer.body.len());
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&answer.body)).is_err() {
            return;
        }
    }
}

/// The binary, in an empty folder that is its home too.
pub(crate) struct Paas {
    pub(crate) home: tempfile::TempDir,
    env: Vec<(String, String)>,
    input: String,
}

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Paas {
    /// Knows the stub and a key.
    pub(crate) fn of(stub: &Stub) -> Self {
        Self::bare().env("PAAS_URL", &stub.url()).env("PAAS_API_KEY", "HRKU-key")
    }

    /// Knows nothing.
    pub(crate) fn bare() -> Self {
        Self { home: tempfile::tempdir().expect("a folder"), env: Vec::new(), input: String::new() }
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(n, _)| n != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.env.retain(|(n, _)| n != name);
        self
    }

    pub(crate) fn input(mut self, input: &str) -> Self {
        self.input = input.to_owned();
        self
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paas"));
        command.args(words).current_dir(self.home.path()).env_clear();
        command.env("PATH", std::env::var("PATH").unwrap_or_default()).env("HOME", self.home.path());
        command.env("GIT_CONFIG_NOSYSTEM", "1").envs(self.env.iter().map(|(n, v)| (n, v)));
        command
    }

    /// Runs the words of `line`, cut at spaces.
    pub(crate) fn run(&self, line: &str) -> Ran {
        self.run_words(&line.split_whitespace().collect::<Vec<_>>())
    }

    pub(crate) fn run_words(&self, words: &[&str]) -> Ran {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let mut stdin = child.stdin.take().expect("stdin");
        let _ = stdin.write_all(self.input.as_bytes()); // it may have ended without reading
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn git(&self, line: &str) -> String {
        let output = Command::new("git")
            .args(line.split_whitespace())
            .current_dir(self.home.path())
            .output()
            .expect("not run: no git");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn shows(&self, out: &str, err: &str) {
        assert_eq!((self.out.as_str(), self.err.as_str(), self.code), (out, err, 0));
    }

    #[track_caller]
    pub(crate) fn fails(&self, code: i32, err: &str) {
        assert_eq!((self.err.as_str(), self.code), (err, code), "stdout: {}", self.out);
    }
}

pub(crate) fn named(name: &str) -> Value {
    json!({"id": ID, "name": name})
}

pub(crate) fn user() -> Value {
    json!({"id": ID, "email": "ada@example.com"})
}

pub(crate) fn account() -> Value {
    json!({"allow_tracking": false, "beta": false, "country_of_residence": null, "created_at": AT,
        "default_organization": null, "default_team": null, "delinquent_at": null, "email": "ada@example.com",
        "federated": false, "id": ID, "identity_provider": null, "last_login": null, "name": null, "sms_number": null,
        "suspended_at": null, "two_factor_authentication": false, "updated_at": AT, "verified": true})
}

pub(crate) fn app(stub: &Stub, name: &str) -> Value {
    json!({"acm": false, "archived_at": null, "build_stack": named("heroku-24"), "buildpack_provided_description": null,
        "create_status": "complete", "created_at": AT, "generation": named("cedar"),
        "git_url": format!("https://localhost:{}/{name}.git", stub.port), "id": ID, "internal_routing": null,
        "maintenance": false, "name": name, "organization": null, "owner": user(), "region": named("us"),
        "released_at": null, "repo_size": 123_456, "slug_size": 9_999_999, "space": null, "stack": named("heroku-24"),
        "team": null, "updated_at": AT, "web_url": format!("http://{name}.localhost:5080/")})
}

pub(crate) fn dyno(name: &str, command: &str, state: &str) -> Value {
    let kind = name.split('.').next();
    json!({"app": named("hello"), "attach_url": null, "command": command, "created_at": AT, "id": ID, "name": name,
        "release": {"id": ID, "version": 3}, "size": "Basic", "state": state, "type": kind, "updated_at": AT})
}

pub(crate) fn release(version: u64, description: &str, status: &str, current: bool) -> Value {
    json!({"addon_plan_names": [], "app": named("hello"), "artifacts": [], "created_at": AT, "current": current,
        "description": description, "eligible_for_rollback": status == "succeeded", "id": format!("release-{version}"),
        "oci_image": null, "output_stream_url": null, "slug": {"id": ID}, "status": status, "updated_at": AT,
        "user": user(), "version": version})
}

pub(crate) fn formation(kind: &str, quantity: u32) -> Value {
    json!({"app": named("hello"), "command": "x", "created_at": AT, "dyno_size": named("Basic"), "id": ID,
        "quantity": quantity, "size": "Basic", "type": kind, "updated_at": AT})
}

pub(crate) fn domain(hostname: &str, kind: &str) -> Value {
    json!({"acm_status": null, "acm_status_reason": null, "app": named("hello"),
        "cname": if kind == "custom" { Some("hello.localhost") } else { None }, "created_at": AT, "hostname": hostname,
        "id": ID, "kind": kind, "sni_endpoint": null, "status": "none", "updated_at": AT})
}

pub(crate) fn build(stub: &Stub, id: &str, status: &str) -> Value {
    json!({"app": {"id": ID}, "buildpacks": null, "created_at": AT, "generation": "cedar", "id": id,
        "output_stream_url": format!("{}/streams/{id}", stub.url()), "release": null, "slug": null,
        "source_blob": {"checksum": null, "url": "u", "version": "0123456789abcdef", "version_description": null},
        "stack": "heroku-24", "status": status, "updated_at": AT, "user": user()})
}

pub(crate) fn authorization(id: &str, token: &str) -> Value {
    json!({"access_token": {"expires_in": null, "id": ID, "token": token}, "client": null, "created_at": AT,
        "description": "d", "grant": null, "id": id, "refresh_token": null, "scope": ["global"], "session": null,
        "updated_at": AT, "user": {"id": ID, "email": "ada@example.com", "full_name": null}})
}
