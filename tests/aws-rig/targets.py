"""Health of the targets behind a balancer: initial, healthy, unhealthy, draining.

Stock ministack calls every target healthy at once, even a dead address. Here a target is initial until one check passed, changes
state after its group's thresholds, and drains for deregistration_delay.timeout_seconds; DescribeTargetHealth, ministack's own data
plane and the front door (through state.py) see the same. Healthy targets are checked at most CHECKS_PER_S times a second in all.
"""
import http.client
import threading
import time

from ministack.services import alb

from shared import SCALE, replace, scope_of

# (group, ip, port) -> {"state", "ok": passed in a row, "bad": failing since, "next": check at, "until": drained at}
HEALTH, LOCK = {}, threading.Lock()
REASON = {"initial": "Elb.RegistrationInProgress", "unhealthy": "Target.FailedHealthChecks",
          "draining": "Target.DeregistrationInProgress"}
CHECKS_PER_S = 60
stock_forward = alb._forward_to_tg


def probe(group, ip, port):
    try:
        connection = http.client.HTTPConnection(ip, port, timeout=max(0.2, group["HealthCheckTimeoutSeconds"] * SCALE))
        connection.request("GET", group["HealthCheckPath"], headers={"User-Agent": "ELB-HealthChecker/2.0", "Connection": "close"})
        status = connection.getresponse().status
        connection.close()
        ranges = [p.split("-") for p in str((group.get("Matcher") or {}).get("HttpCode") or "200").split(",")]
        return any(int(r[0]) <= status <= int(r[-1]) for r in ranges)
    except (OSError, http.client.HTTPException):
        return False


def drain_seconds(arn):
    """How long a target of this group drains; not at all once the group is gone."""
    if not alb._tgs.get_scoped(*scope_of(arn), arn):
        return 0.0
    attributes = alb._tg_attrs._data.get((scope_of(arn)[0], arn)) or []
    delay = next((a["Value"] for a in attributes if a["Key"] == "deregistration_delay.timeout_seconds"), 300)
    return float(delay) * SCALE


def sweep():
    """Adopts new registrations, starts draining those that vanished, checks those that are due."""
    now, due, seen = time.time(), [], set()
    for key, registered in list(alb._targets._data.items()):
        arn = key[-1]
        group = alb._tgs.get_scoped(*scope_of(arn), arn)
        for target in registered if group else ():
            k = (arn, target["Id"], int(target.get("Port") or group["Port"]))
            seen.add(k)
            with LOCK:
                h = HEALTH.get(k)
                if not h or h["state"] == "draining":
                    h = HEALTH[k] = {"state": "initial", "ok": 0, "bad": None, "next": now}
            if now >= h["next"]:
                pause = max(0.2, group["HealthCheckIntervalSeconds"] * SCALE)
                h["next"] = now + (max(pause, len(HEALTH) / CHECKS_PER_S) if h["state"] == "healthy" and not h["bad"] else pause)
                due.append((k, h, group))
    with LOCK:
        for k, h in list(HEALTH.items()):
            if k not in seen and h["state"] != "draining":
                h.update(state="draining", until=now + drain_seconds(k[0]))
            elif h["state"] == "draining" and now > h["until"]:
                del HEALTH[k]
    for one in due:
        threading.Thread(target=check, args=one, daemon=True).start()


def check(key, h, group):
    good = probe(group, key[1], key[2])
    with LOCK:
        if h["state"] == "draining":
            return
        h["ok"] = h["ok"] + 1 if good else 0
        h["bad"] = None if good else h["bad"] or time.time()
        patience = (group["UnhealthyThresholdCount"] - 1) * group["HealthCheckIntervalSeconds"]
        if good and (h["state"] == "initial" or h["ok"] >= group["HealthyThresholdCount"]):
            h["state"] = "healthy"
        elif h["bad"] and time.time() - h["bad"] >= patience:
            h["state"] = "unhealthy"


def states(group):
    with LOCK:
        return {k: h["state"] for k, h in HEALTH.items() if k[0] == group}


def describe(params):
    arn = alb._p(params, "TargetGroupArn")
    if arn not in alb._tgs:
        return alb._error("TargetGroupNotFound", f"Target group '{arn}' not found.")
    sweep()
    wanted = {t["Id"] for t in alb._parse_targets_param(params)}
    rows = ""
    for (_, ip, port), state in sorted(states(arn).items()):
        if not wanted or ip in wanted:
            reason = f"<Reason>{REASON[state]}</Reason>" if state in REASON else ""
            rows += (f"<member><Target><Id>{ip}</Id><Port>{port}</Port></Target><HealthCheckPort>{port}</HealthCheckPort>"
                     f"<TargetHealth><State>{state}</State>{reason}</TargetHealth></member>")
    return alb._xml(200, "DescribeTargetHealth", f"<TargetHealthDescriptions>{rows}</TargetHealthDescriptions>")


async def forward(arn, method, path, headers, body, query, raw_query_string=None, raw_path=None):
    """ministack's own data plane: healthy targets only, or all when every one is unhealthy (AWS fails open)."""
    group, registered = alb._tgs.get(arn), alb._targets.get(arn, [])
    if not group or not registered or group.get("TargetType") == "lambda":
        return await stock_forward(arn, method, path, headers, body, query, raw_query_string, raw_path)
    seen = {ip: state for (_, ip, _), state in states(arn).items()}
    usable = [t for t in registered if seen.get(t["Id"]) == "healthy"]
    usable = usable or [t for t in registered if seen.get(t["Id"]) == "unhealthy"]
    if not usable:
        return 503, {"Content-Type": "text/html"}, b"<html><head><title>503 Service Temporarily Unavailable</title></head></html>"
    pick = usable[time.time_ns() // 1000 % len(usable)]
    return await alb._proxy_http_target(pick, group, method, raw_path or path, headers, body, query, raw_query_string)


def install():
    replace(alb, alb._describe_target_health, describe)
    alb._describe_target_health, alb._forward_to_tg = describe, forward
