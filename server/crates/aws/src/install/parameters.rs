//! From what was asked to the template's parameters. Pure.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::account::{Certificate, Stack, Zone};

/// What whoever installs asks for. `None` is: as it is, or as the template has it.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// As `us-east-1`.
    pub region: String,
    /// The stack's name; also what `serve` is told.
    pub stack: String,
    /// What follows an app's name, as `apps.example.com`.
    pub domain: String,
    /// An existing VPC.
    pub vpc: Option<String>,
    /// Its subnets.
    pub subnets: Option<Vec<String>>,
    /// Whether dynos get public addresses.
    pub public_ip: Option<bool>,
    /// An existing cluster.
    pub cluster: Option<String>,
    /// An existing zone by its id; empty for a new one.
    pub zone: Option<String>,
    /// An existing certificate.
    pub certificate: Option<String>,
    /// A policy that limits the roles.
    pub boundary: Option<String>,
    /// The database's class, or `none`.
    pub database: Option<String>,
    /// Whether the database has a standby.
    pub multi_az: Option<bool>,
    /// How many days logs are kept.
    pub log_days: Option<u32>,
    /// Whether resources may be removed or replaced.
    pub replace: bool,
}

/// The template's parameters with their defaults.
const DEFAULTS: [(&str, &str); 13] = [
    ("Installation", ""),
    ("PermissionsBoundary", ""),
    ("VpcId", ""),
    ("Subnets", ""),
    ("VpcCidr", "10.42.0.0/16"),
    ("DynoPublicIp", "ENABLED"),
    ("ClusterName", ""),
    ("Domain", ""),
    ("HostedZoneId", ""),
    ("CertificateArn", ""),
    ("LogRetentionDays", "30"),
    ("Database", "db.t4g.micro"),
    ("DatabaseMultiAz", "false"),
];

/// Those that cannot change under running apps, and what they are called when that is said.
const FIXED: [(&str, &str); 5] = [
    ("Domain", "domain"),
    ("VpcId", "VPC"),
    ("ClusterName", "cluster"),
    ("HostedZoneId", "zone"),
    ("Installation", "installation"),
];

/// The six characters of the installation that a stack is: the same each time, so a stack that is made anew after a
/// failure or a loss finds what carries its name.
fn installation_of(account: &str, region: &str, stack: &str) -> String {
    let digest = Sha256::digest(format!("paas\n{account}\n{region}\n{stack}"));
    data_encoding::BASE32_NOPAD.encode(&digest)[..6].to_lowercase()
}

impl Wish {
    /// Whether it can be meant.
    ///
    /// # Errors
    /// With what is wrong, in words for whoever typed it.
    pub fn check(&self) -> Result<(), String> {
        let starts_well = self.stack.starts_with(|c: char| c.is_ascii_alphabetic());
        if !starts_well || self.stack.len() > 100 || !self.stack.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        {
            return Err(format!("`{}` is not a stack's name: letters, digits and -, a letter first", self.stack));
        }
        if !is_domain(&self.domain) {
            return Err(format!("`{}` is not a domain: give one such as apps.example.com", self.domain));
        }
        match (&self.vpc, &self.subnets) {
            (Some(vpc), None) => return Err(format!("{vpc} needs --subnets too: two or more in different zones")),
            (Some(_), Some(subnets)) if subnets.len() < 2 => {
                return Err("a balancer needs two subnets in different zones: --subnets subnet-a,subnet-b".to_owned());
            }
            _ => {}
        }
        Ok(())
    }
}

/// The template's parameters: all of them, so that two runs can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// What the stack shall have: what was asked, else what it has, else what the template says.
    ///
    /// # Errors
    /// When it would take something away from running apps.
    pub fn decide(wish: &Wish, account: &str, standing: Option<&Stack>) -> Result<Self, String> {
        let asked = asked(wish, account);
        let mut all = BTreeMap::new();
        for (name, default) in DEFAULTS {
            let has = standing.map(|stack| stack.parameters.get(name).map_or(default, String::as_str));
            let value = asked.get(name).map(String::as_str).or(has).unwrap_or(default);
            all.insert(name.to_owned(), value.to_owned());
        }
        if let Some(stack) = standing {
            let has = |name: &str| stack.parameters.get(name).map_or("", String::as_str);
            for (name, word) in FIXED {
                if has(name) != all[name] {
                    return Err(format!(
                        "stack {} has the {word} {}: that cannot change under its apps. Install another stack with --stack",
                        wish.stack,
                        if has(name).is_empty() { "that it made itself" } else { has(name) },
                    ));
                }
            }
            if all["Database"] == "none" && has("Database") != "none" {
                return Err(format!(
                    "stack {} has a database with its apps in it: it is not taken away here",
                    wish.stack
                ));
            }
        }
        Ok(Self(all))
    }

    /// One of them; empty when the template decides.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// All of them.
    #[must_use]
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// What names a proposal of this template with these parameters: the same each time.
    #[must_use]
    pub fn proposal_name(&self, body: &str) -> String {
        let mut digest = Sha256::new();
        digest.update(body);
        for (name, value) in &self.0 {
            digest.update(format!("\n{name}={value}"));
        }
        format!("paas-{}", &data_encoding::HEXLOWER.encode(&digest.finalize())[..16])
    }
}

fn asked(wish: &Wish, account: &str) -> BTreeMap<&'static str, String> {
    let flag = |yes: bool, on: &str, off: &str| if yes { on.to_owned() } else { off.to_owned() };
    let optional = [
        ("PermissionsBoundary", wish.boundary.clone()),
        ("VpcId", wish.vpc.clone()),
        ("Subnets", wish.subnets.as_ref().map(|subnets| subnets.join(","))),
        ("DynoPublicIp", wish.public_ip.map(|yes| flag(yes, "ENABLED", "DISABLED"))),
        ("ClusterName", wish.cluster.clone()),
        ("HostedZoneId", wish.zone.clone()),
        ("CertificateArn", wish.certificate.clone()),
        ("LogRetentionDays", wish.log_days.map(|days| days.to_string())),
        ("Database", wish.database.clone()),
        ("DatabaseMultiAz", wish.multi_az.map(|yes| flag(yes, "true", "false"))),
    ];
    let mut asked: BTreeMap<_, _> = optional.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    asked.insert("Installation", installation_of(account, &wish.region, &wish.stack));
    asked.insert("Domain", wish.domain.clone());
    asked
}

/// The zone that answers for a domain: of those that hold it, the closest.
pub(super) fn zone_for<'a>(domain: &str, zones: &'a [Zone]) -> Option<&'a Zone> {
    zones.iter().filter(|zone| is_within(domain, &zone.name)).max_by_key(|zone| zone.name.len())
}

pub(super) fn is_within(domain: &str, zone: &str) -> bool {
    domain == zone || domain.strip_suffix(zone).is_some_and(|rest| rest.ends_with('.'))
}

/// Whether a certificate that shall be adopted is good for the apps' names.
pub(super) fn check_certificate(found: &Certificate, domain: &str) -> Result<(), String> {
    let wanted = format!("*.{domain}");
    if found.status != "ISSUED" {
        return Err(format!("the certificate is {}, not ISSUED", found.status));
    }
    if !found.names.iter().any(|name| name.eq_ignore_ascii_case(&wanted)) {
        return Err(format!("the certificate is for {}, not for {wanted}", found.names.join(", ")));
    }
    Ok(())
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    // An app's name may have 30 characters and wants a dot.
    text.len() <= 253 - 31 && text.contains('.') && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::template::parameter_names;

    fn wish() -> Wish {
        Wish { region: "us-east-1".into(), stack: "paas".into(), domain: "apps.example.com".into(), ..Wish::default() }
    }

    fn stack(of: &Parameters) -> Stack {
        Stack { status: "CREATE_COMPLETE".into(), parameters: of.as_map().clone(), ..Stack::default() }
    }

    #[test]
    fn are_those_of_the_template() {
        let mut ours: Vec<_> = DEFAULTS.iter().map(|(name, _)| *name).collect();
        let mut theirs = parameter_names();
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs);
        let text = crate::install::template();
        for (name, default) in DEFAULTS.iter().filter(|(_, default)| !default.is_empty()) {
            let part = text.split(&format!("\n  {name}:\n")).nth(1).expect("the parameter");
            let line = part.lines().find(|line| line.trim_start().starts_with("Default: ")).expect("a default");
            assert_eq!(line.trim_start().trim_start_matches("Default: ").trim_matches('\''), *default, "{name}");
        }
    }

    #[test]
    fn what_was_asked_once_stays() {
        let first = Wish { database: Some("none".into()), log_days: Some(7), ..wish() };
        let first = Parameters::decide(&first, "123456789012", None).expect("parameters");
        let second = Parameters::decide(&wish(), "123456789012", Some(&stack(&first))).expect("parameters");
        assert_eq!(first, second);
        assert_eq!(first.proposal_name("x"), second.proposal_name("x"));
        assert_ne!(first.proposal_name("x"), first.proposal_name("y"));
    }

    #[test]
    fn nothing_is_taken_from_under_apps() {
        let has = stack(&Parameters::decide(&wish(), "123456789012", None).expect("parameters"));
        for change in [
            Wish { domain: "other.example.com".into(), ..wish() },
            Wish { vpc: Some("vpc-1".into()), subnets: Some(vec!["a".into(), "b".into()]), ..wish() },
            Wish { cluster: Some("theirs".into()), ..wish() },
            Wish { database: Some("none".into()), ..wish() },
        ] {
            assert!(Parameters::decide(&change, "123456789012", Some(&has)).is_err(), "{change:?}");
        }
        let larger = Wish { database: Some("db.t4g.small".into()), ..wish() };
        assert!(Parameters::decide(&larger, "123456789012", Some(&has)).is_ok());
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for (change, word) in [
            (Wish { domain: "apps".into(), ..wish() }, "domain"),
            (Wish { domain: "Apps.example.com".into(), ..wish() }, "domain"),
            (Wish { domain: "*.example.com".into(), ..wish() }, "domain"),
            (Wish { stack: "1paas".into(), ..wish() }, "stack"),
            (Wish { stack: "a b".into(), ..wish() }, "stack"),
            (Wish { vpc: Some("vpc-1".into()), ..wish() }, "--subnets"),
            (Wish { vpc: Some("vpc-1".into()), subnets: Some(vec!["a".into()]), ..wish() }, "two subnets"),
        ] {
            let said = change.check().expect_err("refused");
            assert!(said.contains(word), "{said}");
        }
        wish().check().expect("a good wish");
    }

    #[test]
    fn the_closest_zone_answers() {
        let zone = |id: &str, name: &str| Zone { id: id.into(), name: name.into() };
        let zones = [zone("A", "example.com"), zone("B", "apps.example.com"), zone("C", "s.example.com")];
        assert_eq!(zone_for("apps.example.com", &zones).map(|zone| zone.id.as_str()), Some("B"));
        assert_eq!(zone_for("x.example.com", &zones).map(|zone| zone.id.as_str()), Some("A"));
        assert_eq!(zone_for("badexample.com", &zones), None);
    }

    #[test]
    fn an_installation_is_its_stack() {
        let one = installation_of("123456789012", "us-east-1", "paas");
        assert_eq!(one.len(), 6);
        assert!(paas_domain::InstallId::try_from(one.clone()).is_ok());
        assert_ne!(one, installation_of("123456789012", "us-east-1", "paas2"));
        assert_ne!(one, installation_of("123456789012", "eu-west-1", "paas"));
    }
}
