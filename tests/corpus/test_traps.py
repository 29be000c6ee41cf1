"""The traps that would silently spoil a calibration, each sprung once.

Truth is a run whose times are known: a batch of 8, 100 prompt and 50 output tokens on 2 devices,
prefill 0.5 s, decode 49 steps of 20 ms. Every published form of it must lead back to those times.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from analyzer.errors import ConfigError, DataError
from calibration.corpus import NEEDS, reason_against
from calibration.corpus.conversion import MEANINGS
from calibration.corpus.mapping import Column, Mapping, Rule
from calibration.corpus.reading import Reader, read_table
from calibration.corpus.units import BY_SUFFIX, unit_of
from corpus.tables import STATIC, read_one, write_table

BATCH, PROMPT, OUTPUT, GPUS = 8, 100, 50, 2
TTFT, TPOT = 0.5, 0.020
E2E = TTFT + (OUTPUT - 1) * TPOT


def _throughput(counts: str, over: str, per: str = "system", **more: object) -> Column:
    return Column(field="throughput", unit="tok/s", counts=counts, over=over, per=per, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("published", "column", "metric", "seconds"),
    [
        (BATCH * OUTPUT / E2E, _throughput("output", "request"), "e2e_s", E2E),
        (BATCH * OUTPUT / E2E / GPUS, _throughput("output", "request", "gpu"), "e2e_s", E2E),
        (OUTPUT / E2E, _throughput("output", "request", "sequence"), "e2e_s", E2E),
        (BATCH * (PROMPT + OUTPUT) / E2E, _throughput("input+output", "request"), "e2e_s", E2E),
        (BATCH / TPOT, _throughput("output", "decode"), "tpot_s", TPOT),
        (BATCH / TPOT / GPUS, _throughput("output", "decode", "gpu"), "tpot_s", TPOT),
        (BATCH * PROMPT / TTFT, _throughput("input", "prefill"), "ttft_s", TTFT),
    ],
)
def test_every_definition_of_throughput_leads_back_to_the_times(
    tmp_path: Path, published: float, column: Column, metric: str, seconds: float
) -> None:
    record = read_one(tmp_path, {"x": repr(published)}, {"x": column})
    assert record.metrics[metric] == pytest.approx(seconds, rel=1e-12)
    assert metric in record.derived


def test_one_number_means_as_many_things_as_there_are_definitions(tmp_path: Path) -> None:
    seen = set()
    for counts, over in MEANINGS:
        for per in ("system", "gpu", "sequence"):
            column = _throughput(counts, over, per)
            record = read_one(tmp_path, {"x": "400"}, {"x": column})
            derived = record.derived[0]
            seen.add((derived, round(record.metrics[derived], 9)))
    assert len(seen) == len(MEANINGS) * 3


def test_a_throughput_without_a_definition_is_refused(tmp_path: Path) -> None:
    column = Column(field="throughput", unit="tok/s", counts="output")
    with pytest.raises(ConfigError, match="a throughput needs its definition"):
        read_one(tmp_path, {"tok_s": "400"}, {"tok_s": column})
    with pytest.raises(DataError, match=r"nothing says what column 'tok_s' holds"):
        read_one(tmp_path, {"tok_s": "400"}, {})


def test_per_gpu_needs_the_number_of_gpus(tmp_path: Path) -> None:
    column = _throughput("output", "request", "gpu")
    with pytest.raises(DataError, match=r"line 2, column 'gpus': x is per gpu"):
        read_one(tmp_path, {"x": "400"}, {"x": column}, gpus=None)


def test_under_a_load_no_latency_follows_from_a_throughput(tmp_path: Path) -> None:
    column = _throughput("output", "request")
    load = "closed-loop concurrency"
    record = read_one(tmp_path, {"x": "400"}, {"x": column}, arrival=load)
    assert record.metrics == {"output_tok_s": 400.0}


def test_time_per_token_is_a_rate_upside_down(tmp_path: Path) -> None:
    published_ms = E2E / (BATCH * OUTPUT) * 1e3
    column = Column(field="throughput", unit="ms/tok", counts="output", over="request")
    record = read_one(tmp_path, {"x": repr(published_ms)}, {"x": column})
    assert record.metrics["e2e_s"] == pytest.approx(E2E, rel=1e-12)


def test_a_prompt_of_one_step_makes_the_mean_time_the_tpot(tmp_path: Path) -> None:
    column = _throughput("output", "request", prompt_is_a_step=True)
    record = read_one(tmp_path, {"x": "100"}, {"x": column}, concurrency=1, input_tokens=5)
    assert record.metrics["tpot_s"] == pytest.approx(0.01)
    assert record.metrics["e2e_s"] == pytest.approx(0.5)


def test_a_prompt_chunk_is_no_batch(tmp_path: Path) -> None:
    """llama-bench -b 8: throughput and latency account for one sequence."""
    one = {"lat": repr(E2E), "tok": repr((PROMPT + OUTPUT) / E2E)}
    columns = {
        "lat": Column(field="e2e_s", unit="s"),
        "tok": _throughput("input+output", "request"),
    }
    record = read_one(tmp_path, one, columns)
    assert [flag.code for flag in record.flags] == ["batch_is_no_batch"]
    assert record.verdict == "impossible"
    assert reason_against(record, NEEDS["e2e"]) is not None
    assert "1 sequence, not 8" in record.flags[0].reason


def test_a_rule_says_that_the_chunk_is_no_batch(tmp_path: Path) -> None:
    path = write_table(tmp_path, "batch,lat,tok", f"8,{E2E!r},{(PROMPT + OUTPUT) / E2E!r}")
    mapping = Mapping(
        constants={name: value for name, value in STATIC.items() if name != "concurrency"},
        columns={
            "batch": Column(field="concurrency"),
            "lat": Column(field="e2e_s", unit="s"),
            "tok": _throughput("input+output", "request"),
        },
        rules=(Rule(when={"engine": "vLLM", "batch": "8"}, set={"concurrency": 1}),),
    )
    (record,) = read_table(path, mapping, Reader())
    assert record.scenario.concurrency == 1
    assert record.verdict == "good"


def test_figures_that_contradict_their_definition_are_flagged(tmp_path: Path) -> None:
    figures = {"lat": repr(E2E), "tok": repr(BATCH * OUTPUT / E2E)}
    columns = {
        "lat": Column(field="e2e_s", unit="s"),
        "tok": _throughput("input+output", "request"),
    }
    record = read_one(tmp_path, figures, columns)
    assert [flag.code for flag in record.flags] == ["definition_mismatch"]
    columns["tok"] = _throughput("output", "request")
    assert read_one(tmp_path, figures, columns).verdict == "good"


def test_gib_is_not_gb(tmp_path: Path) -> None:
    gib = read_one(tmp_path, {"mem": "10"}, {"mem": Column(field="peak_mem_B", unit="GiB")})
    gb = read_one(tmp_path, {"mem": "10"}, {"mem": Column(field="peak_mem_B", unit="GB")})
    assert gib.metrics["peak_mem_B"] / gb.metrics["peak_mem_B"] == 2**30 / 10**9
    with pytest.raises(ConfigError, match="say one of B, kB, MB, GB"):
        read_one(tmp_path, {"mem": "10"}, {"mem": Column(field="peak_mem_B")})


def test_a_pool_is_no_footprint(tmp_path: Path) -> None:
    record = read_one(tmp_path, {"mem": "76"}, {"mem": Column(field="pool_B", unit="GB")})
    reason = reason_against(record, NEEDS["peak memory"])
    assert reason is not None
    assert record.metrics == {"pool_B": 76e9}


def test_every_unit_goes_there_and_back() -> None:
    for suffix, units in BY_SUFFIX.items():
        for name in units:
            unit = unit_of(f"x{suffix}" if suffix.startswith("_") else suffix, name, "t")
            step = unit.to_si(1.0) / unit.to_si(2.0)
            assert step == pytest.approx(2.0 if unit.inverse else 0.5)


def test_each_speculative_row_says_so_and_stays_out(tmp_path: Path) -> None:
    figures = {"tpot_ms": "5", "speculative": "EAGLE3"}
    record = read_one(tmp_path, figures, {})
    reason = reason_against(record, NEEDS["tpot"])
    assert reason is not None
    assert reason[0] == "speculative"
