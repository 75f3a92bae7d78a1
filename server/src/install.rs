//! `paas-server install`: asks little, and hands the rest to [`paas_aws::install`].

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, bail};
use paas_aws::AwsOptions;
use paas_aws::install::{Outcome, Pace, Sdk, Talk, Wish, install, next_steps, template};

/// The foundation on AWS. What is not given is left as it is, or as a new one has it.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// the AWS region
    #[arg(long)]
    region: Option<String>,
    /// what follows an app's name in its own host name, as apps.example.com
    #[arg(long)]
    domain: Option<String>,
    /// the CloudFormation stack's name
    #[arg(long, default_value = "paas")]
    stack: String,
    /// use this VPC instead of a new one; needs --subnets
    #[arg(long, value_name = "ID")]
    vpc: Option<String>,
    /// two or more subnets of that VPC in different zones
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    subnets: Option<Vec<String>>,
    /// give dynos no public address: the subnets reach the internet through NAT
    #[arg(long)]
    no_public_ip: bool,
    /// use this ECS cluster instead of a new one
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// use this Route 53 zone, or `new`; without it the account's zone of the domain is used when there is one
    #[arg(long, value_name = "ID")]
    zone: Option<String>,
    /// use this certificate of *.<domain> instead of a new one
    #[arg(long, value_name = "ARN")]
    certificate: Option<String>,
    /// limit each role by this policy
    #[arg(long, value_name = "ARN")]
    permissions_boundary: Option<String>,
    /// the database's class, as db.t4g.micro, or none
    #[arg(long, value_name = "CLASS")]
    database: Option<String>,
    /// keep a standby of the database in another zone
    #[arg(long)]
    multi_az: bool,
    /// how long logs are kept
    #[arg(long, value_name = "DAYS")]
    log_days: Option<u32>,
    /// let an update remove or replace what is there
    #[arg(long)]
    allow_replacement: bool,
    /// ask nothing
    #[arg(long, short)]
    yes: bool,
    /// print the CloudFormation template and do nothing
    #[arg(long)]
    print_template: bool,
}

/// Does it.
///
/// # Errors
/// In words for whoever installs.
pub fn run(options: Options) -> anyhow::Result<()> {
    if options.print_template {
        print!("{}", template());
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(apply(options))
}

async fn apply(options: Options) -> anyhow::Result<()> {
    let terminal = Terminal { yes: options.yes };
    let known = Sdk::new(&AwsOptions::default()).await.region();
    let region = match options.region.clone() {
        Some(region) => region,
        None => terminal.ask("AWS region", known.as_deref(), "--region")?,
    };
    let domain = match options.domain.clone() {
        Some(domain) => domain,
        None => terminal.ask("Domain of the apps, as apps.example.com", None, "--domain")?,
    };
    let account = Sdk::new(&AwsOptions { region: Some(region.clone()), ..AwsOptions::default() }).await;
    let wish = Wish {
        region,
        domain: domain.trim_end_matches('.').to_ascii_lowercase(),
        stack: options.stack,
        vpc: options.vpc,
        subnets: options.subnets,
        public_ip: options.no_public_ip.then_some(false),
        cluster: options.cluster,
        zone: options.zone.map(|zone| if zone == "new" { String::new() } else { zone }),
        certificate: options.certificate,
        boundary: options.permissions_boundary,
        database: options.database,
        multi_az: options.multi_az.then_some(true),
        log_days: options.log_days,
        replace: options.allow_replacement,
    };
    let done = install(&account, &wish, &terminal, Pace::default()).await;
    // Its text has the cause in it already.
    let (outcome, stack) = done.map_err(|error| anyhow::anyhow!("{error}"))?;
    terminal.tell(match outcome {
        Outcome::Created => "The foundation is there.",
        Outcome::Updated => "The foundation is changed.",
        Outcome::Unchanged => "The foundation is as it should be: nothing to change.",
    });
    next_steps(&terminal, &wish, &stack);
    Ok(())
}

/// Whoever sits in front of it. Progress goes to stderr, so that stdout stays free for data.
struct Terminal {
    yes: bool,
}

impl Terminal {
    /// Asks for a text; an empty answer means `default`.
    fn ask(&self, what: &str, default: Option<&str>, flag: &str) -> anyhow::Result<String> {
        if self.yes || !std::io::stdin().is_terminal() {
            return default.map(str::to_owned).with_context(|| format!("{what}: say it with {flag}"));
        }
        let shown = default.map_or_else(String::new, |text| format!(" [{text}]"));
        match (line(&format!("{what}{shown}: "))?, default) {
            (answer, Some(default)) if answer.is_empty() => Ok(default.to_owned()),
            (answer, None) if answer.is_empty() => bail!("{what}: say it with {flag}"),
            (answer, _) => Ok(answer),
        }
    }
}

fn line(prompt: &str) -> std::io::Result<String> {
    eprint!("{prompt}");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

impl Talk for Terminal {
    fn tell(&self, line: &str) {
        eprintln!("{line}");
    }

    fn agree(&self, question: &str) -> bool {
        if self.yes {
            return true;
        }
        if !std::io::stdin().is_terminal() {
            eprintln!(" !     Nobody is there to ask: say --yes when this is meant.");
            return false;
        }
        line(&format!("{question} [y/N] "))
            .is_ok_and(|answer| matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}
