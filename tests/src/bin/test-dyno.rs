//! What runs in the containers of the runtime's contract suite: launcher and app in one.
//!
//! It decodes the config as the real launcher does and then does what `PAAS_COMMAND` says, in the words of
//! [`paas_ports::fake::runtime::script`]. Behind the real launcher, in the place of the builder's, it finds the
//! command in its arguments and the config decoded. One word more, for the engine's driver alone: `connect HOST:PORT`
//! ends with 0 when someone answers there within a second, else with 1; `eat MIB` takes so much memory.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use paas_ports::fake::runtime::script::{Word, parse};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let command = std::env::args().nth(1).or_else(|| std::env::var("PAAS_COMMAND").ok()).unwrap_or_default();
    let config = paas_dyno_env::decode(|name| std::env::var(name).ok()).expect("the config decodes");
    if let Some(address) = command.strip_prefix("connect ") {
        let answer = tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await;
        return ExitCode::from(u8::from(!matches!(answer, Ok(Ok(_)))));
    }
    if let Some(mib) = command.strip_prefix("eat ").and_then(|mib| mib.parse::<usize>().ok()) {
        // Written to, or the kernel would not count it.
        let eaten: Vec<Vec<u8>> = (0..mib).map(|n| vec![u8::try_from(n % 255).unwrap_or(0) + 1; 1024 * 1024]).collect();
        std::future::pending::<()>().await;
        drop(eaten);
    }
    let Some(script) = parse(&command) else {
        eprintln!("no script: {command}");
        return ExitCode::from(127);
    };
    // Process 1 has no default action for SIGTERM: whoever does not handle it is not reached.
    let mut term = signal(SignalKind::terminate()).expect("handles SIGTERM");
    let mut hang_up = signal(SignalKind::hangup()).expect("handles SIGHUP");
    let mut deaf = false;
    for word in script {
        let work = act(&word, &config);
        if deaf {
            if let Some(code) = work.await {
                return code;
            }
            continue;
        }
        deaf = word == Word::IgnoreTerm;
        tokio::select! {
            // At once: returning would wait for a read of stdin that nobody ends.
            _ = term.recv() => std::process::exit(143),
            _ = hang_up.recv() => std::process::exit(129),
            ended = work => if let Some(code) = ended {
                return code;
            },
        }
    }
    ExitCode::SUCCESS
}

async fn act(word: &Word, config: &std::collections::BTreeMap<String, String>) -> Option<ExitCode> {
    match word {
        Word::Serve => {
            let port = std::env::var("PORT").expect("a web dyno has a port");
            let listener = TcpListener::bind(format!("0.0.0.0:{port}")).await.expect("binds");
            loop {
                let (mut stream, _) = listener.accept().await.expect("accepts");
                tokio::spawn(async move {
                    let mut request = [0_u8; 4096];
                    if stream.read(&mut request).await.is_ok_and(|n| n > 0) {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                    }
                });
            }
        }
        Word::Worker => std::future::pending().await,
        Word::Exit(code) => Some(ExitCode::from(u8::try_from(*code).unwrap_or(1))),
        Word::Say(text) => {
            println!("{text}");
            None
        }
        Word::Print(name) => {
            let mut out = std::io::stdout();
            let decoded = std::env::var(name).unwrap_or_default();
            out.write_all(config.get(name).unwrap_or(&decoded).as_bytes()).expect("writes");
            out.flush().expect("writes");
            None
        }
        Word::Cat => {
            tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::stdout()).await.expect("copies");
            tokio::io::stdout().flush().await.expect("copies");
            None
        }
        Word::Sleep(ms) => {
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            None
        }
        Word::IgnoreTerm => None,
    }
}
