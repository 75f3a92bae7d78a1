//! `apps:create`: a new app, and a git remote that leads to it.

use paas_proto::{App, CreateApp, UpdateBuildpacks};

use crate::cx::Cx;
use crate::error::Done;
use crate::text::{path_segment, printable};
use crate::{git, ui};

/// creates a new app
#[derive(clap::Args)]
pub(crate) struct Create {
    /// name of app to create
    #[arg(value_name = "APP")]
    name: Option<String>,
    /// name of app to create
    #[arg(short, long, hide = true, conflicts_with = "name")]
    app: Option<String>,
    /// buildpack to use for this app
    #[arg(short, long)]
    buildpack: Option<String>,
    /// output in json format
    #[arg(long)]
    json: bool,
    /// do not create a git remote
    #[arg(short, long, conflicts_with = "remote")]
    no_remote: bool,
    /// specify region for the app to run in
    #[arg(long)]
    region: Option<String>,
    /// the git remote to create
    #[arg(short, long, default_value = "aws")]
    remote: String,
    /// the stack to create the app on
    #[arg(short, long)]
    stack: Option<String>,
}

impl Create {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let api = cx.api()?;
        let env = || ["PAAS_APP", "HEROKU_APP"].iter().find_map(|n| std::env::var(n).ok().filter(|v| !v.is_empty()));
        let name = self.name.or(self.app).or_else(env);
        let wanted = CreateApp { name: name.clone(), region: self.region.clone(), stack: self.stack.clone() };

        let doing = format!("Creating {}", name.as_ref().map_or("app".to_owned(), |n| ui::app(n)));
        let app: App = ui::action(&doing, || {
            let app: App = api.post("/apps", &wanted)?;
            let mut said = if name.is_none() { format!(", {}", ui::app(&app.name)) } else { String::new() };
            if self.region.is_some() {
                said.push_str(&format!(", region is {}", app.region.name));
            }
            if self.stack.is_some() {
                said.push_str(&format!(", stack is {}", app.stack.name));
            }
            Ok((app, said))
        })?;
        if let Some(buildpack) = self.buildpack {
            ui::action(&format!("Setting buildpack to {buildpack}"), || {
                let path = format!("/apps/{}/buildpack-installations", path_segment(&app.name));
                let updates = vec![paas_proto::BuildpackUpdate { buildpack: buildpack.clone() }];
                let _: serde_json::Value = api.put(&path, &UpdateBuildpacks { updates })?;
                Ok(((), String::new()))
            })?;
        }
        if !self.no_remote && git::in_repository() {
            match git::remote_url(&self.remote) {
                None => {
                    git::git(&["remote", "add", "--", &self.remote, &app.git_url])?;
                }
                Some(url) if url == app.git_url => {}
                Some(url) => ui::warn(&format!(
                    "git remote {} leads to {url} already and was left alone.\nTo add another: paas git:remote --app {} --remote NAME",
                    self.remote, app.name
                )),
            }
        }
        if self.json {
            return ui::json(&app);
        }
        ui::line(printable(&format!("{} | {}", app.web_url.unwrap_or_default(), app.git_url)));
        Ok(())
    }
}
