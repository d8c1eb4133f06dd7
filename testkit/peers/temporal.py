"""Another engine that takes work in durably: Temporal's dev server and its makers' client, for `cargo xtask bench api`.

    temporal.py FOLDER CLIENTS SECONDS

Starts the server that is installed beside this interpreter, with a new SQLite file in FOLDER: write-ahead log, every
commit synced to disk. Then, each for SECONDS, so many coroutines start workflows that no worker ever takes up, and ask
for the description of the first of them. Prints one JSON object: {"server": VERSION, "start": .., "describe": ..}, each
{"rate": a second, "p50", "p99": ms, "server_cpu", "client_cpu": ms for each call}.
"""

import asyncio
import contextlib
import json
import math
import os
import pathlib
import resource
import socket
import subprocess
import sys
import time
import traceback
import uuid

from temporalio.client import Client

PROGRAM = pathlib.Path(sys.executable).with_name("temporal")
TASK = {"repo": "/srv/git/small", "task_description": "Waits for ever."}
TO_START = 60
TO_END = 120


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def server(folder, port):
    """The server, ended with the block; what it said is shown when it fails."""
    command = [PROGRAM, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(port)]
    command += ["--log-level", "error", "--db-filename", folder / "temporal.db"]
    command += ["--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=2"]
    environment = {**os.environ, "HOME": str(folder), "TEMPORAL_VERSION_CHECK_DISABLED": "1"}
    log = folder / "temporal.log"
    with log.open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
    try:
        yield process
    except BaseException:
        print(log.read_text()[-2000:], file=sys.stderr)
        raise
    finally:
        process.kill()
        process.wait()


async def first(process, port):
    """A client, and the first workflow: the server is up once it takes one."""
    deadline = time.monotonic() + TO_START
    while True:
        try:
            client = await Client.connect(f"127.0.0.1:{port}")
            return client, await start(client)
        except Exception:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.1)


async def start(client):
    return await client.start_workflow("Waits", TASK, id=uuid.uuid4().hex, task_queue="nobody")


def server_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])


async def hammer(pid, clients, seconds, call):
    took, server_before, own_before, begun = [], server_seconds(pid), own_seconds(), time.monotonic()

    async def one():
        while time.monotonic() < begun + seconds:
            at = time.monotonic()
            await call()
            took.append(time.monotonic() - at)

    await asyncio.gather(*(one() for _ in range(clients)))
    within, calls = time.monotonic() - begun, len(took)
    took.sort()
    return {
        "rate": calls / within,
        "p50": took[math.ceil(calls * 0.50) - 1] * 1e3,
        "p99": took[math.ceil(calls * 0.99) - 1] * 1e3,
        "server_cpu": (server_seconds(pid) - server_before) / calls * 1e3,
        "client_cpu": (own_seconds() - own_before) / calls * 1e3,
    }


async def measure(folder, clients, seconds):
    port = free_port()
    with server(folder, port) as process:
        client, waits = await first(process, port)
        version = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
        started = await hammer(process.pid, clients, seconds, lambda: start(client))
        described = await hammer(process.pid, clients, seconds, waits.describe)
    return {"server": version.strip(), "start": started, "describe": described}


def main():
    folder, clients, seconds = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    within = TO_START + 2 * seconds + TO_END
    print(json.dumps(asyncio.run(asyncio.wait_for(measure(folder, clients, seconds), within))), flush=True)


if __name__ == "__main__":
    ended = 0
    try:
        main()
    except BaseException:
        traceback.print_exc()
        ended = 1
    # Threads of the client's own runtime abort the interpreter at times when it takes itself apart.
    sys.stderr.flush()
    os._exit(ended)
