//! The owner of an AWS account, who may ask and do everything: what a story looks at behind the server's back.
//!
//! Calls are made by botocore, which knows every operation by its name; here is no SDK.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

/// An account's owner.
pub struct Owner {
    endpoint: String,
    program: Mutex<Option<Program>>,
}

struct Program {
    child: Child,
    calls: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Owner {
    pub(super) fn of(endpoint: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), program: Mutex::default() }
    }

    /// Makes a call: `ecs`, `DescribeServices`, its parameters. An answer of several pages comes whole, bytes in
    /// base64.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    pub fn call(&self, service: &str, operation: &str, with: &Value) -> Value {
        self.try_call(service, operation, with).unwrap_or_else(|e| panic!("{service}:{operation} {with}: {e}"))
    }

    /// Makes a call.
    ///
    /// # Errors
    /// What AWS said against it.
    ///
    /// # Panics
    /// With "not run: …" without botocore.
    pub fn try_call(&self, service: &str, operation: &str, with: &Value) -> Result<Value, String> {
        let mut program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        let program = program.get_or_insert_with(|| Program::start(&self.endpoint));
        let line = json!({"service": service, "operation": operation, "with": with});
        writeln!(program.calls, "{line}").expect("botocore reads");
        let mut answer = String::new();
        program.answers.read_line(&mut answer).expect("text");
        let mut answer: Value = serde_json::from_str(&answer).expect("botocore answers");
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["ok"].take()),
        }
    }
}

impl Program {
    fn start(endpoint: &str) -> Self {
        let python =
            std::env::var("PAAS_TEST_JUDGE").expect("not run: PAAS_TEST_JUDGE is not set (`make test` sets it)");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/platform/owner.py");
        let mut command = Command::new(python);
        command.arg(script).arg(endpoint).env_remove("AWS_PROFILE").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python starts");
        let calls = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, calls, answers }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
