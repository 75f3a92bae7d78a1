//! `version`.

use crate::cx::Cx;
use crate::error::Done;
use crate::ui;

/// show the version
#[derive(clap::Args)]
pub(crate) struct Version {}

impl Version {
    pub(crate) fn run(self, _: &Cx) -> Done {
        ui::line(crate::parse::version());
        Ok(())
    }
}
