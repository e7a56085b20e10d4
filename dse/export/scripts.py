"""Shell scripts that start the clients of each pool, and the router before them."""

from __future__ import annotations

import shlex
from typing import Final

from dse.export.command import Command
from dse.export.exported import Account
from dse.export.routers import needs_router, router_command, router_version
from dse.export.sglang import sglang_command, sglang_engine
from dse.export.vllm import vllm_command, vllm_engine
from simulator import Pool

FIRST_PORT: Final = {"vllm": 8000, "sglang": 30000}
ROUTER_PORT: Final = 9000
#: Ports of NIXL's side channel and of SGLang's bootstrap: one for each client of a host.
FIRST_SIDE_PORT: Final = {"vllm": 5600, "sglang": 8998}


def engine_command(pool: Pool, account: Account, engine: str) -> Command:
    """Return the command of one client of a pool for ``vllm`` or ``sglang``."""
    return vllm_command(pool, account) if engine == "vllm" else sglang_command(pool, account)


def engine_name(engine: str) -> str:
    """Return name and version of an engine."""
    return vllm_engine() if engine == "vllm" else sglang_engine()


def stages_of(account: Account) -> dict[str, list[Pool]]:
    """Return the pools of each LLM stage."""
    found: dict[str, list[Pool]] = {}
    for pool in account.deployment.pools:
        found.setdefault(pool.stage, []).append(pool)
        account.express(f"pools.{pool.name}.stage")
    if len(found) > 1:
        account.say(
            f"pools: serve the LLM stages {', '.join(found)}, each behind an address of its own; what sends a request "
            "to which stage is the application's part."
        )
    return found


def export_scripts(account: Account, engine: str) -> dict[str, str]:
    """Return scripts: one a pool that starts a client, and one a stage that starts its router."""
    files = {}
    stages, port = stages_of(account), FIRST_PORT[engine]
    for stage, pools in stages.items():
        several, urls = len(stages) > 1, {}
        for pool in pools:
            files[f"{engine}-{pool.name}.sh"] = _client(pool, account, engine, port)
            urls[pool.name] = [f"http://HOST:{port + client}" for client in range(pool.clients)]
            port += pool.clients
            account.say(
                f"pools.{pool.name}.accelerator: a command does not choose its machine: start it where there are "
                f"{pool.accelerators_per_client} {' + '.join(pool.accelerator_counts)}.",
                f"pools.{pool.name}.accelerator",
            )
        if needs_router(pools):
            name = f"{engine}-router-{stage}.sh" if several else f"{engine}-router.sh"
            files[name] = _router(pools, account, engine, urls)
        else:
            account.express("router", f"pools.{pools[0].name}.clients")
    return files


def _client(pool: Pool, account: Account, engine: str, port: int) -> str:
    command = engine_command(pool, account, engine)
    account.express(f"pools.{pool.name}.clients")
    count = pool.accelerators_per_client
    lines = [
        "#!/usr/bin/env bash",
        f"# Pool {pool.name}: {pool.clients} x {pool.model} on {count} x {pool.accelerator}, for "
        f"{engine_name(engine)}.",
        f"# Starts one client: ./{engine}-{pool.name}.sh 0 … ./{engine}-{pool.name}.sh {pool.clients - 1}",
        f"# (pools.{pool.name}.clients: {pool.clients}). Behind each argument: the field of the design it comes from.",
        "set -euo pipefail",
        'client="${1:-0}"',
        f'port="${{PORT:-$(({port} + client))}}"',
    ]
    if engine == "vllm" and pool.role != "both":
        lines.append(
            f'export VLLM_NIXL_SIDE_CHANNEL_PORT="${{VLLM_NIXL_SIDE_CHANNEL_PORT:-$(({FIRST_SIDE_PORT[engine]} + client'
            f' * {pool.dp * pool.tp}))}}"'
        )
    for variable, (value, source) in command.environment.items():
        lines.append(f"export {variable}={shlex.quote(value)}  # {source}")
    if engine == "sglang" and pool.role == "prefill":
        bootstrap = f' --disaggregation-bootstrap-port "$(({FIRST_SIDE_PORT[engine]} + client))"'
    else:
        bootstrap = ""
    program = shlex.join([*command.program, *command.model])
    lines += ["arguments=(", command.commented("  "), ")"]
    lines.append(f'exec {program} "${{arguments[@]}}" --host 0.0.0.0 --port "$port"{bootstrap}')
    return "\n".join(lines) + "\n"


def _router(pools: list[Pool], account: Account, engine: str, urls: dict[str, list[str]]) -> str:
    command = router_command(pools, account, engine=engine, urls=urls)
    account.say("HOST in the router's addresses: put the machines in its place on which the clients run.")
    return (
        "\n".join(
            [
                "#!/usr/bin/env bash",
                f"# The router before {', '.join(pool.name for pool in pools)}: pip install {router_version(engine)}",
                "set -euo pipefail",
                "arguments=(",
                command.commented("  "),
                ")",
                f'exec {shlex.join(command.program)} "${{arguments[@]}}" --host 0.0.0.0 '
                f'--port "${{PORT:-{ROUTER_PORT}}}"',
            ]
        )
        + "\n"
    )
