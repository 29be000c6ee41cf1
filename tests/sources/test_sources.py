"""Sources: the ladder, tables and their hull, gates and copies, the residual, hooks, arrays."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.errors import ConfigError, ProfilerError
from analyzer.optable import Op, OpTable, stack
from analyzer.sources import Answer, Context, ladder, register, source_names, time_with
from analyzer.sources.describe import COORDINATES, describe
from analyzer.sources.measured import Reading, Request, register_measurer
from analyzer.sources.neighbours import LARGE, cloud
from analyzer.sources.operator_fit import catalog_fits
from analyzer.sources.operator_rows import NUMBERS, TEXT, OperatorRows
from analyzer.sources.operator_work import shape_rows
from analyzer.sources.systolic import cycles
from analyzer.sources.table import chip_of, measured_table, own_records, rows_of_system
from analyzer.systems_catalog import load_system
from analyzer.systolic_array import SystolicArray
from analyzer.timing.kernels import FORMS
from analyzer.timing.machine import machine
from analyzer.timing.rates import Rates
from calibration.operators import fit_class

H100 = load_system("H100-SXM")
CONTEXT = Context(H100, machine(H100), Rates.default())


def made_rows(
    op: str, columns: dict[str, np.ndarray], hardware: str = "H100-SXM", kv_dtype: str = ""
) -> OperatorRows:
    """Rows whose truth is the kernel form with default parameters, 10 % slower."""
    count = len(next(iter(columns.values())))
    text = {name: np.full(count, "", dtype="U64") for name in TEXT}
    for name, value in (("op", op), ("dtype", "bf16"), ("hardware", hardware), ("software", "x")):
        text[name][:] = value
    text["kv_dtype"][:] = kv_dtype
    numbers = {name: columns.get(name, np.full(count, np.nan)) for name in NUMBERS}
    rows = OperatorRows(text, numbers, np.ones(count))
    chip = chip_of(H100, "bf16")
    shaped = shape_rows(rows, op, "bf16", chip)
    form = FORMS[op]
    return replace(rows, seconds=1.1 * form.time(shaped.work, chip, form.params()))


def grid(**axes: list[float]) -> dict[str, np.ndarray]:
    meshed = np.meshgrid(*(np.asarray(axis, dtype=float) for axis in axes.values()), indexing="ij")
    return {name: part.ravel() for name, part in zip(axes, meshed, strict=True)}


GEMM = made_rows(
    "gemm",
    grid(
        m=[1, 4, 16, 64, 256, 1024, 4096], n=[1024, 2048, 4096, 8192, 16384],
        k=[1024, 2048, 4096, 8192, 16384],
    ),
)  # fmt: skip
DECODE = made_rows(
    "attn_decode",
    grid(
        batch=[1, 4, 16, 64, 256], q_len=[1], kv_len=[128, 1024, 8192, 65536],
        n_heads=[8, 16, 32, 64], n_kv_heads=[1, 2, 4, 8], head_dim=[128],
    ),
    kv_dtype="bf16",
)  # fmt: skip


def gemm_op(m: object, n: float, k: float, name: str = "linear") -> Op:
    return Op(
        name=name, kind="gemm", flops=2.0 * np.asarray(m) * n * k, weight_B=2.0 * n * k,
        act_B=2.0 * np.asarray(m) * (n + k), m=m, n=n, k=k, weight_bits=16.0,
    )  # fmt: skip


def table_context(rows: OperatorRows) -> Context:
    source = measured_table(rows, H100)
    register("made", lambda context: source)
    return CONTEXT


def test_the_names_are_those_of_the_issue() -> None:
    assert set(source_names()) >= {"analytic", "table", "measured", "scalesim", "residual"}
    with pytest.raises(ConfigError, match="did you mean table"):
        ladder("tabel,analytic", CONTEXT)
    with pytest.raises(ConfigError, match="empty name"):
        ladder("table,", CONTEXT)


def test_analytic_answers_everything_per_execution() -> None:
    table = stack([gemm_op(8.0, 4096.0, 4096.0), gemm_op(8.0, 4096.0, 4096.0)], [1.0, 40.0])
    timed = time_with(ladder("analytic", CONTEXT), table)
    assert timed.seconds[0] == pytest.approx(timed.seconds[1])
    assert timed.shares == {"analytic": 1.0}


def test_the_ladder_falls_back_and_says_so() -> None:
    table = stack([gemm_op(100.0, 3000.0, 5000.0), gemm_op(8.0, 100000.0, 4096.0, "head")])
    timed = time_with(ladder("made,analytic", table_context(GEMM)), table)
    assert [timed.names[index] for index in timed.source] == ["table", "analytic"]
    assert timed.remarks["table"] == {"head: far beyond the measured shapes": 1}
    with pytest.raises(ConfigError, match="knows head; add analytic"):
        time_with(ladder("made", CONTEXT), table)


def test_a_table_gives_back_what_was_measured() -> None:
    known = measured_table(GEMM, H100)
    table = stack([gemm_op(64.0, 4096.0, 8192.0)])
    row = (GEMM.numbers["m"] == 64) & (GEMM.numbers["n"] == 4096) & (GEMM.numbers["k"] == 8192)
    seconds = known.answer(table).seconds[0]
    hot = GEMM.seconds[row][0]
    assert seconds == pytest.approx(hot, rel=0.05)  # rows were measured with warm weights


@given(m=st.floats(1, 4000), n=st.floats(1100, 16000), k=st.floats(1100, 16000))
@settings(max_examples=30, deadline=None)
def test_between_shapes_a_table_follows_the_truth(m: float, n: float, k: float) -> None:
    known = measured_table(GEMM, H100)
    answer = known.answer(stack([gemm_op(m, n, k)]))
    form, chip = FORMS["gemm"], chip_of(H100, "bf16")
    described = describe(stack([gemm_op(m, n, k)]), 0)
    assert described is not None
    truth = 1.1 * form.time(described.work, chip, form.params())
    assert float(answer.seconds[0]) == pytest.approx(float(truth[0]), rel=0.02)


def test_decode_attention_is_read_whatever_its_cut() -> None:
    op = Op(
        name="core", kind="attention", m=1.0, n=3000.0, k=128.0, groups=64.0, heads_per_group=8.0,
        kv_B=2.0 * 64 * 3000 * 128 * 2, weight_bits=16.0,
    )  # fmt: skip
    timed = time_with(ladder("made", table_context(DECODE)), stack([op]))
    form, chip = FORMS["attn_decode"], chip_of(H100, "bf16")
    described = describe(stack([op]), 0)
    assert described is not None
    truth = 1.1 * form.time(described.work, chip, form.params())
    assert float(timed.seconds[0]) == pytest.approx(float(truth[0]), rel=0.1)


def test_a_sweep_is_one_question() -> None:
    m = np.geomspace(1, 4096, 30)[:, None] * np.ones((1, 40))
    table = stack([gemm_op(m, 4096.0, 4096.0), gemm_op(m, 2048.0, 8192.0)])
    timed = time_with(ladder("made,analytic", table_context(GEMM)), table)
    assert timed.seconds.shape == (2, 30, 40)
    one = time_with(ladder("made", CONTEXT), stack([gemm_op(m[7, 0], 4096.0, 4096.0)]))
    assert timed.seconds[0, 7, 0] == pytest.approx(one.seconds[0], rel=1e-9)


def test_a_large_cloud_answers_like_a_small_one() -> None:
    axes = (np.linspace(0, 12, 40), np.linspace(8, 14, 13), np.linspace(8, 14, 13))
    points = np.stack([part.ravel() for part in np.meshgrid(*axes, indexing="ij")], axis=1)
    assert len(points) > LARGE
    values = 0.1 * np.sin(points[:, 0] / 2) + 0.05 * points[:, 1] - 0.02 * points[:, 2]
    shelved = cloud(points, values)
    assert shelved.shelves is not None
    queries = np.random.default_rng(0).uniform([1, 9, 9], [11, 13, 13], (200, 3))
    truth = 0.1 * np.sin(queries[:, 0] / 2) + 0.05 * queries[:, 1] - 0.02 * queries[:, 2]
    np.testing.assert_allclose(shelved.at(queries).value, truth, atol=0.01)
    np.testing.assert_allclose(
        shelved.at(queries).value, shelved._replace(shelves=None).at(queries).value, atol=0.005
    )


def test_rows_faster_than_light_are_left_out_and_counted() -> None:
    seconds = GEMM.seconds.copy()
    seconds[-3:] *= 0.01
    known = measured_table(replace(GEMM, seconds=seconds), H100)
    known.classes.all()
    assert known.notes == {"gemm bf16: faster than the arithmetic peak": 3}


def test_a_table_copied_from_another_device_is_left_out_and_counted() -> None:
    other = made_rows("gemm", grid(m=[1, 4, 16, 64, 256], n=[1024, 2048], k=[1024, 4096]), "A100")
    mine = replace(other, text={**other.text, "hardware": np.full(len(other), "H100-SXM")})
    both = OperatorRows(
        {name: np.concatenate([other.text[name], mine.text[name]]) for name in TEXT},
        {name: np.concatenate([other.numbers[name], mine.numbers[name]]) for name in NUMBERS},
        np.concatenate([other.seconds, mine.seconds]),
    )
    remarks: dict[str, int] = {}
    assert len(rows_of_system(both, H100, remarks)) == 0
    assert remarks == {"rows of a table copied from another device": 20}


def test_the_residual_source_uses_its_fits() -> None:
    fit = fit_class(GEMM, chip_of(H100, "bf16"), residual=False)
    context = replace(CONTEXT, options={"residual": {"fits": [fit]}})
    table = stack([gemm_op(64.0, 4096.0, 8192.0), Op(name="norm", kind="elementwise", act_B=1e6)])
    timed = time_with(ladder("residual,analytic", context), table)
    assert [timed.names[index] for index in timed.source] == ["residual", "analytic"]
    form, chip = FORMS["gemm"], chip_of(H100, "bf16")
    described = describe(table, 0)
    assert described is not None
    truth = float((1.1 * form.time(described.work, chip, form.params()))[0])
    assert timed.seconds[0] == pytest.approx(truth, rel=0.05)
    with pytest.raises(ConfigError, match="no operator fits for"):
        ladder("residual", replace(CONTEXT, options={"residual": {"fits": []}}))


def test_the_measuring_hook_is_asked_once_per_shape() -> None:
    asked: list[Request] = []

    def measurer(request: Request) -> Reading:
        asked.append(request)
        if request.shape[0][1] > 100:
            raise ProfilerError("out of memory")
        return Reading(1e-5, 0.02)

    with pytest.raises(ConfigError, match="nothing here can measure"):
        ladder("measured", CONTEXT)
    register_measurer(measurer)
    sources = ladder("measured,analytic", CONTEXT)
    table = stack([gemm_op(np.array([8.0, 8.0, 200.0]), 4096.0, 4096.0)])
    timed = time_with(sources, table)
    assert timed.seconds[0, :2].tolist() == [1e-5, 1e-5]
    assert timed.source[0].tolist() == [0, 0, 1]
    assert timed.remarks["measured"] == {"out of memory": 1}
    assert asked[0].shape == (("m", 8.0), ("n", 4096.0), ("k", 4096.0))
    assert len(asked) == 2


CYCLES = [
    ("ws", 8, 8, 8, 29), ("ws", 16, 8, 8, 37), ("ws", 20, 13, 9, 167), ("ws", 64, 32, 48, 2063),
    ("ws", 33, 65, 17, 1484), ("os", 8, 8, 8, 21), ("os", 16, 8, 8, 43), ("os", 20, 13, 9, 137),
    ("os", 64, 32, 48, 1983), ("os", 33, 65, 17, 1394), ("is", 8, 8, 8, 29), ("is", 16, 8, 8, 59),
    ("is", 20, 13, 9, 209), ("is", 64, 32, 48, 2591), ("is", 33, 65, 17, 1304),
]  # fmt: skip
"""Compute cycles that scalesim 3.0.0 reports for an 8×8 array."""


@pytest.mark.parametrize(("dataflow", "m", "n", "k", "expected"), CYCLES)
def test_cycles_are_those_of_the_package(
    dataflow: str, m: int, n: int, k: int, expected: int
) -> None:
    array = SystolicArray(rows=8, columns=8, dataflow=dataflow, clock_Hz=1e9)
    assert float(cycles(m, n, k, array)) == expected


def test_scalesim_says_what_it_did_not_simulate(monkeypatch: pytest.MonkeyPatch) -> None:
    array = SystolicArray(rows=128, columns=128, arrays=4, clock_Hz=1e9)
    context = replace(CONTEXT, options={"scalesim": {"array": array}})
    table = stack([gemm_op(512.0, 4096.0, 4096.0), Op(name="norm", kind="elementwise")])
    timed = time_with(ladder("scalesim,analytic", context), table)
    assert timed.seconds[0] == pytest.approx(float(cycles(512, 1024, 4096, array)) / 1e9)
    said = {
        "linear: too large to simulate, closed form of the cycles": 1,
        "norm: not a dense multiplication": 1,
    }
    assert said.items() <= timed.remarks["scalesim"].items()
    assert array.peak_Fps == 2 * 128 * 128 * 4 * 1e9
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    small = time_with(ladder("scalesim", context), stack([gemm_op(8.0, 16.0, 16.0)]))
    assert small.remarks["scalesim"] == {
        "linear: scalesim is not installed, closed form of its cycles": 1
    }
    assert small.seconds[0] == pytest.approx(float(cycles(8, 4, 16, array)) / 1e9)
    with pytest.raises(ConfigError, match="does not describe its arrays"):
        ladder("scalesim", CONTEXT)
    with pytest.raises(ConfigError, match="unknown dataflow"):
        SystolicArray(rows=8, columns=8, dataflow="sw", clock_Hz=1e9)


def test_the_package_agrees_where_it_is_installed() -> None:
    pytest.importorskip("scalesim")
    from analyzer.sources.scalesim import simulate_cycles

    array = SystolicArray(rows=8, columns=8, clock_Hz=1e9)
    assert simulate_cycles(20, 13, 9, array) == 167


def test_a_source_of_ones_own_may_join() -> None:
    class Fixed:
        name = "fixed"
        notes: ClassVar[dict[str, int]] = {}

        def answer(self, table: OpTable) -> Answer:
            shape = (len(table.names), *table.shape)
            return Answer(np.full(shape, 1e-3), np.full(shape, 0.1))

    register("fixed", lambda context: Fixed())
    timed = time_with(ladder("fixed", CONTEXT), stack([gemm_op(1.0, 8.0, 8.0)]))
    assert timed.seconds[0] == 1e-3


def test_the_projects_own_tables_answer() -> None:
    paths = [path for path in own_records() if path.name.startswith("aiconfigurator")]
    assert paths, "the project's operator tables are missing"
    context = replace(CONTEXT, options={"table": {"paths": paths, "software": "vllm"}})
    table = stack([gemm_op(64.0, 4096.0, 4096.0)])
    timed = time_with(ladder("table,analytic", context), table)
    assert timed.names[timed.source[0]] == "table"
    assert 5e-6 < float(timed.seconds[0]) < 5e-5
    assert float(timed.uncertainty[0]) < 0.15


def test_coordinates_are_features_of_their_class() -> None:
    for rows in (GEMM, DECODE):
        op = str(rows.text["op"][0])
        shaped = shape_rows(rows, op, "bf16", chip_of(H100, "bf16"))
        assert set(COORDINATES[op]) <= set(shaped.feature_names)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    context = replace(CONTEXT, options={"table": {"paths": []}})
    with pytest.raises(ConfigError, match="no operator records"):
        ladder("table", context)


def test_the_catalogs_forms_say_how_good_they_are() -> None:
    fits = {fit.name: fit for fit in catalog_fits()}
    assert len(fits) == len(catalog_fits()), "two fits of one class"
    for hardware in ("A100-SXM4-80GB", "H100-SXM5-80GB", "H200-SXM", "RTX-PRO-6000-BSE"):
        assert fits[f"{hardware}|gemm|bf16|vllm"].held_out_form < 0.1
    assert all(fit.residual is None and fit.groups > 1 for fit in fits.values())
