//! One request: find its app, a dyno of it, carry the answer, write the line.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use tokio::net::TcpStream;
use tokio::time::{Duration, Instant};

use crate::balance;
use crate::body::{Sink, Source};
use crate::buf::{Buf, FIRST_SIZE};
use crate::code::Code;
use crate::connection::{Client, send};
use crate::dyno_connection::{self, NoConnection};
use crate::exchange::{End, Ends, Exchange, Fault, Outcome};
use crate::half_close;
use crate::head::answer::Asked;
use crate::log::{self, Record};
use crate::page::{Closing, Page};
use crate::table::{App, Dyno, DynoMark, Pool, Slot};
use crate::tunnel;
use crate::worker::{Scratch, Worker};

/// A request that must not be sent twice takes no connection that was idle for longer: the dyno may be closing it
/// at this moment, and there would be no second try.
const FRESH: Duration = Duration::from_millis(1_000);
/// How long a page of ours may take to be read.
const PAGE_WITHIN: Duration = Duration::from_secs(10);

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Keep,
    Close,
    /// Close, after the client had time to read the answer.
    Linger,
}

/// Where the time of a request went.
#[derive(Clone, Copy)]
struct Clock {
    began: Instant,
    at_ms: u64,
}

struct Busy<'a>(&'a Worker);

impl<'a> Busy<'a> {
    fn new(worker: &'a Worker) -> Self {
        worker.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(worker)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves the request in `scratch`, whose head has been read.
pub(crate) async fn serve(
    worker: &Arc<Worker>,
    client: &mut Client,
    scratch: &mut Scratch,
    began: Instant,
    at_ms: u64,
) -> Next {
    let _busy = Busy::new(worker);
    let clock = Clock { began, at_ms };
    let app = worker.shared.table.find(&scratch.request.host_key);
    let Some(app) = app else {
        return answer_page(worker, client, scratch, Page::NoSuchApp).await;
    };
    let (code, pool, sticky) = {
        let live = app.live.load();
        let (code, pool) = match &live.pool {
            _ if live.maintenance => (Code::H80, None),
            _ if !live.released => (Code::H81, None),
            Some(pool) => (Code::H14, Some(pool.clone())),
            None => (Code::H14, None),
        };
        (code, pool, live.session_affinity)
    };
    match pool {
        Some(pool) => forward(worker, client, scratch, &app, &pool, sticky, clock).await,
        None => fail(worker, client, scratch, &app, Record { code: Some(code), ..Record::default() }, clock).await,
    }
}

/// Offers the request to dynos until one has answered, or none can: first, when the app is `sticky`, to the one that
/// the client comes back to.
async fn forward(
    worker: &Arc<Worker>,
    client: &mut Client,
    scratch: &mut Scratch,
    app: &Arc<App>,
    pool: &Arc<Pool>,
    sticky: bool,
    clock: Clock,
) -> Next {
    let limits = worker.limits();
    let own = scratch.request.affinity.filter(|_| sticky);
    let mut tried: Vec<Arc<Dyno>> = Vec::new();
    let mut fresh_only = false;
    let mut half_closed = false;
    loop {
        if scratch.request.upgrade && !scratch.from_client.is_empty() {
            return early_bytes(worker, client, scratch, app, Record::default(), clock).await;
        }
        // One that closed its half behind its request waits on.
        let closes_until = clock.began + limits.half_close();
        let work = balance::place(worker, pool, &tried, own);
        let placed = while_client_stays(client, &mut scratch.from_client, closes_until, &mut half_closed, work).await;
        let mut slot = match placed {
            None => return gone(worker, scratch, app, Record::default(), clock),
            Some(Ok(slot)) => slot,
            Some(Err(code)) => {
                let record = Record { code: Some(code), ..Record::default() };
                return fail(worker, client, scratch, app, record, clock).await;
            }
        };
        let connecting = Instant::now();
        let max_idle = if scratch.request.repeatable { limits.dyno_keep() } else { FRESH };
        let kept = if fresh_only { None } else { worker.keeper.take(&slot.dyno, max_idle) };
        let reused = kept.is_some();
        let connected = match kept {
            Some(stream) => Ok(stream),
            None => {
                let open = dyno_connection::open(&slot.dyno, limits.connect());
                match while_client_stays(client, &mut scratch.from_client, closes_until, &mut half_closed, open).await {
                    Some(connected) => connected,
                    None => {
                        let record = Record { dyno: &slot.dyno.label, ..Record::default() };
                        return gone(worker, scratch, app, record, clock);
                    }
                }
            }
        };
        let stream = match connected {
            Ok(stream) => stream,
            Err(why) => {
                // Nothing was sent, so another dyno may have it.
                match try_another(worker, pool, &slot, why, &mut tried) {
                    None => continue,
                    Some(code) => {
                        let connect_ms = Some(ms(connecting));
                        let record =
                            Record { code: Some(code), dyno: &slot.dyno.label, connect_ms, ..Record::default() };
                        return fail(worker, client, scratch, app, record, clock).await;
                    }
                }
            }
        };
        let connect_ms = if reused { 0 } else { ms(connecting) };
        let comes_back_to = Some(slot.dyno.mark).filter(|mark| sticky && own != Some(*mark));
        let told = (connect_ms, comes_back_to);
        match exchange(worker, client, scratch, app, &mut slot, stream, reused, told, clock).await {
            Some(next) => return next,
            // A kept connection turned out to be dead, and the request may be sent again.
            None => fresh_only = true,
        }
    }
}

/// Notes a failed connection; the code to end with, unless another dyno is left to try.
fn try_another(
    worker: &Worker,
    pool: &Pool,
    slot: &Slot,
    why: NoConnection,
    tried: &mut Vec<Arc<Dyno>>,
) -> Option<Code> {
    let code = match why {
        NoConnection::Ours => return Some(Code::H99),
        NoConnection::Refused => Code::H21,
        NoConnection::TimedOut => Code::H19,
    };
    slot.dyno.quarantine(worker.now_ms() + worker.limits().quarantine_ms);
    tried.push(slot.dyno.clone());
    let others = pool.members.load().up.iter().filter(|d| !tried.iter().any(|t| Arc::ptr_eq(t, d))).count();
    (others == 0 || tried.len() >= worker.limits().connect_attempts).then_some(code)
}

/// Carries request and answer over `stream`. `None` when the request is to be offered again.
#[allow(clippy::too_many_arguments)] // one step of `forward`, cut out for reading
async fn exchange(
    worker: &Arc<Worker>,
    client: &mut Client,
    scratch: &mut Scratch,
    app: &Arc<App>,
    slot: &mut Slot,
    mut stream: TcpStream,
    reused: bool,
    (connect_ms, comes_back_to): (u64, Option<DynoMark>),
    clock: Clock,
) -> Option<Next> {
    let sent = Instant::now();
    let request = &scratch.request;
    let asked = Asked {
        is_head: request.is_head,
        http10: request.http10,
        keep_alive: request.keep_alive && !worker.is_stopping(),
        upgrade: request.upgrade,
        expects_continue: request.expects_continue,
        comes_back_to,
    };
    scratch.to_dyno.clear();
    scratch.to_client.clear();
    scratch.from_dyno.clear();
    request.write_head(&mut scratch.to_dyno, connect_ms, ms(clock.began));
    let ends = Ends {
        client: &mut client.stream,
        from_client: &mut scratch.from_client,
        dyno: &mut stream,
        from_dyno: &mut scratch.from_dyno,
        to_dyno: &mut scratch.to_dyno,
        to_client: &mut scratch.to_client,
        timer: &mut client.timer,
    };
    let mut exchange = Exchange::new(ends, request.body.clone(), asked, worker.limits());
    let end = std::future::poll_fn(|cx| {
        let end = exchange.poll(cx);
        if exchange.outcome.committed {
            slot.answered();
        }
        end
    })
    .await;
    let outcome = exchange.outcome;
    let (reusable, half_closed) = (exchange.dyno_is_reusable(), exchange.is_half_closed());
    let mut record = Record {
        code: None,
        dyno: &slot.dyno.label,
        connect_ms: Some(connect_ms),
        service_ms: Some(ms(sent)),
        status: outcome.status,
        bytes: outcome.bytes,
    };
    match end {
        End::Complete => {
            if reusable {
                worker.keeper.put(&slot.dyno, stream);
            }
            // Another request may have come before the end: it is answered as well.
            let wants_more = outcome.client_keeps && !scratch.from_client.is_empty();
            if half_closed && !wants_more {
                if half_close::had_left(&mut client.stream).await {
                    return Some(gone(worker, scratch, app, record, clock));
                }
                write_log(worker, app, scratch, &record, clock);
                return Some(Next::Close);
            }
            write_log(worker, app, scratch, &record, clock);
            Some(match (outcome.client_keeps, outcome.uploaded) {
                (true, true) => Next::Keep,
                (false, true) => Next::Close,
                (_, false) => Next::Linger,
            })
        }
        End::Upgraded => {
            let (from_client, from_dyno) = (&mut scratch.from_client, &mut scratch.from_dyno);
            let idle = worker.limits().idle();
            let end =
                tunnel::tunnel(&mut client.stream, from_client, &mut stream, from_dyno, &mut client.timer, idle).await;
            record.code = end.idle.then_some(Code::H15);
            record.service_ms = Some(ms(sent));
            record.bytes = end.bytes;
            write_log(worker, app, scratch, &record, clock);
            Some(Next::Close)
        }
        End::Fault(Fault::NoAnswer) if reused && request.repeatable => None,
        End::Fault(fault) => {
            drop(stream);
            Some(faulted(worker, client, scratch, app, fault, &outcome, record, clock).await)
        }
    }
}

/// Ends a request whose exchange failed.
#[allow(clippy::too_many_arguments)] // one step of `exchange`, cut out for reading
async fn faulted(
    worker: &Arc<Worker>,
    client: &mut Client,
    scratch: &mut Scratch,
    app: &Arc<App>,
    fault: Fault,
    outcome: &Outcome,
    mut record: Record<'_>,
    clock: Clock,
) -> Next {
    let code = match fault {
        Fault::NoAnswer => Code::H13,
        Fault::Interrupted => Code::H18,
        Fault::BadAnswer => Code::H17,
        Fault::Restricted => Code::H25,
        Fault::FirstByte => Code::H12,
        Fault::DynoIdle => Code::H15,
        Fault::ClientGone => return gone(worker, scratch, app, record, clock),
        Fault::ClientIdle => Code::H28,
        Fault::BadRequestBody => Code::H26,
        Fault::EarlyBytes => return early_bytes(worker, client, scratch, app, record, clock).await,
    };
    record.code = Some(code);
    if !outcome.committed {
        // What was sent of an interim answer is complete; what was not is dropped.
        scratch.request.body = if outcome.uploaded { Source::EMPTY } else { Source::UntilClose };
        return fail(worker, client, scratch, app, record, clock).await;
    }
    if code == Code::H28 {
        record.status = code.status();
    }
    write_log(worker, app, scratch, &record, clock);
    if outcome.ends_with_close {
        // An orderly close would say that the answer is whole.
        let _ = client.stream.set_zero_linger();
    }
    Next::Close
}

/// The client left: there is nobody to answer.
fn gone(worker: &Worker, scratch: &Scratch, app: &Arc<App>, mut record: Record<'_>, clock: Clock) -> Next {
    record.code = Some(Code::H27);
    record.status = Code::H27.status();
    record.service_ms = record.service_ms.or(Some(ms(clock.began)));
    write_log(worker, app, scratch, &record, clock);
    Next::Close
}

/// Bytes behind an upgrade request would be taken for the client's by us and for the app's by the dyno.
async fn early_bytes(
    worker: &Arc<Worker>,
    client: &mut Client,
    scratch: &mut Scratch,
    app: &Arc<App>,
    mut record: Record<'_>,
    clock: Clock,
) -> Next {
    record.code = Some(Code::H26);
    scratch.request.body = Source::UntilClose;
    fail(worker, client, scratch, app, record, clock).await
}

/// Answers with the page of `record.code`, and writes the line.
async fn fail(
    worker: &Arc<Worker>,
    client: &mut Client,
    scratch: &mut Scratch,
    app: &Arc<App>,
    mut record: Record<'_>,
    clock: Clock,
) -> Next {
    let code = record.code.unwrap_or(Code::H99);
    record.status = code.status();
    record.bytes = 0;
    let next = answer_page(worker, client, scratch, Page::Code(code)).await;
    write_log(worker, app, scratch, &record, clock);
    next
}

/// Sends a page of ours, and says whether the connection can go on.
async fn answer_page(worker: &Worker, client: &mut Client, scratch: &mut Scratch, page: Page) -> Next {
    let request = &mut scratch.request;
    // A body that is here already is skipped; for one that is not, nobody waits.
    let mut skipped = std::mem::take(&mut scratch.to_dyno);
    skipped.clear();
    let good = request.body.is_done() || request.body.pump(&mut scratch.from_client, &mut skipped, Sink::Raw).is_ok();
    scratch.to_dyno = skipped;
    let whole = good && request.body.is_done();
    let closing = match (whole && request.keep_alive && !worker.is_stopping(), request.http10) {
        (true, false) => Closing::Keep,
        (true, true) => Closing::KeepAloud,
        (false, _) => Closing::Close,
    };
    scratch.to_client.clear();
    page.write(&mut scratch.to_client, request.is_head, closing);
    if !send(client, &mut scratch.to_client, PAGE_WITHIN).await {
        return Next::Close;
    }
    match (closing, whole) {
        (Closing::Close, false) => Next::Linger,
        (Closing::Close, true) => Next::Close,
        _ => Next::Keep,
    }
}

fn write_log(worker: &Worker, app: &Arc<App>, scratch: &Scratch, record: &Record<'_>, clock: Clock) {
    let at_ms = i64::try_from(clock.at_ms).unwrap_or(i64::MAX) + i64::try_from(ms(clock.began)).unwrap_or(0);
    worker.lines.add(&worker.shared.log, app, at_ms, |out| log::write_line(out, &scratch.request, record));
}

/// Runs `work` as long as the client stays connected; `None` when it leaves first. Until `closes_until` it may close
/// its half, once for all that one request waits for (`half_closed`): whether its request is whole shows when it is
/// sent on.
async fn while_client_stays<F: Future>(
    client: &mut Client,
    buf: &mut Buf,
    closes_until: Instant,
    half_closed: &mut bool,
    work: F,
) -> Option<F::Output> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        while !*half_closed && buf.len() < FIRST_SIZE {
            match buf.poll_fill(cx, &mut client.stream) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) if Instant::now() < closes_until => *half_closed = true,
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => break,
            }
        }
        Poll::Pending
    })
    .await
}

fn ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
