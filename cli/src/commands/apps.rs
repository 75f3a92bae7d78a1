//! `apps`: list your apps.

use paas_proto::{Account, App};

use crate::cx::Cx;
use crate::error::Done;
use crate::text::printable;
use crate::ui;

pub(crate) mod create;
pub(crate) mod destroy;
pub(crate) mod info;
pub(crate) mod open;
pub(crate) mod rename;

/// list your apps
#[derive(clap::Args)]
pub(crate) struct Apps {
    /// include apps in all teams
    #[arg(short = 'A', long)]
    all: bool,
    /// output in json format
    #[arg(short, long)]
    json: bool,
}

impl Apps {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let api = cx.api()?;
        let path = if self.all { "/apps" } else { "/users/~/apps" };
        let mut apps: Vec<App> = api.list(path)?;
        apps.sort_by(|a, b| a.name.cmp(&b.name));
        if self.json {
            return ui::json(&apps);
        }
        if apps.is_empty() {
            ui::line("You have no apps.");
            return Ok(());
        }
        let account: Account = api.get("/account")?;
        let (mine, others): (Vec<_>, Vec<_>) = apps.into_iter().partition(|app| app.owner.email == account.email);
        if !mine.is_empty() {
            ui::header(&format!("{} Apps", account.email));
            for app in &mine {
                ui::line(printable(&with_region(app)));
            }
        }
        if !others.is_empty() {
            ui::line("\nCollaborated Apps\n");
            let rows: Vec<_> = others.iter().map(|app| vec![with_region(app), app.owner.email.clone()]).collect();
            ui::table(&["Name", "Email"], &rows);
        }
        Ok(())
    }
}

fn with_region(app: &App) -> String {
    if app.region.name == "us" { app.name.clone() } else { format!("{} ({})", app.name, app.region.name) }
}
