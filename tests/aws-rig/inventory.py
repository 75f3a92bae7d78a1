"""Everything on the account that mentions a word: what a test asks after it has destroyed an app.

Names and tags are looked at, and what a record says; ended tasks, deleted services and deregistered definitions are history and do
not count. What a log stream holds is not looked into.
"""
from ministack.services import acm, alb, cloudwatch_logs, ecr, ecs, route53, s3, secretsmanager, sqs

import listeners


def records():
    """(kind, name, text) of everything that there is."""
    def stored(store):
        return list(store._data.items())

    def tagged(module, arn):
        return [tags for key, tags in stored(module._tags) if key[-1] == arn]
    for _, s in stored(ecs._services):
        if s["status"] != "INACTIVE":
            yield "service", s["serviceArn"], [s["serviceName"], tagged(ecs, s["serviceArn"])]
    for _, t in stored(ecs._tasks):
        if t["lastStatus"] != "STOPPED":
            yield "task", t["taskArn"], [t["taskDefinitionArn"], t.get("tags"), t.get("group")]
    for _, d in stored(ecs._task_defs):
        if d["status"] == "ACTIVE":
            yield "task definition", d["taskDefinitionArn"], [tagged(ecs, d["taskDefinitionArn"])]
    for kind, store, name in (("balancer", alb._lbs, "LoadBalancerArn"), ("target group", alb._tgs, "TargetGroupArn"),
                              ("rule", alb._rules, "RuleArn")):
        for _, r in stored(store):
            yield kind, r[name], [r, tagged(alb, r[name])]
    for _, li in stored(alb._listeners):
        yield "listener", li["ListenerArn"], [listeners.certificates_of(li)]
    for _, s in stored(secretsmanager._secrets):
        if not s.get("DeletedDate"):
            yield "secret", s["Name"], [s.get("Tags")]
    for key, r in stored(ecr._repositories):
        yield "repository", str(key[-1]), [r]
    for key, rows in stored(route53._records):
        for r in rows:
            if r["Type"] not in ("NS", "SOA"):
                yield "record", f"{r['Type']} {r['Name']}", [r]
    for _, c in stored(acm._certificates):
        yield "certificate", c["CertificateArn"], [c["SubjectAlternativeNames"], c.get("Tags")]
    for key, group in stored(cloudwatch_logs._log_groups):
        yield "log group", str(key[-1]), []
        for stream in list(group.get("streams") or {}):
            yield "log stream", stream, []
    for key, bucket in stored(s3._buckets):
        yield "bucket", str(key[-1]), []
        for name in list(bucket.get("objects") or {}):
            yield "object", str(name), []
    for key, _ in stored(sqs._queues):
        yield "queue", str(key[-1]), []


def mentioning(word):
    while True:
        try:
            return sorted({f"{kind} {name}" for kind, name, text in records() if word in name or word in str(text)})
        except RuntimeError:        # something came or went while it was written out
            continue
