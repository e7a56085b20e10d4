"""Shell scripts that start the clients of each pool, and the router before them."""

from __future__ import annotations

import shlex
from typing import Final

from dse.export.command import Command
from dse.export.exported import Account
from dse.export.routers import needs_router, router_command, router_version, served_pools
from dse.export.safe_names import file_names, one_line
from dse.export.sglang import sglang_command, sglang_engine
from dse.export.vllm import vllm_command, vllm_engine
from simulator import Pool

FIRST_PORT: Final = {"vllm": 8000, "sglang": 30000}
ROUTER_PORT: Final = 9000
#: Ports of NIXL's side channel and of SGLang's bootstrap: of each client its own, and none the router's.
FIRST_SIDE_PORT: Final = {"vllm": 5600, "sglang": ROUTER_PORT + 1}


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
    stages, port, side_port = stages_of(account), FIRST_PORT[engine], FIRST_SIDE_PORT[engine]
    names = file_names(pool.name for pool in account.deployment.pools)
    routers = {stage: f"router-{stage}" if len(stages) > 1 else "router" for stage in stages}
    router_names = file_names(routers.values(), names.values())
    for stage, pools in stages.items():
        clients = {}
        for pool in pools:
            name = f"{engine}-{names[pool.name]}.sh"
            files[name] = _client(name, pool, account, engine, port, side_port)
            clients[pool.name] = [[f"http://HOST:{port + client}"] for client in range(pool.clients)]
            if engine == "sglang" and pool.role == "prefill":
                for client, words in enumerate(clients[pool.name]):
                    words.append(str(side_port + client))
            port += pool.clients
            side_port += pool.clients * _side_ports(pool, engine)
            account.say(
                f"pools.{pool.name}.accelerator: a command does not choose its machine: start it where there are "
                f"{pool.accelerators_per_client} {' + '.join(pool.accelerator_counts)}.",
                f"pools.{pool.name}.accelerator",
            )
        if needs_router(pools):
            files[f"{engine}-{router_names[routers[stage]]}.sh"] = _router(pools, account, engine, clients)
        else:
            account.express("router", f"pools.{pools[0].name}.clients")
    return files


def _side_ports(pool: Pool, engine: str) -> int:
    """Return how many ports beside that of HTTP a client of a pool takes."""
    if engine == "sglang":
        return 1 if pool.role == "prefill" else 0
    return 0 if pool.role == "both" else pool.dp * pool.tp


def _client(name: str, pool: Pool, account: Account, engine: str, port: int, side_port: int) -> str:
    command = engine_command(pool, account, engine)
    account.express(f"pools.{pool.name}.clients")
    count = pool.accelerators_per_client
    comments = (
        f"Pool {pool.name}: {pool.clients} x {pool.model} on {count} x {pool.accelerator}, for {engine_name(engine)}.",
        f"Starts one client: ./{name} 0 … ./{name} {pool.clients - 1}",
        f"(pools.{pool.name}.clients: {pool.clients}). Behind each argument: the field of the design it comes from.",
    )
    lines = [
        "#!/usr/bin/env bash",
        *(f"# {one_line(each)}" for each in comments),
        "set -euo pipefail",
        'client="${1:-0}"',
        f'port="${{PORT:-$(({port} + client))}}"',
    ]
    side_ports, bootstrap = _side_ports(pool, engine), ""
    if side_ports and engine == "vllm":
        lines.append(
            f'export VLLM_NIXL_SIDE_CHANNEL_PORT="${{VLLM_NIXL_SIDE_CHANNEL_PORT:-$(({side_port} + client'
            f' * {side_ports}))}}"'
        )
    elif side_ports:
        bootstrap = f' --disaggregation-bootstrap-port "$(({side_port} + client))"'
    for variable, (value, source) in command.environment.items():
        lines.append(f"export {variable}={shlex.quote(value)}  # {one_line(source)}")
    program = shlex.join([*command.program, *command.model])
    lines += ["arguments=(", command.commented("  "), ")"]
    lines.append(f'exec {program} "${{arguments[@]}}" --host 0.0.0.0 --port "$port"{bootstrap}')
    return "\n".join(lines) + "\n"


def _router(pools: list[Pool], account: Account, engine: str, clients: dict[str, list[list[str]]]) -> str:
    command = router_command(pools, account, engine=engine, clients=clients)
    account.say("HOST in the router's addresses: put the machines in its place on which the clients run.")
    before = one_line(", ".join(pool.name for pool in served_pools(pools)))
    return (
        "\n".join(
            [
                "#!/usr/bin/env bash",
                f"# The router before {before}: pip install {router_version(engine)}",
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
