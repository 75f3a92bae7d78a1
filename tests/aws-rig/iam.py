"""IAM closer to AWS's, with AUTH=true.

Stock ministack checks ECS calls against the cluster's ARN, knows no ecs:cluster key, never asks for iam:PassRole, and leaves /v2/ (the
registry) open. Here, as AWS's service authorization reference has it: RunTask on the task definition, services on the service,
StopTask, DescribeTasks and ExecuteCommand on the task, ecs:cluster is set; ELBv2 calls that name a rule or tag something on that ARN;
DescribeRepositories and the tags of a repository on that repository; a new balancer or group on its name; certificates with their tags;
RegisterTaskDefinition and RunTask's role overrides need iam:PassRole with iam:PassedToService; registry writes need the password of
GetAuthorizationToken and are asked as whoever got it, reads without one stay open for the engine's pulls. The rig's port stands for
AWS's, which speaks TLS: aws:SecureTransport is true.
"""
import base64
import contextvars
import functools
import json
import re

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
    action = stock_action(service, method, path, headers, body, params)
    # A batch of SQS is asked as each of its entries: there is no action of its name.
    return action.removesuffix("Batch") if action and action.startswith("sqs:") else action


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
    KEY.set(key)
    denied = stock_enforce(key, action, service, region, resource_arn=resource_arn, service_context=service_context)
    if denied or action not in ("ecs:RegisterTaskDefinition", "ecs:RunTask"):
        return denied
    _, d = REQUEST.get()
    holder = d.get("overrides") or {} if action == "ecs:RunTask" else d
    for role in {holder.get("taskRoleArn"), holder.get("executionRoleArn")} - {None, ""}:
        denied = denied or stock_enforce(key, "iam:PassRole", "iam", region, resource_arn=role,
                                       service_context={"iam:PassedToService": "ecs-tasks.amazonaws.com"})
    return denied


KEY = contextvars.ContextVar("key", default="")
PASSWORD = "ministack-auth-token"
stock_token = ecr._get_authorization_token


def token(data):
    """The password says whose it is."""
    status, headers, body = stock_token(data)
    answer = json.loads(body)
    answer["authorizationData"][0]["authorizationToken"] = base64.b64encode(f"AWS:{PASSWORD}.{KEY.get()}".encode()).decode()
    return status, headers, json.dumps(answer).encode()


def registry_action(method, rest):
    """What ECR asks IAM for a request of the registry's protocol, by what follows the repository's name."""
    if rest.startswith("manifests/"):
        return "ecr:PutImage" if method == "PUT" else "ecr:BatchGetImage"
    if rest.startswith("blobs/uploads"):
        return {"POST": "ecr:InitiateLayerUpload", "PUT": "ecr:CompleteLayerUpload"}.get(method, "ecr:UploadLayerPart")
    return "ecr:BatchCheckLayerAvailability" if method == "HEAD" else "ecr:GetDownloadUrlForLayer"


def denial(status, message):
    body = json.dumps({"errors": [{"code": "DENIED", "message": message}]}).encode()
    return status, {"Content-Type": "application/json", "WWW-Authenticate": 'Basic realm="ecr",service="ecr.amazonaws.com"'}, body


async def registry(method, path, headers, body, query):
    kind, _, value = headers.get("authorization", "").partition(" ")
    try:
        password = base64.b64decode(value).decode().partition(":")[2] if kind.lower() == "basic" else ""
    except ValueError:
        password = ""
    known, _, key = password.partition(".")
    where = re.fullmatch(r"/v2/(.+?)/((?:manifests|blobs)/.*)", path)
    if known != PASSWORD:
        if method not in ("GET", "HEAD"):
            return denial(401, "Not Authorized")
    elif where:
        action, arn = registry_action(method, where[2]), f"arn:aws:ecr:{get_region()}:{get_account_id()}:repository/{where[1]}"
        iam_evaluator._anonymous.set(False)     # the password stands for a signature
        if denied := stock_enforce(key, action, "ecr", get_region(), resource_arn=arn):
            who = getattr(denied, "principal_arn", "")
            return denial(403, f"User: {who} is not authorized to perform: {action} on resource: {arn} because no identity-based "
                               f"policy allows the {action} action")
    return await stock_registry(method, path, headers, body, query)


def install():
    iam_actions.extract_resource_arn, iam_actions.request_tag_context = extract, context
    iam_actions.extract_iam_action = action_of
    iam_evaluator.enforce, ecr.handle_registry_request, ecr._get_authorization_token = enforce, registry, token
    iam_evaluator.EvalContext = functools.partial(iam_evaluator.EvalContext, secure_transport=True)
