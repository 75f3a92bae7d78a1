//! Sending a blob: looked for first, mounted if another repository has it, else uploaded in parts.
//!
//! What ECR does (seen by others, aws/containers-roadmap#2831): a part is answered with 201 instead of 202, and the
//! `Range` of that answer, and of an upload's status, may stay behind what is stored. So we go by what was accepted,
//! ask for the status only after a part whose fate is unknown, and take "416" for a part that had arrived. The digest
//! in the end is what decides: an upload that turns out wrong is made again in one piece.

use std::io::SeekFrom;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use hyper::{Method, StatusCode};
use paas_domain::{AppId, Digest};
use paas_ports::PortError;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::EcrRegistry;
use super::blobs::{Blob, Packed};
use super::wire::{Answer, Ask, Body};
use crate::Call;

const DOING: &str = "pushing a layer";

/// Where an upload goes on: an address that each answer may change.
#[derive(Clone)]
pub(super) struct Upload(String);

/// Why an upload did not end well.
enum Stopped {
    /// It may when it is made anew.
    Lost(PortError),
    Failed(PortError),
}

impl EcrRegistry {
    /// Whether the repository has the blob.
    pub(super) async fn has_blob(&self, app: &AppId, repository: &str, digest: &Digest) -> Result<bool, PortError> {
        let doing = "looking for a layer";
        let url = self.wire.url(&format!("/v2/{repository}/blobs/{digest}"));
        let ask = Ask { call: Call::CheckLayer, method: Method::HEAD, url, headers: Vec::new(), body: Body::Nothing };
        let answer = self.wire.ask(app, doing, &ask).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(false),
            // A redirection is to where the bytes are.
            status if status.is_success() || status.is_redirection() => Ok(true),
            _ => Err(answer.failure(doing)),
        }
    }

    /// Mounts the blob from another repository; `None` when that worked. Else the registry has begun an upload
    /// instead: accounts may not allow it, and the other repository may be gone.
    pub(super) async fn mount(
        &self,
        app: &AppId,
        repository: &str,
        digest: &Digest,
        from: &str,
    ) -> Result<Option<Upload>, PortError> {
        let path = format!("/v2/{repository}/blobs/uploads/?mount={digest}&from={from}");
        let answer = self.wire.ask(app, DOING, &self.begin(Call::MountLayer, &path)).await?;
        match answer.status {
            StatusCode::CREATED => Ok(None),
            StatusCode::ACCEPTED => Ok(Some(self.place(&answer)?)),
            // Whatever it does not like about it, an upload still works.
            _ => self.start(app, repository).await.map(Some),
        }
    }

    async fn start(&self, app: &AppId, repository: &str) -> Result<Upload, PortError> {
        let ask = self.begin(Call::InitiateLayerUpload, &format!("/v2/{repository}/blobs/uploads/"));
        let answer = self.wire.ask(app, DOING, &ask).await?;
        match answer.status {
            StatusCode::ACCEPTED => self.place(&answer),
            StatusCode::NOT_FOUND => {
                // The repository went away under us; the next push makes it again.
                self.forget(app);
                Err(PortError::transient(DOING, answer.reason()))
            }
            _ => Err(answer.failure(DOING)),
        }
    }

    fn begin(&self, call: Call, path: &str) -> Ask {
        Ask { call, method: Method::POST, url: self.wire.url(path), headers: Vec::new(), body: Body::Nothing }
    }

    fn place(&self, answer: &Answer) -> Result<Upload, PortError> {
        let location = answer.header("location");
        let location = location.ok_or_else(|| PortError::transient(DOING, "the registry did not say where to"))?;
        Ok(Upload(self.wire.url(location)))
    }

    /// Sends a small blob that is in memory, unless it is there.
    pub(super) async fn upload_bytes(
        &self,
        app: &AppId,
        repository: &str,
        blob: &Blob,
        bytes: &Bytes,
    ) -> Result<(), PortError> {
        let mut last = None;
        for _ in 0..self.aws.options.tries.max(2) {
            if self.has_blob(app, repository, &blob.digest).await? {
                return Ok(());
            }
            let upload = self.start(app, repository).await?;
            match self.finish(app, &upload, &blob.digest, None, Body::Bytes(bytes.clone())).await {
                Ok(()) => return Ok(()),
                Err(Stopped::Lost(error)) => last = Some(error),
                Err(Stopped::Failed(error)) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| PortError::transient(DOING, "it could not be sent")))
    }

    /// Sends a compressed layer, in the upload that was begun or in one of its own.
    pub(super) async fn upload(
        &self,
        app: &AppId,
        repository: &str,
        packed: &Packed,
        mut begun: Option<Upload>,
    ) -> Result<(), PortError> {
        let mut last = None;
        let mut wait = self.aws.options.backoff;
        for attempt in 0..self.aws.options.tries.max(2) {
            if attempt > 0 {
                tokio::time::sleep(wait).await;
                wait *= 2;
                // The answer may be all that was lost.
                if self.has_blob(app, repository, &packed.blob.digest).await? {
                    return Ok(());
                }
            }
            let upload = match begun.take() {
                Some(upload) => upload,
                None => self.start(app, repository).await?,
            };
            let sent = if attempt == 0 && packed.blob.size > self.chunk_bytes {
                self.send_parts(app, upload, packed).await
            } else {
                self.send_whole(app, upload, packed).await
            };
            match sent {
                Ok(()) => return Ok(()),
                Err(Stopped::Lost(error)) => {
                    tracing::info!(%error, digest = %packed.blob.digest, "a layer is sent anew");
                    last = Some(error);
                }
                Err(Stopped::Failed(error)) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| PortError::transient(DOING, "it could not be sent")))
    }

    /// As every registry takes it: begun, then all bytes with the digest.
    async fn send_whole(&self, app: &AppId, upload: Upload, packed: &Packed) -> Result<(), Stopped> {
        let body = Body::File { path: packed.path().to_owned(), size: packed.blob.size };
        self.finish(app, &upload, &packed.blob.digest, None, body).await
    }

    /// In parts, of which only the one that failed is sent again.
    async fn send_parts(&self, app: &AppId, mut upload: Upload, packed: &Packed) -> Result<(), Stopped> {
        let (mut at, mut stumbles, size) = (0, 0, packed.blob.size);
        let mut wait = self.aws.options.backoff;
        while size - at > self.chunk_bytes {
            let end = at + self.chunk_bytes;
            let headers = vec![("content-type", OCTETS.to_owned()), ("content-range", range(at, end))];
            let body = Body::Bytes(read(packed.path(), at, end).await.map_err(Stopped::Failed)?);
            let ask = Ask { call: Call::UploadLayerPart, method: Method::PATCH, url: upload.0.clone(), headers, body };
            let refused = match self.wire.ask_once(app, DOING, &ask).await {
                Ok(answer) if answer.status.is_success() => {
                    upload = self.place(&answer).unwrap_or(upload);
                    (at, stumbles, wait) = (end, 0, self.aws.options.backoff);
                    continue;
                }
                Ok(answer) if answer.status == StatusCode::RANGE_NOT_SATISFIABLE => true,
                Ok(answer) if answer.is_passing() => false,
                Ok(answer) if answer.status == StatusCode::NOT_FOUND => {
                    return Err(Stopped::Lost(PortError::transient(DOING, answer.reason())));
                }
                Ok(answer) => return Err(Stopped::Failed(answer.failure(DOING))),
                Err(error) if error.is_transient() => false,
                Err(error) => return Err(Stopped::Failed(error)),
            };
            stumbles += 1;
            if stumbles >= self.aws.options.tries.max(2) {
                return Err(Stopped::Lost(PortError::transient(DOING, "a part could not be sent")));
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
            let stored = self.stored(app, &mut upload).await?;
            at = resume_at(at, end, stored, refused);
            tracing::debug!(at, size, digest = %packed.blob.digest, "an upload goes on");
        }
        let last = read(packed.path(), at, size).await.map_err(Stopped::Failed)?;
        self.finish(app, &upload, &packed.blob.digest, Some(range(at, size)), Body::Bytes(last)).await
    }

    /// How many bytes the registry says it has; `None` when it does not say.
    async fn stored(&self, app: &AppId, upload: &mut Upload) -> Result<Option<u64>, Stopped> {
        let (call, url) = (Call::UploadLayerPart, upload.0.clone());
        let ask = Ask { call, method: Method::GET, url, headers: Vec::new(), body: Body::Nothing };
        let answer = self.wire.ask(app, DOING, &ask).await.map_err(Stopped::Failed)?;
        if answer.status == StatusCode::NOT_FOUND && answer.says("BLOB_UPLOAD_UNKNOWN") {
            return Err(Stopped::Lost(PortError::transient(DOING, answer.reason())));
        }
        if !answer.status.is_success() {
            return Ok(None);
        }
        if let Ok(place) = self.place(&answer) {
            *upload = place;
        }
        Ok(answer.header("range").and_then(stored_bytes))
    }

    /// Ends an upload with its last bytes. Whether it worked is asked when no answer came.
    async fn finish(
        &self,
        app: &AppId,
        upload: &Upload,
        digest: &Digest,
        range: Option<String>,
        body: Body,
    ) -> Result<(), Stopped> {
        let join = if upload.0.contains('?') { '&' } else { '?' };
        let url = format!("{}{join}digest={digest}", upload.0);
        let mut headers = vec![("content-type", OCTETS.to_owned())];
        headers.extend(range.map(|range| ("content-range", range)));
        let ask = Ask { call: Call::CompleteLayerUpload, method: Method::PUT, url, headers, body };
        match self.wire.ask_once(app, DOING, &ask).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            // The bytes arrived otherwise than they were sent, or the upload is gone: anew.
            Ok(answer)
                if answer.is_passing()
                    || answer.status == StatusCode::NOT_FOUND
                    || answer.status == StatusCode::RANGE_NOT_SATISFIABLE
                    || answer.says("DIGEST_INVALID")
                    || answer.says("SIZE_INVALID") =>
            {
                Err(Stopped::Lost(PortError::transient(DOING, answer.reason())))
            }
            Ok(answer) => Err(Stopped::Failed(answer.failure(DOING))),
            Err(error) if error.is_transient() => Err(Stopped::Lost(error)),
            Err(error) => Err(Stopped::Failed(error)),
        }
    }
}

const OCTETS: &str = "application/octet-stream";

/// The registry's form of a range: the last byte counts.
fn range(from: u64, end: u64) -> String {
    format!("{from}-{}", end.saturating_sub(1))
}

/// The bytes that `0-N` stands for. `0-0` is what an upload without a byte says, too.
fn stored_bytes(range: &str) -> Option<u64> {
    let last: u64 = range.strip_prefix("bytes=").unwrap_or(range).strip_prefix("0-")?.parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}

/// Where to go on after the part from `at` to `end`, which nobody answered, or which was refused as out of place.
fn resume_at(at: u64, end: u64, stored: Option<u64>, refused: bool) -> u64 {
    match stored {
        Some(stored) if (at..=end).contains(&stored) && (stored > at || !refused) => stored,
        // What it says is out of date: it has the part, or else would have taken it.
        _ if refused => end,
        _ => at,
    }
}

async fn read(path: &Path, from: u64, end: u64) -> Result<Bytes, PortError> {
    let read = async {
        let mut file = tokio::fs::File::open(path).await?;
        file.seek(SeekFrom::Start(from)).await?;
        let mut bytes = BytesMut::zeroed(usize::try_from(end - from).map_err(std::io::Error::other)?);
        file.read_exact(&mut bytes).await?;
        std::io::Result::Ok(bytes.freeze())
    };
    read.await.map_err(|e| PortError::transient(DOING, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_where_the_registry_is() {
        assert_eq!(stored_bytes("0-0"), Some(0));
        assert_eq!(stored_bytes("0-9"), Some(10));
        assert_eq!(stored_bytes("bytes=0-9"), Some(10));
        assert_eq!(stored_bytes("5-9"), None);
        // Nothing, a half, or all of the part from 10 to 20 is there.
        assert_eq!(resume_at(10, 20, Some(10), false), 10);
        assert_eq!(resume_at(10, 20, Some(15), false), 15);
        assert_eq!(resume_at(10, 20, Some(20), false), 20);
        // A status that stayed behind, or none: once more, and then on, since it is refused.
        assert_eq!(resume_at(10, 20, Some(5), false), 10);
        assert_eq!(resume_at(10, 20, None, false), 10);
        assert_eq!(resume_at(10, 20, Some(5), true), 20);
        assert_eq!(resume_at(10, 20, Some(10), true), 20);
        assert_eq!(resume_at(10, 20, None, true), 20);
    }
}
