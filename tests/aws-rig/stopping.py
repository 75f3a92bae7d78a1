"""How a task ends: RUNNING -> DEACTIVATING -> STOPPING -> DEPROVISIONING -> STOPPED, with its containers' own exit codes.

Stock ministack stops at once and always writes exit code 0. Here the target drains while the app still serves, then SIGTERM,
stopTimeout (30 s when not given), SIGKILL. StopTask answers at once, as on AWS. An end by itself is noticed by waiting for the
container: stock asks the engine twice per task every 0.1 s, which forty tasks on two cores do not bear.
"""
import threading
import time

from ministack.core.concurrency import resource_lock
from ministack.core.responses import request_scope
from ministack.services import ecs

import targets
from shared import replace

stock_ended, stock_delete = ecs._maybe_mark_stopped, ecs._delete_service


def service_of(task):
    cluster, group = ecs._cluster_name_from_arn(task.get("clusterArn", "")), task.get("group", "")
    return ecs._services.get(f"{cluster}/{group[8:]}") if group.startswith("service:") else None


def groups_of(service):
    return [lb["targetGroupArn"] for lb in (service or {}).get("loadBalancers") or [] if lb.get("targetGroupArn")]


def specs_of(task):
    """The container definitions of the task, in the order of its containers."""
    definition = ecs._task_defs.get(ecs._resolve_td_key(task["taskDefinitionArn"])) or {}
    return definition.get("containerDefinitions", [])


def stop_containers(task):
    """SIGTERM, stopTimeout, SIGKILL for every container at once; their exit codes by index."""
    engine, codes, specs = ecs._get_docker(), {}, specs_of(task)

    def one(index, container_id):
        grace = int((specs[index].get("stopTimeout") if index < len(specs) else 0) or 30)
        try:
            container = engine.containers.get(container_id)
            container.stop(timeout=grace)
            container.reload()
            codes[index] = container.attrs["State"]["ExitCode"]
            time.sleep(0.2)                     # the log forwarder reads the last lines
            container.remove(v=True, force=True)
        except Exception as e:
            print("stop:", container_id[:12], e, flush=True)
    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(task.get("_docker_ids") or [])]
    [t.start() for t in threads]
    [t.join() for t in threads]
    return codes


def finish(task, had_target):
    arn = task["taskArn"]
    since = time.time()
    while had_target and time.time() - since < max([targets.drain_seconds(g) for g in groups_of(service_of(task))] or [0]):
        time.sleep(0.1)
    with resource_lock("ecs-task", arn):
        task["lastStatus"] = "STOPPING"
    codes = stop_containers(task)
    with resource_lock("ecs-task", arn):
        ecs._bump_task_version(task)
        task["lastStatus"] = "DEPROVISIONING"
        task["executionStoppedAt"] = ecs._iso()
        for i, container in enumerate(task.get("containers", [])):
            container["lastStatus"] = "STOPPED"
            if container.get("exitCode") is None and i in codes:
                container["exitCode"] = codes[i]
    time.sleep(0.3)
    with resource_lock("ecs-task", arn):
        ecs._bump_task_version(task)
        task["lastStatus"], task["stoppedAt"], task["_docker_ids"] = "STOPPED", ecs._iso(), []
    ecs._cleanup_task_resources(task, ecs._get_docker())
    ecs._recount_cluster(ecs._cluster_name_from_arn(task["clusterArn"]))
    became_inactive(task)


def begin(data, code):
    cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
    if cluster is None:
        return ecs.error_response_json("ClusterNotFoundException", "Cluster not found.", 400)
    task = ecs._resolve_task(data.get("task", ""), cluster)
    if not task:
        return ecs.error_response_json("InvalidParameterException", "The referenced task was not found.", 400)
    with resource_lock("ecs-task", task["taskArn"]):
        active, had_target = ecs._task_is_active(task["taskArn"], task), task.get("lastStatus") == "RUNNING"
        if active:
            ecs._bump_task_version(task)
            task.update(desiredStatus="STOPPED", lastStatus="DEACTIVATING", stoppingAt=ecs._iso(),
                        stopCode=code, stoppedReason=data.get("reason") or "Task stopped by user")
    if active:
        ecs._recount_cluster(cluster)
        ecs._refresh_service_state(cluster, task.get("group", ""))       # takes it out of its target group
        targets.sweep()
        scope = ecs.get_account_id(), ecs.get_region()

        def run():
            with request_scope(*scope):
                finish(task, had_target)
        threading.Thread(target=run, daemon=True).start()
        if code == "UserInitiated" and service_of(task):                 # the scheduler replaces it
            ecs._reconcile_service_tasks(cluster, f"{cluster}/{task['group'][8:]}")
    return ecs.json_response({"task": ecs._sanitize(task)})


def by_scheduler(data):
    """A stop that the service scheduler decides; AWS names the deployment unless a check failed."""
    task = ecs._resolve_task(data.get("task", ""), ecs._resolve_cluster_name(data.get("cluster", "default")))
    why = data.get("reason", "")
    if not why.startswith("Task failed"):
        why = f"Scaling activity initiated by (deployment {(task or {}).get('startedBy', '')})"
    return begin(dict(data, reason=why), "ServiceSchedulerInitiated")


# --- a deleted service is DRAINING until its tasks have gone, and its name is taken so long (stock: INACTIVE at once) --------
def live_tasks(service):
    group = f"service:{service['serviceName']}"
    return [t for t in ecs._tasks.values() if t.get("group") == group
            and t.get("clusterArn") == service["clusterArn"] and t.get("lastStatus") not in ("STOPPED", "DEPROVISIONING")]


def delete_service(data):
    answer = stock_delete(data)
    ref = ecs._resolve_service_ref(data.get("service", ""))
    cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
    service = ecs._services.get(f"{cluster}/{ref[0]}") if ref else None
    if answer[0] == 200 and service and live_tasks(service):
        service["status"] = "DRAINING"
        return ecs.json_response({"service": ecs._sanitize(service)})
    return answer


def became_inactive(task):
    service = service_of(task)
    if service and service["status"] == "DRAINING" and not live_tasks(service):
        service["status"] = "INACTIVE"


# --- a container that ends by itself ------------------------------------------------------------------------------------------
def watch(task, engine, account, region):
    def one(container_id):
        try:
            engine.containers.get(container_id).wait(timeout=10**6)
        except Exception:
            pass
        time.sleep(0.2)                         # the log forwarder reads the last lines
        with request_scope(account, region):
            ecs._maybe_mark_stopped(task, engine)
    for container_id in list(task.get("_docker_ids") or []):
        threading.Thread(target=one, args=(container_id,), daemon=True).start()
    cluster, group = ecs._cluster_name_from_arn(task.get("clusterArn", "")), task.get("group", "")
    if group.startswith("service:"):
        ecs._schedule_service_deployment_completion(cluster, f"{cluster}/{group[8:]}", account, region, healthy_task=task)


def ended(task, engine=None):
    """List and Describe calls need not ask the engine: `watch` does."""
    if engine is not None:
        stock_ended(task, engine)
        became_inactive(task)


def install():
    replace(ecs, ecs._stop_task, lambda data: begin(data, "UserInitiated"))
    replace(ecs, stock_delete, delete_service)
    ecs._stop_task, ecs._watch_task_lifecycle, ecs._maybe_mark_stopped = by_scheduler, watch, ended
