"""ECS's events on the default bus, and the loop that drives what changes by itself.

"ECS Task State Change", "ECS Deployment State Change" and "ECS Service Action" (source aws.ecs, which PutEvents refuses from
outside, so this cannot be a program of its own). AWS delivers at least once, unordered, and may skip states: read `version`.
"""
import json
import threading
import time

from ministack.core.responses import request_scope
from ministack.services import ecs, eventbridge

import certificates
import health
import scheduler
import targets

TASKS, DEPLOYMENTS, STEADY = {}, {}, {}


def emit(kind, resource, detail):
    eventbridge._put_events({"Entries": [{"Source": "aws.ecs", "DetailType": kind, "Resources": [resource],
                                          "Detail": json.dumps(detail)}]}, allow_aws_source=True)


def of_tasks():
    for (account, region, arn), task in list(ecs._tasks._data.items()):
        now = (task.get("lastStatus"), task.get("desiredStatus"), task.get("version"))
        before = TASKS.get(arn)
        if before == now or now[0] in ("ACTIVATING", "STOPPING"):      # these two raise no event on AWS
            continue
        TASKS[arn] = now
        with request_scope(account, region):
            detail = dict(ecs._sanitize(task), updatedAt=ecs._iso())
            for gone in ("tags", "containerInstanceArn", "healthStatus"):
                detail.pop(gone, None)
            detail["containers"] = [{k: v for k, v in c.items() if k != "healthStatus"} for c in detail.get("containers", [])]
            if now[0] == "STOPPED" and before and before[1] == "RUNNING":   # it ended by itself: AWS passes through here
                emit("ECS Task State Change", arn, dict(detail, lastStatus="DEPROVISIONING", version=detail["version"] - 1))
            emit("ECS Task State Change", arn, detail)


def of_service(service):
    for d in service.get("deployments", []):
        state = d.get("rolloutState")
        if DEPLOYMENTS.get(d["id"]) != state:
            DEPLOYMENTS[d["id"]] = state
            emit("ECS Deployment State Change", service["serviceArn"], {
                "eventType": "ERROR" if state == "FAILED" else "INFO", "eventName": f"SERVICE_DEPLOYMENT_{state}",
                "clusterArn": service["clusterArn"], "deploymentId": d["id"], "updatedAt": ecs._iso(),
                "reason": d.get("rolloutStateReason") or f"ECS deployment {d['id']} {state.lower().replace('_', ' ')}."})
    steady = (service["runningCount"] == service["desiredCount"] and not service["pendingCount"]
              and len(service["deployments"]) == 1 and service["deployments"][0].get("rolloutState") == "COMPLETED")
    if steady and not STEADY.get(service["serviceArn"]):
        emit("ECS Service Action", service["serviceArn"], {
            "eventType": "INFO", "eventName": "SERVICE_STEADY_STATE", "clusterArn": service["clusterArn"], "createdAt": ecs._iso()})
        service["events"].insert(0, {"id": ecs.new_uuid(), "createdAt": ecs._iso(),
                                     "message": f"(service {service['serviceName']}) has reached a steady state."})
    STEADY[service["serviceArn"]] = steady


def loop():
    turn = 0
    while True:
        turn += 1
        try:
            targets.sweep()
            health.sweep()
            of_tasks()
            for (account, region, key), service in list(ecs._services._data.items()):
                with request_scope(account, region):
                    of_service(service)
                    if service.get("status") == "ACTIVE" and turn % 3 == 0:
                        scheduler.turn(key.split("/")[0], key, service)
            certificates.sweep()
        except Exception as e:
            print("events:", repr(e), flush=True)
        time.sleep(0.1)


def start():
    threading.Thread(target=loop, daemon=True, name="rig-events").start()
