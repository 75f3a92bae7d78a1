//! Ids of things that have no row: stacks, regions, sizes, and slugs, which are images under another name.

use aws_lc_rs::digest::{SHA256, digest};
use paas_domain::Digest;

/// The same UUID for the same text, always.
pub(crate) fn fixed_id(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_ref()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().hyphenated().to_string()
}

/// The id of an image as a slug.
pub(crate) fn slug_id(image: &Digest) -> String {
    fixed_id(image.as_str())
}
