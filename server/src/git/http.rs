//! Smart HTTP: who may push to or fetch from an app, and the bytes between the client and the git program.
//!
//! Every answer that git shows to a person is `text/plain`. An app that is not the caller's is an app that is not
//! there. The dumb protocol is not spoken.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use paas_domain::{AppId, AppName};
use paas_ports::outside;
use paas_store::{Account, AppScope};

use super::body::Incoming;
use super::hook_server::{HookServer, Pusher};
use super::process::{self, Output};
use super::repositories::SOCKET_FROM_REPOSITORY;
use super::request::{Parser, PushRequest};
use super::unpacked::{self, Gate, Unpacked};
use super::{pkt_line, wire};
use crate::cx::{Cx, OpError};
use crate::token::token_hash;

/// The most bytes that a fetch may ask with: about 300,000 commits that the client has.
const MAX_FETCH_REQUEST: u64 = 16 * 1024 * 1024;
const MAX_KEY: usize = 1024;
const SHALLOW: &str = "Push rejected, source repository is a shallow clone. \
                       Unshallow it with `git fetch --all --unshallow` and try pushing again.";

struct Git {
    cx: Cx,
    /// Why hooks cannot be answered, when they cannot.
    hooks: std::io::Result<HookServer>,
}

/// The routes of git's smart HTTP. Belongs into a runtime: from here on hooks are answered, until the router is
/// dropped.
pub fn router(cx: Cx) -> Router {
    let hooks = HookServer::start(&cx);
    if let Err(error) = &hooks {
        tracing::error!(%error, "hooks cannot be answered: nobody can push");
    }
    Router::new()
        .route("/{repository}/info/refs", get(info_refs))
        .route("/{repository}/git-receive-pack", post(receive_pack))
        .route("/{repository}/git-upload-pack", post(upload_pack))
        .with_state(Arc::new(Git { cx, hooks }))
}

/// What a client wants of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    ReceivePack,
    UploadPack,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::ReceivePack => "receive-pack",
            Self::UploadPack => "upload-pack",
        }
    }

    fn media_type(self, what: &str) -> HeaderValue {
        let text = format!("application/x-git-{}-{what}", self.name());
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("application/octet-stream"))
    }
}

/// An answer that is no git.
struct Refusal(StatusCode, String);

impl Refusal {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self(status, text.into())
    }

    fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "a git request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong on our side: try again.")
    }

    fn no_such_app(name: &str) -> Self {
        let named = if name.parse::<AppName>().is_ok() { format!(" as {name}") } else { String::new() };
        Self::new(StatusCode::NOT_FOUND, format!("No such app{named}."))
    }

    fn response(self) -> Response {
        let mut response = Response::new(Body::from(format!(" !     {}\n", self.1)));
        *response.status_mut() = self.0;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.0 == StatusCode::UNAUTHORIZED {
            headers
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"paas\", charset=\"UTF-8\""));
        }
        never_cache(headers);
        response
    }
}

impl From<OpError> for Refusal {
    fn from(error: OpError) -> Self {
        match error {
            OpError::NotFound(_) | OpError::Port(paas_ports::PortError::NotFound(_)) => Self::no_such_app(""),
            other => Self::internal(other),
        }
    }
}

async fn info_refs(
    State(git): State<Arc<Git>>,
    Path(repository): Path<String>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let caller = git.authenticate(&headers).await?;
        let service = match query.as_deref().and_then(service) {
            Some("git-receive-pack") => Service::ReceivePack,
            Some("git-upload-pack") => Service::UploadPack,
            _ => {
                let text = "Only git's smart HTTP protocol is spoken here: use a newer git.";
                return Err(Refusal::new(StatusCode::FORBIDDEN, text));
            }
        };
        let app = git.authorize(&caller, &repository, service).await?;
        if method == Method::HEAD {
            return Ok(git_response(service.media_type("advertisement"), Body::empty()));
        }
        git.advertise(&app, service, &headers).await
    };
    outside::task(answer).await.unwrap_or_else(Refusal::response)
}

async fn receive_pack(State(git): State<Arc<Git>>, Path(repository): Path<String>, request: Request) -> Response {
    let answer = async {
        let (parts, body) = request.into_parts();
        let caller = git.authenticate(&parts.headers).await?;
        let app = git.authorize(&caller, &repository, Service::ReceivePack).await?;
        git.receive(Pusher { app, account: caller.account }, &parts.headers, body).await
    };
    outside::task(answer).await.unwrap_or_else(Refusal::response)
}

async fn upload_pack(State(git): State<Arc<Git>>, Path(repository): Path<String>, request: Request) -> Response {
    let answer = async {
        let (parts, body) = request.into_parts();
        let caller = git.authenticate(&parts.headers).await?;
        let app = git.authorize(&caller, &repository, Service::UploadPack).await?;
        git.upload(&app, &parts.headers, body).await
    };
    outside::task(answer).await.unwrap_or_else(Refusal::response)
}

/// Who asks, and what their key is good for.
struct Caller {
    account: Account,
    reads: bool,
    writes: bool,
}

impl Git {
    async fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let text = "Authentication required. Any user name and your API key as the password will do.";
        let refusal = || Refusal::new(StatusCode::UNAUTHORIZED, text);
        let key = headers.get(header::AUTHORIZATION).and_then(api_key).ok_or_else(refusal)?;
        let found = async { self.cx.store.read().await?.authenticate(&token_hash(&key), self.cx.now()).await };
        let (account, authorization) = found.await.map_err(Refusal::internal)?.ok_or_else(refusal)?;
        let may = |scopes: &[&str]| authorization.scope.iter().any(|scope| scopes.contains(&scope.as_str()));
        let writes = may(&["global", "write", "write-protected"]);
        Ok(Caller { account, reads: writes || may(&["read", "read-protected"]), writes })
    }

    async fn authorize(&self, caller: &Caller, repository: &str, service: Service) -> Result<AppScope, Refusal> {
        let name = repository.strip_suffix(".git").unwrap_or(repository);
        if name.parse::<AppName>().is_err() && name.parse::<AppId>().is_err() {
            return Err(Refusal::no_such_app(name));
        }
        let found = async { self.cx.store.read().await?.authorize(&caller.account.id, name).await };
        let found = found.await.map_err(Refusal::internal)?;
        let (app, _) = found.ok_or_else(|| Refusal::no_such_app(name))?;
        let may = if service == Service::ReceivePack { caller.writes } else { caller.reads };
        if may { Ok(app) } else { Err(Refusal::new(StatusCode::FORBIDDEN, "Your API key does not allow this.")) }
    }

    fn command(&self, app: &AppScope, service: Service, headers: &HeaderMap) -> std::process::Command {
        let repositories = &self.cx.repositories;
        let mut command = process::git(&repositories.path(app.id()), &repositories.hooks(), repositories.limits());
        command.arg(service.name()).arg("--stateless-rpc");
        if let Some(version) = protocol(headers, service) {
            command.env("GIT_PROTOCOL", version);
        }
        command
    }

    async fn advertise(&self, app: &AppScope, service: Service, headers: &HeaderMap) -> Result<Response, Refusal> {
        let repositories = &self.cx.repositories;
        let slot = match service {
            Service::ReceivePack => repositories.push_slot(app.id()),
            Service::UploadPack => repositories.fetch_slot(app.id()),
        };
        let (slot, removed) = slot.ok_or_else(too_many)?;
        super::refresh(&self.cx, app).await?;
        let mut command = self.command(app, service, headers);
        command.arg("--http-backend-info-refs").arg(".");
        let running = process::start(command, false).map_err(Refusal::internal)?;
        let idle = repositories.limits().idle;
        let output = running.exchange(Bytes::new(), None, None, idle, removed.clone(), slot).await;
        let Some(refs) = &output.first else {
            return Err(if removed.is_cancelled() {
                Refusal::no_such_app("")
            } else {
                Refusal::internal("git shows no refs")
            });
        };
        let mut head = Vec::new();
        // Protocol v2 has no such line, and says its version first.
        if !refs.starts_with(b"000eversion 2") {
            pkt_line::write(&mut head, format!("# service=git-{}\n", service.name()).as_bytes());
            pkt_line::flush(&mut head);
        }
        Ok(git_response(service.media_type("advertisement"), output.body(head.into())))
    }

    async fn receive(&self, pusher: Pusher, headers: &HeaderMap, body: Body) -> Result<Response, Refusal> {
        let service = Service::ReceivePack;
        let app = pusher.app.clone();
        let repositories = &self.cx.repositories;
        let limits = repositories.limits();
        let hooks = self.hooks.as_ref().map_err(Refusal::internal)?;
        let (slot, removed) = repositories.push_slot(app.id()).ok_or_else(too_many)?;
        // Twice the pack: a larger one is refused by git in its own words, which are heard at the request's end.
        let most = limits.max_pack.saturating_mul(2).saturating_add(1 << 20);
        let mut body = incoming(headers, body, service, most, limits)?;
        let push = read_push(&mut body).await?;
        if push.updates.is_empty() {
            // What git asks with before it sends a large pack: whether it may.
            return Ok(git_response(service.media_type("result"), Body::empty()));
        }
        super::catch_up(&self.cx, &app).await?;
        let mut refusal = push.refusal(limits.max_updates).map(|text| format!("Push rejected: {text}"));
        if refusal.is_none() && !push.shallow.is_empty() {
            let known = repositories.has_all(app.id(), &push.shallow).await.map_err(OpError::from)?;
            refusal = (!known).then(|| SHALLOW.to_owned());
        }
        if let Some(text) = refusal {
            body.drain().await;
            let report = push.declined(&format!(" !     {text}\n"));
            return Ok(git_response(service.media_type("result"), Body::from(report)));
        }
        let ticket = hooks.admit(pusher);
        let mut command = self.command(&app, service, headers);
        command
            .env(wire::SOCKET_VARIABLE, SOCKET_FROM_REPOSITORY)
            .env(wire::TOKEN_VARIABLE, &ticket.token)
            .env(wire::MAX_FILE_VARIABLE, limits.max_file.to_string())
            .env(wire::MAX_ENTRIES_VARIABLE, limits.max_entries.to_string())
            .arg(".");
        let running = process::start(command, true).map_err(Refusal::internal)?;
        let in_all = declared_length(headers).map(|all| all.saturating_sub(push.pack_at as u64));
        let (gate, closed) = Gate::new(Unpacked::new(limits.max_unpacked, in_all), push.pack_at);
        let (head, hold) = (push.bytes.clone(), (slot, ticket));
        let mut output = running.exchange(head, Some(body), Some(gate), limits.idle, removed, hold).await;
        if closed.load(Ordering::SeqCst) {
            // Its end is the end of what it had received.
            while output.rest.recv().await.is_some() {}
            let (most, for_a_byte) = (limits.max_unpacked >> 20, unpacked::WHOLE_FOR_A_BYTE);
            let text = format!("it unpacks to more than {most} MB and {for_a_byte} times its own size.");
            let report = push.declined(&format!(" !     Push rejected: {text}\n"));
            return Ok(git_response(service.media_type("result"), Body::from(report)));
        }
        output.response(service)
    }

    async fn upload(&self, app: &AppScope, headers: &HeaderMap, body: Body) -> Result<Response, Refusal> {
        let service = Service::UploadPack;
        let repositories = &self.cx.repositories;
        let limits = repositories.limits();
        let (slot, removed) = repositories.fetch_slot(app.id()).ok_or_else(too_many)?;
        let body = incoming(headers, body, service, MAX_FETCH_REQUEST, limits)?;
        super::catch_up(&self.cx, app).await?;
        let mut command = self.command(app, service, headers);
        command.arg(".");
        let running = process::start(command, true).map_err(Refusal::internal)?;
        let output = running.exchange(Bytes::new(), Some(body), None, limits.idle, removed, slot).await;
        output.response(service)
    }
}

impl Output {
    fn response(self, service: Service) -> Result<Response, Refusal> {
        if self.first.is_none() {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "This is not a request that git makes."));
        }
        Ok(git_response(service.media_type("result"), self.body(Bytes::new())))
    }

    /// `head` and then everything that came out of the process; dropped early, the process is ended.
    fn body(self, head: Bytes) -> Body {
        let first = [Some(head), self.first.clone()].into_iter().flatten().filter(|part| !part.is_empty());
        let parts = stream::unfold((first, self), |(mut first, mut output)| async move {
            let part = match first.next() {
                Some(part) => Ok(part),
                None => output.next().await?,
            };
            Some((part, (first, output)))
        });
        Body::from_stream(parts)
    }
}

/// Reads the part of a push before its pack.
async fn read_push(body: &mut Incoming) -> Result<PushRequest, Refusal> {
    let (mut parser, mut bytes) = (Parser::default(), BytesMut::new());
    loop {
        let part = body.next().await.map_err(|e| bad_request(&e))?;
        let Some(part) = part else { return Err(bad_request(&"it ends too early")) };
        bytes.extend_from_slice(&part);
        if parser.go_on(&bytes).map_err(|e| bad_request(&e))? {
            return Ok(parser.finish(bytes.freeze()));
        }
    }
}

fn bad_request(cause: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, format!("This is not a push that git makes: {cause}."))
}

fn too_many() -> Refusal {
    let text = "Too many pushes or fetches of this app are under way: try again when one has ended.";
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, text)
}

fn incoming(
    headers: &HeaderMap,
    body: Body,
    service: Service,
    most: u64,
    limits: &super::Limits,
) -> Result<Incoming, Refusal> {
    let refusal = |text| Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    if headers.get(header::CONTENT_TYPE) != Some(&service.media_type("request")) {
        return Err(refusal("This is not a request that git makes."));
    }
    Incoming::new(headers, body, most, limits.idle).map_err(|_| refusal("Of the compressions only gzip is known here."))
}

/// How many bytes the body has, where the client says so of what it is itself.
fn declared_length(headers: &HeaderMap) -> Option<u64> {
    let plain = headers.get(header::CONTENT_ENCODING).is_none();
    headers.get(header::CONTENT_LENGTH).filter(|_| plain)?.to_str().ok()?.parse().ok()
}

/// The key of `Basic` (as the password, behind any name) or `Bearer`.
fn api_key(value: &HeaderValue) -> Option<String> {
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    let key = if scheme.eq_ignore_ascii_case("bearer") {
        rest.trim().to_owned()
    } else if scheme.eq_ignore_ascii_case("basic") {
        let decoded = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
        let (_, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
        password.to_owned()
    } else {
        return None;
    };
    (!key.is_empty() && key.len() <= MAX_KEY).then_some(key)
}

fn service(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("service="))
}

/// The version of the protocol that the client asks for, in our own words. Pushes have no version 2.
fn protocol(headers: &HeaderMap, service: Service) -> Option<&'static str> {
    let asked = headers.get("git-protocol")?.to_str().ok()?;
    let asks = |version: &str| asked.split(':').any(|part| part == version);
    match service {
        Service::UploadPack if asks("version=2") => Some("version=2"),
        _ if asks("version=1") => Some("version=1"),
        _ => None,
    }
}

fn git_response(media_type: HeaderValue, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    never_cache(response.headers_mut());
    response
}

fn never_cache(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0, must-revalidate"));
    headers.insert(header::EXPIRES, HeaderValue::from_static("Fri, 01 Jan 1980 00:00:00 GMT"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
}
