"""`eucentric view`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eucentric.cli.options import AsJson, Debug, Switch, show_json


def view(
    project: Path,
    /,
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    browser: Annotated[bool, Parameter(negative="--no-browser")] = True,
    allow_remote: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show a project in the browser until Ctrl-C: tomograms with picks, labels and maps, and its series.

    Only this machine can reach it, with the token in the address that is printed. From elsewhere, use the SSH tunnel
    that is printed too.

    Parameters
    ----------
    project
        folder made by `eucentric import`
    port
        of the server; 0 takes a free one
    host
        address to listen at
    browser
        open it in the browser of this machine
    allow_remote
        let other machines reach it (with --host), without encryption
    """
    import asyncio
    import signal

    from eucentric.viewer.serve import LOOPBACK, make_viewer  # here, so that --help stays quick

    del debug  # read by the program itself
    viewer = make_viewer(project, host, port, allow_remote=allow_remote)
    if host != LOOPBACK:
        sys.stderr.write(
            f"Warning: {host} may be reached from other machines. Whoever reads the traffic can read the token and the data.\n"
        )
    sys.stdout.write(f"Open {viewer.entrance}\n")
    sys.stdout.write(
        f"From another machine: ssh -L {viewer.port}:127.0.0.1:{viewer.port} {_this_machine()}, then open the same address there.\n"
    )
    if as_json:
        show_json({"address": viewer.address, "entrance": viewer.entrance, "port": viewer.port})
    sys.stdout.flush()

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await viewer.run(stop, started=lambda: _open(viewer.entrance) if browser else None)

    asyncio.run(serve())
    sys.stdout.write("The viewer was closed.\n")
    return 0


def _this_machine() -> str:
    import getpass
    import socket

    return f"{getpass.getuser()}@{socket.gethostname()}"


def _open(address: str) -> None:
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
