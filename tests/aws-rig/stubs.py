"""CloudFormation types that ministack does not know, kept as names only, so that real templates apply.

Nothing is behind them: Ref and GetAtt give "stub-…". Only what has no effect on a request's way may stand here.
"""
from ministack.services.cloudformation import provisioners

TYPES = """EC2::NatGateway EC2::EIP EC2::SecurityGroupIngress EC2::SecurityGroupEgress EC2::FlowLog EC2::NetworkAclEntry
 EC2::VPCCidrBlock ECS::ClusterCapacityProviderAssociations ECS::CapacityProvider ElasticLoadBalancingV2::ListenerCertificate
 Route53::RecordSetGroup IAM::ServiceLinkedRole ECR::RegistryPolicy ECR::RepositoryCreationTemplate
 ApplicationAutoScaling::ScalableTarget ApplicationAutoScaling::ScalingPolicy""".split()


class Anything(dict):
    """Every attribute that a template may ask for."""
    def get(self, key, default=None):
        return dict.get(self, key, f"stub-{key}")

    def __contains__(self, key):
        return True

    def __missing__(self, key):
        return f"stub-{key}"


STUB = {
    "create": lambda logical, properties, stack: (f"stub-{stack}-{logical}", Anything()),
    "update": lambda physical, old, new, stack: (physical, Anything()),
    "delete": lambda physical, properties: None,
}


def install():
    for kind in TYPES:
        provisioners._RESOURCE_HANDLERS.setdefault(f"AWS::{kind}", STUB)
