"""A task's container as Fargate would start it.

Stock ministack ignores entryPoint, workingDirectory, user, memory, ulimits, readonlyRootFilesystem and initProcessEnabled, gives
containers the sealed text of a SecureString, and starts a task whose log group does not exist.
"""
import os
import re

import docker.models.containers as docker_containers
from ministack.services import cloudwatch_logs, ecs, ssm

REGISTRY = re.compile(r"^\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com/")
MIRROR = os.environ.get("RIG_REGISTRY", "")        # host:port that stands for every ECR registry


def here(image):
    """ECR's name for an image as the engine can pull it."""
    return REGISTRY.sub(MIRROR + "/", image) if MIRROR and image else image


stock_arguments, stock_run, stock_prepare = ecs._build_run_kwargs, ecs._run_docker_container, ecs._prepare_service_images
stock_parameter, stock_create = ssm.resolve_parameter_value, docker_containers._create_container_args


def arguments(spec, definition, env, *rest, **named):
    kw = stock_arguments(spec, definition, env, *rest, **named)
    for field, name in (("entryPoint", "entrypoint"), ("workingDirectory", "working_dir"), ("user", "user")):
        if spec.get(field):
            kw[name] = spec[field]
    if memory := spec.get("memory") or definition.get("memory"):
        kw["mem_limit"] = kw["memswap_limit"] = f"{int(memory)}m"
    if spec.get("readonlyRootFilesystem"):
        kw["read_only"] = True
    if (spec.get("linuxParameters") or {}).get("initProcessEnabled"):
        kw["init"] = True
    if limits := spec.get("ulimits"):
        kw["ulimits"] = [docker_ulimit(u) for u in limits]
    # Fargate knows only the definition's check; what the image says is not run. health.py runs the definition's.
    kw["healthcheck"] = {"test": ["NONE"]}
    check_log_group(spec)
    return kw


def docker_ulimit(limit):
    import docker.types

    return docker.types.Ulimit(name=limit["name"], soft=limit["softLimit"], hard=limit["hardLimit"])


def check_log_group(spec):
    """A task whose log group is missing does not start."""
    log = spec.get("logConfiguration") or {}
    options = log.get("options") or {}
    group = options.get("awslogs-group")
    if log.get("logDriver") == "awslogs" and group and options.get("awslogs-create-group", "").lower() != "true":
        if group not in cloudwatch_logs._log_groups:
            raise RuntimeError(f"failed to validate logger args: the specified log group does not exist: {group}")


def run(client, spec, kw, **named):
    for field in ("cache_image", "fallback_image"):
        if named.get(field):
            named[field] = here(named[field])
    return stock_run(client, dict(spec, image=here(spec["image"])), kw, **named)


def prepare(task, definition, client):
    specs = [dict(c, image=here(c["image"])) for c in definition.get("containerDefinitions", [])]
    return stock_prepare(task, dict(definition, containerDefinitions=specs), client)


def on_loopback(kw):
    """Data stores publish ports; stock on every interface of this machine."""
    if ports := kw.get("ports"):
        kw["ports"] = {k: ("127.0.0.1", v) if isinstance(v, int) or v is None else v for k, v in ports.items()}
    return stock_create(kw)


def install():
    ecs._build_run_kwargs, ecs._run_docker_container, ecs._prepare_service_images = arguments, run, prepare
    ssm.resolve_parameter_value = lambda name, version=None, decrypt=True: stock_parameter(name, version, True)
    docker_containers._create_container_args = on_loopback
