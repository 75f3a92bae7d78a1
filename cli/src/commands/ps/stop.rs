//! `ps:stop`.

use super::Which;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::text::path_segment;
use crate::ui;

/// stop an app dyno or process type
#[derive(clap::Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    which: Which,
}

impl Stop {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let (what, path) = self.which.target().ok_or_else(|| {
            Failure::usage("Please specify a process type or dyno name to stop.\nSee more help with --help")
        })?;
        let api = cx.api()?;
        let app = self.which.app.name(cx)?;
        ui::action(&format!("Stopping {what} on {}", ui::app(&app)), || {
            api.post_empty(&format!("/apps/{}{path}/actions/stop", path_segment(&app)))?;
            Ok(((), String::new()))
        })
    }
}
