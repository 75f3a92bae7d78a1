//! What a dyno's container says about itself: its labels and its name.
//!
//! Labels are written once, when the container is made, and hold no config and no secret.

use std::collections::HashMap;

use paas_domain::{
    AppId, DynoId, DynoKind, DynoName, DynoSize, Generation, InstallId, ProcessType, ReleaseVersion, outside_name,
};

use crate::engine::{APP_LABEL, INSTALL_LABEL};

/// The label with the dyno's id.
pub(crate) const DYNO_LABEL: &str = "paas.dyno";
/// The label with the process type.
pub(crate) const TYPE_LABEL: &str = "paas.type";

/// One dyno, as its labels tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) app: AppId,
    pub(crate) dyno: DynoId,
    pub(crate) name: DynoName,
    pub(crate) kind: DynoKind,
    pub(crate) release: ReleaseVersion,
    pub(crate) generation: Generation,
    pub(crate) restart: i64,
    pub(crate) size: DynoSize,
    pub(crate) command: String,
    /// Where a web dyno has to listen.
    pub(crate) port: Option<u16>,
    /// Output goes to whoever attaches, not to the app's log.
    pub(crate) attach: bool,
    pub(crate) tty: bool,
}

impl Tag {
    /// The labels of the container.
    pub(crate) fn labels(&self, install: &InstallId) -> HashMap<String, String> {
        let mut labels = HashMap::from([
            (INSTALL_LABEL.to_owned(), install.to_string()),
            (APP_LABEL.to_owned(), self.app.to_string()),
            (DYNO_LABEL.to_owned(), self.dyno.to_string()),
            ("paas.name".to_owned(), self.name.to_string()),
            ("paas.kind".to_owned(), self.kind.to_string()),
            (TYPE_LABEL.to_owned(), self.name.process_type.to_string()),
            ("paas.release".to_owned(), self.release.0.to_string()),
            ("paas.generation".to_owned(), self.generation.0.to_string()),
            ("paas.restart".to_owned(), self.restart.to_string()),
            ("paas.size".to_owned(), self.size.to_string()),
            ("paas.command".to_owned(), self.command.clone()),
        ]);
        if let Some(port) = self.port {
            labels.insert("paas.port".to_owned(), port.to_string());
        }
        if self.attach {
            labels.insert("paas.attach".to_owned(), if self.tty { "tty" } else { "pipe" }.to_owned());
        }
        labels
    }

    /// Reads labels back; `None` when they are not a dyno's.
    pub(crate) fn read(labels: &HashMap<String, String>) -> Option<Self> {
        let text = |key: &str| labels.get(key).map(String::as_str);
        let attach = text("paas.attach");
        Some(Self {
            app: text(APP_LABEL)?.parse().ok()?,
            dyno: text(DYNO_LABEL)?.parse().ok()?,
            name: text("paas.name")?.parse().ok()?,
            kind: text("paas.kind")?.parse().ok()?,
            release: ReleaseVersion(text("paas.release")?.parse().ok()?),
            generation: Generation(text("paas.generation")?.parse().ok()?),
            restart: text("paas.restart")?.parse().ok()?,
            size: text("paas.size")?.parse().ok()?,
            command: text("paas.command")?.to_owned(),
            port: text("paas.port").and_then(|p| p.parse().ok()),
            attach: attach.is_some(),
            tty: attach == Some("tty"),
        })
    }

    /// The container's name. A service's is its slot's, so the engine itself refuses a slot twice;
    /// a one-off dyno's is its id's, so it is made once.
    pub(crate) fn container_name(&self, install: &InstallId) -> String {
        match self.kind {
            DynoKind::Service => outside_name(install, &self.app, &self.name.to_string()),
            DynoKind::Run | DynoKind::Release => outside_name(install, &self.app, self.dyno.as_str()),
        }
    }

    /// The process type.
    pub(crate) fn process_type(&self) -> &ProcessType {
        &self.name.process_type
    }

    /// Whether it belongs to the formation.
    pub(crate) fn is_service(&self) -> bool {
        self.kind == DynoKind::Service
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_read_back() {
        let tag = Tag {
            app: AppId::new(),
            dyno: DynoId::new(),
            name: "web.3".parse().expect("a name"),
            kind: DynoKind::Service,
            release: ReleaseVersion(7),
            generation: Generation(12),
            restart: 1,
            size: DynoSize::Standard2X,
            command: "bin/web --port $PORT".to_owned(),
            port: Some(5000),
            attach: false,
            tty: false,
        };
        let install = InstallId::random();
        assert_eq!(Tag::read(&tag.labels(&install)), Some(tag.clone()));
        assert!(tag.container_name(&install).ends_with("-web.3"));
        assert_eq!(Tag::read(&HashMap::new()), None);
    }
}
