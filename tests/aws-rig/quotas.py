"""ECS's refusals that stock ministack does not have.

A group on no balancer; unknown clusters; Fargate's combinations of CPU and memory; awsvpc without a network; a service that is still
draining or is gone; an unknown task definition in UpdateService; more than 10 tasks or 8,192 characters of overrides in RunTask, 10 services or 100 tasks in a
Describe. clientToken of RunTask gives the same tasks again. Codes are from AWS's API reference; the texts are approximate.
"""
import json
import threading

from ministack.services import alb, ecs

LOCK, RUNS, STOCK = threading.RLock(), {}, {}
# CPU units -> the memory sizes in MiB that Fargate runs with them.
FARGATE = {256: [512, 1024, 2048], 512: range(1024, 4097, 1024), 1024: range(2048, 8193, 1024), 2048: range(4096, 16385, 1024),
           4096: range(8192, 30721, 1024), 8192: range(16384, 61441, 4096), 16384: range(32768, 122881, 8192)}


def refuse(code, text):
    return ecs.error_response_json(code, text, 400)


def no_cluster(data):
    name = ecs._resolve_cluster_name(data.get("cluster") or "default")
    return None if name in ecs._clusters else refuse("ClusterNotFoundException", "Cluster not found.")


def no_network(data):
    definition = ecs._task_defs.get(ecs._resolve_td_key(data.get("taskDefinition") or "")) or {}
    given = (data.get("networkConfiguration") or {}).get("awsvpcConfiguration") or {}
    if definition.get("networkMode") == "awsvpc" and not given.get("subnets"):
        return refuse("InvalidParameterException", "Network Configuration must be provided when networkMode 'awsvpc' is specified.")
    return None


def register(data):
    if "FARGATE" in (data.get("requiresCompatibilities") or []):
        cpu, memory = data.get("cpu"), data.get("memory")
        if not cpu or not memory:
            return refuse("ClientException", "Fargate requires that 'cpu' and 'memory' be defined at the task level.")
        if int(memory) not in FARGATE.get(int(cpu), []):
            return refuse("ClientException", f"No Fargate configuration exists for given values: {cpu} CPU, {memory} memory.")
    for spec in data.get("containerDefinitions") or []:
        if spec.get("healthCheck") is not None and not spec["healthCheck"].get("command"):
            return refuse("ClientException", "Health check command must not be empty.")
    return STOCK["RegisterTaskDefinition"](data)


def run(data):
    if int(data.get("count") or 1) > 10:
        return refuse("InvalidParameterException", "count should be less than or equal to 10")
    if len(json.dumps(data.get("overrides") or {})) > 8192:
        return refuse("InvalidParameterException", "Container Overrides length must be at most 8192")
    if error := no_cluster(data) or no_network(data):
        return error
    token = data.get("clientToken")
    key = token and (ecs.get_account_id(), ecs.get_region(), data.get("cluster"), token)
    with LOCK:
        if key in RUNS:
            return RUNS[key]
        answer = STOCK["RunTask"](data)
        if key and answer[0] == 200 and json.loads(answer[2])["tasks"]:
            RUNS[key] = answer
        return answer


def create_service(data):
    if error := no_cluster(data) or no_network(data):
        return error
    for lb in data.get("loadBalancers") or []:
        arn = lb.get("targetGroupArn")
        group = alb._tgs.get(arn)
        if not group or not group["LoadBalancerArns"]:
            return refuse("InvalidParameterException",
                          f"The target group with targetGroupArn {arn} does not have an associated load balancer.")
    old = service_named(data.get("cluster"), data.get("serviceName"))
    if old and old["status"] == "DRAINING":
        return refuse("InvalidParameterException", "Unable to Start a service that is still Draining.")
    return STOCK["CreateService"](data)


def service_named(cluster, ref):
    found = ecs._resolve_service_ref(ref or "")
    return found and ecs._services.get(f"{ecs._resolve_cluster_name(cluster or 'default')}/{found[0]}")


def update_service(data):
    service, definition = service_named(data.get("cluster"), data.get("service")), data.get("taskDefinition")
    if service and service["status"] != "ACTIVE":
        return refuse("ServiceNotActiveException", "Service was not ACTIVE.")
    if definition and ecs._resolve_td_key(definition) not in ecs._task_defs:
        return refuse("ClientException", "TaskDefinition not found.")
    return STOCK["UpdateService"](data)


def at_most(operation, field, limit):
    def call(data):
        if len(data.get(field) or []) > limit:
            return refuse("InvalidParameterException", f"{field} can have at most {limit} items")
        return STOCK[operation](data)
    return call


def install():
    table = ecs._ACTION_MAP
    STOCK.update(table)
    table.update(RegisterTaskDefinition=register, RunTask=run, CreateService=create_service, UpdateService=update_service,
                 DescribeServices=at_most("DescribeServices", "services", 10), DescribeTasks=at_most("DescribeTasks", "tasks", 100))
