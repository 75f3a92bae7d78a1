//! The foundation judged by others: CloudFormation's schemas (cfn-lint) and AWS's API models (botocore), by
//! `infra/tests/judge.py`. What AWS would refuse and no emulator does, shows here.

use paas_aws::install::template;

use crate::judge::judged;

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
