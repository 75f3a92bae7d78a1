"""IAM closer to AWS's, with AUTH=true.

Stock ministack checks ECS calls against the cluster's ARN, knows no ecs:cluster key, never asks for iam:PassRole, and leaves /v2/ (the
registry) open. Here, as AWS's service authorization reference has it: RunTask on the task definition, services on the service,
StopTask, DescribeTasks and ExecuteCommand on the task, ecs:cluster is set; ELBv2 calls that name a rule or tag something on that ARN;
DescribeRepositories and the tags of a repository on that repository; a new balancer or group on its name; certificates with their tags;
RegisterTaskDefinition and RunTask's role overrides need iam:PassRole with iam:PassedToService; registry writes need the password of
GetAuthorizationToken, reads stay open for the engine's pulls.
"""
import base64
import contextvars
import json

from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import get_account_id, get_region
from ministack.services import acm, ecr

REQUEST = contextvars.ContextVar("request", default=("", {}))
stock_extract, stock_context = iam_actions.extract_resource_arn, iam_actions.request_tag_context
stock_action = iam_actions.extract_iam_action
stock_enforce, stock_registry = iam_evaluator.enforce, ecr.handle_registry_request


def parsed(body):
    try:
        data = json.loads(body or b"{}")
        return data if isinstance(data, dict) else {}
    except ValueError:
        return {}


def tail(ref):
    return (ref or "default").rsplit("/", 1)[-1]


def first(value):
    return value[0] if isinstance(value, list) else value


def extract(service, method, path, headers, body, params, region, account):
    if service == "ecs":
        d, action = parsed(body), headers.get("x-amz-target", "").rsplit(".", 1)[-1]
        base, cluster = f"arn:aws:ecs:{region}:{account}", tail(d.get("cluster"))
        if action == "RunTask":
            td = tail(d.get("taskDefinition"))
            return f"{base}:task-definition/{td if ':' in td else td + ':*'}"
        name = d.get("serviceName") or d.get("service") or first(d.get("services") or [None])
        if action in ("CreateService", "UpdateService", "DeleteService", "DescribeServices") and name:
            return f"{base}:service/{cluster}/{tail(name)}"
        task = d.get("task") or first(d.get("tasks") or [None])
        if action in ("StopTask", "DescribeTasks", "ExecuteCommand") and task:
            return f"{base}:task/{cluster}/{tail(task)}"
    if service == "elasticloadbalancing":
        for key in ("RuleArn", "RuleArns.member.1", "ResourceArns.member.1"):
            if params.get(key):
                return first(params[key])
        kinds = {"CreateLoadBalancer": "loadbalancer/app", "CreateTargetGroup": "targetgroup"}
        if params.get("Name") and (kind := kinds.get(first(params.get("Action")))):
            return f"arn:aws:elasticloadbalancing:{region}:{account}:{kind}/{first(params['Name'])}/0123456789abcdef"
    if service == "ecr" and parsed(body).get("resourceArn"):
        return parsed(body)["resourceArn"]
    if service == "ecr" and (names := parsed(body).get("repositoryNames")):
        return f"arn:aws:ecr:{region}:{account}:repository/{names[0]}"
    return stock_extract(service, method, path, headers, body, params, region, account)


def action_of(service, method, path, headers, body, params):
    # The stock matcher knows this path with a closing slash only, and lets through what it does not know.
    if service == "route53" and path.rstrip("/").endswith("/rrset"):
        return "route53:ChangeResourceRecordSets" if method == "POST" else "route53:ListResourceRecordSets"
    return stock_action(service, method, path, headers, body, params)


def certificate_tags(arn):
    for key, c in list(acm._certificates._data.items()):
        if c.get("CertificateArn") == arn:
            return c.get("Tags") or []
    return []


def context(service, action, body, params):
    found = dict(stock_context(service, action, body, params) or {})
    if service == "acm" and parsed(body).get("CertificateArn"):
        found.update({f"aws:ResourceTag/{t['Key']}".lower(): t.get("Value", "") for t in certificate_tags(parsed(body)["CertificateArn"])})
    d = parsed(body) if service == "ecs" else {}
    REQUEST.set((action, d))
    if d.get("cluster"):
        ref = d["cluster"]
        found["ecs:cluster"] = ref if ref.startswith("arn:") else f"arn:aws:ecs:{get_region()}:{get_account_id()}:cluster/{ref}"
    return found


def enforce(key, action, service, region, resource_arn="*", service_context=None):
    denied = stock_enforce(key, action, service, region, resource_arn=resource_arn, service_context=service_context)
    if denied or action not in ("ecs:RegisterTaskDefinition", "ecs:RunTask"):
        return denied
    _, d = REQUEST.get()
    holder = d.get("overrides") or {} if action == "ecs:RunTask" else d
    for role in {holder.get("taskRoleArn"), holder.get("executionRoleArn")} - {None, ""}:
        denied = denied or stock_enforce(key, "iam:PassRole", "iam", region, resource_arn=role,
                                       service_context={"iam:PassedToService": "ecs-tasks.amazonaws.com"})
    return denied


async def registry(method, path, headers, body, query):
    kind, _, value = headers.get("authorization", "").partition(" ")
    try:
        known = kind.lower() == "basic" and base64.b64decode(value).startswith(b"AWS:ministack-auth-token")
    except ValueError:
        known = False
    if method not in ("GET", "HEAD") and not known:
        body = json.dumps({"errors": [{"code": "DENIED", "message": "Not Authorized"}]}).encode()
        return 401, {"Content-Type": "application/json", "WWW-Authenticate": 'Basic realm="ecr",service="ecr.amazonaws.com"'}, body
    return await stock_registry(method, path, headers, body, query)


def install():
    iam_actions.extract_resource_arn, iam_actions.request_tag_context = extract, context
    iam_actions.extract_iam_action = action_of
    iam_evaluator.enforce, ecr.handle_registry_request = enforce, registry
