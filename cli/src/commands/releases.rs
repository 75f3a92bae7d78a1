//! `releases`: the numbered states of an app.

use paas_proto::{Release, ReleaseStatus};

use crate::api::Client;
use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::text::path_segment;
use crate::time::ago;
use crate::ui;

pub(crate) mod info;
pub(crate) mod output;
pub(crate) mod retry;
pub(crate) mod rollback;

/// display the releases for an app
#[derive(clap::Args)]
pub(crate) struct Releases {
    #[command(flatten)]
    app: AppFlag,
    /// output releases in json format
    #[arg(long)]
    json: bool,
    /// number of releases to show
    #[arg(short, long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=1000))]
    num: u16,
}

impl Releases {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let app = self.app.name(cx)?;
        let mut releases = newest(cx.api()?, &app, self.num)?;
        if self.json {
            return ui::json(&releases);
        }
        if releases.is_empty() {
            ui::line(format!("{} has no releases.", ui::app(&app)));
            return Ok(());
        }
        releases.sort_by_key(|release| std::cmp::Reverse(release.version));
        let current = releases.iter().find(|release| release.current);
        let current = current.map_or(String::new(), |release| format!(" - Current: v{}", release.version));
        ui::header(&format!("{} Releases{current}", ui::app(&app)));
        let rows: Vec<_> = releases
            .iter()
            .map(|r| vec![format!("v{}", r.version), described(r), r.user.email.clone(), ago(&r.created_at)])
            .collect();
        ui::table(&["v", "description", "user", "created_at"], &rows);
        Ok(())
    }
}

fn newest(api: &Client, app: &str, count: u16) -> Result<Vec<Release>, Failure> {
    api.page(&format!("/apps/{}/releases", path_segment(app)), &format!("version ..; max={count}, order=desc"))
}

fn described(release: &Release) -> String {
    match status(release) {
        "" => release.description.clone(),
        status => format!("{} {status}", release.description),
    }
}

fn status(release: &Release) -> &'static str {
    match release.status {
        ReleaseStatus::Expired => "release expired",
        ReleaseStatus::Failed => "release command failed",
        ReleaseStatus::Pending => "release command executing",
        ReleaseStatus::Succeeded => "",
    }
}

/// The named release (`v3`, `3` or an id), or the newest.
fn find(api: &Client, app: &str, named: Option<&str>) -> Result<Release, Failure> {
    match named {
        Some(named) => {
            let lower = named.to_lowercase();
            let id = lower.strip_prefix('v').unwrap_or(&lower);
            api.get(&format!("/apps/{}/releases/{}", path_segment(app), path_segment(id)))
        }
        None => {
            let none = || Failure::usage(format!("No release found for {}.", ui::app(app)));
            newest(api, app, 1)?.into_iter().next().ok_or_else(none)
        }
    }
}

/// Shows the release phase's output as it comes, when the release has a release phase.
fn follow(api: &Client, app: &str, release: &Release) -> Done {
    let Some(url) = &release.output_stream_url else { return Ok(()) };
    ui::line("Running release command...");
    ui::flush();
    match output::stream(api, url) {
        Err(failure) if failure.status() == Some(404) => {
            ui::warn(&format!("Release command starting. Use `paas releases:output --app {app}` to view the log."));
            Ok(())
        }
        result => result,
    }
}
