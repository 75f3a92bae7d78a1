//! What the foundation costs in a month before any app runs, and what an app adds.

use paas_domain::DynoSize;

use super::parameters::Parameters;
use crate::prices::Prices;
use paas_domain::Architecture;

use crate::sizes::FargateSize;

/// One line of the estimate.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    /// What for.
    pub(super) what: String,
    /// US dollars a month; `None` when the table does not know.
    pub(super) usd: Option<f64>,
}

/// What stands costs, whether used or not.
pub(super) fn standing(parameters: &Parameters) -> Vec<Line> {
    let prices = Prices::table();
    let line = |what: &str, name: &str, count: f64| Line {
        what: what.to_owned(),
        usd: prices.monthly(name).map(|usd| usd * count),
    };
    let zones = subnets(parameters);
    let mut lines = vec![
        line("load balancer", "alb", 1.0),
        line(&format!("its {zones} public addresses"), "public_ipv4", f64::from(zones)),
        line("encryption key", "kms_key", 1.0),
    ];
    if parameters.get("HostedZoneId").is_empty() {
        lines.push(line("DNS zone", "hosted_zone", 1.0));
    }
    let class = parameters.get("Database");
    if class != "none" {
        let copies = if parameters.get("DatabaseMultiAz") == "true" { 2.0 } else { 1.0 };
        lines.push(line(&format!("database {class}"), class, copies));
        lines.push(line("its 20 GB", "rds_gp3_gb", 20.0 * copies));
        lines.push(line("its password in Secrets Manager", "secret", 1.0));
    }
    lines
}

/// What comes with use, a sentence each.
pub(super) fn by_use(parameters: &Parameters) -> Vec<String> {
    let prices = Prices::table();
    let usd = |name: &str| prices.monthly(name).unwrap_or_default();
    let size = FargateSize::of(DynoSize::Standard1X);
    let address = if parameters.get("DynoPublicIp") == "ENABLED" { usd("public_ipv4") } else { 0.0 };
    let dyno = |architecture| size.usd_per_month(architecture) + address;
    vec![
        format!(
            "a Standard-1X dyno ${:.2}, on ARM64 ${:.2}, its public address included",
            dyno(Architecture::X86),
            dyno(Architecture::Arm)
        ),
        format!("an app's config vars ${:.2}", usd("secret")),
        format!("logs ${:.2} a gigabyte", usd("logs_ingested_gb")),
        format!(
            "load ${:.2} a load balancer capacity unit (LCU), objects ${:.3} a gigabyte",
            usd("alb_lcu"),
            usd("s3_gb")
        ),
    ]
}

fn subnets(parameters: &Parameters) -> u32 {
    let given = parameters.get("Subnets");
    if given.is_empty() { 2 } else { u32::try_from(given.split(',').count()).unwrap_or(2) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::Wish;

    fn total(wish: Wish) -> f64 {
        let wish = Wish { region: "us-east-1".into(), stack: "paas".into(), domain: "a.example.com".into(), ..wish };
        let parameters = Parameters::decide(&wish, "123456789012", None).expect("parameters");
        standing(&parameters).iter().map(|line| line.usd.expect("a known price")).sum()
    }

    #[test]
    fn adds_up() {
        let close = |a: f64, b: f64| (a - b).abs() < 0.005;
        // 16.425 + 2 × 3.65 + 1 + 0.50, and with the database 11.68 + 2.30 + 0.40.
        assert!(close(total(Wish { database: Some("none".into()), ..Wish::default() }), 25.225));
        assert!(close(total(Wish::default()), 39.605));
        assert!(close(total(Wish { multi_az: Some(true), ..Wish::default() }), 53.585));
        assert!(close(total(Wish { zone: Some("Z1".into()), ..Wish::default() }), 39.105));
    }
}
