//! `auth:token`.

use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::ui;

/// outputs current CLI authentication token
#[derive(clap::Args)]
pub(crate) struct Token {}

impl Token {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let key = cx.settings()?.key()?.ok_or_else(|| Failure::usage("not logged in"))?;
        ui::line(key);
        Ok(())
    }
}
