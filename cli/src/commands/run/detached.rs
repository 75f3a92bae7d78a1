//! `run:detached`.

use paas_proto::{CreateDyno, CreateLogSession, Dyno};

use super::{What, start};
use crate::commands::logs;
use crate::cx::Cx;
use crate::error::Done;
use crate::text::printable;
use crate::ui;

/// run a detached dyno, where output is sent to your logs
#[derive(clap::Args)]
pub(crate) struct Detached {
    #[command(flatten)]
    what: What,
    /// continually stream logs
    #[arg(short, long)]
    tail: bool,
}

impl Detached {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let command = self.what.command()?;
        let api = cx.api()?;
        let app = self.what.app.name(cx)?;
        let wanted = CreateDyno {
            attach: Some(false),
            command: command.clone(),
            env: Some(self.what.env()?),
            size: self.what.size.clone(),
            r#type: self.what.process_type.clone(),
            ..CreateDyno::default()
        };
        let dyno: Dyno = ui::action(&format!("Running {command} on {}", ui::app(&app)), || {
            let dyno = start(api, &app, &wanted)?;
            let said = format!(", {}", dyno.name);
            Ok((dyno, said))
        })?;
        if self.tail {
            let wanted = CreateLogSession { dyno: Some(dyno.name), tail: Some(true), ..CreateLogSession::default() };
            return logs::show(api, &app, &wanted, logs::colours());
        }
        ui::line(printable(&format!("Run paas logs --app {app} --dyno {} to view the output.\n", dyno.name)));
        Ok(())
    }
}
