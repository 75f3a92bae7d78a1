"""ELBv2's refusals and quotas, and what stock ministack loses: weighted forwards and additional certificates.

PriorityInUse, TooManyRules (100 per balancer), TooManyUniqueTargetGroupsPerLoadBalancer (100), TargetGroupAssociationLimit (a group on
two balancers), TooManyTargetGroups (more than 5 in a forward), more than 5 condition values, host names that a condition does not
take (over 128 characters, no dot, anything but letters behind the last one), the source 255.255.255.255/32, priority above 50000, DuplicateListener,
ResourceInUse for a group that a rule names, CertificateNotFound, UnsupportedCertificate for one that is not issued,
TooManyCertificates (25). Codes are from AWS's API reference; the texts are approximate.
"""
import ipaddress
import re
import threading
from xml.sax.saxutils import escape

from ministack.services import acm, alb

LIMITS = {"rules": 100, "groups": 100, "certificates": 25}      # state.py can change them for a test
LOCK, EXTRA = threading.RLock(), {}                             # listener -> its additional certificates
stock_parse, stock_action = alb._parse_actions, alb._action_xml


def members(params, prefix, leaf=""):
    found, i = [], 1
    while value := alb._p(params, f"{prefix}.member.{i}{leaf}"):
        found.append(value)
        i += 1
    return found


# --- weighted forwards ----------------------------------------------------------------------------------------------------------
def parse_actions(params, prefix="DefaultActions"):
    actions = stock_parse(params, prefix)
    for i, action in enumerate(actions, 1):
        base = f"{prefix}.member.{i}.ForwardConfig.TargetGroups"
        arns, weights = members(params, base, ".TargetGroupArn"), members(params, base, ".Weight")
        if arns:
            weights = (weights + ["1"] * len(arns))[:len(arns)]
            action["ForwardConfig"] = {"TargetGroups": [{"TargetGroupArn": a, "Weight": int(w)} for a, w in zip(arns, weights)]}
            if len(arns) == 1:
                action["TargetGroupArn"] = arns[0]
    return actions


def action_xml(action):
    fixed = action.get("FixedResponseConfig")
    if fixed and fixed.get("MessageBody"):           # stock ministack writes a page into its XML as it is
        action = {**action, "FixedResponseConfig": {**fixed, "MessageBody": escape(fixed["MessageBody"])}}
    text, config = stock_action(action), action.get("ForwardConfig")
    if not config:
        return text
    groups = "".join(f"<member><TargetGroupArn>{g['TargetGroupArn']}</TargetGroupArn><Weight>{g['Weight']}</Weight></member>"
                     for g in config["TargetGroups"])
    head, _, _ = text.rpartition("</member>")
    return f"{head}<ForwardConfig><TargetGroups>{groups}</TargetGroups></ForwardConfig></member>"


def groups_in(actions):
    found = set()
    for a in actions:
        found |= {a.get("TargetGroupArn")} | {g["TargetGroupArn"] for g in (a.get("ForwardConfig") or {}).get("TargetGroups", [])}
    return found - {None}


# --- rules ----------------------------------------------------------------------------------------------------------------------
def rules_of(balancer):
    listeners = {li["ListenerArn"] for li in alb._listeners.values() if li["LoadBalancerArn"] == balancer}
    return [r for r in alb._rules.values() if r["ListenerArn"] in listeners]


def place(balancer, actions, keep=None):
    """An error when these actions do not fit on the balancer; else the groups' balancer is noted."""
    wanted = groups_in(actions)
    used = set().union(*[groups_in(r["Actions"]) for r in rules_of(balancer) if r is not keep] or [set()])
    for g in wanted:
        group = alb._tgs.get(g)
        if not group:
            return alb._error("TargetGroupNotFound", f"One or more target groups not found: {g}")
        if used_elsewhere(g, balancer):
            return alb._error("TargetGroupAssociationLimit",
                              "The following target groups cannot be associated with more than one load balancer: " + g)
    if len(used | wanted) > LIMITS["groups"]:
        return alb._error("TooManyUniqueTargetGroupsPerLoadBalancer",
                          f"The maximum number of target groups ({LIMITS['groups']}) per load balancer has been reached")
    if any(len((a.get("ForwardConfig") or {}).get("TargetGroups", [])) > 5 for a in actions):
        return alb._error("TooManyTargetGroups", "A forward action can have 5 target groups")
    for g in wanted:
        alb._tgs[g]["LoadBalancerArns"] = [balancer]
    return None


def used_elsewhere(group, balancer):
    mine = {li["ListenerArn"] for li in alb._listeners.values() if li["LoadBalancerArn"] == balancer}
    return any(group in groups_in(r["Actions"]) for r in alb._rules.values() if r["ListenerArn"] not in mine)


def bad_condition(condition):
    """What AWS says of a condition's values; None when it takes them."""
    for value in condition["Values"]:
        if condition["Field"] == "host-header":
            if len(value) > 128:
                return f"Condition value '{value}' must be at most 128 characters"
            if not re.fullmatch(r"[A-Za-z0-9*?_.-]*\.[A-Za-z*?]+", value):
                return f"Condition value '{value}' contains a character that is not valid"
        if condition["Field"] == "source-ip":
            try:
                ipaddress.ip_network(value)
            except ValueError:
                return f"Condition value '{value}' is not a valid CIDR block"
            if value == "255.255.255.255/32":
                return f"Condition value '{value}' is not supported"
    return None


def check_rule(params, listener_arn, rule=None):
    priority = alb._p(params, "Priority")
    if priority and not 1 <= int(priority) <= 50000:
        return alb._error("ValidationError", "Priority must be between 1 and 50000")
    conditions = alb._parse_conditions(params)
    if sum(len(c["Values"]) for c in conditions) > 5:
        return alb._error("ValidationError", "A rule can only have '5' condition values")
    if said := next(filter(None, map(bad_condition, conditions)), None):
        return alb._error("ValidationError", said)
    listener = alb._listeners.get(listener_arn)
    if not listener:
        return None
    if not rule:
        if any(r["Priority"] == priority and r["ListenerArn"] == listener_arn for r in alb._rules.values()):
            return alb._error("PriorityInUse", f"Priority '{priority}' is currently in use")
        if sum(1 for r in rules_of(listener["LoadBalancerArn"]) if not r["IsDefault"]) >= LIMITS["rules"]:
            return alb._error("TooManyRules", f"The maximum number of rules per load balancer ({LIMITS['rules']}) has been reached")
    return place(listener["LoadBalancerArn"], parse_actions(params, "Actions"), rule)


def create_rule(params):
    with LOCK:
        return check_rule(params, alb._p(params, "ListenerArn")) or alb._create_rule(params)


def modify_rule(params):
    rule = alb._rules.get(alb._p(params, "RuleArn"))
    with LOCK:
        return (check_rule(params, rule["ListenerArn"], rule) if rule else None) or alb._modify_rule(params)


def set_priorities(params):
    arns, wanted = members(params, "RulePriorities", ".RuleArn"), members(params, "RulePriorities", ".Priority")
    with LOCK:
        for arn, priority in zip(arns, wanted):
            rule = alb._rules.get(arn)
            taken = rule and any(r["Priority"] == priority and r["ListenerArn"] == rule["ListenerArn"] and r["RuleArn"] not in arns
                                 for r in alb._rules.values())
            if taken:
                return alb._error("PriorityInUse", f"Priority '{priority}' is currently in use")
        return alb._ACTION_SET_PRIORITIES(params)


def delete_group(params):
    arn = alb._p(params, "TargetGroupArn")
    if any(arn in groups_in(r["Actions"]) for r in alb._rules.values()):
        return alb._error("ResourceInUse", f"Target group '{arn}' is currently in use by a listener or a rule")
    return alb._delete_tg(params)


# --- listeners and their certificates -------------------------------------------------------------------------------------------
def certificates_of(listener):
    """The listener's certificates, its default first."""
    return [*(listener.get("Certificates") or []), *EXTRA.get(listener["ListenerArn"], [])]


def check_certificates(arns):
    for arn in arns:
        cert = acm._certificates.get(arn)
        if arn.split(":")[2:3] == ["acm"] and not cert:
            return alb._error("CertificateNotFound", f"Certificate '{arn}' not found")
        if cert and cert["Status"] != "ISSUED":
            return alb._error("UnsupportedCertificate", f"The certificate '{arn}' must have a fully-qualified domain name, a "
                              "supported signature, and a supported key size.")
    return None


def create_listener(params):
    balancer, port = alb._p(params, "LoadBalancerArn"), alb._p(params, "Port", "80")
    with LOCK:
        if any(li["LoadBalancerArn"] == balancer and str(li["Port"]) == port for li in alb._listeners.values()):
            return alb._error("DuplicateListener", "A listener already exists on this port for this load balancer")
        named = members(params, "Certificates", ".CertificateArn")
        if alb._p(params, "Protocol") == "HTTPS" and not named:
            return alb._error("CertificateNotFound", "A certificate must be specified for HTTPS listeners")
        return check_certificates(named) or place(balancer, parse_actions(params)) or alb._create_listener(params)


def certificates_xml(arns, default):
    return "".join(f"<member><CertificateArn>{a}</CertificateArn><IsDefault>{str(a == default).lower()}</IsDefault></member>"
                   for a in arns)


def listener_certificates(params):
    listener, action = alb._listeners.get(alb._p(params, "ListenerArn")), alb._p(params, "Action")
    if not listener:
        return alb._error("ListenerNotFound", "One or more listeners not found")
    extra, named = EXTRA.setdefault(listener["ListenerArn"], []), members(params, "Certificates", ".CertificateArn")
    if action == "AddListenerCertificates":
        new = [a for a in named if a not in extra]
        if error := check_certificates(named):
            return error
        if len(extra) + len(new) > LIMITS["certificates"]:
            return alb._error("TooManyCertificates",
                              f"The maximum number of certificates ({LIMITS['certificates']}) per load balancer has been reached")
        extra.extend(new)
        return alb._xml(200, action, f"<Certificates>{certificates_xml(named, None)}</Certificates>")
    if action == "RemoveListenerCertificates":
        extra[:] = [a for a in extra if a not in named]
        return alb._empty(action)
    default = next(iter(listener.get("Certificates") or []), None)
    return alb._xml(200, action, f"<Certificates>{certificates_xml(certificates_of(listener), default)}</Certificates>")


def install():
    alb._parse_actions, alb._action_xml = parse_actions, action_xml
    alb._ACTION_SET_PRIORITIES = alb._ACTION_MAP["SetRulePriorities"]
    alb._ACTION_MAP.update(
        CreateRule=create_rule, ModifyRule=modify_rule, SetRulePriorities=set_priorities, CreateListener=create_listener,
        DeleteTargetGroup=delete_group, AddListenerCertificates=listener_certificates,
        RemoveListenerCertificates=listener_certificates, DescribeListenerCertificates=listener_certificates)
