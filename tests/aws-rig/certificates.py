"""ACM as AWS has it: a requested certificate waits until its validation records exist.

Stock ministack issues at once. Here RequestCertificate answers with PENDING_VALIDATION; a moment later each name has a CNAME to
make; once every one of them stands in the rig's Route53 (any zone, any account: DNS is one world) the certificate
is ISSUED. IdempotencyToken repeats the answer, InUseBy names the balancers, and a certificate in use cannot be deleted.
Certificates of CloudFormation stay issued at once: on AWS the stack waits for the validation.
"""
import hashlib
import time

from ministack.core.responses import request_scope
from ministack.services import acm, alb, route53

from shared import SCALE

RECORD_AFTER_S = 2.0        # AWS shows the record some seconds after the request; callers must ask again
PENDING, TOKENS = {}, {}    # arn -> (account, region, requested at); (account, region, token, name) -> arn
stock_request, stock_shape, stock_delete = acm._request_certificate, acm._cert_shape, acm._delete_certificate


def option(domain, method):
    base = domain.removeprefix("*.")
    digest = hashlib.sha256(base.encode()).hexdigest()
    return {"DomainName": domain, "ValidationDomain": base, "ValidationMethod": method, "ValidationStatus": "PENDING_VALIDATION",
            "ResourceRecord": {"Name": f"_{digest[:32]}.{base}.", "Type": "CNAME",
                               "Value": f"_{digest[32:]}.rig.acm-validations.aws."}}


def request(data):
    scope = acm.get_account_id(), acm.get_region()
    token = data.get("IdempotencyToken") and (*scope, data["IdempotencyToken"], data.get("DomainName"))
    if token in TOKENS and TOKENS[token] in acm._certificates:
        return acm.json_response({"CertificateArn": TOKENS[token]})
    before = set(acm._certificates.keys())
    answer = stock_request(data)
    for arn in set(acm._certificates.keys()) - before if answer[0] == 200 else ():
        cert = acm._certificates[arn]
        cert.update(Status="PENDING_VALIDATION", DomainValidationOptions=[
            option(d, cert["ValidationMethod"]) for d in dict.fromkeys(cert["SubjectAlternativeNames"])])
        PENDING[arn] = (*scope, time.time())
        if token:
            TOKENS[token] = arn
    return answer


def shape(cert):
    found = stock_shape(cert)
    found["InUseBy"] = found["InUseBy"] + users(cert["CertificateArn"])
    if cert["Status"] != "PENDING_VALIDATION":
        return found
    for field in ("IssuedAt", "NotBefore", "NotAfter"):
        found.pop(field, None)
    asked = PENDING.get(cert["CertificateArn"], (None, None, 0))[2]
    if time.time() - asked < RECORD_AFTER_S * SCALE:
        found["DomainValidationOptions"] = [{k: v for k, v in o.items() if k != "ResourceRecord"}
                                            for o in found["DomainValidationOptions"]]
    return found


def users(arn):
    """The balancers whose listeners name this certificate."""
    import listeners

    return sorted({li["LoadBalancerArn"] for li in alb._listeners.values() if arn in listeners.certificates_of(li)})


def delete(data):
    arn = data.get("CertificateArn", "")
    if users(arn):
        return acm.error_response_json("ResourceInUseException", f"Certificate {arn} is in use.", 400)
    return stock_delete(data)


def zone_has(record):
    import state

    name, value = record["Name"].lower().rstrip("."), record["Value"].lower().rstrip(".")
    for rows in list(route53._records._data.values()):
        for row in rows:
            if row["Type"] == "CNAME" and row["Name"].lower().rstrip(".") == name:
                values = [v if isinstance(v, str) else v.get("Value", "") for v in row.get("ResourceRecords") or []]
                if value in [v.lower().rstrip(".") for v in values]:
                    return True
    return state.ELSEWHERE.get(name, "").lower().rstrip(".") == value


def sweep():
    """Issues what has all its records."""
    for arn, (account, region, _) in list(PENDING.items()):
        with request_scope(account, region):
            cert = acm._certificates.get(arn)
            if cert:
                for o in cert["DomainValidationOptions"]:
                    if zone_has(o["ResourceRecord"]):
                        o["ValidationStatus"] = "SUCCESS"
                if any(o["ValidationStatus"] != "SUCCESS" for o in cert["DomainValidationOptions"]):
                    continue
                cert.update(Status="ISSUED", IssuedAt=acm.now_iso())
            del PENDING[arn]


def install():
    acm._request_certificate, acm._cert_shape, acm._delete_certificate = request, shape, delete
