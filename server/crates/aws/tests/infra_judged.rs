//! The foundation judged by others: CloudFormation's schemas (cfn-lint) and AWS's API models (botocore), by
//! `infra/tests/judge.py`. What AWS would refuse and no emulator does, shows here.

use std::path::PathBuf;
use std::process::Command;

use paas_aws::install::template;

/// What the judge finds in a text; empty when all is well.
fn judged(by: &str, text: &str) -> String {
    let python =
        std::env::var("PAAS_TEST_JUDGE").expect("not run: no cfn-lint and botocore (PAAS_TEST_JUDGE is not set)");
    let judge: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "..", "..", "infra", "tests", "judge.py"].iter().collect();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("judged");
    std::fs::write(&file, text).expect("written");
    let answer = Command::new(python).arg(judge).arg(by).arg(&file).output().expect("the judge ran");
    let found = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    let complaint = String::from_utf8_lossy(&answer.stderr);
    assert_eq!(answer.status.success(), found.is_empty(), "the judge itself failed: {complaint}");
    found
}

#[test]
fn the_template_is_clean() {
    assert_eq!(judged("lint", &template()), "");
}

/// A judge that finds nothing in these would find nothing in ours.
#[test]
fn the_judge_sees_mistakes() {
    for (right, wrong) in [
        ("      EnableDnsSupport: true", "      EnableDnsSuport: true"),
        ("!Ref EventsQueue", "!Ref EventQueue"),
        ("      SslPolicy: ELBSecurityPolicy-TLS13-1-2-2021-06", "      SslPolicy: []"),
    ] {
        let text = template();
        assert!(text.contains(right), "{right}");
        assert_ne!(judged("lint", &text.replace(right, wrong)), "", "{wrong}");
    }
    let limit = "PermissionsBoundary: !If [HasBoundary, !Ref PermissionsBoundary, !Ref AWS::NoValue]";
    assert!(
        judged("boundary", &template().replacen(limit, "MaxSessionDuration: 3600", 1)).contains("without the boundary")
    );
}

#[test]
fn every_role_takes_the_boundary() {
    assert_eq!(judged("boundary", &template()), "");
}
