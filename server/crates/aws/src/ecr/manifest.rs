//! Manifests: what ties an image's config to its compressed layers. The same image gives the same bytes.

use hyper::{Method, StatusCode};
use paas_domain::{AppId, Digest};
use paas_ports::{PlannedLayer, PortError};
use serde::Serialize;
use sha2::Digest as _;

use super::EcrRegistry;
use super::blobs::Blob;
use super::wire::{Ask, Body};
use crate::Call;

/// The media type of what we push; Fargate and every engine since 2018 pull it.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// How putting a manifest ended.
pub(super) enum Put {
    /// It is there.
    Done,
    /// The tag names another manifest.
    Taken,
}

/// The digest of some bytes.
pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    digest(sha2::Sha256::digest(bytes).as_slice())
}

/// A SHA-256 sum as a digest.
pub(super) fn digest(sum: &[u8]) -> Digest {
    let hex = data_encoding::HEXLOWER.encode(sum);
    // Sixty-four lower-case hexadecimal digits are a digest.
    format!("sha256:{hex}").parse().unwrap_or_else(|_| unreachable!("a sha256 sum is a digest"))
}

/// Whether the config's layers are the plan's.
pub(super) fn names_layers(config: &[u8], layers: &[PlannedLayer]) -> bool {
    let config: serde_json::Value = serde_json::from_slice(config).unwrap_or_default();
    let named = config["rootfs"]["diff_ids"].as_array().map(Vec::as_slice).unwrap_or_default();
    named.iter().map(|id| id.as_str()).eq(layers.iter().map(|layer| Some(layer.diff_id.as_str())))
}

/// A manifest, its fields in the order in which they are written: the bytes are what its digest is of.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u8,
    media_type: &'a str,
    config: Part<'a>,
    layers: Vec<Part<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
}

/// The manifest's bytes.
pub(super) fn of<'a>(config: &'a Blob, layers: impl Iterator<Item = &'a Blob>) -> Vec<u8> {
    let part = |media_type, blob: &'a Blob| Part { media_type, digest: &blob.digest, size: blob.size };
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST,
        config: part(CONFIG, config),
        layers: layers.map(|layer| part(LAYER, layer)).collect(),
    };
    // Texts and numbers can always be written.
    serde_json::to_vec(&manifest).unwrap_or_default()
}

impl EcrRegistry {
    /// Puts a manifest under the image's tag. Every blob that it names has to be there.
    pub(super) async fn put_manifest(
        &self,
        app: &AppId,
        repository: &str,
        image: &Digest,
        manifest: &[u8],
    ) -> Result<Put, PortError> {
        let doing = "pushing the image's manifest";
        let url = self.wire.url(&format!("/v2/{repository}/manifests/{}", image.hex()));
        let ask = Ask {
            call: Call::PutImage,
            method: Method::PUT,
            url,
            headers: vec![("content-type", MANIFEST.to_owned())],
            body: Body::Bytes(manifest.to_vec().into()),
        };
        let answer = self.wire.ask(app, doing, &ask).await?;
        if answer.status == StatusCode::CREATED || answer.status == StatusCode::OK {
            let wanted = digest_of(manifest);
            return match answer.header("docker-content-digest") {
                Some(got) if got != wanted.as_str() => {
                    Err(PortError::transient(doing, format!("the registry stored {got} instead of {wanted}")))
                }
                _ => Ok(Put::Done),
            };
        }
        // ECR's word, and the emulator's.
        if answer.says("already exists") || answer.says("TAG_INVALID") {
            return Ok(Put::Taken);
        }
        // A blob that was there a moment ago and is not: the next try looks again and sends it.
        if answer.status == StatusCode::NOT_FOUND || answer.says("BLOB_UNKNOWN") || answer.says("LAYERS_NOT_FOUND") {
            self.forget(app);
            return Err(PortError::transient(doing, answer.reason()));
        }
        Err(answer.failure(doing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_image_has_the_same_manifest() {
        let blob =
            |byte: &str, size| Blob { digest: format!("sha256:{}", byte.repeat(64)).parse().expect("digest"), size };
        let (config, layers) = (blob("a", 7), [blob("b", 1), blob("c", 2)]);
        let text = String::from_utf8(of(&config, layers.iter())).expect("text");
        assert_eq!(
            text,
            format!(
                "{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\",\
                 \"config\":{{\"mediaType\":\"{CONFIG}\",\"digest\":\"sha256:{a}\",\"size\":7}},\"layers\":[\
                 {{\"mediaType\":\"{LAYER}\",\"digest\":\"sha256:{b}\",\"size\":1}},\
                 {{\"mediaType\":\"{LAYER}\",\"digest\":\"sha256:{c}\",\"size\":2}}]}}",
                a = "a".repeat(64),
                b = "b".repeat(64),
                c = "c".repeat(64)
            )
        );
    }
}
