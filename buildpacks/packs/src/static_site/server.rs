//! The static file server an app runs: HTTP/1.1 on `PORT`, files of one folder, nothing else.
//!
//! Conditional and range requests, compression of text, an orderly end on SIGTERM. Logs nothing: the router does.

use std::convert::Infallible;
use std::io::{Read as _, SeekFrom};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzEncoder;
use futures_util::TryStreamExt as _;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::io::ReaderStream;

use super::config::Config;
use super::files::{self, Found, Site};

type Body = BoxBody<Bytes, std::io::Error>;

/// Files up to this size are compressed as they are sent.
const MAX_COMPRESSED: u64 = 4 * 1024 * 1024;
/// Below this size compression gains nothing.
const MIN_COMPRESSED: u64 = 1024;
/// How long open requests may take after SIGTERM.
const DRAIN: Duration = Duration::from_secs(25);

/// Serves the app in the current folder until SIGTERM.
pub(crate) fn main() -> ExitCode {
    let served = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| e.to_string())
        .and_then(|runtime| runtime.block_on(serve()));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{}: {why}", super::SERVER);
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), String> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "5000".to_owned());
    let port: u16 = port.parse().map_err(|_| "PORT is not a number")?;
    let app = std::env::current_dir().map_err(|e| e.to_string())?;
    let config = Config::read(&app).map_err(|failure| failure.what)?;
    let root = config.root_in(&app);
    let site = Site::new(&root, config).map_err(|e| format!("opening {}: {e}", root.display()))?;
    let site = Arc::new(site);

    // Both families where the kernel has both; some hosts have only one.
    let any6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let any4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let listener = match TcpListener::bind(any6).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(any4).await,
    };
    let listener = listener.map_err(|e| format!("listening on port {port}: {e}"))?;
    let mut stop = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let drain = GracefulShutdown::new();

    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of files, or the client was gone already: neither is a reason to end.
                Err(_) => { tokio::time::sleep(Duration::from_millis(20)).await; continue }
            },
            _ = stop.recv() => break,
        };
        let _ = stream.set_nodelay(true);
        let site = Arc::clone(&site);
        let service = hyper::service::service_fn(move |request| {
            let site = Arc::clone(&site);
            async move { Ok::<_, Infallible>(answer(&site, &request).await) }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(90));
        let connection = drain.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(connection);
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, drain.shutdown()).await;
    Ok(())
}

/// The response to one request.
async fn answer(site: &Arc<Site>, request: &Request<Incoming>) -> Response<Body> {
    let mut response = match request.method() {
        &Method::GET | &Method::HEAD => get(site, request.uri().path(), request.headers()).await,
        _ => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "405 Method Not Allowed\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
    };
    if request.method() == Method::HEAD {
        *response.body_mut() = empty();
    }
    for (name, value) in site.config.headers(request.uri().path()) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

async fn get(site: &Arc<Site>, path: &str, headers: &HeaderMap) -> Response<Body> {
    if site.config.https_only && headers.get("x-forwarded-proto").is_some_and(|proto| proto == "http") {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        return moved(StatusCode::MOVED_PERMANENTLY, &format!("https://{host}{path}"));
    }
    if let Some(to) = site.config.redirect(path) {
        let status = to.status.and_then(|code| StatusCode::from_u16(code).ok());
        return moved(status.unwrap_or(StatusCode::MOVED_PERMANENTLY), &to.url);
    }
    let Some(wanted) = files::decoded(path) else { return text(StatusCode::BAD_REQUEST, "400 Bad Request\n") };
    let looked = Arc::clone(site);
    let found = blocking(move || Ok(looked.find(&wanted))).await;
    match found {
        Ok(Found::File(file)) => send(site, file, StatusCode::OK, headers).await,
        // Relative to the host, and never `//…`, which would name another one.
        Ok(Found::Folder) => moved(StatusCode::MOVED_PERMANENTLY, &format!("/{}/", path.trim_matches('/'))),
        Ok(Found::Nothing) => match site.error_page() {
            Some(page) => send(site, page, StatusCode::NOT_FOUND, &HeaderMap::new()).await,
            None => text(StatusCode::NOT_FOUND, "404 Not Found\n"),
        },
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "500 Internal Server Error\n"),
    }
}

/// Sends a file, or the part of it that was asked for, or the news that it is unchanged.
async fn send(site: &Arc<Site>, file: PathBuf, status: StatusCode, headers: &HeaderMap) -> Response<Body> {
    match try_send(site, &file, status, headers).await {
        Ok(response) => response,
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "500 Internal Server Error\n"),
    }
}

async fn try_send(
    site: &Arc<Site>,
    file: &Path,
    status: StatusCode,
    headers: &HeaderMap,
) -> std::io::Result<Response<Body>> {
    let (tagged, path) = (Arc::clone(site), file.to_owned());
    let tag = blocking(move || tagged.tag(&path)).await?;
    let mut opened = tokio::fs::File::open(file).await?;
    let size = opened.metadata().await?.len();
    let content_type = files::content_type(file);
    let may_compress = files::is_compressible(content_type) && (MIN_COMPRESSED..=MAX_COMPRESSED).contains(&size);
    let compress = may_compress && accepts_gzip(headers) && !headers.contains_key(header::RANGE);
    let tag = if compress { format!("\"{tag}-gzip\"") } else { format!("\"{tag}\"") };

    let mut response = Response::builder().header(header::ETAG, &tag).header(header::CONTENT_TYPE, content_type);
    if may_compress {
        response = response.header(header::VARY, "Accept-Encoding");
    }
    if status == StatusCode::OK && is_unchanged(headers, &tag) {
        return finish(response.status(StatusCode::NOT_MODIFIED), empty());
    }
    if compress {
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        opened.read_to_end(&mut bytes).await?;
        let packed = blocking(move || {
            let mut packed = Vec::new();
            GzEncoder::new(bytes.as_slice(), Compression::fast()).read_to_end(&mut packed).map(|_| packed)
        })
        .await?;
        let response = response.status(status).header(header::CONTENT_ENCODING, "gzip");
        return finish(response.header(header::CONTENT_LENGTH, packed.len()), full(packed));
    }

    let same = headers.get(header::IF_RANGE).is_none_or(|wanted| wanted.as_bytes() == tag.as_bytes());
    let asked = headers.get(header::RANGE).and_then(|range| range.to_str().ok()).filter(|_| same);
    let response = response.header(header::ACCEPT_RANGES, "bytes");
    let (response, start, length) = match asked.map_or(Asked::All, |range| parse_range(range, size)) {
        Asked::All => (response.status(status), 0, size),
        Asked::Part(start, end) => {
            let span = format!("bytes {start}-{end}/{size}");
            (response.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, span), start, end - start + 1)
        }
        Asked::Impossible => {
            let response = response.status(StatusCode::RANGE_NOT_SATISFIABLE);
            return finish(response.header(header::CONTENT_RANGE, format!("bytes */{size}")), empty());
        }
    };
    opened.seek(SeekFrom::Start(start)).await?;
    let stream = ReaderStream::with_capacity(opened.take(length), 64 * 1024).map_ok(Frame::data);
    finish(response.header(header::CONTENT_LENGTH, length), StreamBody::new(stream).boxed())
}

/// What a Range header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// Everything: also when there is more than one range, or one that is not understood.
    All,
    /// From the first of these bytes to the last.
    Part(u64, u64),
    /// Bytes the file does not have.
    Impossible,
}

fn parse_range(range: &str, size: u64) -> Asked {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Asked::All;
    };
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last && first < size => Asked::Part(first, last.min(size - 1)),
        (Ok(first), Err(_)) if last.trim().is_empty() && first < size => Asked::Part(first, size - 1),
        (Err(_), Ok(count)) if first.trim().is_empty() && count > 0 && size > 0 => {
            Asked::Part(size.saturating_sub(count), size - 1)
        }
        (Ok(first), _) if first >= size => Asked::Impossible,
        (Err(_), Ok(0)) if first.trim().is_empty() => Asked::Impossible,
        _ => Asked::All,
    }
}

fn is_unchanged(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let mut words = coding.split(';').map(str::trim);
        words.next() == Some("gzip") && !words.any(|word| matches!(word, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

fn moved(status: StatusCode, to: &str) -> Response<Body> {
    let mut response = text(status, "");
    match HeaderValue::try_from(to) {
        Ok(to) => {
            response.headers_mut().insert(header::LOCATION, to);
            response
        }
        Err(_) => text(StatusCode::BAD_REQUEST, "400 Bad Request\n"),
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full(text.as_bytes().to_vec()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn finish(response: hyper::http::response::Builder, body: Body) -> std::io::Result<Response<Body>> {
    response.body(body).map_err(std::io::Error::other)
}

fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed()
}

fn empty() -> Body {
    full(Vec::new())
}

/// Runs file work where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(parse_range("bytes=0-9", 100), Asked::Part(0, 9));
        assert_eq!(parse_range("bytes=90-", 100), Asked::Part(90, 99));
        assert_eq!(parse_range("bytes=-10", 100), Asked::Part(90, 99));
        assert_eq!(parse_range("bytes=-1000", 100), Asked::Part(0, 99));
        assert_eq!(parse_range("bytes=50-1000", 100), Asked::Part(50, 99));
        assert_eq!(parse_range("bytes=100-", 100), Asked::Impossible);
        assert_eq!(parse_range("bytes=0-1,5-6", 100), Asked::All);
        assert_eq!(parse_range("bytes=9-2", 100), Asked::All);
        assert_eq!(parse_range("lines=1-2", 100), Asked::All);
    }

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        assert!(is_unchanged(&headers(header::IF_NONE_MATCH, "\"a\", W/\"b\""), "\"b\""));
        assert!(is_unchanged(&headers(header::IF_NONE_MATCH, "*"), "\"b\""));
        assert!(!is_unchanged(&headers(header::IF_NONE_MATCH, "\"a\""), "\"b\""));
    }

    #[test]
    fn gzip_only_for_those_who_take_it() {
        assert!(accepts_gzip(&headers(header::ACCEPT_ENCODING, "br, gzip;q=0.5")));
        assert!(!accepts_gzip(&headers(header::ACCEPT_ENCODING, "gzip;q=0")));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
