"""A real PostgreSQL server in a temporary folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs; None if there is none."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else []
    postgres = shutil.which("postgres")
    if postgres:
        places.append(Path(postgres).resolve().parent)
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists() and (place / "pg_ctl").exists()), None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgreSQL:
    """A server that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self._run("initdb", "-A", "trust", "-U", "dse", "--no-sync")

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://dse@127.0.0.1:{self._port}/postgres"

    def _run(self, program: str, *arguments: str) -> None:
        folder = binaries()
        assert folder
        command = [str(folder / program), "-D", str(self._folder / "data"), *arguments]
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root.
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60, cwd=self._folder)

    def start(self) -> None:
        options = f"-p {self._port} -k {self._folder} -c listen_addresses=127.0.0.1"
        self._run("pg_ctl", "-w", "-l", str(self._folder / "log"), "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop at once, as if the power failed, or another way that ``pg_ctl`` knows."""
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def __enter__(self) -> PostgreSQL:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def make_folder() -> Path:
    """Make a folder that the server's user may use; sockets need a short path."""
    folder = Path(tempfile.mkdtemp(prefix="dse-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    return folder
