//! What task this is.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

/// How long the platform may take to tell.
const WITHIN: Duration = Duration::from_secs(1);
/// The most that is read of its answer.
const MOST: u64 = 256 << 10;

/// The task's ARN, from `<metadata>/task`.
pub(crate) fn task_arn(metadata: &str) -> Option<String> {
    let answer = get(metadata).ok()?;
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| &answer[at + 4..])?;
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    value["TaskARN"].as_str().filter(|arn| !arn.is_empty() && arn.len() <= 2_048).map(str::to_owned)
}

/// What stands for the task when the platform does not tell in time: on Fargate its address ends in
/// `<task id>-<number>`.
pub(crate) fn from_address(metadata: &str) -> &str {
    let last = metadata.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    last.split('-').next().unwrap_or(last)
}

fn get(metadata: &str) -> io::Result<Vec<u8>> {
    let bad = || io::Error::from(io::ErrorKind::InvalidInput);
    let until = Instant::now() + WITHIN;
    let rest = metadata.strip_prefix("http://").ok_or_else(bad)?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let address = address.to_socket_addrs()?.next().ok_or_else(bad)?;
    let mut stream = TcpStream::connect_timeout(&address, WITHIN)?;
    stream.set_write_timeout(Some(WITHIN))?;
    let path = path.trim_end_matches('/');
    stream.write_all(format!("GET /{path}/task HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), [0; 4_096]);
    while (answer.len() as u64) < MOST {
        let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        stream.set_read_timeout(Some(left.ok_or(io::ErrorKind::TimedOut)?))?;
        match stream.read(&mut piece)? {
            0 => break,
            read => answer.extend_from_slice(&piece[..read]),
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_platform_tells_the_arn() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let metadata = format!("http://{}/v4/0f9d-123", listener.local_addr().expect("bound"));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 1_024];
            let read = stream.read(&mut request).expect("a request");
            stream.write_all(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{\"TaskARN\": \"arn:x/y/0f9d\"}").expect("answers");
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        assert_eq!(task_arn(&metadata), Some("arn:x/y/0f9d".to_owned()));
        assert!(server.join().expect("served").starts_with("GET /v4/0f9d-123/task HTTP/1.0\r\n"));
        assert_eq!(from_address(&metadata), "0f9d");
    }

    #[test]
    fn silence_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let since = Instant::now();
        assert_eq!(task_arn(&format!("http://{}/v4/x", listener.local_addr().expect("bound"))), None);
        assert_eq!(task_arn("https://example/"), None);
        assert!(since.elapsed() < Duration::from_secs(5));
    }
}
