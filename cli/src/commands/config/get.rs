//! `config:get`.

use paas_proto::ConfigVars;
use serde_json::json;

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::Done;
use crate::quote::quote;
use crate::ui;

/// display a single config value for an app
#[derive(clap::Args)]
pub(crate) struct Get {
    /// key name of the config var value
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<String>,
    #[command(flatten)]
    app: AppFlag,
    /// output in json format
    #[arg(short, long)]
    json: bool,
    /// output config vars in shell format
    #[arg(short, long, conflicts_with = "json")]
    shell: bool,
}

impl Get {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let vars: ConfigVars = cx.api()?.get(&self.app.path(cx, "/config-vars")?)?;
        if self.json {
            let found: Vec<_> = self.keys.iter().map(|key| json!({"key": key, "value": vars.get(key)})).collect();
            return if let [one] = found.as_slice() { ui::json(one) } else { ui::json(&found) };
        }
        for key in &self.keys {
            let value = vars.get(key).map_or("", String::as_str);
            ui::line(if self.shell { format!("{key}={}", quote(value)) } else { value.to_owned() });
        }
        Ok(())
    }
}
