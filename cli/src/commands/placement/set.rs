//! `placement:set`.

use paas_proto::{Placement, UpdatePlacement};

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::ui;

/// change what an app runs on
///
/// On AWS: arm64 (Graviton) costs about a fifth less than x86_64, and needs a builder host of that architecture. With
/// spot, four dynos in five of each process type are taken from Fargate Spot, at about a third of the price; AWS takes
/// them away at two minutes' notice, and others are started.
#[derive(clap::Args)]
pub(crate) struct Set {
    /// what the next push is built for: x86_64 or arm64
    #[arg(long, value_name = "ARCHITECTURE")]
    architecture: Option<String>,
    /// what dynos are taken from: on_demand or spot
    #[arg(long, value_name = "CAPACITY")]
    capacity: Option<String>,
    #[command(flatten)]
    app: AppFlag,
}

impl Set {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        if self.architecture.is_none() && self.capacity.is_none() {
            return Err(Failure::usage("Say what to change: --architecture or --capacity\nSee more help with --help"));
        }
        let api = cx.api()?;
        let app = self.app.name(cx)?;
        let built = self.architecture.is_some();
        let capacity = self.capacity.map(|capacity| capacity.replace('-', "_"));
        let change = UpdatePlacement { architecture: self.architecture, capacity };
        let placement = ui::action(&format!("Changing the placement of {}", ui::app(&app)), || {
            let placement: Placement = api.patch(&super::path(&app), &change)?;
            let now = format!(", {} on {}", placement.capacity.replace('_', " "), placement.architecture);
            Ok((placement, now))
        })?;
        if built {
            ui::line(crate::text::printable(&format!("The next push is built for {}.", placement.architecture)));
        }
        Ok(())
    }
}
