"""``dse serve``, ``dse worker`` and ``dse token`` as real processes: starts, ends, kills, refusals."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from dse import Client
from dse.cli.main import main
from dse.client import ProblemError, ServiceAway
from dse.service.serving.server import DESCRIPTORS

from .served import QUICK, STEADY, Served, until

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc to find processes by")


def simulated(study: Any) -> int:
    return int(study.refresh().summary.simulated)


def outcomes(study: Any) -> dict[int, tuple[Any, ...]]:
    """Return the objectives of each design, by its number."""
    table = study.trials()
    return {int(number): tuple(row) for number, row in table[["label", *study.objectives]].iterrows()}


def patience_s() -> float:
    """Ten seconds for a machine that has nothing else to do, more for one that has."""
    return 10 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def test_ends_in_order_with_all_that_it_started(tmp_path: Path) -> None:
    with Served(tmp_path / "data", "--workers", "1") as served:
        study = served.client.create(STEADY, trials=1_000)
        until(lambda: simulated(study) > 20)
        watched: list[str] = []

        def watch() -> None:
            try:
                watched.extend(event.kind for event in Client(served.url, patience_s=0).get(study.id).watch())
            except ServiceAway:
                watched.append("away")

        watcher = threading.Thread(target=watch)
        watcher.start()
        until(lambda: watched)
        assert len(served.family()) >= 4
        code, seconds = served.end()
        assert code == 0
        assert seconds < patience_s()
        assert not served.family()
        watcher.join(10)
        assert watched[-1] == "away"
        assert "Traceback" not in served.stderr.read_text()
        assert _query(served, "SELECT state FROM service_studies") == "queued"

        served.start()
        # It was given back: it goes on without waiting for a lease to end.
        again = served.client.get(study.id)
        until(lambda: again.refresh().state == "running")


def _query(served: Served, statement: str) -> str:
    import sqlite3

    with sqlite3.connect(served.data / "service.db") as connection:
        return str(connection.execute(statement).fetchone()[0])


def worker_ids(served: Served) -> list[int]:
    return [worker["pid"] for worker in served.client.session()["workers"]]


def test_killed_in_the_middle_of_a_study(tmp_path: Path) -> None:
    """Kill -9 of a worker, then of the server: what it started ends by itself, nothing finished is lost.

    The study completes, and whoever watches it all the while sees each design once.
    """
    with Served(tmp_path / "data", "--workers", "1") as served:
        study = served.client.create(STEADY)
        seen: list[int] = []

        def watch() -> None:
            for event in served.client.get(study.id).watch():
                seen.extend(trial.number for trial in event.trials)

        watcher = threading.Thread(target=watch)
        watcher.start()
        until(lambda: simulated(study) > 10)
        (first,) = worker_ids(served)
        os.kill(first, signal.SIGKILL)
        until(lambda: set(worker_ids(served)) - {first})
        lost = simulated(study)
        until(lambda: simulated(study) > max(lost + 10, 30))
        assert "worker 1 ended by SIGKILL; it starts again" in served.stderr.read_text()
        before = outcomes(study)
        assert served.process
        served.process.kill()
        served.process.wait()
        until(lambda: not served.family(), 60)
        served.start()
        again = served.client.get(study.id).wait(300)
        assert again.summary.simulated == 150
        after = outcomes(again)
        assert before.items() <= after.items()
        assert len(before) > 30
        watcher.join(30)
        assert len(seen) == len(set(seen)) == len(after)


def command(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["dse", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line with which a command refuses to start."""
    for name in ("DSE_DATA", "DSE_STORAGE", "DSE_STORAGE_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert command(*arguments, monkeypatch=monkeypatch) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ")
    assert "\n" not in said
    return said


def test_refusals_are_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str) -> str:
        return refusal(monkeypatch, capsys, "serve", "--data", str(tmp_path / "data"), *arguments)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port: {port} on 127.0.0.1 is taken by another program" in refused("--port", str(port))
    open_to_all = refused("--host", "0.0.0.0")
    assert "a token is required, and there is none; make one: dse token create NAME --scope run" in open_to_all
    assert "--require-token" in refused("--require-token")
    assert "a token is required" in refused("--allow-host", "studies.example.com")
    assert "without a port" in refused("--allow-host", "studies.example.com:8443")
    assert "--host: 'no.such.host.invalid'" in refused(
        "--host", "no.such.host.invalid", "--storage-file", str(_url(tmp_path))
    )
    assert "--workers" in refused("--workers", "-1")
    assert "--jobs" in refused("--jobs", "0")
    assert "--tls-cert and --tls-key" in refused("--tls-cert", "cert.pem")
    assert "No such file" in refused("--tls-cert", "cert.pem", "--tls-key", "key.pem")
    assert "allowed: NAME=NUMBER" in refused("--limit", "trials")
    assert "trails" in refused("--limit", "trails=3")
    assert "storage" in refused("--storage", "mysql://here")
    away = refused("--storage", "postgresql://dse:secret@127.0.0.1:1/studies")
    assert "127.0.0.1" in away
    assert "secret" not in away
    assert "secret" not in refused("--storage", "postgresql://127.0.0.1:1/studies?user=dse&password=secret")
    assert "give one" in refused("--storage", "sqlite:///x", "--storage-file", "y")
    assert "--storage-file" in refused("--storage-file", str(tmp_path / "absent"))
    (tmp_path / "file").write_text("")
    no_folder = refusal(monkeypatch, capsys, "serve", "--data", str(tmp_path / "file"))
    assert f"--data: {tmp_path / 'file'}: cannot be written" in no_folder
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "service.db").write_text("this is no database" * 1_000)
    assert "database" in refusal(monkeypatch, capsys, "serve", "--data", str(tmp_path / "broken"))


def _url(folder: Path) -> Path:
    """Return a file that names a database which has a token."""
    from dse.service.storage.database import Database
    from dse.service.storage.tokens import Tokens

    file = folder / "storage"
    file.write_text(f"sqlite:///{folder / 'tokens.db'}\n")
    database = Database(file.read_text().strip())
    database.migrate()
    Tokens(database).create("somebody", "read", None)
    database.close()
    return file


def test_what_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dse.cli.service_options.find_spec", lambda name: None if name == "fastapi" else name)
    for given in (("serve",), ("worker",), ("token", "list")):
        said = refusal(monkeypatch, capsys, *given, "--data", str(tmp_path))
        assert said == "error: fastapi: not installed: pip install 'dse-llm[service]'"


def test_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The first token comes from the command; with it the server starts where others reach it."""
    monkeypatch.setenv("DSE_DATA", str(tmp_path / "data"))
    assert command("token", "create", "anna", "--scope", "admin", "--days", "2", monkeypatch=monkeypatch) == 0
    said = capsys.readouterr()
    secret = said.out.strip()
    assert secret.startswith("dse_")
    assert "not shown again" in said.err
    with Served(tmp_path / "data", "--host", "0.0.0.0", "--workers", "0", "--json-logs") as served:
        with pytest.raises(ProblemError) as refused:
            served.client.list()
        assert refused.value.status == 401
        anna = Client(served.url, token=secret)
        assert anna.session()["scope"] == "admin"
        made = anna.create_token("job", "read", days=1)
        assert [each["name"] for each in anna.tokens()] == ["anna", "job"]
        job = Client(served.url, token=made["token"])
        assert job.list() == ()
        with pytest.raises(ProblemError) as refused:
            job.create("chat")
        assert refused.value.status == 403
        anna.revoke_token(made["id"])
        with pytest.raises(ProblemError) as refused:
            job.list()
        assert refused.value.status == 401
        served.end()
        logged = served.stderr.read_text()
        # The last line is from before the logs begin: a warning that there is no TLS.
        lines = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
        assert any(line.get("status") == 401 for line in lines)
        assert secret not in logged
        assert made["token"] not in logged
        assert "Traceback" not in logged
    assert command("token", "list", monkeypatch=monkeypatch) == 0
    listed = capsys.readouterr().out
    assert "anna" in listed
    assert "job" not in listed
    assert secret not in listed
    identifier = next(line.split()[1] for line in listed.splitlines() if "anna" in line)
    assert command("token", "revoke", identifier, monkeypatch=monkeypatch) == 0
    assert "no token" in refusal(monkeypatch, capsys, "token", "revoke", identifier, "--data", str(tmp_path / "data"))


def test_names_of_tokens_are_shown_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DSE_DATA", str(tmp_path / "data"))
    assert command("token", "create", "[/red] [bold]x", monkeypatch=monkeypatch) == 0
    capsys.readouterr()
    assert command("token", "list", monkeypatch=monkeypatch) == 0
    assert "[/red] [bold]x" in capsys.readouterr().out


def test_several_commands_find_the_folder_writable_at_the_same_time(tmp_path: Path) -> None:
    from dse.cli.service_options import settings_of

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: settings_of(tmp_path / "data", None, None), range(2_000)))
    assert len(found) == 2_000


def test_a_server_may_open_as_many_files_as_the_system_allows(tmp_path: Path) -> None:
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, most), most))
    try:
        # Brackets of a path are printed as they are.
        with Served(tmp_path / "[data]", "--workers", "0") as served:
            until(lambda: f"kept in {tmp_path / '[data]'};" in served.stderr.read_text())
            assert served.process
            allowed, _ = resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))
    assert allowed == min(DESCRIPTORS, most)


def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl, which makes a certificate, is not on this machine")
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    request += ["-addext", "subjectAltName=DNS:localhost"]
    for name in ("one", "other"):
        subprocess.run(
            [*request, "-keyout", f"{name}.key", "-out", f"{name}.pem"],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
    files = "--tls-cert", str(tmp_path / "one.pem"), "--tls-key"
    said = refusal(monkeypatch, capsys, "serve", "--data", str(tmp_path / "d"), *files, str(tmp_path / "other.key"))
    assert "cannot be used" in said
    options = (*files, str(tmp_path / "one.key"), "--workers", "0")
    with Served(tmp_path / "data", *options, address="https://localhost:{port}") as served:
        context = ssl.create_default_context(cafile=str(tmp_path / "one.pem"))
        assert httpx.get(f"{served.url}/healthz", verify=context, trust_env=False).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{served.url}/healthz", trust_env=False)


def test_dashboard_is_for_reading_on_this_machine(tmp_path: Path) -> None:
    pytest.importorskip("optuna_dashboard")
    with Served(tmp_path / "data", "--workers", "1", "--dashboard") as served:
        study = served.client.create(QUICK).wait(300)
        address = served.client.session()["dashboard"]
        assert address.startswith("http://127.0.0.1:")
        root = address.removesuffix("/dashboard")
        with httpx.Client(base_url=root, trust_env=False) as browser:
            assert until(lambda: _answers(browser)).status_code == 200
            summaries = browser.get("/api/studies").json()["study_summaries"]
            assert [each["study_name"] for each in summaries] == [study.id]
            assert browser.delete(f"/api/studies/{summaries[0]['study_id']}").status_code == 405
            assert browser.get("/api/studies", headers={"Host": "evil.example"}).status_code == 400
        served.end()
        assert not served.family()


def _answers(browser: httpx.Client) -> httpx.Response | None:
    try:
        return browser.get("/dashboard")
    except httpx.TransportError:
        return None


def test_worker_alone(tmp_path: Path) -> None:
    """A server without workers, and a worker that ends after one study."""
    with Served(tmp_path / "data", "--workers", "0") as served:
        study = served.client.create(QUICK)
        time.sleep(1.5)
        assert study.refresh().state == "queued"
        done = subprocess.run(
            [sys.executable, "-m", "dse", "worker", "--data", str(served.data), "--once", "--jobs", "1"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert study.id in done.stderr
        assert study.refresh().state == "finished"
        code, seconds = served.end(signal.SIGINT)
        assert code == 0
        assert seconds < patience_s()
        assert not served.family()
