"""Judges the foundation by rules that are not ours: CloudFormation's schemas (cfn-lint) and AWS's API models (botocore).

    judge.py lint TEMPLATE            the template as it is sent
    judge.py requests FILE            a JSON list of {"service", "operation", "body"}: what our code really sends
    judge.py boundary TEMPLATE        each role of the template takes the permissions boundary

Exit status 0 and no output mean that nothing was found.
"""
import json
import sys
import urllib.parse

REGIONS = ["us-east-1", "eu-central-1", "ap-southeast-2", "us-gov-west-1"]
# W1030 judges the empty default of a list that is used only where it was given (condition CreateVpc).
# W3691 knows PostgreSQL's minor versions only; RDS takes the major one and chooses, so that no version is ever too old.
IGNORED = ["W1030", "W3691"]


def lint(template):
    from cfnlint.api import ManualArgs, lint as judge
    with open(template) as file:
        found = judge(file.read(), config=ManualArgs(regions=REGIONS, ignore_checks=IGNORED, include_checks=["I"]))
    # Informational ones are advice on style; E and W are what `cfn-lint` fails on.
    return [f"{m.rule.id} line {m.linenumber}: {m.message}" for m in found if m.rule.id[0] in "EW"]


def model(service):
    import botocore.session
    return botocore.session.get_session().get_service_model(service)


def problems(shape, value, where):
    """What the API's model says against a value, unknown members included (botocore's own validator takes those)."""
    if shape.type_name == "structure":
        if not isinstance(value, dict):
            return [f"{where}: not a structure"]
        found = [f"{where}.{name}: AWS has no such member" for name in value if name not in shape.members]
        found += [f"{where}.{name}: missing" for name in shape.required_members if name not in value]
        for name, inner in value.items():
            if name in shape.members:
                found += problems(shape.members[name], inner, f"{where}.{name}")
        return found
    if shape.type_name == "list":
        if not isinstance(value, list):
            return [f"{where}: not a list"]
        return [p for at, inner in enumerate(value) for p in problems(shape.member, inner, f"{where}[{at}]")]
    if shape.type_name == "map":
        return [p for key, inner in value.items() for p in problems(shape.value, inner, f"{where}[{key}]")]
    if shape.type_name == "string":
        if not isinstance(value, str):
            return [f"{where}: not a text"]
        if shape.enum and value not in shape.enum:
            return [f"{where}: {value!r} is none of {', '.join(shape.enum)}"]
        return []
    if shape.type_name in ("integer", "long", "float", "double"):
        return [] if isinstance(value, (int, float)) and not isinstance(value, bool) else [f"{where}: not a number"]
    if shape.type_name == "boolean":
        return [] if isinstance(value, bool) else [f"{where}: not a boolean"]
    return []


def from_query(shape, fields, prefix):
    """A value of the query protocol, read back by its shape."""
    if shape.type_name == "structure":
        found = {}
        for name, member in shape.members.items():
            key = f"{prefix}.{member.serialization.get('name', name)}" if prefix else member.serialization.get("name", name)
            if any(field == key or field.startswith(key + ".") for field in fields):
                found[name] = from_query(member, fields, key)
        return found
    if shape.type_name == "list":
        found, at = [], 1
        inner = f"{prefix}.member" if not shape.serialization.get("flattened") else prefix
        while any(field == f"{inner}.{at}" or field.startswith(f"{inner}.{at}.") for field in fields):
            found.append(from_query(shape.member, fields, f"{inner}.{at}"))
            at += 1
        return found
    text = fields.pop(prefix)
    if shape.type_name in ("integer", "long"):
        return int(text)
    if shape.type_name == "boolean":
        return {"true": True, "false": False}[text]
    return text


def requests(path):
    with open(path) as file:
        sent = json.load(file)
    found = [] if sent else ["there are no requests to judge"]
    for request in sent:
        operation = model(request["service"]).operation_model(request["operation"])
        where = f"{request['service']}:{request['operation']}"
        if request["body"].lstrip().startswith("{"):
            found += problems(operation.input_shape, json.loads(request["body"]), where)
            continue
        fields = dict(urllib.parse.parse_qsl(request["body"], keep_blank_values=True))
        fields.pop("Action", None), fields.pop("Version", None)
        found += problems(operation.input_shape, from_query(operation.input_shape, fields, ""), where)
        found += [f"{where}: AWS has no such member {field}" for field in fields]
    return found


def boundary(template):
    from cfnlint.decode import cfn_yaml
    resources = cfn_yaml.load(template)["Resources"]
    roles = {name: r["Properties"] for name, r in resources.items() if r["Type"] == "AWS::IAM::Role"}
    wanted = {"Fn::If": ["HasBoundary", {"Ref": "PermissionsBoundary"}, {"Ref": "AWS::NoValue"}]}
    found = [] if roles else ["the template has no roles"]
    found += [f"{name}: without the boundary" for name, r in roles.items() if r.get("PermissionsBoundary") != wanted]
    # And what CloudFormation makes of it is a member of IAM's own request.
    found += problems(model("iam").operation_model("CreateRole").input_shape,
                      {"RoleName": "r", "AssumeRolePolicyDocument": "{}", "PermissionsBoundary": "arn:aws:iam::123456789012:policy/p"},
                      "iam:CreateRole")
    return found


if __name__ == "__main__":
    judged = {"lint": lint, "requests": requests, "boundary": boundary}[sys.argv[1]](sys.argv[2])
    print("\n".join(judged))
    sys.exit(1 if judged else 0)
