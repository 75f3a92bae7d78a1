"""The service scheduler: when a deployment is complete, and what happens to tasks that are not healthy.

Stock ministack calls a task stable after one second, and the first deployment complete when it is asked for. Here a task is stable
when its target and its container checks are healthy; until then a deployment is IN_PROGRESS and the circuit breaker's count is not
reset. After the grace period, a task whose target or container is unhealthy is stopped, replaced and counted.
"""
import time

from ministack.services import ecs

import capacity
import health
import targets
from shared import replace
from stopping import by_scheduler, groups_of, service_of

LIVE = ("PROVISIONING", "PENDING", "ACTIVATING", "RUNNING")
stock_complete, stock_deployment, stock_run = ecs._complete_service_deployment, ecs._make_deployment, ecs._run_task
stock_healthy = ecs._record_service_task_healthy


def deployment(*a, **k):
    d = stock_deployment(*a, **k)
    if d["rolloutState"] == "COMPLETED":
        d.update(rolloutState="IN_PROGRESS", rolloutStateReason=f"ECS deployment {d['id']} in progress.")
    return d


def run(data):
    """AWS names the family as group, and the deployment as who started a service's task."""
    family = (data.get("taskDefinition") or "").rsplit("/", 1)[-1].split(":")[0]
    data = dict(data, group=data.get("group") or f"family:{family}")
    if data.get("_deploymentId"):
        data = dict(data, startedBy=data["_deploymentId"])
    return capacity.placed(data, stock_run)


def tasks_of(service):
    return [t for t in list(ecs._tasks.values()) if t.get("group") == f"service:{service['serviceName']}"
            and t.get("clusterArn") == service["clusterArn"] and t.get("lastStatus") in LIVE]


def target_state(task, group):
    ip = ecs._task_ip(task)
    return next((s for (_, i, _), s in targets.states(group).items() if i == ip), "initial")


def serves(service, task):
    return health.good(task) and all(target_state(task, g) == "healthy" for g in groups_of(service))


def complete(cluster, key, expected_deployment_id=None):
    service = ecs._services.get(key)
    primary = service and ecs._primary_deployment(service)
    if primary and primary.get("rolloutState") == "IN_PROGRESS" and service.get("desiredCount"):
        new = [t for t in tasks_of(service) if t.get("_deployment_id") == primary["id"]]
        if "_unplaced" in service or not all(serves(service, t) for t in new):
            return None                                            # `turn` asks again
    return stock_complete(cluster, key, expected_deployment_id)


def healthy(key, task):
    if serves(ecs._services.get(key), task):
        stock_healthy(key, task)


def failed(service, task):
    """Why the scheduler stops this task, or None."""
    if task["lastStatus"] != "RUNNING":
        return None
    age = time.time() - task.setdefault("_seen", time.time())
    if age <= float(service.get("healthCheckGracePeriodSeconds") or 0):
        return None
    if task.get("healthStatus") == "UNHEALTHY":
        return "Task failed container health checks"
    bad = next((g for g in groups_of(service) if target_state(task, g) == "unhealthy"), None)
    return bad and f"Task failed ELB health checks in (target-group {bad})"


def turn(cluster, key, service):
    """One look at a service, several times a second."""
    capacity.again(cluster, key, service)
    for task in tasks_of(service):
        if why := failed(service, task):
            by_scheduler({"cluster": cluster, "task": task["taskArn"], "reason": why})
            service["events"].insert(0, {"id": ecs.new_uuid(), "createdAt": ecs._iso(), "message":
                                         f"(service {service['serviceName']}) (task {task['taskArn'].rsplit('/', 1)[-1]}) "
                                         f"{why.removeprefix('Task ')}."})
            ecs._record_service_task_failure(task)
            ecs._reconcile_service_tasks(cluster, key)
        elif task["lastStatus"] == "RUNNING" and not task.get("_startup_stable") and (groups_of(service) or health.has_check(task)):
            healthy(key, task)
    primary = ecs._primary_deployment(service)
    if primary and primary.get("rolloutState") == "IN_PROGRESS":
        complete(cluster, key, primary["id"])


def install():
    ecs._make_deployment, ecs._run_task, ecs._complete_service_deployment = deployment, run, complete
    ecs._record_service_task_healthy = healthy
    replace(ecs, stock_run, run)
