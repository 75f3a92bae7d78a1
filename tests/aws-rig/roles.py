"""Credentials of a task's role, and the variables that say where they are.

Stock ministack hands random keys to every container, which AUTH=true then refuses. Here the keys are a session of the task role,
the authorization token is checked, and a task without a role gets neither credentials nor the emulator's address: on Fargate its
environment has no AWS_ENDPOINT_URL, and an app that shows its environment should see what it would see there.
"""
import time
from urllib.parse import urlsplit

from ministack.core.responses import request_scope
from ministack.services import ecs, imds, sts

from shared import scope_of

ROLES = {}                  # path of the credentials -> (authorization token, role, task)
stock_register, stock_answer = ecs._register_metadata, imds.handle_request


def register(task_arn, cluster_arn, definition, spec, launch_type, env, *rest, **named):
    token = stock_register(task_arn, cluster_arn, definition, spec, launch_type, env, *rest, **named)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        env.setdefault(name, scope_of(task_arn)[1])
    role, uri = definition.get("taskRoleArn"), env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
    if role:
        ROLES[urlsplit(uri).path] = (env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"), role, task_arn)
    else:
        for name in ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_ENDPOINT_URL"):
            env.pop(name, None)
    return token


async def answer(method, path, headers, body, query):
    if not path.startswith("/v2/credentials/"):
        return await stock_answer(method, path, headers, body, query)
    token, role, task = ROLES.get(path.rstrip("/"), (None, None, None))
    if not role or headers.get("authorization") != token:
        return imds._json_resp({"code": "InvalidAuthorization"}, 403)
    account, region = scope_of(task)
    document = imds._ecs_task_credentials_doc()
    document["RoleArn"] = role
    session = task.rsplit("/", 1)[-1].replace("-", "")
    with request_scope(account, region):
        sts.register_session(document["AccessKeyId"], {
            "Arn": f"arn:aws:sts::{account}:assumed-role/{role.rsplit('/', 1)[-1]}/{session}",
            "UserId": f"{sts._role_id(role)}:{session}", "SecretAccessKey": document["SecretAccessKey"],
            "SessionToken": document["Token"], "Expiration": time.time() + 3600, "AccountId": account,
            "PrincipalType": "AssumedRole"})
    return imds._json_resp(document)


def install():
    ecs._register_metadata, imds.handle_request = register, answer
