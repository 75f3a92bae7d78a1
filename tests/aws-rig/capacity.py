"""Fargate without room: what RunTask answers then, and what the scheduler says of a service whose tasks it places nowhere.

PUT /capacity {"CLUSTER": {"FARGATE_SPOT": "Capacity is unavailable at this time. …"}} takes a cluster's room away for as long as the
text stands there, {"CLUSTER": {}} gives it back. A capacity provider strategy of which one part has no room places nothing. As on AWS,
the service's own list of events has the words, once until a task starts again, and "ECS Service Action" says it on the bus.
"""
import time

from ministack.services import ecs

AGAIN_S = 0.5
FULL = {}                   # cluster -> provider -> AWS's words
AFTER = " For more information, see the Troubleshooting section of the Amazon ECS Developer Guide."


def providers(data):
    strategy = data.get("capacityProviderStrategy") or []
    return [item["capacityProvider"] for item in strategy] or [data.get("launchType") or "FARGATE"]


def refusal(data):
    """The provider without room, and the words."""
    full = FULL.get(ecs._resolve_cluster_name(data.get("cluster") or "default")) or {}
    return next(((p, full[p]) for p in providers(data) if p in full), None)


def service_of(data):
    return ecs._services.get(f"{data.get('cluster')}/{data['group'][8:]}") if data.get("_deploymentId") else None


def say(service, message):
    service["events"].insert(0, {"id": ecs.new_uuid(), "createdAt": ecs._iso(), "message": f"(service {service['serviceName']}) {message}"})


def placed(data, run):
    """Runs tasks where there is room."""
    service, full = service_of(data), refusal(data)
    if not full:
        answer = run(data)
        if service and service.pop("_said", None):
            say(service, f"has started {data.get('count', 1)} tasks.")
        return answer
    if not service:
        return ecs.json_response({"tasks": [], "failures": [{"reason": full[1]}]})
    service["_unplaced"] = time.time()
    if service.get("_said") != full[1]:
        service["_said"] = full[1]
        say(service, f"was unable to place a task. Reason: {full[1]}{AFTER}")
        import events
        asked = [f"{service['clusterArn'].rsplit(':', 1)[0]}:capacity-provider/{full[0]}"] if data.get("capacityProviderStrategy") else []
        events.emit("ECS Service Action", service["serviceArn"], {
            "eventType": "ERROR", "eventName": "SERVICE_TASK_PLACEMENT_FAILURE", "clusterArn": service["clusterArn"],
            "capacityProviderArns": asked, "reason": "RESOURCE:FARGATE", "createdAt": ecs._iso()})
    return None


def again(cluster, key, service):
    """The scheduler goes on trying."""
    if time.time() - service.get("_unplaced", time.time()) > AGAIN_S:
        del service["_unplaced"]
        ecs._reconcile_service_tasks(cluster, key)
