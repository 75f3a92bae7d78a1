"""The front door: what Route53 and the account's load balancers do with a request, on loopback ports.

    front.py --state URL --folder FOLDER 8080=80 8443=443/tls 8081=443

Each argument is a local port and the listener's port behind it; `/tls` speaks TLS there, and a listener on 443 without it takes the
requests as if TLS had been taken off before (X-Forwarded-Proto says https). The balancer is chosen as DNS would: the record of the
host name, wildcards too, names a balancer; without one 421, in TLS the handshake ends. `tls.py` picks the certificate.
Rules by priority (host, path, method, header, query, source address), forward (also weighted), redirect, fixed response; round robin over the healthy
targets, over all when every one is unhealthy, 503 without any, 502 when refused or reset, 504 after 60 s; keep-alive to clients, one
connection per request to the target; websockets; AWSALB cookie where the group is sticky. A redirect to 80 or 443 names the local
port that stands for it. GET /_front gives counters; GET /_look answers when the account was looked at anew, else it is each 0.2 s.
"""
import asyncio
import fnmatch
import ipaddress
import itertools
import json
import random
import re
import sys
import time
import urllib.request
import uuid

import tls
from reach import pipe

STATE = {"balancers": {}, "targets": {}, "sticky": {}, "records": {}}
ROUND, COUNT, IDLE_S, POLL_S = itertools.count(), {}, 60, 0.2
LOCAL = {}                          # listener's port -> the local port that a browser can open
LOOKS, ACCOUNT = asyncio.Lock(), {"url": ""}


async def look():
    """One at a time: an older look must not come behind a newer one."""
    async with LOOKS:
        state = await asyncio.to_thread(lambda: json.load(urllib.request.urlopen(ACCOUNT["url"], timeout=20)))
        for lb in state["balancers"].values():
            for listener in lb["listeners"].values():
                listener["rules"].sort(key=lambda r: 10**6 if r["Priority"] == "default" else int(r["Priority"]))
        STATE.update(state)


async def poll():
    while True:
        try:
            await look()
        except Exception as e:
            print("front:", repr(e), flush=True)
        await asyncio.sleep(POLL_S)


def balancer_for(host):
    """The balancer that the record of this name points at; an alias of an alias is followed."""
    name = host
    for _ in range(5):
        found = STATE["records"].get(name) or STATE["records"].get("*." + name.partition(".")[2])
        if not found:
            break
        name = found.rstrip(".").lower().removeprefix("dualstack.")
    return next((lb for lb in STATE["balancers"].values() if lb["dns"].lower() == name), None)


def holds(cond, method, host, path, query, headers, peer):
    typed = next((v for k, v in cond.items() if k.endswith("Config")), None) or {}
    values, field = cond.get("Values") or typed.get("Values", []), cond["Field"]

    def like(text, fold=str):
        return any(fnmatch.fnmatchcase(fold(text), fold(str(v))) for v in values)
    if field == "host-header":
        return like(host, str.lower)
    if field == "path-pattern":
        return like(path)
    if field == "http-request-method":
        return method in values
    if field == "http-header":
        return like(headers.get(typed.get("HttpHeaderName", "").lower(), ""), str.lower)
    if field == "query-string":
        return any(f"{v.get('Key', '')}={v['Value']}" in query.split("&") for v in values)
    if field == "source-ip":
        return any(ipaddress.ip_address(peer) in ipaddress.ip_network(v) for v in values)
    return False            # one that AWS has and this door does not know


def reply(code, body="", kind="text/html", extra="", close=False):
    data = body.encode()
    return (f"HTTP/1.1 {code} {code}\r\nServer: awselb/2.0\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n{extra}"
            f"Connection: {'close' if close else 'keep-alive'}\r\n\r\n").encode() + data


def redirect(config, scheme, host, port, path, query):
    def put(text):
        return (text.replace("#{protocol}", scheme).replace("#{host}", host).replace("#{port}", port)
                .replace("#{path}", path.lstrip("/")).replace("#{query}", query))
    proto, to_port = put(config.get("Protocol", "#{protocol}")).lower(), put(config.get("Port", "#{port}"))
    to_query = put(config.get("Query", "#{query}"))
    where = f"{proto}://{put(config.get('Host', '#{host}'))}:{LOCAL.get(to_port, to_port)}{put(config.get('Path', '/#{path}'))}"
    return reply(301 if "301" in config["StatusCode"] else 302, extra=f"Location: {where}{'?' + to_query if to_query else ''}\r\n")


def target_of(action, cookie):
    arn = action.get("TargetGroupArn")
    groups = (action.get("ForwardConfig") or {}).get("TargetGroups") or []
    if not arn and groups:
        arn = random.choices(groups, [g.get("Weight", 1) for g in groups])[0]["TargetGroupArn"]
    rows = STATE["targets"].get(arn, [])
    usable = [t for t in rows if t[2] == "healthy"] or [t for t in rows if t[2] == "unhealthy"]
    pinned = [t for t in usable if f"AWSALB={t[0]}-{t[1]}" in cookie]
    return (pinned or [usable[next(ROUND) % len(usable)]] if usable else [None])[0], STATE["sticky"].get(arn)


async def copy_body(src, dst, headers, until_eof=False):
    """One message body; False when the connection it came from is used up."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        while True:
            line = await src.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            dst.write(line + await src.readexactly(size + 2))
            await dst.drain()
            if not size:
                return True
    left = int(headers.get("content-length", -1))
    while left > 0:
        part = await src.read(min(left, 65536))
        if not part:
            raise ConnectionResetError
        dst.write(part)
        await dst.drain()
        left -= len(part)
    if left < 0 and until_eof:
        while part := await src.read(65536):
            dst.write(part)
            await dst.drain()
        return False
    return True


async def read_head(r):
    head = (await r.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
    pairs = [(k, v.strip()) for k, _, v in (line.partition(":") for line in head[1:] if line)]
    return head[0], pairs, {k.lower(): v for k, v in pairs}


async def serve_one(r, w, listener):
    """One request; True keeps the client's connection."""
    first, pairs, headers = await asyncio.wait_for(read_head(r), IDLE_S)
    method, target, _ = first.split(" ", 2)
    path, _, query = target.partition("?")
    host = headers.get("host", "").rsplit(":", 1)[0].lower()
    scheme, peer = "https" if listener == "443" else "http", w.get_extra_info("peername")[0]

    async def answer(data, drop=False):
        count(data[9:12].decode())
        w.write(data)
        await w.drain()
        return not drop and "content-length" not in headers and "transfer-encoding" not in headers
    if path == "/_front":
        return await answer(reply(200, json.dumps(COUNT), "application/json"))
    if path == "/_look":
        await look()
        return await answer(reply(200))
    found = (balancer_for(host) or {"listeners": {}})["listeners"].get(listener)
    if found is None:
        return await answer(reply(421, f"no DNS record or listener for {host}"))
    rule = next(x for x in found["rules"] if x["Priority"] == "default"
                or all(holds(c, method, host, path, query, headers, peer) for c in x["Conditions"]))
    action = rule["Actions"][-1]
    if action["Type"] == "fixed-response":
        f = action["FixedResponseConfig"]
        return await answer(reply(f["StatusCode"], f.get("MessageBody", ""), f.get("ContentType") or "text/plain"))
    if action["Type"] == "redirect":
        return await answer(redirect(action["RedirectConfig"], scheme, host, listener, path, query))
    goal, sticky = target_of(action, headers.get("cookie", ""))
    if not goal:
        return await answer(reply(503, "<center><h1>503 Service Temporarily Unavailable</h1></center>"))
    return await forward(r, w, goal, sticky, first, pairs, headers, scheme, listener, answer)


async def forward(r, w, goal, sticky, first, pairs, headers, scheme, listener, answer):
    try:
        tr, tw = await asyncio.wait_for(asyncio.open_connection(goal[0], goal[1], limit=1 << 20), 10)
    except (OSError, asyncio.TimeoutError):
        return await answer(reply(502, "<center><h1>502 Bad Gateway</h1></center>", close=True), True)
    started, upgrade = False, "upgrade" in headers.get("connection", "").lower()
    try:
        skip = ("x-forwarded-proto", "x-forwarded-port", "x-forwarded-for") + (() if upgrade else ("connection", "keep-alive"))
        peer, seen = w.get_extra_info("peername")[0], headers.get("x-forwarded-for")
        extra = [("X-Forwarded-For", f"{seen}, {peer}" if seen else peer), ("X-Forwarded-Proto", scheme), ("X-Forwarded-Port", listener)]
        if "x-amzn-trace-id" not in headers:
            extra.append(("X-Amzn-Trace-Id", f"Root=1-{int(time.time()):x}-{uuid.uuid4().hex[:24]}"))
        if not upgrade:
            extra.append(("Connection", "close"))
        lines = [first] + [f"{k}: {v}" for k, v in pairs if k.lower() not in skip] + [f"{k}: {v}" for k, v in extra]
        tw.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin1"))
        if upgrade:
            await asyncio.gather(pipe(r, tw), pipe(tr, w))
            return False
        await copy_body(r, tw, headers)
        await tw.drain()
        while True:
            status, rp, rh = await asyncio.wait_for(read_head(tr), IDLE_S)
            if not status.split(" ")[1].startswith("1"):
                break
        code = status.split(" ")[1]
        count(code)
        bare = first.startswith("HEAD ") or code in ("204", "304")
        framed = bare or "content-length" in rh or "chunked" in rh.get("transfer-encoding", "")
        out = [status] + [f"{k}: {v}" for k, v in rp if k.lower() not in ("connection", "keep-alive")]
        if sticky:
            out.append(f"Set-Cookie: AWSALB={goal[0]}-{goal[1]}; Path=/; Max-Age={sticky}")
        keep = framed and headers.get("connection", "").lower() != "close"
        started = True
        w.write(("\r\n".join(out) + f"\r\nConnection: {'keep-alive' if keep else 'close'}\r\n\r\n").encode("latin1"))
        if not bare:
            await copy_body(tr, w, rh, until_eof=True)
        await w.drain()
        return keep
    except asyncio.TimeoutError:
        return False if started else await answer(reply(504, "<center><h1>504 Gateway Time-out</h1></center>", close=True), True)
    except (OSError, asyncio.IncompleteReadError):
        return False if started else await answer(reply(502, "<center><h1>502 Bad Gateway</h1></center>", close=True), True)
    finally:
        tw.close()


def count(code):
    COUNT[code] = COUNT.get(code, 0) + 1


async def serve(port, listener, context):
    async def client(r, w):
        try:
            while await serve_one(r, w, listener):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, ValueError, asyncio.LimitOverrunError):
            pass
        finally:
            w.close()
    return await asyncio.start_server(client, "127.0.0.1", port, limit=1 << 20, ssl=context)


async def main(args):
    ACCOUNT["url"] = args[args.index("--state") + 1]
    polling = asyncio.create_task(poll())
    context = tls.context(args[args.index("--folder") + 1], lambda host: (balancer_for(host) or {"listeners": {}})["listeners"].get("443"))
    servers = []
    for port, listener, secure in (re.fullmatch(r"(\d+)=(\d+)(/tls)?", a).groups() for a in args if re.match(r"\d+=", a)):
        if secure or listener == "80":
            LOCAL[listener] = port
        servers.append(await serve(int(port), listener, context if secure else None))
    await asyncio.gather(polling, *(s.serve_forever() for s in servers))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
