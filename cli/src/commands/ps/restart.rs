//! `ps:restart`.

use super::Which;
use crate::cx::Cx;
use crate::error::Done;
use crate::text::path_segment;
use crate::ui;

/// restart an app dyno or process type
///
/// If neither a dyno nor a process type is specified, restarts all dynos on app.
#[derive(clap::Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    which: Which,
}

impl Restart {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let api = cx.api()?;
        let app = self.which.app.name(cx)?;
        let (what, path) = self.which.target().unwrap_or(("all dynos".to_owned(), "/dynos".to_owned()));
        ui::action(&format!("Restarting {what} on {}", ui::app(&app)), || {
            api.delete(&format!("/apps/{}{path}", path_segment(&app)))?;
            Ok(((), String::new()))
        })
    }
}
