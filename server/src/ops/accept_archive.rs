//! A build of an uploaded archive: unpacked into the plain tar that builders read, then accepted like a push.

use paas_store::{Account, AppScope, Build, Source};
use tokio::sync::Semaphore;

use super::accept_build::{BuildSource, accept_build, refuse_build};
use super::manage_sources::upload_key;
use crate::archive::{self, ArchiveError};
use crate::cx::{Cx, OpError};

/// Archives unpacked at the same time: each may write a gigabyte.
static UNPACKING: Semaphore = Semaphore::const_new(2);

/// What was uploaded, and what its uploader says about it.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Where it is.
    pub source: Source,
    /// A name for its version.
    pub version: Option<String>,
    /// Its SHA-256 in hexadecimal, to be checked.
    pub checksum: Option<String>,
}

/// Accepts a build of an upload. An archive that cannot be unpacked gives a build that has failed and says why.
///
/// # Errors
/// [`OpError::Invalid`] when nothing was uploaded; else when the app is gone, or disk or database do not answer.
pub async fn accept_archive(cx: &Cx, app: &AppScope, account: &Account, upload: Upload) -> Result<Build, OpError> {
    let from = upload_key(&upload.source);
    if !upload.source.uploaded || !cx.objects.exists(&from).await? {
        return Err(OpError::invalid("source_blob.url has nothing behind it: PUT the archive to its put_url first."));
    }
    let incoming = cx.objects.scratch()?.join(format!("{}.tar", uuid::Uuid::new_v4()));
    let unpacked = unpack(cx.objects.local(&from).await?, incoming.clone(), upload.checksum).await;
    if let Err(error) = unpacked {
        let _ = tokio::fs::remove_file(&incoming).await;
        return match error {
            ArchiveError::Bad(why) => {
                refuse_build(cx, app, account, upload.version, &format!("Bad source archive: {why}.")).await
            }
            ArchiveError::Disk(error) => Err(paas_ports::PortError::transient("unpacking a source", error).into()),
        };
    }
    let key = format!("sources/{}/{}.tar", app.id(), uuid::Uuid::new_v4());
    cx.objects.put_file(&key, &incoming).await?;
    let source = BuildSource::Archive { key: key.clone(), version: upload.version };
    let accepted = accept_build(cx, app, account, source).await;
    if accepted.is_err() {
        cx.objects.remove(&key).await?;
    }
    accepted
}

async fn unpack(
    from: std::path::PathBuf,
    into: std::path::PathBuf,
    checksum: Option<String>,
) -> Result<(), ArchiveError> {
    let stopped = |_| ArchiveError::Disk(std::io::ErrorKind::Interrupted.into());
    let _turn = UNPACKING.acquire().await.map_err(|_| ArchiveError::Disk(std::io::ErrorKind::Interrupted.into()))?;
    let work = tokio::task::spawn_blocking(move || archive::to_plain_tar(&from, &into, checksum.as_deref()));
    work.await.map_err(stopped)?
}
