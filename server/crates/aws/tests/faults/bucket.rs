//! The same for S3, whose requests are the crate `object_store`'s: every request that it makes for us × every fault.
//!
//! S3 reads what was written at once, and has no quota that a request can use up, so faults of both kinds are left out
//! (S3 user guide, "Amazon S3 data consistency model").

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _};
use paas_aws::bucket::{bucket, is_refused};
use paas_aws::{Aws, AwsOptions};
use paas_domain::InstallId;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::AT_ONCE;
use crate::fault::WORDS;
use crate::line::Line;
use crate::support;

/// S3 takes no part that is smaller, but for the last.
const PART_BYTES: usize = 5 << 20;
/// Longer than any operation takes whose every request is late.
const PATIENCE: Duration = Duration::from_secs(120);

/// A request, and what is done to make it.
const REQUESTS: &[(&str, Does)] = &[
    ("PutObject", Does::Put),
    ("CreateMultipartUpload", Does::Send),
    ("UploadPart", Does::Send),
    ("CompleteMultipartUpload", Does::Send),
    ("HeadObject", Does::Look),
    ("GetObject", Does::Fetch),
    ("ListObjectsV2", Does::List),
    ("DeleteObjects", Does::Remove),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Put,
    Send,
    Look,
    Fetch,
    List,
    Remove,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Throttled,
    Broken,
    Unavailable,
    Late,
    Dropped,
    Lost,
    AllLost,
    Partial,
    Denied,
}

impl Fault {
    const ALL: [Self; 9] = [
        Self::Throttled,
        Self::Broken,
        Self::Unavailable,
        Self::Late,
        Self::Dropped,
        Self::Lost,
        Self::AllLost,
        Self::Partial,
        Self::Denied,
    ];

    /// What the proxy is told, or nothing where the fault cannot strike.
    fn strike(self, request: &str) -> Option<Value> {
        let refuse = |status: u16, code: &str| json!({"status": status, "code": code, "message": WORDS});
        let mut told = match self {
            Self::Throttled => refuse(503, "SlowDown"),
            Self::Broken => refuse(500, "InternalError"),
            Self::Unavailable => refuse(503, "ServiceUnavailable"),
            // Longer than a request may last: see `play`.
            Self::Late => json!({"delay": 3.3, "drop": "before"}),
            Self::Dropped => json!({"drop": "before"}),
            Self::Lost | Self::AllLost => json!({"drop": "after"}),
            Self::Partial => partial(request)?,
            Self::Denied => refuse(403, "AccessDenied"),
        };
        if matches!(self, Self::Broken | Self::Lost) {
            told["times"] = 1.into();
        }
        told["target"] = format!("^s3:{request} ").into();
        Some(told)
    }
}

/// A 200 that says inside what has failed. S3 sends the head of its answer to an upload's end before it knows the end.
fn partial(request: &str) -> Option<Value> {
    let error = format!("<Error><Code>InternalError</Code><Message>{WORDS}</Message></Error>");
    let body = match request {
        "CompleteMultipartUpload" => error,
        "DeleteObjects" => format!(
            "<DeleteResult><Error><Key>x</Key><Code>InternalError</Code><Message>{WORDS}</Message></Error></DeleteResult>"
        ),
        _ => return None,
    };
    Some(json!({"body": body, "type": "application/xml"}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_to_the_bucket_meets_every_fault() {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut cells = JoinSet::new();
    let mut wanted = 0;
    for (&(request, does), fault) in
        REQUESTS.iter().flat_map(|one| Fault::ALL.into_iter().map(move |fault| (one, fault)))
    {
        let Some(told) = fault.strike(request) else { continue };
        wanted += 1;
        let room = Arc::clone(&room);
        cells.spawn(async move {
            let _room = room.acquire_owned().await;
            (format!("{request}×{fault:?}"), play(does, fault, &told).await)
        });
    }
    let (mut counts, mut made, mut broken) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    while let Some(played) = cells.join_next().await {
        match played.expect("a cell panics") {
            (_, Ok((said, calls))) => {
                *counts.entry(if said { "converged" } else { "reported" }).or_insert(0) += 1;
                made.extend(calls);
            }
            (name, Err(why)) => broken.push(format!("{name}: {why}")),
        }
    }
    println!("{wanted} cells of the bucket: {counts:?}");
    broken.sort();
    assert!(broken.is_empty(), "{} cells are broken:\n{}", broken.len(), broken.join("\n"));
    // Made behind a fault only; what it leaves goes by the bucket's own rule (infra/objects.yaml).
    made.remove("s3:AbortMultipartUpload");
    let listed: BTreeSet<String> = REQUESTS.iter().map(|(request, _)| format!("s3:{request}")).collect();
    assert_eq!(made, listed, "what is asked of S3");
}

/// Plays a cell: whether the operation succeeded all the same, and what S3 was asked; or what did not hold.
async fn play(does: Does, fault: Fault, told: &Value) -> Result<(bool, BTreeSet<String>), String> {
    let line = Line::open().await;
    let options = |try_timeout: Duration| AwsOptions {
        endpoint: Some(line.url.clone()),
        try_timeout,
        tries: 1,
        backoff: Duration::from_millis(5),
        ..support::options()
    };
    let patience = if fault == Fault::Late { Duration::from_secs(1) } else { support::options().try_timeout };
    let install = InstallId::random();
    let foundation = support::foundation(&install);
    let direct = Aws::new(support::options(), foundation.clone(), install.clone()).await;
    support::make_bucket(&direct).await;
    let direct = bucket(&direct).expect("a bucket");
    let hasty = Aws::new(options(patience), foundation.clone(), install.clone()).await;
    let patient = Aws::new(options(support::options().try_timeout), foundation, install).await;
    let (hasty, patient) = (bucket(&hasty).expect("a bucket"), bucket(&patient).expect("a bucket"));
    if !matches!(does, Does::Put | Does::Send) {
        act(&direct, Does::Put).await.map_err(|why| format!("without a fault: {why}"))?;
    }

    line.strike(told).await;
    let once = async || tokio::time::timeout(PATIENCE, act(&hasty, does)).await.map_err(|_| "it hangs".to_owned());
    let mut under = once().await?;
    // On a busy machine a request before it may have taken longer than one may last.
    for _ in 0..10 {
        if under.is_ok() || line.struck().await > 0 {
            break;
        }
        under = once().await?;
    }
    let struck = line.struck().await;
    line.lift().await;
    if struck == 0 {
        return Err(format!("the fault did not strike; the operation said {under:?}"));
    }
    if let Err(error) = &under {
        if is_refused(error) != (fault == Fault::Denied) {
            return Err(format!("it fails in the wrong way: {error:?}"));
        }
        // The answer to a HEAD has no words.
        let silent = does == Does::Look || matches!(fault, Fault::Late | Fault::Dropped | Fault::Lost | Fault::AllLost);
        if !silent && !error.to_string().contains(WORDS) {
            return Err(format!("its cause is not said: {error}"));
        }
    } else if let Some(wrong) = wrong(&direct, does).await {
        return Err(format!("it says it is done, and {wrong}"));
    }
    act(&patient, does).await.map_err(|why| format!("when S3 is well again: {why}"))?;
    let wrong = wrong(&direct, does).await;
    let _ = direct.delete(&place()).await;
    let calls = line.calls().await;
    line.close().await;
    match wrong {
        Some(wrong) => Err(format!("when S3 is well again, {wrong}")),
        None => Ok((under.is_ok(), calls)),
    }
}

fn place() -> Path {
    Path::from("packs/a/one")
}

/// Two parts and a little, the same each time.
fn large() -> Vec<u8> {
    (0..2 * PART_BYTES + 7).map(|at| (at % 251) as u8).collect()
}

/// Makes the operation as `paas-server`'s objects do.
async fn act(store: &Arc<dyn ObjectStore>, does: Does) -> Result<(), Error> {
    match does {
        Does::Put => store.put(&place(), Bytes::from_static(b"small").into()).await.map(drop),
        Does::Send => {
            let mut writer = BufWriter::with_capacity(Arc::clone(store), place(), PART_BYTES);
            let sent = async {
                writer.write_all(&large()).await?;
                writer.shutdown().await
            };
            sent.await.map_err(|error| match error.downcast::<Error>() {
                Ok(error) => error,
                Err(other) => Error::Generic { store: "S3", source: other.into() },
            })
        }
        Does::Look => store.head(&place()).await.map(drop),
        Does::Fetch => store.get(&place()).await?.bytes().await.map(drop),
        Does::List => store.list(Some(&Path::from("packs"))).try_collect::<Vec<_>>().await.map(drop),
        Does::Remove => match store.delete(&place()).await {
            Err(Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        },
    }
}

/// What is wrong with the object after the operation has succeeded.
async fn wrong(store: &Arc<dyn ObjectStore>, does: Does) -> Option<String> {
    let expected = match does {
        Does::Remove => None,
        Does::Send => Some(large()),
        Does::Put | Does::Look | Does::Fetch | Does::List => Some(b"small".to_vec()),
    };
    let found = match store.get(&place()).await {
        Ok(found) => Some(found.bytes().await.expect("bytes").to_vec()),
        Err(Error::NotFound { .. }) => None,
        Err(error) => return Some(format!("it cannot be read: {error}")),
    };
    let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(Vec::len);
    (found != expected).then(|| format!("{:?} bytes are there, not {:?}", length(&found), length(&expected)))
}
