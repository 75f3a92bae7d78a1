"""Token buckets: an operation of ECS or ELBv2 that is called too often is refused as AWS refuses it.

RIG_RATES='{"RegisterTaskDefinition":[1,1],"CreateRule":[5,20]}' gives per operation the rate per second and the burst; state.py can
set them while the rig runs. There is no default: AWS's numbers change, so a test gives its own.
"""
import json
import os
import threading
import time

from ministack.services import alb, ecs

RATES, BUCKETS, LOCK = json.loads(os.environ.get("RIG_RATES") or "{}"), {}, threading.Lock()


def refused(operation):
    if operation not in RATES:
        return False
    rate, burst = RATES[operation]
    with LOCK:
        level, at = BUCKETS.get(operation, (burst, time.time()))
        level = min(burst, level + (time.time() - at) * rate)
        BUCKETS[operation] = (level - 1 if level >= 1 else level, time.time())
        return level < 1


def set_rates(rates):
    with LOCK:
        RATES.clear()
        BUCKETS.clear()
        RATES.update(rates)


def limited(operation, inner, error):
    return lambda data: error() if refused(operation) else inner(data)


def install():
    for table, error in ((alb._ACTION_MAP, lambda: alb._error("Throttling", "Rate exceeded")),
                         (ecs._ACTION_MAP, lambda: ecs.error_response_json("ThrottlingException", "Rate exceeded", 400))):
        for operation, inner in list(table.items()):
            table[operation] = limited(operation, inner, error)
