"""Reading traces: every format, every way a file can be wrong."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import SpecError
from simulator.spec.workload import Workload
from simulator.workload import PS_PER_S, Requests, build_requests, read_trace_file
from simulator.workload.traces import TraceFile, _read_by_row, _read_fast

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
AZURE_ROW = "2023-11-16 18:15:46.6805900,374,44\n"
CSV = "arrival_s,prompt_tokens,output_tokens\n"
MOONCAKE = '{"timestamp": 5, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}\n'
WHOLE = "must be a whole number from 1 to 10000000, given "


def read(folder: Path, text: str) -> Requests:
    path = folder / "trace.txt"
    path.write_text(text, encoding="utf-8", newline="")
    return read_trace_file(path)


def replay(path: Path, *, requests: int | None = None, **fields: object) -> Requests:
    given = {"trace": {"path": str(path), **fields}, "requests": requests}
    return build_requests(Workload.parse(given, source="test"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        (" \n\n", "the file is empty"),
        (AZURE, "the file holds a header and no row"),
        (CSV, "the file holds a header and no row"),
        (
            "a,b,c\n1,2,3\n",
            "unknown header 'a,b,c'; accepted: TIMESTAMP,ContextTokens,GeneratedTokens (azure), ",
        ),
        # Cut off.
        (
            AZURE + AZURE_ROW + "2023-11-16 18:15",
            "row 2 (line 3), column ContextTokens: missing: the row has 1 of 3",
        ),
        (
            AZURE + AZURE_ROW * 2 + "2023-11-16 18:15:47.1,3",
            "row 3 (line 4), column GeneratedTokens: missing",
        ),
        (
            AZURE + AZURE_ROW + "2023-11-16 18:15:47.1,3,",
            f"row 2 (line 3), column GeneratedTokens: {WHOLE}an empty",
        ),
        (MOONCAKE * 2 + MOONCAKE[:40], "row 3 (line 3): not a whole JSON object (character 40: "),
        # Cells.
        (AZURE + AZURE_ROW.replace("374", "NaN"), f"row 1 (line 2), column ContextTokens: {WHOLE}'NaN'"),
        (AZURE + AZURE_ROW.replace("374", "-3"), f"row 1 (line 2), column ContextTokens: {WHOLE}'-3'"),
        (
            AZURE + AZURE_ROW + AZURE_ROW.replace(",44", ",0"),
            f"row 2 (line 3), column GeneratedTokens: {WHOLE}'0'",
        ),
        (
            AZURE + "\n" + AZURE_ROW.replace("374", "abc"),
            f"row 1 (line 3), column ContextTokens: {WHOLE}'abc'",
        ),
        (AZURE + AZURE_ROW.replace("374", "12.5"), f"column ContextTokens: {WHOLE}'12.5'"),
        (
            AZURE + AZURE_ROW.replace("374", "99999999999999999999"),
            "column ContextTokens: must be a whole number",
        ),
        (AZURE + AZURE_ROW.replace("-11-", "-13-"), "row 1 (line 2), column TIMESTAMP: must be a timestamp"),
        (AZURE + AZURE_ROW.replace("2023", "9023"), "row 1 (line 2), column TIMESTAMP: must be a timestamp"),
        (AZURE + AZURE_ROW.replace(",44", ",44,1"), "row 1 (line 2): the row has 4 columns, the header 3"),
        (AZURE + AZURE_ROW + AZURE_ROW.replace("2023", "2024"), "column TIMESTAMP: the trace spans 366 days"),
        (CSV + "nan,3,4\n", "row 1 (line 2), column arrival_s: must be finite, given 'nan'"),
        (CSV + "soon,3,4\n", "row 1 (line 2), column arrival_s: must be a number, given 'soon'"),
        (CSV + "0,1,2\n-inf,3,4\n", "row 2 (line 3), column arrival_s: must be finite, given '-inf'"),
        (MOONCAKE + MOONCAKE.replace("6758", "0"), f"row 2 (line 2), column input_length: {WHOLE}0"),
        (MOONCAKE + MOONCAKE.replace("500", "NaN"), f"row 2 (line 2), column output_length: {WHOLE}nan"),
        (
            MOONCAKE + MOONCAKE.replace('"output', '"x'),
            f"row 2 (line 2), column output_length: {WHOLE}nothing",
        ),
        (
            MOONCAKE + MOONCAKE.replace("5,", "true,"),
            "row 2 (line 2), column timestamp: must be a number, given True",
        ),
        (MOONCAKE + "[1]\n", "row 2 (line 2): not a JSON object, given '[1]'"),
    ],
)
def test_a_faulty_file_is_named_with_its_fault(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / "trace.txt") + ": ")
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.csv: No such file"):
        read_trace_file(tmp_path / "none.csv")
    with pytest.raises(SpecError, match="Is a directory"):
        read_trace_file(tmp_path)
    (tmp_path / "latin.csv").write_bytes(CSV.encode() + b"\xff,1,2\n")
    with pytest.raises(SpecError, match="not a UTF-8 text file"):
        read_trace_file(tmp_path / "latin.csv")
    (tmp_path / "plain.csv").write_text(CSV + "0,1,2\n")
    with pytest.raises(SpecError, match="format: given azure, but the first line is 'arrival_s"):
        read_trace_file(tmp_path / "plain.csv", file_format="azure")


@pytest.mark.parametrize(
    ("text", "arrival_s", "prompt", "output"),
    [
        (AZURE + AZURE_ROW + AZURE_ROW.replace(":46.6805900", ":47"), [0, 0.31941], [374, 374], [44, 44]),
        (
            AZURE + "2024-05-10 00:00:00.009930+00:00,21,5\n2024-05-10 02:00:01.009931+02:00,22,6\n",
            [0, 1.000001],
            [21, 22],
            [5, 6],
        ),
        (MOONCAKE + MOONCAKE.replace("5,", "17.5,"), [0, 0.0125], [6758, 6758], [500, 500]),
        (CSV + "1.5,3,4\n0.25,5,6\n", [0, 1.25], [5, 3], [6, 4]),  # out of order
        ("x,output_tokens,arrival_s,prompt_tokens\na,1,2,3\nb,4,5,6\n", [0, 3], [3, 6], [1, 4]),
        ("\ufeff" + CSV + '"0","1","2"\r\n\r\n 1 , 3 ,4', [0, 1], [1, 3], [2, 4]),
    ],
)
def test_formats(tmp_path: Path, text: str, arrival_s: list[float], prompt: list[int], output: list[int]) -> None:
    requests = read(tmp_path, text)
    assert requests.arrival_ps.tolist() == [round(each * PS_PER_S) for each in arrival_s]
    assert requests.prompt_tokens.tolist() == prompt
    assert requests.output_tokens.tolist() == output


ROWS = st.lists(
    st.tuples(st.integers(0, 10**11), st.integers(1, 10**7), st.integers(1, 10**7)), min_size=1, max_size=30
)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, form=st.sampled_from(["azure", "azure-zone", "csv", "mooncake"]))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]], form: str) -> None:
    """Rows are (100 ns, prompt, output); every format gives them back, sorted."""
    text = {"azure": AZURE, "azure-zone": AZURE, "csv": CSV, "mooncake": ""}[form]
    for ticks, prompt, output in rows:
        if form.startswith("azure"):
            whole_s, fraction = divmod(ticks, 10**7)
            instant = datetime(2024, 2, 28, tzinfo=UTC) + timedelta(seconds=whole_s)
            zone = "+00:00" if form == "azure-zone" else ""
            text += f"{instant:%Y-%m-%d %H:%M:%S}.{fraction:07}{zone},{prompt},{output}\n"
        elif form == "csv":
            text += f"{ticks / 1e7!r},{prompt},{output}\n"
        else:
            row = {"timestamp": ticks / 1e4, "input_length": prompt, "output_length": output, "hash_ids": []}
            text += json.dumps(row) + "\n"
    requests = read(tmp_path_factory.mktemp("trace"), text)
    ordered = sorted(rows, key=lambda row: row[0])
    ticks = np.array([row[0] - ordered[0][0] for row in ordered])
    # Seconds in floating point are good to 2 ps up to an hour or so; the span here is 10^4 s.
    assert np.abs(requests.arrival_ps - ticks * 100_000).max() <= (0 if form.startswith("azure") else 4)
    assert requests.prompt_tokens.tolist() == [row[1] for row in ordered]
    assert requests.output_tokens.tolist() == [row[2] for row in ordered]


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 400), form=st.sampled_from(["azure", "csv", "mooncake"]))
def test_a_file_cut_anywhere_is_a_prefix_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, cut: int, form: str
) -> None:
    whole = {"azure": AZURE + AZURE_ROW * 9, "csv": CSV + "1.25,374,44\n" * 30, "mooncake": MOONCAKE * 5}[form]
    try:
        requests = read(tmp_path_factory.mktemp("trace"), whole[:cut])
    except SpecError:
        return
    assert set(requests.prompt_tokens.tolist()) <= {374, 6758}


def test_both_readers_agree_on_the_real_traces(reference: Path) -> None:
    files = sorted((reference / "traces").iterdir())
    assert len(files) == 4
    for path in files:
        known = "mooncake" if path.suffix == ".jsonl" else "azure"
        fast, plain = (read(TraceFile(path, path.name), known) for read in (_read_fast, _read_by_row))
        assert fast is not None
        assert all(np.array_equal(a, b) for a, b in zip(fast, plain, strict=True))


def test_the_azure_trace_is_read_right_and_fast(reference: Path) -> None:
    path = reference / "traces" / "azure_llm_2023_conv.csv"
    times_s = []
    for _ in range(3):
        start_s = perf_counter()
        requests = read_trace_file(path)
        times_s.append(perf_counter() - start_s)
    assert min(times_s) <= 0.060  # measured: 2.5 ms
    assert len(requests) == 19_366
    assert requests.arrival_ps[:2].tolist() == [0, 4_314_579_000_000]
    assert (requests.prompt_tokens[-1], requests.output_tokens[-1]) == (197, 183)
    assert requests.rate_rps == pytest.approx(5.5301, abs=1e-4)


def test_a_trace_is_cut_and_stretched(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(CSV + "".join(f"{100 + each},{each + 1},1\n" for each in range(10)))
    assert replay(path, requests=4).prompt_tokens.tolist() == [1, 2, 3, 4]
    window = replay(path, start_s=2, duration_s=3)
    assert window.prompt_tokens.tolist() == [3, 4, 5]
    assert window.arrival_ps[0] == 0
    faster = replay(path, rate_rps=4)
    assert faster.rate_rps == pytest.approx(4)
    assert faster.duration_s == pytest.approx(9 / 4)
    assert len(replay(path, requests=1, rate_rps=4)) == 1
    with pytest.raises(SpecError, match=r"start_s=50, duration_s=None: no request is left; the trace spans 9 s"):
        replay(path, start_s=50)
    with pytest.raises(SpecError, match=r"rate_rps=1e-07: 10 requests span 1042 days, at most 90"):
        replay(path, rate_rps=1e-7)
    path.write_text(CSV + "1,1,1\n" * 3)
    with pytest.raises(SpecError, match=r"rate_rps=2: all 3 requests arrive at once"):
        replay(path, rate_rps=2)
