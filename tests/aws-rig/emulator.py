"""The emulator as the rig starts it: ministack in this process, with what AWS does and it does not put around it.

Its files are not changed; each module here replaces functions of it. Settings come from the environment (see rig.py):
GATEWAY_PORT and BIND_HOST are ministack's own, AUTH=true turns on signatures and IAM, RIG_* are ours.
"""
import os

import certificates
import containers
import events
import health
import iam
import listeners
import quotas
import rates
import reach
import registry
import roles
import scheduler
import snapshots
import state
import stopping
import targets

if __name__ == "__main__":
    for part in (snapshots, containers, roles, targets, stopping, health, scheduler, certificates, listeners, quotas, rates, registry):
        part.install()
    if os.environ.get("AUTH", "").lower() == "true":
        iam.install()
    events.start()
    state.start(int(os.environ["RIG_STATE_PORT"]))
    reach.start(int(os.environ["GATEWAY_PORT"]))
    from ministack.app import main

    main()
