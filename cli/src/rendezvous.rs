//! The byte stream between this terminal and a one-off dyno.
//!
//! A rendezvous is TLS to a port of the platform: the client sends a token, the server answers `rendezvous` when both
//! ends have met, and from then on every byte is the dyno's. The exit status comes in the stream, as the line that the
//! command prints last ([`STATUS_MARK`]); the end of our input goes as byte 4, as a terminal would send it.
//! One thread polls the socket, stdin and the signals.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::error::Failure;
use crate::settings::Settings;
use crate::{tls, ui};

mod status;

use status::StatusScanner;
pub(crate) use status::with_status;

/// How the conversation ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The command ended with this status.
    Exited(i32),
    /// The dyno's end closed without a status.
    Closed,
    /// The user interrupted us.
    Interrupted,
}

/// How to treat stdin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A terminal in raw mode: four Ctrl-C within a second end the conversation.
    Terminal,
    /// A pipe or file: its end is sent as byte 4.
    Pipe,
}

/// A connection on which the token was sent.
pub(crate) struct Rendezvous {
    tls: ClientConnection,
    socket: TcpStream,
}

/// Grace for the connection to close after the status was seen.
const AFTER_STATUS: Duration = Duration::from_secs(2);

impl Rendezvous {
    /// Dials `rendezvous://HOST:PORT/TOKEN`.
    pub(crate) fn dial(settings: &Settings, attach_url: &str) -> Result<Self, Failure> {
        let bad = || Failure::new("The server named a rendezvous that cannot be dialed.");
        let rest = attach_url.strip_prefix("rendezvous://").ok_or_else(bad)?;
        let (authority, token) = rest.split_once('/').ok_or_else(bad)?;
        let (host, port) = authority.rsplit_once(':').ok_or_else(bad)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port: u16 = port.parse().map_err(|_| bad())?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| bad())?;

        let trouble = |e: std::io::Error| Failure::new(format!("Couldn't reach the dyno at {authority}: {e}"));
        let mut socket = Err(std::io::Error::from(ErrorKind::AddrNotAvailable));
        for address in (host, port).to_socket_addrs().map_err(trouble)? {
            socket = TcpStream::connect_timeout(&address, Duration::from_secs(10));
            if socket.is_ok() {
                break;
            }
        }
        let mut socket = socket.map_err(trouble)?;
        let _ = socket.set_nodelay(true);
        let _ = rustix::net::sockopt::set_socket_keepalive(&socket, true);
        socket.set_read_timeout(Some(Duration::from_secs(20))).map_err(trouble)?;

        let mut tls = ClientConnection::new(tls::for_rendezvous(settings)?, name).map_err(|e| untrusted(&e))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).map_err(|e| match e.get_ref().and_then(|e| e.downcast_ref()) {
                Some(cause) => untrusted(cause),
                None => trouble(e),
            })?;
        }
        tls.writer().write_all(format!("{token}\r\n").as_bytes()).map_err(trouble)?;
        while tls.wants_write() {
            tls.write_tls(&mut socket).map_err(trouble)?;
        }
        socket.set_nonblocking(true).map_err(trouble)?;
        Ok(Self { tls, socket })
    }

    /// Joins stdin and stdout with the dyno until it ends. `up` is called once, when both ends have met.
    ///
    /// `signals` becomes readable when the user interrupts us.
    pub(crate) fn join(mut self, input: Input, signals: &UnixStream, up: impl FnOnce()) -> Result<Ended, Failure> {
        let mut session = Session {
            input,
            banner: Vec::new(),
            up: Some(up),
            scanner: StatusScanner::default(),
            interrupts: Vec::new(),
        };
        let stdin = std::io::stdin();
        let mut stdin_open = true;
        let mut deadline: Option<Instant> = None;
        loop {
            // Input is read only when all of the input before it has left, so that a slow dyno slows the pipe.
            let listen = session.up.is_none() && stdin_open && !self.tls.wants_write();
            let socket_events = if self.tls.wants_write() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            let mut fds = vec![PollFd::from_borrowed_fd(self.socket.as_fd(), socket_events)];
            fds.push(PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN));
            if listen {
                fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
            }
            let wait = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let wait = wait.map(|d| Timespec { tv_sec: d.as_secs().cast_signed(), tv_nsec: d.subsec_nanos().into() });
            match poll(&mut fds, wait.as_ref()) {
                Ok(0) => return Ok(session.ended()),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(Failure::new(format!("Waiting for the dyno: {e}"))),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);

            if ready[1] {
                self.tls.send_close_notify();
                let _ = self.tls.write_tls(&mut self.socket);
                return Ok(Ended::Interrupted);
            }
            if ready[0] && !self.exchange(&mut session)? {
                return Ok(session.ended());
            }
            if session.scanner.status().is_some() && deadline.is_none() {
                deadline = Some(Instant::now() + AFTER_STATUS);
            }
            if ready.get(2) == Some(&true) {
                stdin_open = session.send_input(&stdin, &mut self.tls)?;
                self.flush()?;
            }
        }
    }

    /// Moves what can be moved on the socket. `false` when the other end has closed.
    fn exchange<U: FnOnce()>(&mut self, session: &mut Session<U>) -> Result<bool, Failure> {
        self.flush()?;
        let open = match self.tls.read_tls(&mut self.socket) {
            Ok(0) => false,
            Ok(_) => true,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => true,
            Err(_) => false, // reset: the same to the user as closed
        };
        let state = self.tls.process_new_packets().map_err(|e| untrusted(&e))?;
        let mut data = vec![0; state.plaintext_bytes_to_read()];
        let _ = self.tls.reader().read_exact(&mut data);
        session.receive(&data)?;
        self.flush()?; // answers that TLS itself wants to give
        Ok(open && !state.peer_has_closed())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // The dyno may be gone while its last words are still to be read.
                Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => break,
                Err(e) => return Err(Failure::new(format!("Talking to the dyno: {e}"))),
            }
        }
        Ok(())
    }
}

fn untrusted(error: &rustls::Error) -> Failure {
    Failure::new(format!("Couldn't trust the dyno's end: {error}. PAAS_CA can name a certificate authority to trust."))
}

/// The state of one conversation.
struct Session<U> {
    input: Input,
    banner: Vec<u8>,
    up: Option<U>,
    scanner: StatusScanner,
    interrupts: Vec<Instant>,
}

impl<U: FnOnce()> Session<U> {
    fn receive(&mut self, data: &[u8]) -> Result<(), Failure> {
        if self.up.is_none() {
            self.show(data);
            return Ok(());
        }
        self.banner.extend_from_slice(data);
        let Some(end) = self.banner.windows(2).position(|w| w == b"\r\n") else {
            if self.banner.len() > 64 {
                return Err(Failure::new("What answered at the rendezvous is not a dyno."));
            }
            return Ok(());
        };
        let rest = self.banner.split_off(end + 2);
        if self.banner != b"rendezvous\r\n" {
            return Err(Failure::new("What answered at the rendezvous is not a dyno."));
        }
        if let Some(up) = self.up.take() {
            up();
        }
        self.show(&rest);
        Ok(())
    }

    fn show(&mut self, data: &[u8]) {
        let shown = self.scanner.pass(data);
        if !shown.is_empty() {
            ui::bytes(&shown);
            ui::flush();
        }
    }

    /// Sends what stdin has. `false` at its end.
    fn send_input(&mut self, stdin: &std::io::Stdin, tls: &mut ClientConnection) -> Result<bool, Failure> {
        let mut chunk = [0; 16 * 1024];
        let sent = match rustix::io::read(stdin, &mut chunk) {
            Ok(n) => n,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(true),
            Err(_) => 0, // a terminal that is gone has no more to say
        };
        let data = if sent == 0 { b"\x04".as_slice() } else { &chunk[..sent] };
        tls.writer().write_all(data).map_err(|e| Failure::new(format!("Talking to the dyno: {e}")))?;
        let ctrl_c = data.iter().filter(|byte| **byte == 3).count();
        if self.input == Input::Terminal && ctrl_c > 0 {
            let now = Instant::now();
            self.interrupts.retain(|at| now.duration_since(*at) < Duration::from_secs(1));
            self.interrupts.extend(std::iter::repeat_n(now, ctrl_c));
            if self.interrupts.len() >= 4 {
                return Err(Failure::new("forcing dyno disconnect"));
            }
        }
        Ok(sent > 0)
    }

    fn ended(&mut self) -> Ended {
        let rest = self.scanner.finish();
        ui::bytes(&rest);
        ui::flush();
        self.scanner.status().map_or(Ended::Closed, Ended::Exited)
    }
}
