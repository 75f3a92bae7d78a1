//! What the last good export knew of an app's layers.

use std::collections::BTreeMap;

use paas_domain::Digest;
use paas_phase::wire::KnownLayer;
use serde::{Deserialize, Serialize};

/// The layers of one app and builder, as they were when their image was stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Memo {
    /// Twelve digits of the builder image's id.
    pub(crate) builder: String,
    /// Every layer that any buildpack made.
    pub(crate) layers: Vec<MemoLayer>,
    /// `store.toml` of each buildpack's folder.
    pub(crate) stores: BTreeMap<String, String>,
}

/// One of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemoLayer {
    /// What the helper compares.
    pub(crate) known: KnownLayer,
    /// The layer in the image, for launch layers.
    pub(crate) stored: Option<StoredLayer>,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredLayer {
    /// The digest of its tar.
    pub(crate) diff_id: Digest,
    /// Bytes of its tar.
    pub(crate) size: u64,
}

impl MemoLayer {
    /// Whether its content is nowhere but in its tar: the layers volume drops it before the next build.
    pub(crate) fn only_in_tar(&self) -> bool {
        let types = self.known.types;
        types.launch && !types.cache
    }
}

impl Memo {
    /// The layer that this one is, unchanged: its tar need not be made again.
    pub(crate) fn same(&self, layer: &KnownLayer) -> Option<&StoredLayer> {
        let of_name =
            self.layers.iter().find(|memo| memo.known.folder == layer.folder && memo.known.name == layer.name)?;
        let same = if layer.contents {
            layer.fingerprint.is_some() && layer.fingerprint == of_name.known.fingerprint
        } else {
            // A buildpack that wants its launch-only layer again leaves it without content.
            !layer.types.cache
        };
        of_name.stored.as_ref().filter(|_| same)
    }
}
