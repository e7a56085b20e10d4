"""``dse profile``: measure one's own GPUs, for ``dse calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dse.cli.console import INTERRUPTED, err, out, progress


def profile(
    target: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder to write", show_default="named after the GPU")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="one model and few sizes: minutes")] = False,
    device: Annotated[str, typer.Option(help="cuda; or cpu, to try it out")] = "cuda",
    attention: Annotated[
        str, typer.Option(help="kernels of attention: sdpa (PyTorch's), flash-attn, flashinfer, or what is installed")
    ] = "auto",
    collectives: Annotated[bool, typer.Option(help="measure collectives, if there are several GPUs")] = True,
) -> None:
    """Measure the kernels of a GPU and the links between several: matrix products, attention, norms, collectives.

    It needs PyTorch (pip install torch) and an idle GPU. The folder has tables that `dse calibrate kernels` and
    `dse calibrate links` read, and a file that says on what they were measured.

    **Examples**

        dse profile --out h100 --quick

        dse profile --out h100 --attention flashinfer

        dse calibrate kernels h100/kernels/*.csv --accelerator h100-sxm --out h100-kernels.yaml

        dse profile --device cpu --quick --out try
    """
    from rich.progress import TimeRemainingColumn

    from dse.profiling.points import collective_sweep, sweep
    from dse.profiling.runner import measure
    from dse.profiling.table import check_folder, write_profile
    from dse.profiling.torch_bench import TorchBench
    from simulator import SpecError

    if device not in ("cuda", "cpu"):
        raise SpecError(f"--device: must be cuda or cpu, given {device}")
    if device == "cpu" and not quick:
        raise SpecError("--device cpu: only with --quick; a processor would take days for the whole sweep")
    bench = TorchBench(device, attention)
    machine = bench.machine()
    folder = target or Path("-".join(str(machine["platform"]).lower().split()))
    check_folder(folder)
    points = sweep(quick=quick, precisions=bench.precisions, tiny=device == "cpu")
    err.print(f"{machine['platform']}: {len(points):,} kernels, attention by {machine['attention']}", soft_wrap=True)
    try:
        with progress(TimeRemainingColumn()) as bar:
            task = bar.add_task("kernels", total=len(points), state="")

            def listen(done: int) -> None:
                bar.update(task, completed=done, state=f"{done}/{len(points)}")

            found, left_out = measure(points, bench, listen)
        if collectives and machine["devices"] > 1:
            with err.status(f"collectives among {machine['devices']} GPUs …"):
                found += bench.collectives(collective_sweep(int(machine["devices"]), quick=quick))
    except KeyboardInterrupt:
        err.print("stopped: nothing is written")
        raise typer.Exit(INTERRUPTED) from None
    files = write_profile(folder, found, {**machine, "quick": quick, "left_out": left_out})
    out.print(f"{len(found):,} measured")
    for reason, count in left_out.items():
        out.print(f"{count:,} left out: {reason}", soft_wrap=True)
    for file in files:
        out.print(f"  {file}", soft_wrap=True)
