//! An image's config: environment, entrypoint, labels. The same input makes the same bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use paas_domain::Digest;
use paas_phase::wire::KnownLayer;
use serde_json::{Map, Value, json};

use crate::builder_image::{BaseImage, BuilderImage};
use crate::memo::StoredLayer;
use crate::processes::BuildMetadata;

/// Our launcher, the entrypoint of every image.
pub(crate) const LAUNCHER: &str = "/paas/launcher";
/// When every image was made, so that the same image has the same digest on any day.
pub(crate) const CREATED: &str = "1980-01-01T00:00:01Z";
/// The most bytes of the labels that buildpacks may add.
const LABEL_BYTES: usize = 64 * 1024;

/// Everything that an image's config is made of.
pub(crate) struct Parts<'a> {
    pub(crate) base: &'a BaseImage,
    pub(crate) builder: &'a BuilderImage,
    pub(crate) commit: Option<&'a str>,
    pub(crate) metadata: &'a BuildMetadata,
    pub(crate) buildpacks: &'a [BuildpackLayers],
    pub(crate) launcher: &'a StoredLayer,
    pub(crate) config: &'a StoredLayer,
    pub(crate) app: &'a StoredLayer,
    /// All layers above the base, from the bottom.
    pub(crate) above: &'a [StoredLayer],
}

/// A buildpack and those of its layers that are in the image.
pub(crate) struct BuildpackLayers {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) store: Option<String>,
    pub(crate) layers: Vec<(KnownLayer, StoredLayer)>,
}

/// The config of an image that was built.
pub(crate) fn of(parts: &Parts<'_>) -> Bytes {
    let base = &parts.base.config;
    let mut env: Vec<String> = base.env.clone().unwrap_or_default();
    set(&mut env, "CNB_LAYERS_DIR", "/layers");
    set(&mut env, "CNB_APP_DIR", "/workspace");
    set(&mut env, "CNB_PLATFORM_API", parts.builder.platform_api);
    set(&mut env, "CNB_DEPRECATION_MODE", "quiet");
    let path = env.iter().find_map(|line| line.strip_prefix("PATH=")).map(str::to_owned);
    let path = path.unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    set(&mut env, "PATH", &format!("/cnb/process:/cnb/lifecycle:{path}"));

    let user = match base.user.as_deref() {
        // A dyno never runs as root.
        None | Some("" | "root" | "0" | "0:0" | "root:root") => format!("{}:{}", parts.builder.uid, parts.builder.gid),
        Some(user) => user.to_owned(),
    };
    let mut labels: BTreeMap<String, String> = base.labels.clone().unwrap_or_default().into_iter().collect();
    let mut room = LABEL_BYTES;
    for label in &parts.metadata.labels {
        let bytes = label.key.len() + label.value.len();
        let ours = label.key.starts_with("paas.") || label.key.starts_with("io.buildpacks.");
        if !ours && bytes <= room {
            room -= bytes;
            labels.insert(label.key.clone(), label.value.clone());
        }
    }
    labels.insert("io.buildpacks.lifecycle.metadata".into(), lifecycle_label(parts).to_string());
    labels.insert("io.buildpacks.build.metadata".into(), build_label(parts).to_string());
    labels.insert("io.buildpacks.project.metadata".into(), project_label(parts.commit).to_string());

    let diff_ids: Vec<&Digest> =
        parts.base.diff_ids.iter().chain(parts.above.iter().map(|layer| &layer.diff_id)).collect();
    let mut config = json!({
        "architecture": parts.base.architecture,
        "os": parts.base.os,
        "created": CREATED,
        "config": {
            "Env": env,
            "User": user,
            "WorkingDir": "/workspace",
            "Entrypoint": [LAUNCHER],
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    if let Some(variant) = &parts.base.variant {
        config["variant"] = variant.clone().into();
    }
    Bytes::from(config.to_string())
}

fn set(env: &mut Vec<String>, name: &str, value: &str) {
    let line = format!("{name}={value}");
    let prefix = format!("{name}=");
    match env.iter_mut().find(|known| known.starts_with(&prefix)) {
        Some(known) => *known = line,
        None => env.push(line),
    }
}

/// What the upstream rebaser and the next build's analyzer read.
fn lifecycle_label(parts: &Parts<'_>) -> Value {
    let sha = |layer: &StoredLayer| json!({"sha": layer.diff_id});
    let buildpacks: Vec<Value> = parts
        .buildpacks
        .iter()
        .map(|buildpack| {
            let layers: Map<String, Value> = buildpack
                .layers
                .iter()
                .map(|(known, stored)| {
                    let data = table(&known.metadata).remove("metadata").unwrap_or(Value::Null);
                    let layer = json!({
                        "sha": stored.diff_id, "data": data,
                        "build": known.types.build, "launch": known.types.launch, "cache": known.types.cache,
                    });
                    (known.name.clone(), layer)
                })
                .collect();
            let mut entry = json!({"key": buildpack.id, "version": buildpack.version, "layers": layers});
            if let Some(store) = &buildpack.store {
                entry["store"] = Value::Object(table(store));
            }
            entry
        })
        .collect();
    let top = parts.base.diff_ids.last();
    json!({
        "app": [sha(parts.app)],
        "buildpacks": buildpacks,
        "config": sha(parts.config),
        "launcher": sha(parts.launcher),
        "process-types": sha(parts.config),
        "runImage": {"topLayer": top, "reference": parts.base.id, "image": parts.base.reference},
        "stack": {"runImage": {"image": parts.base.reference}},
    })
}

fn build_label(parts: &Parts<'_>) -> Value {
    let mut label = json!({
        "buildpacks": parts.metadata.buildpacks,
        "launcher": {"version": parts.builder.lifecycle, "source": {"git": {"repository": "", "commit": ""}}},
        "processes": parts.metadata.processes_json(),
    });
    if let Some(default) = &parts.metadata.default_process_type {
        label["buildpack-default-process-type"] = default.clone().into();
    }
    label
}

fn project_label(commit: Option<&str>) -> Value {
    match commit {
        Some(commit) => json!({"source": {"type": "git", "version": {"commit": commit}}}),
        None => json!({}),
    }
}

/// A TOML text as JSON; nothing when it is none.
fn table(text: &str) -> Map<String, Value> {
    let table: Option<toml::Table> = text.parse().ok();
    match table.map(serde_json::to_value) {
        Some(Ok(Value::Object(map))) => map,
        _ => Map::new(),
    }
}
