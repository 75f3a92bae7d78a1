//! `config`: the app's config vars.

use paas_proto::{ConfigVars, ConfigVarsChange, Release};

use crate::api::Client;
use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::quote::quote;
use crate::text::path_segment;
use crate::ui;

pub(crate) mod get;
pub(crate) mod set;
pub(crate) mod unset;

/// display the config vars for an app
#[derive(clap::Args)]
pub(crate) struct Config {
    #[command(flatten)]
    app: AppFlag,
    /// output config vars in json format
    #[arg(short, long)]
    json: bool,
    /// output config vars in shell format
    #[arg(short, long, conflicts_with = "json")]
    shell: bool,
}

impl Config {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let app = self.app.name(cx)?;
        let vars: ConfigVars = cx.api()?.get(&format!("/apps/{}/config-vars", path_segment(&app)))?;
        if self.json {
            return ui::json(&vars);
        }
        if self.shell {
            for (name, value) in &vars {
                ui::line(format!("{name}={}", quote(value)));
            }
            return Ok(());
        }
        ui::header(&format!("{} Config Vars", ui::app(&app)));
        let rows: Vec<_> = vars.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        ui::object(&rows);
        Ok(())
    }
}

/// Changes config vars, and gives all of them with what to say after "done": the release that came of it.
fn change(api: &Client, app: &str, change: &ConfigVarsChange) -> Result<(ConfigVars, String), Failure> {
    let path = format!("/apps/{}", path_segment(app));
    let vars = api.patch(&format!("{path}/config-vars"), change)?;
    let newest: Vec<Release> = api.page(&format!("{path}/releases"), "version ..; order=desc,max=1")?;
    Ok((vars, newest.first().map_or(String::new(), |release| format!(", v{}", release.version))))
}
