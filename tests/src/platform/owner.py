"""An AWS account as its owner asks it: each line of the input is a call, each line of the output its answer.

    owner.py ENDPOINT       {"service": "ecs", "operation": "DescribeServices", "with": {…}} → {"ok": {…}} or {"error": "…"}

Answers of several pages come whole. Bytes are base64.
"""
import base64
import datetime
import json
import sys

import botocore
import botocore.config
import botocore.exceptions
import botocore.session

SESSION = botocore.session.get_session()
CLIENTS = {}


def client(service, endpoint):
    if service not in CLIENTS:
        config = botocore.config.Config(s3={"addressing_style": "path"}, retries={"mode": "standard"})
        CLIENTS[service] = SESSION.create_client(service, region_name="us-east-1", endpoint_url=endpoint, config=config,
                                                 aws_access_key_id="test", aws_secret_access_key="test")
    return CLIENTS[service]


def answer(endpoint, service, operation, given):
    asked, name = client(service, endpoint), botocore.xform_name(operation)
    try:
        if asked.can_paginate(name):
            return {"ok": asked.get_paginator(name).paginate(**given).build_full_result()}
        return {"ok": getattr(asked, name)(**given)}
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        return {"error": str(error)}


def plain(value):
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return base64.b64encode(value if isinstance(value, bytes) else value.read()).decode()


for line in sys.stdin:
    call = json.loads(line)
    print(json.dumps(answer(sys.argv[1], call["service"], call["operation"], call["with"]), default=plain), flush=True)
