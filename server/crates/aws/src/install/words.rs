//! What the installer says.

use super::account::Stack;
use super::parameters::{Parameters, Wish};
use super::{Talk, cost};
use crate::error::{AwsError, Kind};
use crate::prices::Prices;

/// Says what will be made and what it costs.
pub(super) fn plan(talk: &dyn Talk, wish: &Wish, owner: &str, parameters: &Parameters, found: Option<&Stack>) {
    let of = |name: &str| parameters.get(name);
    let word = if found.is_some_and(Stack::stands) { "change" } else { "make" };
    talk.tell(&format!(
        "This will {word} stack {} in {} of account {owner}, installation {}:",
        wish.stack,
        wish.region,
        of("Installation")
    ));
    let mine_or =
        |name: &str, new: &str| if of(name).is_empty() { new.to_owned() } else { format!("yours: {}", of(name)) };
    let address = if of("DynoPublicIp") == "ENABLED" {
        "dynos with public addresses, no NAT"
    } else {
        "dynos without public addresses"
    };
    let database = match of("Database") {
        "none" => "none".to_owned(),
        class => format!(
            "PostgreSQL on RDS, {class}, 20 GB{}",
            if of("DatabaseMultiAz") == "true" { ", with a standby" } else { "" }
        ),
    };
    let boundary = if of("PermissionsBoundary").is_empty() { "" } else { ", within your permissions boundary" };
    for (what, how) in [
        (
            "network",
            format!("{}; {address}", mine_or("VpcId", &format!("a VPC {} with two public subnets", of("VpcCidr")))),
        ),
        ("cluster", mine_or("ClusterName", "an ECS cluster for Fargate and Fargate Spot")),
        ("balancer", "an application load balancer, 80 redirects to 443".to_owned()),
        ("domain", format!("apps at <name>.{}", of("Domain"))),
        ("zone", mine_or("HostedZoneId", &format!("a new Route 53 zone {}", of("Domain")))),
        ("certificate", mine_or("CertificateArn", &format!("*.{}, by ACM", of("Domain")))),
        ("database", database),
        ("roles", format!("for the server, for ECS, and one without permissions for apps{boundary}")),
        ("and", format!("a key, a bucket, a queue with two rules, a log group kept {} days", of("LogRetentionDays"))),
    ] {
        talk.tell(&format!("  {what:<12} {how}"));
    }
    costs(talk, &wish.region, parameters);
}

fn costs(talk: &dyn Talk, region: &str, parameters: &Parameters) {
    let prices = Prices::table();
    let elsewhere = if region == prices.region { String::new() } else { format!("; {region} may be dearer") };
    talk.tell(&format!("It costs, a month, by the prices of {} as of {}{elsewhere}:", prices.region, prices.as_of));
    let lines = cost::standing(parameters);
    for line in &lines {
        let usd = line.usd.map_or_else(|| "unknown".to_owned(), |usd| format!("${usd:.2}"));
        talk.tell(&format!("  {:<36} {usd:>9}", line.what));
    }
    let total: f64 = lines.iter().filter_map(|line| line.usd).sum();
    let least = if lines.iter().any(|line| line.usd.is_none()) { "at least " } else { "" };
    talk.tell(&format!("  {:<36} {:>9}", "together", format!("{least}${total:.2}")));
    talk.tell("and with use:");
    for line in cost::by_use(parameters) {
        talk.tell(&format!("  {line}"));
    }
}

/// Says how to go on.
pub fn next_steps(talk: &dyn Talk, wish: &Wish, stack: &Stack) {
    let output = |name: &str| stack.outputs.get(name).map_or("", String::as_str);
    talk.tell("What to do next:");
    let mut number = 0;
    let mut step = |text: String| {
        number += 1;
        talk.tell(&format!("  {number}. {text}"));
    };
    if !output("NameServers").is_empty() {
        let servers = output("NameServers").replace(',', " ");
        step(format!("Where {} is registered, set its name servers: {servers}", output("AppDomain")));
    }
    step(format!(
        "Start the server on a host with the instance profile {} and the security group {}:",
        output("ServerInstanceProfile"),
        output("ServerSecurityGroup")
    ));
    talk.tell(&format!(
        "       AWS_REGION={} paas-server serve --platform aws --stack {} --data /var/lib/paas \\",
        wish.region, wish.stack
    ));
    // The ports as the security group has them; without the others only this host itself could reach it.
    talk.tell("         --host NAME --listen ADDRESS --api-port 443 --rendezvous-port 7443 --link-port 8443 \\");
    talk.tell("         --builder IMAGE --run-image IMAGE --tools FOLDER");
    talk.tell("       with the NAME that clients call, its ADDRESS in the VPC, and what buildpacks/make-images makes");
    if !output("DatabaseSecretArn").is_empty() {
        talk.tell(&format!(
            "       with PAAS_DATABASE=postgres://USER:PASSWORD@{}/paas; user and password are in the secret {}",
            output("DatabaseEndpoint"),
            output("DatabaseSecretArn")
        ));
    }
    step("For more servers, or hosts that only build (arm64 apps need one with Graviton):".to_owned());
    talk.tell("       the same command there, with encryption.key, admin.key and ca/ of the first one's data folder copied to");
    talk.tell("       its own before it starts, and the same PAAS_DATABASE; --builds only where it is to build and nothing else,");
    talk.tell("       --builds no where it is to build nothing");
    step(
        "On every machine that builds, let no container reach the role's credentials: the hop limit of IMDSv2 is 1"
            .to_owned(),
    );
    talk.tell(&format!("       aws ec2 modify-instance-metadata-options --region {} --instance-id ID \\", wish.region));
    talk.tell("         --http-tokens required --http-put-response-hop-limit 1");
    step("Run this command again whenever you like: it changes what is different, and nothing else".to_owned());
}

/// A refused call in words for whoever installs.
pub(super) fn of_aws(error: &AwsError) -> String {
    match error.kind {
        Kind::Denied
            if error.is(&[
                "UnrecognizedClientException",
                "InvalidClientTokenId",
                "InvalidSignatureException",
                "SignatureDoesNotMatch",
                "MissingAuthenticationToken",
                "MissingAuthenticationTokenException",
            ]) =>
        {
            format!(
                "{error}\nAWS does not know these credentials: check AWS_PROFILE or AWS_ACCESS_KEY_ID and its secret"
            )
        }
        Kind::Denied if error.code.starts_with("ExpiredToken") => {
            format!("{error}\nThe credentials have expired: log in to AWS again")
        }
        Kind::Denied => format!(
            "{error}\nWho installs needs this permission; ask who manages the account, then run the same command again"
        ),
        Kind::Transient | Kind::Throttled => format!("{error}\nNothing is lost: run the same command again to go on"),
        Kind::Quota => format!(
            "{error}\nA quota of the account is used up: raise it in Service Quotas, then run the same command again"
        ),
        _ => error.to_string(),
    }
}
