"""Container health checks, really run in the container (stock ministack ignores them: healthStatus is always UNKNOWN).

A definition's healthCheck is CMD or CMD-SHELL with interval (30 s), timeout (5 s), retries (3) and startPeriod (0 s). A container
is UNKNOWN until its first check passed or failed for good, UNHEALTHY after `retries` failures in a row; failures during startPeriod
do not count unless a check has passed before. The first check comes after one interval. A task is UNHEALTHY when one of its
essential containers with a check is, UNKNOWN while one of them is, else HEALTHY. What a service does about it is in scheduler.py;
a task of no service goes on, as on AWS.

RIG_TIME shortens the interval until a container is first healthy, and nothing else. Each check is a process, which one machine
cannot start for a hundred containers every 5 s: healthy ones take turns, at most CHECKS_PER_S of them a second; one that failed a
check keeps its interval.
"""
import concurrent.futures
import os
import signal
import threading
import time

from ministack.core.concurrency import resource_lock
from ministack.core.responses import request_scope
from ministack.services import ecs

from shared import SCALE, scope_of
from stopping import specs_of

# container id -> {"task", "index", "check", "since", "next", "bad": failures in a row, "running"}
WATCHED, LOCK = {}, threading.Lock()
POOL = concurrent.futures.ThreadPoolExecutor(8, thread_name_prefix="rig-health")    # each check is a process in a container
CHECKS_PER_S = 6
stock_attach = ecs._attach_started_container


def attach(task, container, index, *rest):
    if not stock_attach(task, container, index, *rest):
        return False
    specs = specs_of(task)
    check = specs[index].get("healthCheck") if index < len(specs) else None
    if check and check.get("command") and check["command"][0] != "NONE":
        now = time.time()
        with LOCK:
            WATCHED[container.id] = {"task": task, "index": index, "check": check, "since": now, "bad": 0, "running": False,
                                     "next": now + interval(check) * SCALE}
    return True


def interval(check):
    return int(check.get("interval") or 30)


def sweep():
    """Starts every check that is due; forgets containers whose task has ended."""
    now = time.time()
    with LOCK:
        for container_id, w in list(WATCHED.items()):
            if w["task"].get("lastStatus") == "STOPPED" or ecs_gone(w["task"]):
                del WATCHED[container_id]
            elif not w["running"] and now >= w["next"]:
                w["running"] = True
                POOL.submit(one, container_id, w)


def ecs_gone(task):
    return bool(task.get("_ecs_resetting"))


def one(container_id, w):
    started, scope = time.time(), scope_of(w["task"]["taskArn"])
    try:
        passed = run(container_id, w["check"])
    except Exception:
        passed = False                          # the container is gone or not up: no check passes there
    container = w["task"]["containers"][w["index"]]
    in_start = started - w["since"] < int(w["check"].get("startPeriod") or 0) and container["healthStatus"] == "UNKNOWN"
    w["bad"] = 0 if passed else w["bad"] + (0 if in_start else 1)
    with request_scope(*scope), resource_lock("ecs-task", w["task"]["taskArn"]):
        if passed:
            container["healthStatus"] = "HEALTHY"
        elif w["bad"] >= int(w["check"].get("retries") or 3):
            container["healthStatus"] = "UNHEALTHY"
        w["task"]["healthStatus"] = of_task(w["task"])
    if container["healthStatus"] == "UNKNOWN":
        pause = interval(w["check"]) * (1 if w["bad"] else SCALE)
    else:
        pause = interval(w["check"]) if w["bad"] else max(interval(w["check"]), len(WATCHED) / CHECKS_PER_S)
    w["next"] = time.time() + pause
    w["running"] = False


def run(container_id, check):
    """One check; what takes longer than the timeout is killed and has failed."""
    kind, *rest = check["command"]
    words = ["/bin/sh", "-c", rest[0]] if kind == "CMD-SHELL" else rest if kind == "CMD" else check["command"]
    api, done = ecs._get_docker().api, threading.Event()
    exec_id = api.exec_create(container_id, words)["Id"]

    def follow():
        try:
            api.exec_start(exec_id)
        finally:
            done.set()
    threading.Thread(target=follow, daemon=True).start()
    in_time = done.wait(int(check.get("timeout") or 5))
    found = api.exec_inspect(exec_id)
    if in_time:
        return found["ExitCode"] == 0
    if found.get("Running") and found.get("Pid"):
        try:
            os.kill(found["Pid"], signal.SIGKILL)
        except OSError:
            pass                                # not ours to kill when the rig does not run as root
    return False


def of_task(task):
    specs = specs_of(task)
    found = [c["healthStatus"] for c, s in zip(task["containers"], specs) if s.get("healthCheck") and s.get("essential", True)]
    return next((s for s in ("UNHEALTHY", "UNKNOWN") if s in found), "HEALTHY" if found else "UNKNOWN")


def has_check(task):
    return any(s.get("healthCheck") and s.get("essential", True) for s in specs_of(task))


def good(task):
    """Whether its checks let the task count as stable."""
    return not has_check(task) or task.get("healthStatus") == "HEALTHY"


def install():
    ecs._attach_started_container = attach
