//! `domains:remove`.

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::Done;
use crate::text::path_segment;
use crate::ui;

/// remove a domain from an app
#[derive(clap::Args)]
pub(crate) struct Remove {
    /// the full hostname
    hostname: String,
    #[command(flatten)]
    app: AppFlag,
}

impl Remove {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let api = cx.api()?;
        let app = self.app.name(cx)?;
        ui::action(&format!("Removing {} from {}", self.hostname, ui::app(&app)), || {
            api.delete(&format!("/apps/{}/domains/{}", path_segment(&app), path_segment(&self.hostname)))?;
            Ok(((), String::new()))
        })
    }
}
