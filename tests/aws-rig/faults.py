"""A proxy in front of the emulator that counts calls and makes them fail.

    faults.py PORT UPSTREAM

The port is a *line*: its own faults, its own log. `POST /_line` opens another and answers {"url": …}; `DELETE /_line` on it closes
it, so tests beside each other do not meet. On every line:

    POST   /_fault   a list of faults, in place of the ones before
    GET    /_fault   {"calls": {"ecs:RunTask": 3}, "hits": [["ecs:RunTask", "before"]], "faults": [...]}
    DELETE /_fault   forgets faults, calls and hits

A fault is {"target": regex over "service:Operation METHOD path body[:2000]", …} with
    times    how many calls it meets (default: every one); skip   how many it lets pass before
    delay    seconds before anything else
    status, code, message     answer this error, in the protocol of the service, without forwarding
    body     answer this text with `status` (default 200), without forwarding: no capacity is RunTask's failures inside a 200
    drop     "before": close the connection, nothing was done. "after": forward, let it take effect, then close
    stale    true: answer what the same read answered when it was last really read; the write between is not seen. What was never
             read on this line is read, and that is no hit
    merge    forward, then put these fields into the JSON answer: a partial failure inside a 200
With AUTH=true signatures stay valid: what is forwarded is unchanged.
"""
import asyncio
import json
import re
import sys

READ_MOST = 8 << 20                     # a larger body (an image's layer) is passed on without being kept

ROUTE53 = [("POST", r"/hostedzone/[^/]+/rrset", "ChangeResourceRecordSets"), ("GET", r"/hostedzone/[^/]+/rrset", "ListResourceRecordSets"),
           ("POST", r"/hostedzone", "CreateHostedZone"), ("GET", r"/hostedzonesbyname", "ListHostedZonesByName"),
           ("GET", r"/hostedzone/[^/]+", "GetHostedZone"), ("GET", r"/hostedzone", "ListHostedZones"),
           ("DELETE", r"/hostedzone/[^/]+", "DeleteHostedZone"), ("GET", r"/change/[^/]+", "GetChange"),
           ("GET", r"/tags/.*", "ListTagsForResource"), ("POST", r"/tags/.*", "ChangeTagsForResource")]


def operation_of(method, path, headers, body):
    """`service:Operation` as the SDK names it."""
    scope = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", headers.get("authorization", ""))
    service = scope[1] if scope else "registry" if path.startswith("/v2/") else "unsigned"
    where, _, query = path.partition("?")
    if target := headers.get("x-amz-target"):
        return service, target.rsplit(".", 1)[-1]
    if action := re.search(rb"(?:^|&)Action=(\w+)", body):
        return service, action[1].decode()
    if service == "route53":
        inner = re.sub(r"^/2013-04-01|/$", "", where)
        return service, next((name for m, p, name in ROUTE53 if m == method and re.fullmatch(p, inner)), f"{method} {where}")
    if service == "s3":
        return service, s3_operation(method, where, query, headers)
    return service, f"{method} {where}"


def s3_operation(method, where, query, headers):
    keyed = where.strip("/").count("/") > 0
    for mark, name in (("delete", "DeleteObjects"), ("uploads", "CreateMultipartUpload" if method == "POST" else "ListMultipartUploads"),
                       ("tagging", f"{method.title()}{'Object' if keyed else 'Bucket'}Tagging"), ("versioning", f"{method.title()}BucketVersioning")):
        if re.search(rf"(^|&){mark}(=|&|$)", query):
            return name
    if "uploadId=" in query:
        return {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}.get(method, "ListParts")
    if not keyed:
        return {"GET": "ListObjectsV2", "PUT": "CreateBucket", "HEAD": "HeadBucket", "DELETE": "DeleteBucket"}.get(method, method)
    if method == "PUT" and "x-amz-copy-source" in headers:
        return "CopyObject"
    return f"{method.title()}Object"


def error(service, headers, status, code, message):
    """An error as this service writes it."""
    if "x-amz-target" in headers or service in ("ecs", "registry"):
        body, kind = json.dumps({"__type": code, "message": message, "Message": message}), "application/x-amz-json-1.1"
    elif service == "s3":
        body, kind = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>rig</RequestId></Error>", "application/xml"
    else:
        body = (f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
                "<RequestId>rig</RequestId></ErrorResponse>")
        kind = "text/xml"
    return http(status, body.encode(), kind, f"x-amzn-ErrorType: {code}\r\nx-amzn-RequestId: rig\r\n")


def http(status, body, kind="application/json", extra=""):
    return (f"HTTP/1.1 {status} Rig\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}Connection: close\r\n\r\n").encode() + body


class Line:
    """One port with its faults and its log."""
    def __init__(self, upstream):
        self.upstream, self.faults, self.calls, self.hits, self.seen, self.server = upstream, [], {}, [], {}, None

    async def open(self, port):
        self.server = await asyncio.start_server(self.client, "127.0.0.1", port, limit=1 << 20)
        return self.server.sockets[0].getsockname()[1]

    async def client(self, r, w):
        try:
            await self.serve(r, w)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
            pass
        finally:
            w.close()

    async def serve(self, r, w):
        head = await r.readuntil(b"\r\n\r\n")
        first, *rest = head.decode("latin1").rstrip("\r\n").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in rest)}
        if headers.get("expect", "").lower() == "100-continue":
            w.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await w.drain()
        body, more = await read_body(r, headers)
        if path in ("/_fault", "/_line"):
            return w.write(http(200, json.dumps(await self.control(method, path, body)).encode()))
        service, operation = operation_of(method, path, headers, body)
        name = f"{service}:{operation}"
        self.calls[name] = self.calls.get(name, 0) + 1
        fault = self.meets(f"{name} {method} {path} {body[:2000].decode('latin1')}") or {}
        same = (name, path, body)
        if fault and (not fault.get("stale") or same in self.seen):
            self.hits.append([name, kind_of(fault)])
            await asyncio.sleep(fault.get("delay", 0))
        if fault.get("drop") == "before":
            return None
        if fault.get("stale") and same in self.seen:
            return w.write(self.seen[same])
        if "body" in fault:
            return w.write(http(fault.get("status", 200), fault["body"].encode(), fault.get("type", "application/x-amz-json-1.1")))
        if fault.get("status"):
            return w.write(error(service, headers, fault["status"], fault.get("code", "InternalFailure"), fault.get("message", "injected by the rig")))
        if more is None and (fault.get("drop") or fault.get("merge") or is_read(operation)):
            answer = await self.whole(head, body)
            if fault.get("drop"):
                return None
            if is_read(operation) and len(answer) < 1 << 18:
                self.seen[same] = answer
            return w.write(merged(answer, fault["merge"]) if fault.get("merge") else answer)
        return await self.through(r, w, head, body, more, headers, silent=bool(fault.get("drop")))

    async def control(self, method, path, body):
        if path == "/_line":
            if method == "DELETE":
                self.server.close()
                return {}
            line = Line(self.upstream)
            return {"url": f"http://127.0.0.1:{await line.open(0)}"}
        if method == "POST":
            self.faults = json.loads(body)
        elif method == "DELETE":
            self.faults, self.calls, self.hits, self.seen = [], {}, [], {}
        return {"faults": self.faults, "calls": self.calls, "hits": self.hits}

    def meets(self, text):
        for f in self.faults:
            if f.get("times", 1) != 0 and re.search(f["target"], text):
                if f.get("skip"):
                    f["skip"] -= 1
                    continue
                if "times" in f:
                    f["times"] -= 1
                return f
        return None

    async def whole(self, head, body):
        r, w = await asyncio.open_connection("127.0.0.1", self.upstream)
        w.write(closing(head) + body)
        await w.drain()
        answer = await r.read(-1)
        w.close()
        return answer

    async def through(self, r, w, head, body, more, headers, silent):
        """Passes on without keeping; `silent` loses the answer."""
        up_r, up_w = await asyncio.open_connection("127.0.0.1", self.upstream)
        up_w.write(closing(head) + body)
        left = more or 0
        while left > 0:
            part = await r.read(min(left, 1 << 16))
            if not part:
                raise ConnectionResetError
            up_w.write(part)
            await up_w.drain()
            left -= len(part)
        await up_w.drain()
        while part := await up_r.read(1 << 16):
            if not silent:
                w.write(part)
                await w.drain()
        up_w.close()


def kind_of(fault):
    return (f"drop {fault['drop']}" if fault.get("drop") else "stale" if fault.get("stale") else "body" if "body" in fault
            else fault.get("code", "InternalFailure") if fault.get("status") else "merge" if fault.get("merge") else "delay")


def is_read(operation):
    return operation.startswith(("Describe", "List", "Get", "Head", "BatchGet"))


def closing(head):
    """The head with one request per connection; nothing that is signed changes."""
    return re.sub(rb"(?im)^(connection|expect):[^\r]*\r\n", b"", head).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


def merged(answer, fields):
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        body = b"".join(re.findall(rb"(?s)[0-9a-fA-F]+\r\n(.*?)\r\n(?=[0-9a-fA-F]+\r\n)", body + b"0\r\n"))
    return http(200, json.dumps({**json.loads(body or b"{}"), **fields}).encode(), "application/x-amz-json-1.1")


async def read_body(r, headers):
    """The body, or what was kept of it and how much is still to come."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        raw = b""
        while True:
            line = await r.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            raw += line + await r.readexactly(size + 2)
            if not size:
                return raw, None
    length = int(headers.get("content-length", 0))
    if length <= READ_MOST:
        return await r.readexactly(length) if length else b"", None
    return b"", length


async def main(port, upstream):
    line = Line(upstream)
    await line.open(port)
    await line.server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
