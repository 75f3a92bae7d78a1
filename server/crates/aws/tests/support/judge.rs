//! AWS's own schemas and API models, asked by `infra/tests/judge.py`.

use std::path::PathBuf;
use std::process::Command;

/// What the judge finds in a text; empty when all is well.
pub(crate) fn judged(by: &str, text: &str) -> String {
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
