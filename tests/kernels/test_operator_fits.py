"""Fits on operator rows: recovery from synthetic truth, the gate, copies, export and residual."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from analyzer.errors import DataError, InputError
from analyzer.sources.operator_fit import read_operator_fits
from analyzer.sources.operator_rows import (
    NUMBERS,
    TEXT,
    OperatorRows,
    joined,
    read_operator_rows,
)
from analyzer.sources.operator_work import shape_rows
from analyzer.sources.physics import copies, gate
from analyzer.sources.routed_rows import touched_of_rows
from analyzer.timing.kernels import FORMS, Chip
from analyzer.timing.kernels.gemm import GemmParams
from analyzer.timing.residual import Residual, correct
from calibration.operators import export, fit_class, fit_operators, geomean_error
from calibration.operators_residual import fit_residual
from calibration.operators_routing import NOT_AS_SAID, SPREAD, labelled_rows

CHIP = Chip(peak_Fps=3e14, memory_Bps=2e12, units=108.0, l2_B=40e6)
TRUTH = GemmParams(
    launch_s=4e-6, compute_eff=0.8, memory_eff=0.7, tile_half=2000.0, prologue=80.0,
    sharpness=3.0, hot_gain=1.0, fill_need=0.4, split_cost=1.0, tail_blend=0.3, quantise_eff=1.0,
)  # fmt: skip


def rows_of(op: str, hardware: str, columns: dict[str, np.ndarray]) -> OperatorRows:
    count = len(next(iter(columns.values())))
    text = {name: np.full(count, "", dtype="U64") for name in TEXT}
    text["op"][:], text["dtype"][:], text["hardware"][:] = op, "bf16", hardware
    text["software"][:] = "made"
    numbers = {name: columns.get(name, np.full(count, np.nan)) for name in NUMBERS}
    return OperatorRows(text, numbers, np.ones(count))


def gemm_rows(
    seed: int = 0, noise: float = 0.03, hardware: str = "Made", shapes: int = 12
) -> OperatorRows:
    random = np.random.default_rng(seed)
    weights = random.choice([1024.0, 1536.0, 2048.0, 4096.0, 7168.0, 8192.0], (shapes, 2))
    m = np.array([1.0, 4, 16, 48, 64, 128, 256, 512, 1024, 2048, 4096])
    n, k = np.repeat(weights[:, 0], len(m)), np.repeat(weights[:, 1], len(m))
    rows = rows_of("gemm", hardware, {"m": np.tile(m, shapes), "n": n, "k": k})
    shaped = shape_rows(rows, "gemm", "bf16", CHIP)
    exact = FORMS["gemm"].time(shaped.work, CHIP, TRUTH)
    return replace(rows, seconds=exact * np.exp(noise * random.standard_normal(len(exact))))


def test_parameters_come_back_from_synthetic_rows() -> None:
    fit = fit_class(gemm_rows(), CHIP, residual=False)
    assert fit.held_out_form < 0.035
    assert abs(fit.held_out_bias) < 0.01
    for name, tolerance in (("launch_s", 0.1), ("compute_eff", 0.05), ("memory_eff", 0.05)):
        assert fit.params[name] == pytest.approx(getattr(TRUTH, name), rel=tolerance)


def test_a_residual_learns_what_the_form_cannot() -> None:
    rows = gemm_rows(noise=0.01, shapes=32)
    bumpy = np.where(rows.number("m") <= 64, 1.25, 1.0) * np.where(rows.number("n") > 4096, 0.9, 1)
    fit = fit_class(replace(rows, seconds=rows.seconds * bumpy), CHIP)
    assert fit.held_out_residual is not None
    assert fit.held_out_residual < 0.6 * fit.held_out_form
    assert fit.residual is not None


def test_the_exported_residual_is_what_was_learnt_and_silent_outside() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    random = np.random.default_rng(1)
    features = random.uniform(0, 10, (600, 3))
    target = 0.2 * np.sin(features[:, 0]) + 0.1 * (features[:, 1] > 5)
    learnt = fit_residual(features, target, ("a", "b", "c"))
    model = HistGradientBoostingRegressor(
        max_iter=300, learning_rate=0.07, max_leaf_nodes=12, min_samples_leaf=8,
        l2_regularization=1.0, max_features=0.5, random_state=0,
    ).fit(features, target)  # fmt: skip
    probe = random.uniform(0.1, 9.9, (200, 3))
    np.testing.assert_allclose(
        np.log(learnt.correct(probe).factor), model.predict(probe), atol=1e-6
    )
    outside = correct(learnt.residual, np.array([[-1.0, 5.0, 5.0], [5.0, 5.0, 5.0]]))
    assert outside.inside.tolist() == [False, True]
    assert outside.factor[0] == 1.0


def test_a_broken_residual_is_refused() -> None:
    with pytest.raises(DataError, match="differ in length"):
        Residual(
            features=("a",), low=(0.0,), high=(1.0,), baseline=0.0, roots=(0,),
            feature=(-1, -1), threshold=(0.0,), left=(0,), right=(0,), value=(0.0,),
        )  # fmt: skip


def test_fits_survive_the_disk(tmp_path: Path) -> None:
    fit = fit_class(gemm_rows(), CHIP, residual=False)
    export([fit], tmp_path / "fits.json")
    (back,) = read_operator_fits(tmp_path / "fits.json")
    assert back == fit
    assert back.kernel_params.launch_s == fit.params["launch_s"]
    (tmp_path / "broken.json").write_text('[{"op": "gemm"')
    with pytest.raises(DataError, match=r"broken\.json"):
        read_operator_fits(tmp_path / "broken.json")


def test_the_gate_refuses_rows_faster_than_light() -> None:
    seconds, flops = np.array([1.0, 1.0, 1.0]), np.array([2.9e14, 3.2e14, 0.0])
    moved = np.array([0.0, 0.0, 2.2e12])
    passed = gate(seconds, flops, moved, CHIP)
    assert passed.possible.tolist() == [True, False, False]
    assert passed.refused == {"faster than the arithmetic peak": 1, "faster than memory": 1}
    cached = gate(np.array([1e-9]), np.zeros(1), np.array([1e6]), CHIP)
    assert cached.possible.all()


def test_copied_tables_are_found_whatever_their_order() -> None:
    rows = gemm_rows()
    shuffled = rows.take(np.random.default_rng(2).permutation(len(rows)))
    assert copies({"a": rows, "b": shuffled, "c": gemm_rows(5)}) == {"b": "a"}


def test_a_campaign_says_what_it_left_out() -> None:
    one, two = gemm_rows(hardware="Made"), gemm_rows(hardware="Twin")
    few = gemm_rows(3, hardware="Other").take(np.arange(5))
    stranger = gemm_rows(4, hardware="Stranger")
    parts = [one, two, few, stranger]
    rows = OperatorRows(
        {name: np.concatenate([part.text[name] for part in parts]) for name in TEXT},
        {name: np.concatenate([part.numbers[name] for part in parts]) for name in NUMBERS},
        np.concatenate([part.seconds for part in parts]),
    )

    def chip_of(hardware: str, dtype: str) -> Chip:
        if hardware == "Stranger":
            raise InputError("unknown system 'Stranger'")
        return CHIP

    campaign = fit_operators(rows, chip_of, residual=False)
    assert [fit.hardware for fit in campaign.fits] == ["Made"]
    assert "same rows as Made" in campaign.skipped["Twin|gemm|bf16|made"]
    assert "a fit needs" in campaign.skipped["Other|gemm|bf16|made"]
    assert "unknown system" in campaign.skipped["Stranger|gemm|bf16|made"]


def test_rows_are_read_strictly(tmp_path: Path) -> None:
    good = tmp_path / "rows.csv"
    good.write_text(
        "source,hardware,op,dtype,m,n,k,latency_us,notes\n"
        "x,H100,gemm,bf16,1,2048,4096,8.5,fw=vllm;ks=f\n"
        "x,H100,moe,bf16,,,,9,fw=vllm;tp=8;ep=1;dist=balanced;ks=triton\n"
    )
    rows = read_operator_rows([good])
    assert rows.seconds.tolist() == pytest.approx([8.5e-6, 9e-6])
    assert rows.text["software"].tolist() == ["vllm", "vllm/triton"]
    assert rows.numbers["tp"][1] == 8.0
    assert rows.text["routing"].tolist() == ["", "balanced"]
    bad = tmp_path / "bad.csv"
    bad.write_text("hardware,op,dtype,m,latency_us\nH100,gemm,bf16,1,0\n")
    with pytest.raises(DataError, match=r"bad\.csv.*line 2.*latency_us"):
        read_operator_rows([bad])


def test_geomean_error_is_symmetric() -> None:
    assert geomean_error(np.log([1.1, 1 / 1.1])) == pytest.approx(0.1)


def expert_rows(tokens: list[float], experts: float, ep: float = 1.0) -> OperatorRows:
    count = len(tokens)
    columns = {"experts": experts, "topk": 8.0, "hidden": 4096.0, "inter": 1536.0, "ep": ep}
    filled = {name: np.full(count, value) for name, value in columns.items()}
    return rows_of("moe", "Made", {"num_tokens": np.asarray(tokens), **filled})


def test_a_model_that_beats_memory_once_is_not_believed_at_all() -> None:
    """Its routing touched fewer experts than was said, in its slower rows too."""
    tokens = [1.0, 16.0, 256.0]
    kept, fast, rank = (
        expert_rows(tokens, 128.0),
        expert_rows(tokens, 256.0),
        expert_rows(tokens, 128.0, ep=8.0),
    )
    light_s = 16 * 8 * 3 * 4096 * 1536 * 2 / CHIP.memory_Bps
    seconds = [np.array([1e-3, 1.2 * light_s, 1.0]), np.array([1e-3, 0.7 * light_s, 1.0])]
    rows = joined(
        [
            replace(kept, seconds=seconds[0]),
            replace(fast, seconds=seconds[1]),
            replace(rank, seconds=np.full(3, 1.0)),
        ]
    )
    believed, refused = labelled_rows(rows, CHIP)
    assert believed.numbers["experts"].tolist() == [128.0] * 3
    assert believed.numbers["ep"].tolist() == [1.0] * 3
    assert refused == {SPREAD: 3, NOT_AS_SAID: 3}


def test_other_operators_have_no_routing_to_doubt() -> None:
    rows = gemm_rows()
    assert labelled_rows(rows, CHIP) == (rows, {})


def test_balanced_routing_touches_all_a_power_law_fewer() -> None:
    names = np.array(["balanced", "power_law_1.2", "power_law_1.2", "power_law_1.2", ""])
    tokens = np.array([16.0, 16.0, 1.0, 4096.0, 2.0])
    touched = touched_of_rows(names, tokens, np.full(5, 128.0), np.full(5, 8.0))
    assert touched[[0, 2, 3, 4]].tolist() == [128.0, 8.0, 128.0, 16.0]
    assert 8.0 < touched[1] < 128.0


def test_the_power_law_touches_what_drawing_from_it_touches() -> None:
    """Shares drawn at random from the bounded Pareto distribution, rounded, counted."""
    random, low, high, power = np.random.default_rng(0), 1.0, 0.8 * 64.0, -0.2
    at = random.random((400, 128))
    drawn = (low**power + at * (high**power - low**power)) ** (1.0 / power)
    counts = np.round(drawn / drawn.sum(axis=1, keepdims=True) * 512.0)
    mean = np.count_nonzero(counts, axis=1).mean()
    told = touched_of_rows(
        np.array(["power_law_1.2"]), np.array([64.0]), np.array([128.0]), np.array([8.0])
    )
    assert told[0] == pytest.approx(mean, rel=0.02)


def test_a_fit_made_before_a_parameter_existed_says_what_it_said_then() -> None:
    fit = fit_class(gemm_rows(), CHIP, residual=False)
    told = {
        name: value for name, value in fit.params.items() if name not in ("few_rows", "burst_s")
    }
    older = structs.replace(fit, params=told)
    assert older.kernel_params.few_rows == 0.0
    assert older.kernel_params.burst_s == 1.0
    assert older.kernel_params.launch_s == fit.params["launch_s"]
