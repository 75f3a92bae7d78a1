"""What ECR refuses and the emulator's registry takes: a repository's layers outlive it, and a manifest may name layers
that are not there.
"""
import json

from ministack.services import ecr

stock_delete, stock_put = ecr._delete_repository, ecr._v2_put_manifest


def delete(data):
    answer = stock_delete(data)
    name = data.get("repositoryName", "")
    if name not in ecr._repositories:
        for kept in (ecr._layer_blobs, ecr._manifest_blobs, ecr._uploads):
            kept.pop(name, None)
    return answer


def put(name, ref, headers, body):
    try:
        manifest = json.loads(body or b"{}")
    except ValueError:
        manifest = {}
    wanted = [part.get("digest") for part in [manifest.get("config") or {}, *(manifest.get("layers") or [])]]
    missing = [digest for digest in wanted if digest and digest not in ecr._layer_blobs.get(name, {})]
    if missing and name in ecr._repositories:
        return ecr._registry_error(404, "BLOB_UNKNOWN", "blob unknown to registry", {"digest": missing[0]})
    return stock_put(name, ref, headers, body)


def install():
    ecr._delete_repository, ecr._v2_put_manifest = delete, put
