//! `config:set`.

use paas_proto::ConfigVarsChange;

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::ui;

/// set one or more config vars
#[derive(clap::Args)]
pub(crate) struct Set {
    /// config vars to set, as KEY1=VALUE1 KEY2=VALUE2
    #[arg(value_name = "KEY=VALUE")]
    pairs: Vec<String>,
    #[command(flatten)]
    app: AppFlag,
}

impl Set {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        if self.pairs.is_empty() {
            return Err(Failure::new(
                "Usage: paas config:set KEY1=VALUE1 [KEY2=VALUE2 ...]\nMust specify KEY and VALUE to set.",
            ));
        }
        let mut names = Vec::new();
        let mut change = ConfigVarsChange::new();
        for pair in &self.pairs {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(Failure::new(format!("{pair} is invalid. Must be in the format FOO=bar.")));
            };
            names.push(name);
            change.insert(name.to_owned(), Some(value.to_owned()));
        }
        let api = cx.api()?;
        let app = self.app.name(cx)?;
        let vars = ui::action(&format!("Setting {} and restarting {}", names.join(", "), ui::app(&app)), || {
            super::change(api, &app, &change)
        })?;
        let shown: Vec<_> = vars.iter().filter(|(name, _)| change.contains_key(*name)).collect();
        if !shown.is_empty() {
            ui::object(&shown.iter().map(|(name, value)| (name.as_str(), (*value).clone())).collect::<Vec<_>>());
        }
        Ok(())
    }
}
