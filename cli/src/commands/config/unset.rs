//! `config:unset`.

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::ui;

/// unset one or more config vars
#[derive(clap::Args)]
pub(crate) struct Unset {
    /// config vars to unset
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    app: AppFlag,
}

impl Unset {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        if self.keys.is_empty() {
            return Err(Failure::usage("Usage: paas config:unset KEY1 [KEY2 ...]\nMust specify KEY to unset."));
        }
        let api = cx.api()?;
        let app = self.app.name(cx)?;
        let change = self.keys.iter().map(|key| (key.clone(), None)).collect();
        ui::action(&format!("Unsetting {} and restarting {}", self.keys.join(", "), ui::app(&app)), || {
            super::change(api, &app, &change)
        })?;
        Ok(())
    }
}
