//! `apps:info`.

use paas_proto::{App, Dyno};
use serde_json::json;

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::Done;
use crate::text::{bytes, path_segment, printable};
use crate::ui;

/// show detailed app information
#[derive(clap::Args)]
pub(crate) struct Info {
    #[arg(value_name = "APP", hide = true)]
    name: Option<String>,
    #[command(flatten)]
    app: AppFlag,
    /// output in json format
    #[arg(short, long)]
    json: bool,
    /// output more shell friendly key/value pairs
    #[arg(short, long)]
    shell: bool,
}

impl Info {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let api = cx.api()?;
        let path = format!("/apps/{}", path_segment(&self.app.name_or(self.name.as_ref(), cx)?));
        let app: App = api.get(&path)?;
        let dynos: Vec<Dyno> = api.list(&format!("{path}/dynos"))?;
        if self.json {
            return ui::json(&json!({"app": app, "dynos": dynos}));
        }
        let mut counts: Vec<(String, u32)> = Vec::new();
        for dyno in &dynos {
            match counts.iter_mut().find(|(kind, _)| *kind == dyno.r#type) {
                Some((_, count)) => *count += 1,
                None => counts.push((dyno.r#type.clone(), 1)),
            }
        }
        let counts: Vec<_> = counts.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
        if self.shell {
            shell(&app, &counts);
        } else {
            show(&app, &counts);
        }
        Ok(())
    }
}

fn shell(app: &App, dynos: &[String]) {
    let dynos = if dynos.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", dynos.join(", ")) };
    let mut rows =
        vec![("auto_cert_mgmt", app.acm.to_string()), ("addons", String::new()), ("collaborators", String::new())];
    if let Some(at) = &app.archived_at {
        rows.push(("archived_at", at.clone()));
    }
    if app.create_status != "complete" {
        rows.push(("create_status", app.create_status.clone()));
    }
    rows.extend([
        ("git_url", app.git_url.clone()),
        ("web_url", app.web_url.clone().unwrap_or_default()),
        ("repo_size", bytes(app.repo_size.unwrap_or(0))),
        ("slug_size", bytes(app.slug_size.unwrap_or(0))),
        ("owner", app.owner.email.clone()),
        ("region", app.region.name.clone()),
        ("dynos", dynos),
        ("stack", app.stack.name.clone()),
    ]);
    for (name, value) in rows {
        ui::line(format!("{name}={}", printable(&value)));
    }
}

fn show(app: &App, dynos: &[String]) {
    let mut stack = app.stack.name.clone();
    if app.stack.name != app.build_stack.name {
        stack.push_str(&format!(" (next build will use {})", app.build_stack.name));
    }
    let mut rows = Vec::new();
    if let Some(at) = &app.archived_at {
        rows.push(("Archived At", at.clone()));
    }
    if app.create_status != "complete" {
        rows.push(("Create Status", app.create_status.clone()));
    }
    rows.extend([
        ("Auto Cert Mgmt", app.acm.to_string()),
        ("Git URL", app.git_url.clone()),
        ("Web URL", app.web_url.clone().unwrap_or_default()),
        ("Repo Size", bytes(app.repo_size.unwrap_or(0))),
        ("Slug Size", bytes(app.slug_size.unwrap_or(0))),
        ("Owner", app.owner.email.clone()),
        ("Region", app.region.name.clone()),
        ("Dynos", dynos.join(", ")),
        ("Stack", stack),
    ]);
    ui::header(&app.name);
    ui::object(&rows);
}
