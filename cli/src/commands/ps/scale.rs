//! `ps:scale`: how many dynos a process type runs, and of which size.

use std::str::FromStr;

use paas_proto::{Formation, FormationChange, FormationUpdate, NumberOrText, UpdateFormation};

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::text::{path_segment, printable};
use crate::ui;

/// scale dyno quantity up or down
///
/// Appending a size (eg. web=2:Standard-2X) allows simultaneous scaling and resizing. Omitting any arguments will
/// display the app's current dyno formation, in a format suitable for passing back into ps:scale.
#[derive(clap::Args)]
pub(crate) struct Scale {
    /// process types to change, as web=3, worker+1 or web=2:Standard-2X
    #[arg(value_name = "TYPE=QUANTITY")]
    changes: Vec<Change>,
    #[command(flatten)]
    app: AppFlag,
}

impl Scale {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let api = cx.api()?;
        let app = self.app.name(cx)?;
        let path = format!("/apps/{}/formation", path_segment(&app));
        if self.changes.is_empty() {
            let formation: Vec<Formation> = api.list(&path)?;
            if formation.is_empty() {
                return Err(no_process_types(&app));
            }
            let mut shown: Vec<_> =
                formation.iter().map(|f| format!("{}={}:{}", f.r#type, f.quantity, f.size)).collect();
            shown.sort();
            ui::line(printable(&shown.join(" ")));
            return Ok(());
        }
        ui::action("Scaling dynos", || {
            let updates = self.changes.iter().map(Change::update).collect();
            let formation: Vec<Formation> = api.patch(&path, &UpdateFormation { updates })?;
            let changed =
                formation.iter().filter(|f| self.changes.iter().any(|change| change.process_type == f.r#type));
            let shown: Vec<_> = changed.map(|f| format!("{} at {}:{}", f.r#type, f.quantity, f.size)).collect();
            Ok(((), format!(", now running {}", shown.join(", "))))
        })
    }
}

/// What to tell about an app that has nothing to scale.
pub(super) fn no_process_types(app: &str) -> Failure {
    Failure::new(format!(
        "No process types on {}.\nUpload a Procfile to add process types.\nhttps://devcenter.heroku.com/articles/procfile",
        ui::app(app)
    ))
}

/// `web=3`, `worker+1`, `web-1`, `web=2:Standard-2X`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    process_type: String,
    /// `3`, `+1` or `-1`, as the API reads it.
    quantity: String,
    size: Option<String>,
}

impl Change {
    fn update(&self) -> FormationUpdate {
        let quantity = Some(NumberOrText::Text(self.quantity.clone()));
        let change = FormationChange { quantity, size: self.size.clone(), ..FormationChange::default() };
        FormationUpdate { r#type: self.process_type.clone(), change }
    }
}

impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (what, size) = match text.split_once(':') {
            Some((what, size)) => (what, Some(size)),
            None => (text, None),
        };
        // `web-2=3` is about `web-2`, but `web-2` takes two from `web`.
        let Some(at) = what.find('=').or_else(|| what.rfind(['+', '-'])) else {
            return Err(format!("`{0}` says no quantity: use `{0}=3`, `{0}+1` or `{0}-1`", printable(what)));
        };
        let (process_type, quantity) = what.split_at(at);
        let word = |w: &str| !w.is_empty() && w.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if !word(process_type) {
            return Err(format!(
                "`{}` is not a process type: use letters, digits, `-` and `_`",
                printable(process_type)
            ));
        }
        let digits = &quantity[1..];
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("`{}` is not a quantity: use `=3`, `+1` or `-1`", printable(quantity)));
        }
        if let Some(size) = size.filter(|size| !word(size)) {
            return Err(format!("`{}` is not a dyno size: use one such as Basic or Standard-2X", printable(size)));
        }
        Ok(Self {
            process_type: process_type.to_owned(),
            quantity: quantity.strip_prefix('=').unwrap_or(quantity).to_owned(),
            size: size.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(String, String, Option<String>), String> {
        text.parse::<Change>().map(|c| (c.process_type, c.quantity, c.size))
    }

    #[test]
    fn reads_what_heroku_reads() {
        let is = |t: &str, q: &str, s: Option<&str>| Ok((t.to_owned(), q.to_owned(), s.map(str::to_owned)));
        assert_eq!(parsed("web=3"), is("web", "3", None));
        assert_eq!(parsed("web+1"), is("web", "+1", None));
        assert_eq!(parsed("web-1"), is("web", "-1", None));
        assert_eq!(parsed("web=2:Standard-2X"), is("web", "2", Some("Standard-2X")));
        assert_eq!(parsed("my-worker_2=0"), is("my-worker_2", "0", None));
        assert_eq!(parsed("my-worker-2"), is("my-worker", "-2", None));
        assert_eq!(parsed("a-b+1:basic"), is("a-b", "+1", Some("basic")));
    }

    #[test]
    fn refuses_nonsense_aloud() {
        let refused = |t: &str| parsed(t).expect_err(t);
        for (text, quantity) in [
            ("web=-1", "=-1"),
            ("web+a", "+a"),
            ("web=", "="),
            ("web=+1", "=+1"),
            ("web=1.5", "=1.5"),
            ("web=３", "=３"),
        ] {
            assert_eq!(refused(text), format!("`{quantity}` is not a quantity: use `=3`, `+1` or `-1`"), "{text}");
        }
        assert_eq!(refused("web"), "`web` says no quantity: use `web=3`, `web+1` or `web-1`");
        assert_eq!(refused("🦀=1"), "`🦀` is not a process type: use letters, digits, `-` and `_`");
        assert!(refused("=1").contains("not a process type") && refused("a b=1").contains("not a process type"));
        assert!(refused("web=1:").contains("not a dyno size") && refused("web=1:x y").contains("not a dyno size"));
    }
}
