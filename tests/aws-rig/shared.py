"""What several parts of the rig need: the time scale, ministack's scopes, and putting a function in another's place."""
import os

# 0.1 makes checks ten times as frequent and draining ten times as short. The time until something counts as unhealthy,
# grace periods and stopTimeout stay real, so an app that boots slowly is not killed.
SCALE = float(os.environ.get("RIG_TIME", "1"))


def scope_of(arn):
    """Account and region of an ARN: ministack keeps every state apart by the two."""
    part = arn.split(":")
    return part[4], part[3]


def replace(module, old, new):
    """Puts `new` where `old` stands in the module's dispatch tables."""
    for table in [v for v in vars(module).values() if isinstance(v, dict)]:
        for name, fn in list(table.items()):
            if fn is old:
                table[name] = new
