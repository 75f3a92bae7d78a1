"""Starts the rig's three programs on free loopback ports, says where they are, and ends them cleanly.

    rig.py FOLDER

FOLDER/env has the addresses once everything answers (also every RIG_* setting is read from the environment, see README.md); FOLDER/*.log
what the programs say. Runs until SIGTERM: then the emulator is reset, which removes its containers, before it is stopped.
"""
import ipaddress
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import docker

HERE = pathlib.Path(__file__).parent


def free_ports(count, bridge):
    """Ports that are free on loopback, and the first one on the bridge's address too."""
    while True:
        held = []
        try:
            for _ in range(count):
                s = socket.socket()
                s.bind(("127.0.0.1", 0))
                held.append(s)
            ports = [s.getsockname()[1] for s in held]
            if bridge:
                with socket.socket() as s:
                    s.bind((bridge, ports[0]))
            return ports
        except OSError:
            continue
        finally:
            [s.close() for s in held]


def bridge_address():
    """The address of docker's own bridge, or none when it is not on this machine."""
    try:
        config = docker.from_env().networks.get("bridge").attrs["IPAM"]["Config"][0]
        # An engine that has made its bridge itself, at its first start on a machine, tells only the network: the address is its first.
        wanted = os.environ.get("RIG_BRIDGE") or config.get("Gateway") or str(next(ipaddress.ip_network(config["Subnet"]).hosts()))
        with socket.socket() as s:
            s.bind((wanted, 0))
        return wanted
    except (OSError, LookupError, docker.errors.DockerException):
        return ""


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=2).status < 500
    except OSError:
        return False


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "env").unlink(missing_ok=True)
    bridge = bridge_address()
    api, state, faults, http, https, open443 = free_ports(6, bridge)
    env = dict(os.environ, GATEWAY_PORT=str(api), BIND_HOST="127.0.0.1", IOT_MTLS_ENABLED="0", RIG_REGISTRY=f"127.0.0.1:{api}",
               RIG_BRIDGE=bridge, RIG_STATE_PORT=str(state), AWS_EC2_METADATA_DISABLED="true")
    env.pop("HOSTNAME", None)           # ministack would join the network of a container of this name
    env.pop("AWS_ENDPOINT_URL", None)
    children = []

    def start(name, *args):
        log = open(folder / f"{name}.log", "ab")
        children.append(subprocess.Popen([sys.executable, str(HERE / f"{name}.py"), *map(str, args)], env=env, stdin=subprocess.DEVNULL,
                                         stdout=log, stderr=log, start_new_session=True))
    stopping = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.append(1))
    url = f"http://127.0.0.1:{api}"
    try:
        start("emulator")
        start("front", "--state", f"http://127.0.0.1:{state}/", "--folder", folder / "tls",
              f"{http}=80", f"{https}=443/tls", f"{open443}=443")
        start("faults", faults, api)
        waiting = [f"{url}/_ministack/ready", f"http://127.0.0.1:{state}/", f"http://127.0.0.1:{http}/_front",
                   f"http://127.0.0.1:{faults}/_fault"]
        while not stopping and all(c.poll() is None for c in children):
            waiting = [u for u in waiting if not answers(u)]
            if not waiting:
                break
            time.sleep(0.1)
        if waiting:
            raise SystemExit(f"the rig did not start: see {folder}/*.log")
        found = {
            "PAAS_TEST_AWS": url, "PAAS_TEST_AWS_FAULTS": f"http://127.0.0.1:{faults}", "PAAS_TEST_AWS_STATE": f"http://127.0.0.1:{state}",
            "PAAS_TEST_AWS_REGISTRY": f"http://127.0.0.1:{api}", "PAAS_TEST_AWS_FRONT": f"http://127.0.0.1:{http}",
            "PAAS_TEST_AWS_FRONT_TLS": f"https://127.0.0.1:{https}", "PAAS_TEST_AWS_FRONT_443": f"http://127.0.0.1:{open443}",
            "PAAS_TEST_AWS_CA": str((folder / "tls" / "ca.pem").resolve()), "PAAS_TEST_AWS_BRIDGE": bridge,
        }
        (folder / "env.new").write_text("".join(f"{k}={shlex.quote(v)}\n" for k, v in found.items()))
        (folder / "env.new").rename(folder / "env")
        while not stopping and all(c.poll() is None for c in children):
            time.sleep(0.2)
        if not stopping:
            print("a program of the rig ended by itself", flush=True)
    finally:
        (folder / "env").unlink(missing_ok=True)
        try:
            urllib.request.urlopen(urllib.request.Request(f"{url}/_ministack/reset", method="POST"), timeout=60).read()
        except OSError:
            pass
        for c in children:
            c.terminate()
        for c in children:
            try:
                c.wait(timeout=20)
            except subprocess.TimeoutExpired:
                c.kill()


if __name__ == "__main__":
    main(sys.argv[1])
