//! On an account that asks IAM: the server, as the role that `paas install` makes from infra/policies and with nothing
//! else, does all of its work; without one of its actions it says which one; and what task definitions name is what the
//! execution role may read, and all of it. No emulator uses that role, so it is held against the definitions here.

use std::collections::BTreeSet;

use paas_tests::platform::{Platform, Repository};
use serde_json::{Value, json};

const DECLINED: &str = "! [remote rejected] main -> main (pre-receive hook declined)";

#[test]
fn the_servers_policies_are_enough_and_a_missing_action_is_said() {
    let platform = Platform::on_aws_as_its_role();
    let outputs = platform.outputs();
    let server = role_of(&outputs["ServerRoleArn"]);
    has_one_policy(&platform, server, "server");
    has_one_policy(&platform, role_of(&outputs["ExecutionRoleArn"]), "execution");

    let app = platform.repository("release-phase");
    app.write("Procfile", "web: perl serve.pl\nworker: sleep 100000\nrelease: perl release.pl\n");
    app.commit("A worker");
    live(&platform, &app);
    let log = platform.server_log();
    let refused: Vec<&str> =
        log.lines().filter(|line| line.contains("AccessDenied") || line.contains("not authorized")).collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    the_execution_role_fits(&platform, &policy(&platform, role_of(&outputs["ExecutionRoleArn"]), "execution"));

    let whole = policy(&platform, server, "server");
    app.replace("serve.pl", "release-phase v1", "release-phase v2");
    app.commit("Second");
    for action in ["ecr:PutImage", "ecs:UpdateService"] {
        put_policy(&platform, server, &without(&whole, action));
        let missing = format!("is not authorized to perform: {action}");
        let push = app.push().exits(1).tells(&missing).tells("run `paas install` again").tells(DECLINED);
        if action == "ecs:UpdateService" {
            push.tells("The release that served before still serves");
        }
        platform.serves("allowed", "Hello from release-phase v1", platform.soon());
    }

    // Given back, the same push works.
    put_policy(&platform, server, &whole);
    app.push().done();
    platform.serves("allowed", "Hello from release-phase v2", platform.soon());

    let id = platform.app_id("allowed");
    app.paas("apps:destroy --confirm allowed").done();
    platform.app_is_gone(&id);
    platform.leads_nowhere("allowed");
    platform.finish();
}

/// Whatever makes the server call AWS.
fn live(platform: &Platform, app: &Repository<'_>) {
    let soon = platform.soon();
    app.paas("create allowed").done();
    app.push().done().tells("Verifying deploy... done.");
    platform.serves("allowed", "Hello from release-phase v1", soon);
    app.paas("config:set GREETING=hi").done();
    platform.serves("allowed", "GREETING=hi", soon);
    app.paas("scale web=2 worker=1").done();
    platform.are_up("allowed", "web", 2);
    platform.are_up("allowed", "worker", 1);
    app.run(&["paas", "run", "--no-tty", "sh", "-c", "echo ran; exit 7"]).exits(7).says("ran");
    app.paas("run:detached sleep 1").done();
    let tail = app.spawn("paas logs --tail");
    tail.writes("listening on", soon);
    tail.hang_up();
    let own = &format!("www-{}.example.test", platform.install());
    app.paas(&format!("domains:add {own}")).done();
    platform.leads_here(own, &platform.host("allowed"));
    app.paas(&format!("domains:remove {own}")).done();
    app.paas("maintenance:on").done();
    app.paas("maintenance:off").done();
    app.paas("restart").done();
    platform.are_up("allowed", "web", 2);
    app.paas("scale web=1 worker=0").done();
    platform.are_up("allowed", "web", 1);
    platform.serves("allowed", "GREETING=hi", soon);
}

fn role_of(arn: &str) -> &str {
    arn.rsplit('/').next().expect("a role's ARN")
}

/// What the role may do is this document and nothing else.
fn has_one_policy(platform: &Platform, role: &str, name: &str) {
    let owner = platform.owner();
    assert_eq!(owner.call("iam", "ListRolePolicies", &json!({"RoleName": role}))["PolicyNames"], json!([name]));
    let attached = owner.call("iam", "ListAttachedRolePolicies", &json!({"RoleName": role}));
    assert_eq!(attached["AttachedPolicies"], json!([]), "{role}");
}

fn policy(platform: &Platform, role: &str, name: &str) -> Value {
    let found = platform.owner().call("iam", "GetRolePolicy", &json!({"RoleName": role, "PolicyName": name}));
    found["PolicyDocument"].clone()
}

fn put_policy(platform: &Platform, role: &str, document: &Value) {
    let asked = json!({"RoleName": role, "PolicyName": "server", "PolicyDocument": document.to_string()});
    let _ = platform.owner().call("iam", "PutRolePolicy", &asked);
}

/// The document without one of its actions.
fn without(document: &Value, action: &str) -> Value {
    let mut document = document.clone();
    let mut taken = 0;
    for statement in document["Statement"].as_array_mut().expect("statements") {
        let actions = statement["Action"].as_array_mut().expect("actions");
        let before = actions.len();
        actions.retain(|one| one != action);
        taken += before - actions.len();
    }
    assert_eq!(taken, 1, "{action} is in the policy once");
    document
}

/// What ECS asks as the execution role to start what a definition says: an action, and on what.
type Need = (&'static str, String);

/// For everything that a definition names, the policy allows what starting it takes; nothing of it is there in vain, and
/// nothing reaches another installation.
fn the_execution_role_fits(platform: &Platform, policy: &Value) {
    let outputs = platform.outputs();
    let definitions = platform.definitions();
    let mut needs: BTreeSet<Need> = BTreeSet::new();
    let mut families = BTreeSet::new();
    for definition in definitions.iter().map(|found| &found["taskDefinition"]) {
        assert_eq!(definition["executionRoleArn"], outputs["ExecutionRoleArn"].as_str());
        families.insert(definition["family"].to_string());
        needs.extend(asked_for(definition));
    }
    // web, worker, and one for the release phase and the one-off dynos.
    assert!(families.len() >= 3, "{families:?}");
    let install = platform.install();
    // The secrets are sealed with the installation's own key.
    needs.insert(("kms:Decrypt", outputs["KmsKeyArn"].clone()));

    for (action, resource) in &needs {
        assert!(allows(policy, action, resource), "add to infra/policies/execution.json: {action} on {resource}");
        let elsewhere = resource.replace(&install, "zzzzzz");
        let scoped = elsewhere != *resource;
        assert!(!scoped || !allows(policy, action, &elsewhere), "{action} reaches {elsewhere}");
    }
    for statement in policy["Statement"].as_array().expect("statements") {
        for action in texts(&statement["Action"]) {
            let needed = needs.iter().any(|(need, on)| *need == action && covers(statement, on));
            assert!(needed, "nothing needs, so take from infra/policies/execution.json: {action} of {statement}");
        }
        let key = statement["Action"] == json!(["kms:Decrypt"]);
        let through = &statement["Condition"]["StringEquals"]["kms:ViaService"];
        assert!(!key || *through == "secretsmanager.us-east-1.amazonaws.com", "{statement}");
        assert!(key || statement.get("Condition").is_none(), "a condition that is not looked at: {statement}");
    }
}

fn asked_for(definition: &Value) -> Vec<Need> {
    let mut needs = vec![("ecr:GetAuthorizationToken", "*".to_owned())];
    let arn = definition["taskDefinitionArn"].as_str().expect("an ARN");
    let [region, account] = [3, 4].map(|at| arn.split(':').nth(at).expect("an ARN's part"));
    for container in definition["containerDefinitions"].as_array().expect("containers") {
        let image = container["image"].as_str().expect("an image");
        let host = format!("{account}.dkr.ecr.{region}.amazonaws.com/");
        let (repository, _) = image.strip_prefix(&host).and_then(|rest| rest.split_once("@sha256:")).expect("pinned");
        for action in ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"] {
            needs.push((action, format!("arn:aws:ecr:{region}:{account}:repository/{repository}")));
        }
        let secrets = container["secrets"].as_array().expect("config comes from secrets");
        assert!(!secrets.is_empty(), "config comes from secrets: {container}");
        for secret in secrets {
            // Its ARN, then the key of its JSON, the stage and the version.
            let parts: Vec<&str> = secret["valueFrom"].as_str().expect("a reference").split(':').collect();
            assert_eq!((parts[2], parts.len()), ("secretsmanager", 10), "{secret}");
            needs.push(("secretsmanager:GetSecretValue", parts[..7].join(":")));
        }
        let logs = &container["logConfiguration"];
        assert_eq!(logs["logDriver"], "awslogs");
        assert!(logs["options"].get("awslogs-create-group").is_none(), "groups are the foundation's: {logs}");
        let word = |key: &str| logs["options"][key].as_str().expect("an option").to_owned();
        let stream = format!("{}/{}/0123", word("awslogs-stream-prefix"), container["name"].as_str().expect("a name"));
        for action in ["logs:CreateLogStream", "logs:PutLogEvents"] {
            let group = word("awslogs-group");
            needs.push((action, format!("arn:aws:logs:{region}:{account}:log-group:{group}:log-stream:{stream}")));
        }
    }
    needs
}

fn texts(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .map_or_else(|| value.as_str().into_iter().collect(), |all| all.iter().flat_map(Value::as_str).collect())
}

fn allows(policy: &Value, action: &str, resource: &str) -> bool {
    let statements = policy["Statement"].as_array().expect("statements");
    statements.iter().any(|statement| texts(&statement["Action"]).contains(&action) && covers(statement, resource))
}

fn covers(statement: &Value, resource: &str) -> bool {
    texts(&statement["Resource"]).into_iter().any(|pattern| matches(pattern, resource))
}

/// As IAM compares: `*` is any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text
            .strip_prefix(head)
            .is_some_and(|rest| (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(tail, &rest[at..]))),
    }
}
