//! `ps`: an app's dynos.

use paas_proto::Dyno;

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::text::{path_segment, printable};
use crate::time::ago;
use crate::ui;

pub(crate) mod restart;
pub(crate) mod scale;
pub(crate) mod stop;
pub(crate) mod r#type;

/// list dynos for an app
#[derive(clap::Args)]
pub(crate) struct Ps {
    /// only these process types
    #[arg(value_name = "TYPE")]
    types: Vec<String>,
    #[command(flatten)]
    app: AppFlag,
    /// display as json
    #[arg(long)]
    json: bool,
}

impl Ps {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let app = self.app.name(cx)?;
        let mut dynos: Vec<Dyno> = cx.api()?.list(&format!("/apps/{}/dynos", path_segment(&app)))?;
        if !self.types.is_empty() {
            dynos.retain(|dyno| self.types.contains(&dyno.r#type));
            if let Some(none) = self.types.iter().find(|t| dynos.iter().all(|dyno| dyno.r#type != **t)) {
                return Err(Failure::new(format!("No {none} dynos on {}", ui::app(&app))));
            }
        }
        dynos.sort_by(|a, b| (&a.r#type, number(&a.name), &a.name).cmp(&(&b.r#type, number(&b.name), &b.name)));
        if self.json {
            return ui::json(&dynos);
        }
        if dynos.is_empty() {
            ui::line(format!("No dynos on {}", ui::app(&app)));
        }
        show(&dynos);
        Ok(())
    }
}

/// One-off dynos, then the others under the command that they share.
fn show(dynos: &[Dyno]) {
    let (one_offs, services): (Vec<_>, Vec<_>) = dynos.iter().partition(|dyno| dyno.r#type == "run");
    if !one_offs.is_empty() {
        ui::header(&format!("run: one-off processes ({})", one_offs.len()));
        for dyno in one_offs {
            let (size, since) = (&dyno.size, ago(&dyno.updated_at));
            ui::line(printable(&format!("{} ({size}): {} {since}: {}", dyno.name, dyno.state, dyno.command)));
        }
        ui::line("");
    }
    for group in services.chunk_by(|a, b| a.r#type == b.r#type && a.command == b.command) {
        let first = group[0];
        ui::header(&format!("{} ({}): {} ({})", first.r#type, first.size, first.command, group.len()));
        for dyno in group {
            ui::line(printable(&format!("{}: {} {}", dyno.name, dyno.state, ago(&dyno.updated_at))));
        }
        ui::line("");
    }
}

/// `2` of `web.2`.
fn number(name: &str) -> u64 {
    name.rsplit_once('.').and_then(|(_, n)| n.parse().ok()).unwrap_or(0)
}

/// Which dynos `ps:restart` and `ps:stop` are about.
#[derive(clap::Args)]
struct Which {
    /// name of the dyno (web.1) or process type (web)
    dyno: Option<String>,
    #[command(flatten)]
    app: AppFlag,
    /// name of the dyno
    #[arg(short, long, visible_alias = "dyno", value_name = "DYNO", conflicts_with = "dyno")]
    dyno_name: Option<String>,
    /// name of the process type
    #[arg(short, long, value_name = "TYPE", conflicts_with_all = ["dyno_name", "dyno"])]
    process_type: Option<String>,
}

impl Which {
    /// What to call them, and the API's path to them behind the app's; `None` for all of the app.
    fn target(&self) -> Option<(String, String)> {
        let of_type = |t: &str| (format!("all {t} dynos"), format!("/formations/{}", path_segment(t)));
        match (&self.process_type, self.dyno_name.as_ref().or(self.dyno.as_ref())) {
            (Some(process_type), _) => Some(of_type(process_type)),
            // A dyno is `type.number`: without the dot, a whole type is meant.
            (None, Some(name)) if self.dyno_name.is_none() && !name.contains('.') => Some(of_type(name)),
            (None, Some(name)) => Some((format!("dyno {name}"), format!("/dynos/{}", path_segment(name)))),
            (None, None) => None,
        }
    }
}
