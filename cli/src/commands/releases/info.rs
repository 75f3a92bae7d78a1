//! `releases:info`.

use paas_proto::ConfigVars;

use super::{find, status};
use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::Done;
use crate::quote::quote;
use crate::text::path_segment;
use crate::ui;

/// view detailed information for a release
#[derive(clap::Args)]
pub(crate) struct Info {
    /// version or ID of the release; the last release when omitted
    release: Option<String>,
    #[command(flatten)]
    app: AppFlag,
    /// output in json format
    #[arg(long)]
    json: bool,
    /// output in shell format
    #[arg(short, long)]
    shell: bool,
}

impl Info {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let api = cx.api()?;
        let app = self.app.name(cx)?;
        let release = find(api, &app, self.release.as_deref())?;
        if self.json {
            return ui::json(&release);
        }
        let vars: ConfigVars =
            api.get(&format!("/apps/{}/releases/{}/config-vars", path_segment(&app), release.version))?;
        let mut change = release.description.clone();
        if !status(&release).is_empty() {
            change.push_str(&format!(" ({})", status(&release)));
        }
        let mut rows = Vec::new();
        for (i, plan) in release.addon_plan_names.iter().enumerate() {
            rows.push((if i == 0 { "Add-ons" } else { "" }, plan.clone()));
        }
        rows.push(("By", release.user.email.clone()));
        rows.push(("Change", change));
        rows.push(("Eligible for Rollback?", if release.eligible_for_rollback { "Yes" } else { "No" }.to_owned()));
        rows.push(("When", release.created_at.clone()));
        ui::header(&format!("Release v{}", release.version));
        ui::object(&rows);
        ui::line("");
        ui::header(&format!("v{} Config vars", release.version));
        if self.shell {
            for (name, value) in &vars {
                ui::line(format!("{name}={}", quote(value)));
            }
        } else {
            ui::object(&vars.iter().map(|(name, value)| (name.as_str(), value.clone())).collect::<Vec<_>>());
        }
        Ok(())
    }
}
