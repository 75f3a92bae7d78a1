"""The emulated account as the front door sees it, and what a test may set while the rig runs. On loopback only.

GET /            balancers with their rules and certificates, target states, DNS records, stickiness: one JSON instead of Describe calls
GET /objects?WORD  what on the account mentions this word: see inventory.py
PUT /rates       {"RunTask": [20, 100]}: see rates.py
PUT /elsewhere   {"www.example.test": "target", "gone.example.test": null}: what name servers of other people say
PUT /capacity    {"CLUSTER": {"FARGATE": "Capacity is unavailable at this time."}}: see capacity.py
PUT /limits      {"rules": 20, "groups": 20, "certificates": 5}: see listeners.py
"""
import http.server
import json
import threading
from urllib.parse import unquote

from ministack.services import acm, alb, route53

import capacity
import inventory
import listeners
import rates
import targets


def certificate(arn):
    cert = next((c for c in list(acm._certificates._data.values()) if c["CertificateArn"] == arn), None)
    return cert and {"arn": arn, "names": list(dict.fromkeys(cert["SubjectAlternativeNames"]))}


def balancer(lb):
    mine = [li for li in alb._listeners.all_values() if li["LoadBalancerArn"] == lb["LoadBalancerArn"]]
    return {"dns": lb["DNSName"], "listeners": {str(li["Port"]): {
        "rules": [r for r in alb._rules.all_values() if r["ListenerArn"] == li["ListenerArn"]],
        "certificates": [c for c in map(certificate, listeners.certificates_of(li)) if c]} for li in mine}}


def snapshot():
    found, sticky, records = {}, {}, {}
    with targets.LOCK:
        for (arn, ip, port), h in targets.HEALTH.items():
            found.setdefault(arn, []).append([ip, port, h["state"]])
    for (_, arn), attributes in list(alb._tg_attrs._data.items()):
        a = {x["Key"]: x["Value"] for x in attributes}
        if a.get("stickiness.enabled") == "true":
            sticky[arn] = a.get("stickiness.lb_cookie.duration_seconds", "86400")
    for rows in list(route53._records._data.values()):
        for r in rows:
            to = (r.get("AliasTarget") or {}).get("DNSName") or next(
                (v if isinstance(v, str) else v.get("Value") for v in r.get("ResourceRecords") or []), None)
            if r["Type"] in ("A", "CNAME") and to:
                records[r["Name"].rstrip(".").lower().replace("\\052", "*")] = to
    records.update(ELSEWHERE)
    balancers = {lb["LoadBalancerArn"]: balancer(lb) for lb in alb._lbs.all_values()}
    return {"balancers": balancers, "targets": found, "sticky": sticky, "records": records}


ELSEWHERE = {}              # name -> where it leads, in zones that are not on the account


def whole(look):
    """The account goes on while it is looked at: what changed under the look is looked at again."""
    while True:
        try:
            return look()
        except RuntimeError as e:
            if "during iteration" not in str(e):
                raise


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        self.answer(whole(lambda: inventory.mentioning(unquote(query)) if path == "/objects" else snapshot()))

    def do_PUT(self):
        given = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if self.path == "/rates":
            rates.set_rates(given)
        elif self.path == "/capacity":
            capacity.FULL.update(given)
        elif self.path == "/limits":
            listeners.LIMITS.update(given)
        elif self.path == "/elsewhere":
            for name, target in given.items():
                ELSEWHERE.pop(name.rstrip(".").lower(), None)
                if target:
                    ELSEWHERE[name.rstrip(".").lower()] = target
        self.answer({"rates": rates.RATES, "limits": listeners.LIMITS, "elsewhere": ELSEWHERE})

    def answer(self, what):
        body = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def start(port):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
