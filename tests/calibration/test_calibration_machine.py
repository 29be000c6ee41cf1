"""A machine of one's own: from its records to predictions that name them, with no clock involved.

The records are made from known rates on a made-up processor, so that what comes out can be held
against the truth.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

import plumbline
from analyzer import detect, systems_catalog
from analyzer.detect import Probe
from analyzer.engines import engine
from analyzer.optable import stack
from analyzer.predict import predict
from analyzer.records import INPUT_MAJOR, Provenance, Record, Scenario
from analyzer.records_codec import case_id
from analyzer.resolve import question
from analyzer.system import Device, System
from analyzer.timing.machine import machine
from analyzer.timing.rates import Rates
from analyzer.timing.roofline import time_ops
from calibration.machine_operators import learn, operator
from profilers.model_shapes import SMALL_CONFIGS
from profilers.store import Store

MEMORY_B, CORES = 16 * 1024.0**3, 4
PEAKS = {"bf16": 8e11, "fp32": 2e11}
DEVICE = Device(
    name="Abacus 9 (4 cores)", kind="cpu", peak_flops=PEAKS, memory_B=MEMORY_B,
    memory_bandwidth_Bps=5e10, units=float(CORES),
)  # fmt: skip
ABACUS = System(name="CPU Abacus 9", device=DEVICE, nodes=1)
TRUTH = Rates.default().with_values(
    gemm_eff_16=0.9, gemm_eff_32=0.95, gemm_half=16.0, half_wide=0.5, mem_eff=0.5, mem_wide=1.4,
    attention_eff=0.12, attention_wide=4.5, attention_half=90.0, kv_eff=0.1, kv_wide=6.0,
    gqa_exponent=0.9, sharpness=1.2, vector_eff=0.7, launch_s=8e-6, step_s=4e-4, prefill_s=1e-3,
    rows_wide=0.6, rows_few=0.9, sharpness_wide=1.5, linear_s=2.5e-5,
    turned_eff=0.7, turned_wide=1.2,
)  # fmt: skip
CALL_S = 6e-5
SHAPES = ((576, 576), (1536, 576), (4864, 896), (896, 4864), (49152, 576))
HEADS = ((9, 3), (14, 2), (12, 12))
FITTED = ("smollm2-135m", "llama-160m", "stories15m", "smollm2-360m")
UNSEEN = ("stories42m", "llama-68m")
FACTS = {
    "device": "cpu", "device_memory_B": f"{MEMORY_B:.0f}", "cache_B": "33554432", "threads": "4",
}  # fmt: skip


def _read(path: str) -> str | None:
    files = {
        "/proc/cpuinfo": "vendor_id: Beads\nmodel name: Abacus 9\nflags: avx512f avx512_bf16\n",
        "/proc/meminfo": f"MemTotal: {MEMORY_B / 1024:.0f} kB\n",
    }
    return files.get(path)


@pytest.fixture(autouse=True)
def abacus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder on the made-up machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLUMBLINE_RATES", "")
    monkeypatch.delenv("PLUMBLINE_RATES")
    monkeypatch.setattr(detect, "this_machine", lambda: Probe(lambda _: None, _read, lambda: CORES))
    systems_catalog._this_machine.cache_clear()
    yield tmp_path
    systems_catalog._this_machine.cache_clear()


def _operators() -> list[Record]:
    cases: list[dict[str, object]] = []
    for dtype in PEAKS:
        for (n, k), m in itertools.product(SHAPES, (1, 2, 4, 16, 64, 256)):
            cases.append({"op": "gemm", "dtype": dtype, "m": m, "n": n, "k": k})
            if m < 64:
                cases.append({**cases[-1], "layout": INPUT_MAJOR})
        for (heads, kv), batch in itertools.product(HEADS, (1, 4)):
            common = {"dtype": dtype, "n_heads": heads, "n_kv_heads": kv, "head_dim": 64}
            cases += [{"op": "attn_decode", "batch": batch, "kv_len": n, **common}
                      for n in (128, 1024)]  # fmt: skip
            cases += [{"op": "attn_prefill", "batch": batch, "q_len": n, **common}
                      for n in (64, 512)]  # fmt: skip
    records = [_operator(case) for case in cases]
    made = [operator(record) for record in records]
    alone = msgspec.structs.replace(TRUTH, vector_eff=1.0)
    seconds = time_ops(stack(made), machine(ABACUS), alone).total_s + CALL_S  # type: ignore[arg-type]
    return [
        msgspec.structs.replace(
            record, metrics={"latency_s": float(took), "arithmetic_FLOP": float(op.flops)}
        )
        for record, took, op in zip(records, seconds, made, strict=True)
    ]


def _operator(case: dict[str, object]) -> Record:
    return _record("operator", Scenario(engine="torch"), {**case, "cache": "cold"}, 1.0)


def _ceilings() -> list[Record]:
    """What shows the peaks: one product per format that reaches it, and one stream."""
    side = 4096
    found = [
        _record(
            "operator", Scenario(engine="torch"),
            {"op": "gemm", "dtype": dtype, "m": side, "n": side, "k": side, "cache": "hot"},
            2.0 * side**3 / peak, arithmetic_FLOP=2.0 * side**3,
        )
        for dtype, peak in PEAKS.items()
    ]  # fmt: skip
    stream = _record(
        "link", Scenario(), {"op": "memory_read", "bytes": 10**9}, 1e9 / 5e10, bandwidth_Bps=5e10
    )
    return [*found, stream]


def _record(kind: str, scenario: Scenario, case: dict, latency_s: float, **more: float) -> Record:
    return Record(
        kind=kind, metrics={"latency_s": latency_s, **more}, scenario=scenario, case=case,
        provenance=Provenance(source="plumbline profile"), environment=dict(FACTS),
    )  # fmt: skip


def _generations(
    models: tuple[str, ...], lengths: tuple[int, ...], output: int, folder: Path, repeats: int = 1
) -> list[Record]:
    found = []
    for name, dtype in itertools.product(models, PEAKS):
        config = folder / f"{name}.json"
        config.write_text(json.dumps(SMALL_CONFIGS[name]))
        for batch, length, repeat in itertools.product((1, 4), lengths, range(repeats)):
            scenario = Scenario(
                hardware="Abacus", model=name, engine="transformers", gpus=1, tp=1,
                weight_precision=dtype, kv_precision=dtype, concurrency=batch,
                input_tokens=length, output_tokens=output,
            )  # fmt: skip
            asked = question(msgspec.structs.replace(scenario, model=str(config), hardware="A40"))
            said = predict(asked.model, ABACUS, asked.plan, asked.workload, TRUTH)
            times = {
                n: float(getattr(said, n)) * 1.01**repeat for n in ("ttft_s", "tpot_s", "e2e_s")
            }
            case = {"config": json.dumps(SMALL_CONFIGS[name]), "cache": "dynamic"}
            case |= {"repeat": repeat} if repeats > 1 else {}
            record = _record("e2e", scenario, case, 1.0)
            found.append(msgspec.structs.replace(record, metrics=times))
    return found


def _store(folder: Path, records: list[Record]) -> Path:
    with Store(folder, FACTS, fingerprint="f00d", durable=False) as store:
        for record in records:
            store.append(case_id(record.kind, record.scenario, record.case), record)
    return folder


@pytest.fixture
def campaign(abacus: Path) -> Path:
    """What `plumbline profile all` would have left behind."""
    records = [*_ceilings(), *_operators(), *_generations(FITTED, (32, 128), 16, abacus)]
    return _store(abacus / "plumbline-records", records)


def test_operators_alone_give_back_the_rates_that_made_them() -> None:
    learnt = learn(_operators(), machine(ABACUS))
    assert learnt is not None
    assert learnt.error < 0.01
    for entry in learnt.priors:
        off = abs(entry.value / getattr(TRUTH, entry.name) - 1.0)
        assert off < max(0.12, entry.width), entry.name
    assert learnt.call_s["gemm bf16"] == pytest.approx(CALL_S, rel=0.1)


def test_few_operators_and_foreign_ones_teach_nothing() -> None:
    assert learn(_operators()[:10], machine(ABACUS)) is None
    fp8 = _operator({"op": "gemm", "dtype": "fp8", "m": 1, "n": 64, "k": 64})
    assert operator(fp8) is None
    flash = _operator({"op": "attn_prefill", "dtype": "bf16", "variant": "flash"})
    assert operator(flash) is None


def test_the_whole_chain_from_records_to_predictions_that_name_them(
    campaign: Path, abacus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plumbline.main(["calibrate", "--system", "auto"]) == 0
    said = capsys.readouterr()
    assert "no data sheet of CPU Abacus 9 is known" in said.err
    assert "from this folder: plumbline predict --system auto" in said.out
    rates = abacus / "plumbline-rates"
    assert {path.name for path in rates.iterdir()} == {
        "CPU Abacus 9.toml", "CPU Abacus 9__transformers.toml",
    }  # fmt: skip
    measured = systems_catalog.load_system(rates / "CPU Abacus 9.toml")
    assert measured.device.peak_flops == pytest.approx(PEAKS)
    assert measured.device.memory_bandwidth_Bps == pytest.approx(5e10)

    systems_catalog._this_machine.cache_clear()
    asked = ["--model", "qwen2.5-0.5b", "--input", "64", "--output", "8", "--json"]
    assert plumbline.main(["predict", "--system", "auto", *asked]) == 0
    text = capsys.readouterr().out
    assert "CPU Abacus 9/transformers@" in text
    assert engine("transformers").name in text

    _store(abacus / "plumbline-check", _generations(UNSEEN, (64, 200), 24, abacus, repeats=2))
    words = ["validate", "--records", "plumbline-check", "--json"]
    assert plumbline.main(words) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["calibration"].startswith("CPU Abacus 9/transformers@")
    for score in found["scores"].values():
        assert score["cases"] == 16
        assert score["geomean_error"] < 0.03
        assert score["noise"] == pytest.approx(0.01, rel=1e-3)
        assert score["fitted_models_error"] is None
    assert plumbline.main(words[:-1]) == 0
    shown = capsys.readouterr().out
    assert "noise" in shown
    assert "stories42m" in shown


def test_models_that_were_fitted_do_not_count_as_unseen(
    campaign: Path, abacus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plumbline.main(["calibrate", "--system", "auto"]) == 0
    capsys.readouterr()
    assert plumbline.main(["validate", "--records", str(campaign), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {score["cases"] for score in found["scores"].values()} == {0}
    assert all(score["fitted_models_error"] < 0.03 for score in found["scores"].values())


def test_without_records_the_next_step_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert plumbline.main(["calibrate", "--system", "auto"]) != 0
    said = capsys.readouterr().err
    assert "plumbline profile all --budget 10m" in said
    assert len(said.splitlines()) == 1


def test_records_of_another_machine_are_refused(
    abacus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = {**FACTS, "device_memory_B": "1e12"}
    records = [msgspec.structs.replace(r, environment=foreign) for r in _ceilings()]
    _store(abacus / "plumbline-records", records)
    assert plumbline.main(["calibrate", "--system", "auto"]) == 2
    assert "were taken on another machine" in capsys.readouterr().err


def test_a_file_of_another_machine_with_the_same_name_is_not_taken(
    campaign: Path, abacus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plumbline.main(["calibrate", "--system", "auto"]) == 0
    systems_catalog._this_machine.cache_clear()
    assert systems_catalog.load_system("auto").device.peak_flops == pytest.approx(PEAKS)
    twice = Probe(lambda _: None, _read, lambda: 2 * CORES)
    monkeypatch.setattr(detect, "this_machine", lambda: twice)
    systems_catalog._this_machine.cache_clear()
    assert systems_catalog.load_system("auto").device.units == 2 * CORES
    assert systems_catalog.load_system("auto").device.peak_flops != pytest.approx(PEAKS)


def test_plain_noise_is_fitted_and_disturbance_is_not() -> None:
    from analyzer.records import Flag
    from calibration.intake import as_measured_here

    def noisy(reason: str, half: float) -> str:
        record = _record("e2e", Scenario(model="llama-3-8b"), {}, 1.0)
        spread = {"tpot_s": {"ci_low": 1.0 - half, "ci_high": 1.0 + half}}
        flags = (Flag(code="noisy", reason=reason),)
        one = msgspec.structs.replace(record, metrics={"tpot_s": 1.0}, spread=spread, flags=flags)
        return as_measured_here([one], "A40", Path("unused"))[0].verdict_on("tpot_s")

    assert noisy("median known to ±4 %", 0.04) == "good"
    assert noisy("median known to ±14 %", 0.14) == "suspect"
    assert noisy("kept disturbed blocks: contended 3×", 0.01) == "suspect"


def test_wide_ratios_touch_32_bits_only_and_never_beat_the_peak() -> None:
    ops = [operator(record) for record in _operators()]
    table, where = stack(ops), machine(ABACUS)  # type: ignore[arg-type]
    plain = time_ops(table, where, Rates.default()).total_s
    slow = Rates.default().with_values(mem_wide=0.5, kv_wide=0.5, attention_wide=0.5, half_wide=2.0)
    fast = Rates.default().with_values(mem_wide=20.0, kv_wide=20.0, attention_wide=20.0)
    wide = np.array([op.compute == 0.0 for op in ops])  # type: ignore[union-attr]
    slower = time_ops(table, where, slow).total_s
    np.testing.assert_array_equal(slower[~wide], plain[~wide])
    assert (slower[wide] >= plain[wide]).all()
    assert (slower[wide] > plain[wide]).any()
    quickest = time_ops(table, where, fast).total_s
    assert (quickest >= time_ops(table, where, Rates.ideal()).total_s * (1 - 1e-12)).all()
