//! `builds`: an app's builds.

use paas_proto::{Build, BuildStatus};

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::Done;
use crate::text::path_segment;
use crate::time::ago;
use crate::ui;

pub(crate) mod create;
pub(crate) mod info;
pub(crate) mod output;

/// display the builds for an app
#[derive(clap::Args)]
pub(crate) struct Builds {
    #[command(flatten)]
    app: AppFlag,
    /// output builds in json format
    #[arg(long)]
    json: bool,
    /// number of builds to show
    #[arg(short, long, default_value_t = 15)]
    num: usize,
}

impl Builds {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let app = self.app.name(cx)?;
        let mut builds: Vec<Build> = cx.api()?.list(&format!("/apps/{}/builds", path_segment(&app)))?;
        // Ids grow with time, and tell apart what happened within one second.
        builds.sort_by(|a, b| (&b.created_at, &b.id).cmp(&(&a.created_at, &a.id)));
        builds.truncate(self.num);
        if self.json {
            return ui::json(&builds);
        }
        if builds.is_empty() {
            ui::line(format!("{} has no builds.", ui::app(&app)));
            return Ok(());
        }
        ui::header(&format!("{} Builds", ui::app(&app)));
        let row = |build: &Build| {
            vec![
                build.id.clone(),
                status(build.status).to_owned(),
                build.source_blob.version.as_deref().unwrap_or_default().chars().take(8).collect(),
                build.user.email.clone(),
                ago(&build.created_at),
            ]
        };
        ui::table(&["id", "status", "version", "user", "created_at"], &builds.iter().map(row).collect::<Vec<_>>());
        Ok(())
    }
}

fn status(status: BuildStatus) -> &'static str {
    match status {
        BuildStatus::Pending => "pending",
        BuildStatus::Succeeded => "succeeded",
        BuildStatus::Failed => "failed",
    }
}
