//! `domains`: the host names that lead to an app.

use paas_proto::{Domain, DomainKind};

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::Done;
use crate::text::{path_segment, printable};
use crate::ui;

pub(crate) mod add;
pub(crate) mod remove;

/// list domains for an app
#[derive(clap::Args)]
pub(crate) struct Domains {
    #[command(flatten)]
    app: AppFlag,
    /// output in json format
    #[arg(short, long)]
    json: bool,
}

impl Domains {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let app = self.app.name(cx)?;
        let domains: Vec<Domain> = cx.api()?.list(&format!("/apps/{}/domains", path_segment(&app)))?;
        if self.json {
            return ui::json(&domains);
        }
        let (ours, custom): (Vec<_>, Vec<_>) = domains.iter().partition(|domain| domain.kind == DomainKind::Heroku);
        ui::header(&format!("{} Heroku Domain", ui::app(&app)));
        ui::line(ours.first().map_or(String::new(), |domain| printable(&domain.hostname)));
        if !custom.is_empty() {
            ui::line("\n");
            ui::header(&format!("{} Custom Domains", ui::app(&app)));
            let rows: Vec<_> = custom.iter().map(|domain| row(domain)).collect();
            ui::table(&["Domain Name", "DNS Record Type", "DNS Target", "SNI Endpoint"], &rows);
            certificates(&app, &custom);
        }
        Ok(())
    }
}

/// What the owner is to do for the certificates that the platform gets by itself, where it does.
fn certificates(app: &str, custom: &[&Domain]) {
    let managed: Vec<_> = custom.iter().filter(|domain| domain.acm_status.is_some()).collect();
    if managed.is_empty() {
        return;
    }
    ui::header(&format!("{} Certificates", ui::app(app)));
    for domain in managed {
        let reason = domain.acm_status_reason.as_ref().map_or(String::new(), |reason| format!(". {reason}"));
        ui::line(printable(&format!("{}: {}{reason}", domain.hostname, domain.acm_status.clone().unwrap_or_default())));
    }
}

fn row(domain: &Domain) -> Vec<String> {
    // Names of two labels cannot be a CNAME, since they carry their zone's own records.
    let apex = !domain.hostname.starts_with('*') && domain.hostname.split('.').count() <= 2;
    vec![
        domain.hostname.clone(),
        if apex { "ALIAS or ANAME" } else { "CNAME" }.to_owned(),
        domain.cname.clone().unwrap_or_default(),
        domain.sni_endpoint.as_ref().map_or(String::new(), |endpoint| endpoint.name.clone()),
    ]
}
