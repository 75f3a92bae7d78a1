//! `auth:whoami`.

use paas_proto::Account;

use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::text::printable;
use crate::ui;

/// display the current logged in user
#[derive(clap::Args)]
pub(crate) struct Whoami {}

impl Whoami {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let settings = cx.settings()?;
        if settings.key_is_from_env() {
            ui::warn("PAAS_API_KEY is set");
        }
        let out = || Failure::new("not logged in").code(100);
        if settings.key()?.is_none() {
            return Err(out());
        }
        let account: Account =
            cx.api()?.get("/account").map_err(|failure| if failure.status() == Some(401) { out() } else { failure })?;
        ui::line(printable(&account.email));
        Ok(())
    }
}
