"""Tables of scenarios: no row is lost, none is answered wrongly, nothing is half-written."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from reports.predictions import ADDED, harmless
from tests.cli.shell import Said, Shell

HEADER = (
    "hardware,gpus,tp,pp,ep,model,engine,engine_version,weight_precision,kv_precision,"
    "batch_or_concurrency,arrival,input_tokens,output_tokens"
)
PLAIN = "H100-SXM,1,1,1,,llama-3-8b,vLLM,0.9.0,bf16,bf16,{},static batch,{},{}"
FIGURES = ("pred_ttft_ms", "pred_tpot_ms", "pred_e2e_ms", "pred_prefill_tok_s",
           "pred_decode_tok_s", "pred_total_tok_s", "pred_peak_mem_gb")  # fmt: skip

Row = dict[str, str]


class Desk:
    """Writes a table, has it predicted, reads what came of it."""

    def __init__(self, run: Shell, folder: Path) -> None:
        self.run = run
        self.source, self.target = folder / "scenarios.csv", folder / "predictions.csv"

    def predict(self, *lines: str, options: str = "--uncalibrated") -> list[Row]:
        self.source.write_text("\n".join(lines) + "\n", encoding="utf-8")
        said = self.try_it(options)
        assert said.code == 0, said.err
        return self.read()

    def try_it(self, options: str = "--uncalibrated") -> Said:
        return self.run(f"predict --csv {self.source} --out {self.target} {options}")

    def read(self) -> list[Row]:
        with open(self.target, newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))


@pytest.fixture
def desk(plumbline: Shell, tmp_path: Path) -> Desk:
    return Desk(plumbline, tmp_path)


def test_a_row_says_what_one_prediction_says(desk: Desk) -> None:
    rows = desk.predict(HEADER, *(PLAIN.format(b, 512, 128) for b in (1, 8, 32)))
    for row in rows:
        words = "--input 512 --output 128 --engine vllm --kv bf16 --uncalibrated --json"
        batch = row["batch_or_concurrency"]
        one = desk.run(f"predict --model llama-3-8b --system H100-SXM --batch {batch} {words}").json
        assert not row["problem"]
        for name in ("ttft", "tpot", "e2e"):
            assert math.isclose(float(row[f"pred_{name}_ms"]), one[f"{name}_s"] * 1e3, rel_tol=1e-6)
        for name in ("prefill_tok_s", "decode_tok_s", "total_tok_s"):
            assert math.isclose(float(row[f"pred_{name}"]), one[name], rel_tol=1e-6)
        memory = one["memory_B"]
        held_gb = (memory["total"] - memory["reserve"]) / 1e9
        assert math.isclose(float(row["pred_peak_mem_gb"]), held_gb, rel_tol=1e-6)


def test_rows_keep_their_order_and_their_own_columns(desk: Desk) -> None:
    lines = [f"{PLAIN.format(1 + n % 7, 64 + n, 16)},note {n}" for n in range(50)]
    lines += [line.replace("llama-3-8b", "qwen3-8b") for line in lines]
    rows = desk.predict(f"{HEADER},remark", *lines)
    assert [row["remark"] for row in rows] == [f"note {n}" for n in range(50)] * 2
    assert list(rows[0])[-len(ADDED) :] == list(ADDED)
    assert all(float(row[name]) > 0 for row in rows for name in FIGURES)


def test_bounds_come_with_a_calibration_only(desk: Desk, own_rates: Path) -> None:
    line = "RTX3090,1,1,1,,llama-2-7b,vLLM,0.9.0,fp16,fp16,{},static batch,128,32"
    inside, beyond = desk.predict(HEADER, line.format(4), line.format(64), options="")
    assert inside["pred_calibration"] == "RTX3090/vllm-v1@01234567"
    assert not inside["pred_note"]
    assert "extrapolates in batch" in beyond["pred_note"]
    ttft = float(inside["pred_ttft_ms"])
    assert math.isclose(float(inside["pred_ttft_ms_lo"]), 0.9 * ttft, rel_tol=1e-6)
    assert math.isclose(float(inside["pred_ttft_ms_hi"]), 1.25 * ttft, rel_tol=1e-6)
    assert inside["pred_e2e_ms_lo"] == ""
    (bare,) = desk.predict(HEADER, line.format(4))
    assert bare["pred_ttft_ms_lo"] == ""
    assert bare["pred_calibration"] == "uncalibrated"


REFUSED = {
    "H100-SXM,1,1,1,,no-such-model,vLLM,,bf16,,1,static batch,64,16": "unknown model",
    "H100-SXX,1,1,1,,llama-3-8b,vLLM,,bf16,,1,static batch,64,16": "unknown system",
    "H100-SXM,3,3,1,,llama-3-8b,vLLM,,bf16,,1,static batch,64,16": "does not divide the 32 heads",
    "H100-SXM,1,one,1,,llama-3-8b,vLLM,,bf16,,1,static batch,64,16": "column 'tp'",
    "H100-SXM,1,0,1,,llama-3-8b,vLLM,,bf16,,1,static batch,64,16": "column 'tp'",
    "H100-SXM,1,1,1,,llama-3-8b,vLLM,,fp99,,1,static batch,64,16": "unknown number format",
    "H100-SXM,1,1,1,,llama-3-8b,vLLM,,bf16,,1,now and then,64,16": "arrival 'now and then'",
    "H100-SXM,1,1,1,,llama-3-8b,vLLM,,bf16,,1,trace of chat,64,16": "need their rate",
    "H100-SXM,1,1,1,,llama-3-8b,vLLM,,bf16,,1,poisson,64,16": "need their rate",
    "H100-SXM,1,1,1,,llama-3-8b,vLLM,,bf16,,,closed-loop concurrency,64,16": "not stated",
    "H100-SXM,1,1,1,,llama-3-8b,vLLM,,bf16,,1,static batch,sixty,16": "'sixty' is not a number",
    "H100-SXM,1,1,1,,llama-3-8b,vLLM,,bf16,,1,static batch,nan,16": "not a finite number",
    "H100-SXM,1,1,1,,llama-3-8b,vLLM,,bf16,,1,static batch,-64,16": "below 0",
    "H100-SXM,1,1,1,,llama-3-8b,vLLM,,bf16,,0.5,static batch,64,16": "batch is below 1",
    "H100-SXM,1,1,1,,llama-3-8b,vLLM,,bf16,,1,static batch,0,0": "are above 0",
    "H100-SXM,1,1,1,,llama-3-8b,vLLM,,bf16,,1,static batch,90000,16": "at most 8192 tokens",
    "RTX3090,1,1,1,,llama-2-70b,vLLM,,bf16,,1,static batch,64,16": "does not fit",
    ",1,1,1,,llama-3-8b,vLLM,,bf16,,1,static batch,64,16": "hardware is missing",
}


def test_what_cannot_be_predicted_says_why_and_harms_no_other(desk: Desk) -> None:
    good = PLAIN.format(4, 256, 64)
    lines = [line for bad in REFUSED for line in (bad, good)]
    rows = desk.predict(HEADER, *lines)
    assert len(rows) == len(lines)
    expected = float(rows[1]["pred_e2e_ms"])
    for bad, row, neighbour in zip(REFUSED, rows[::2], rows[1::2], strict=True):
        assert REFUSED[bad] in row["problem"], (bad, row["problem"])
        assert not any(row[name] for name in FIGURES), bad
        assert float(neighbour["pred_e2e_ms"]) == expected
        assert not neighbour["problem"]


def test_rows_that_do_not_fit_stand_alone_in_their_group(desk: Desk) -> None:
    line = "RTX3090,1,1,1,,llama-2-7b,FasterTransformer,,fp16,fp16,{},static batch,1024,64"
    rows = desk.predict(HEADER, *(line.format(b) for b in (1, 4, 4000, 8, 9000)))
    assert [bool(row["problem"]) for row in rows] == [False, False, True, False, True]
    assert "does not fit" in rows[2]["problem"]
    assert "sequences fit" in rows[4]["problem"]
    assert float(rows[0]["pred_tpot_ms"]) < float(rows[3]["pred_tpot_ms"])


def test_half_stated_rows_are_answered_by_half(desk: Desk) -> None:
    line = "RTX4090,1,1,1,,llama-2-7b,llama.cpp,,fp16,fp16,1,static batch,{},{}"
    prefill, decode, blank = desk.predict(
        HEADER, line.format(512, 0), line.format(0, 128), line.format(512, "")
    )
    for row in (prefill, blank):
        assert row["pred_ttft_ms"]
        assert not row["pred_tpot_ms"]
        assert not row["pred_e2e_ms"]
        assert "only prefill" in row["problem"]
    assert decode["pred_tpot_ms"]
    assert not decode["pred_ttft_ms"]
    assert "only decoding" in decode["problem"]


def test_a_row_without_its_prompt_is_answered_as_far_as_that_matters_little(desk: Desk) -> None:
    line = "H100-SXM,1,1,1,,llama-2-7b,vLLM,,fp16,fp16,8,{},{},{}"
    stated, long, short, neither, served = desk.predict(
        HEADER,
        line.format("static batch", 256, 4000),
        line.format("static batch", "", 4000),
        line.format("static batch", "", 4),
        line.format("static batch", "", ""),
        line.format("closed loop", "", ""),
    )
    assert (long["pred_tpot_ms"], long["pred_e2e_ms"]) == (
        stated["pred_tpot_ms"],
        stated["pred_e2e_ms"],
    )
    for row in (long, short, neither, served):
        assert "256 assumed" in row["problem"]
        assert row["pred_tpot_ms"]
        assert not any(row[f"pred_{name}"] for name in ("ttft_ms", "prefill_tok_s", "total_tok_s"))
    assert not any(row["pred_e2e_ms"] for row in (short, neither, served))
    assert neither["pred_decode_tok_s"]
    assert not served["pred_decode_tok_s"]


def test_formats_left_to_the_engine_are_as_blank_ones(desk: Desk) -> None:
    line = "H100-SXM,1,1,1,,llama-3-8b,vLLM,,{0},{0},1,static batch,512,128"
    auto, blank = desk.predict(HEADER, line.format("auto"), line.format(""))
    assert [auto[name] for name in FIGURES] == [blank[name] for name in FIGURES]


def test_loads_take_longer_than_lone_requests(desk: Desk) -> None:
    line = "H100-SXM,1,1,1,,llama-3-8b,vLLM,0.9.0,bf16,bf16,{},{},1024,256"
    alone, loop, queue, slow, fast, mad = desk.predict(
        HEADER,
        line.format(1, "single request"),
        line.format(64, "closed-loop concurrency"),
        line.format("", "offline throughput (all requests queued)"),
        line.format("", "poisson rate 1"),
        line.format("", "poisson rate 8"),
        line.format("", "poisson rate 100000"),
    )
    assert float(loop["pred_tpot_ms"]) > float(alone["pred_tpot_ms"])
    assert float(queue["pred_decode_tok_s"]) > float(loop["pred_decode_tok_s"])
    assert not queue["pred_ttft_ms"]
    assert not queue["problem"]
    assert float(fast["pred_tpot_ms"]) >= float(slow["pred_tpot_ms"])
    assert math.isclose(float(fast["pred_decode_tok_s"]), 8 * 256)
    assert "queue never ends" in mad["problem"]
    assert not mad["pred_ttft_ms"]
    assert not mad["pred_e2e_ms"]
    assert float(mad["pred_tpot_ms"]) > float(fast["pred_tpot_ms"])
    most = float(mad["pred_decode_tok_s"])
    assert math.isclose(most, float(queue["pred_decode_tok_s"])), "it serves what it can"
    e2e_s, tokens = float(loop["pred_e2e_ms"]) / 1e3, float(loop["pred_decode_tok_s"])
    assert math.isclose(tokens, 64 * 256 / e2e_s, rel_tol=1e-6), "Little's law"


def test_many_requests_at_once_queue(desk: Desk) -> None:
    line = "H100-SXM,1,1,1,,llama-3-8b,vLLM,0.9.0,bf16,bf16,{},{},1024,256"
    few, many, rushed, said, blank = desk.predict(
        HEADER,
        line.format(16, "all requests at once"),
        line.format(4000, "all requests at once"),
        line.format(4000, "poisson rate inf"),
        line.format("", '"all at once, 4000 requests"'),
        line.format("", "all requests at once"),
    )
    assert float(many["pred_ttft_ms"]) > 20 * float(few["pred_ttft_ms"])
    assert float(many["pred_decode_tok_s"]) > float(few["pred_decode_tok_s"])
    assert rushed["pred_ttft_ms"] == said["pred_ttft_ms"] == many["pred_ttft_ms"]
    assert "not stated" in blank["problem"]
    assert not blank["pred_ttft_ms"]


def test_a_known_number_of_requests_bounds_the_queue(desk: Desk) -> None:
    line = "H100-SXM,1,1,1,,llama-3-8b,vLLM,0.9.0,bf16,bf16,{},poisson rate 500,1024,256"
    short, long, endless = desk.predict(HEADER, *(line.format(n) for n in (2000, 8000, "")))
    assert float(long["pred_ttft_ms"]) > 2 * float(short["pred_ttft_ms"]) > 0
    assert not short["problem"]
    assert "how many requests" in endless["problem"]


def test_memory_under_load_holds_a_step_of_prompts(desk: Desk) -> None:
    line = "H100-SXM,1,1,1,,llama-3-8b,vLLM,0.9.0,bf16,bf16,{},{},4096,256"
    for row in desk.predict(
        HEADER,
        line.format(2000, "closed-loop concurrency"),
        line.format("", "offline throughput"),
        line.format(2000, "all requests at once"),
    ):
        assert float(row["pred_peak_mem_gb"]) < 86.0, "no more than the device has"


def test_two_pools_share_the_work(desk: Desk) -> None:
    pools = "prefill_workers,prefill_batch,prefill_tp,decode_workers,decode_batch,decode_tp"
    line = "H100-SXM,,,,,llama-3-8b,SGLang,,bf16,bf16,{},closed-loop concurrency,2048,256,{}"
    rows = desk.predict(
        f"{HEADER},{pools}",
        line.format(8, "1,1,1,1,,1"),
        line.format(256, "1,1,1,4,,1"),
        line.format(256, "8,1,1,4,,1"),
        line.format(8, "1,1,1,,,"),
    )
    easy, starved, fed, half = rows
    assert "decode pool is not described" in half["problem"]
    assert float(starved["pred_ttft_ms"]) > float(easy["pred_ttft_ms"])
    assert float(fed["pred_ttft_ms"]) < float(starved["pred_ttft_ms"])
    for row in (easy, starved, fed):
        rate = float(row["pred_decode_tok_s"]) / 256
        concurrency = float(row["batch_or_concurrency"])
        assert math.isclose(rate * float(row["pred_e2e_ms"]) / 1e3, concurrency, rel_tol=1e-3)


@pytest.mark.parametrize("text", ["\ufeff{}\n{}\n", "{}\r\n{}\r\n", "{}\n{}", "\n{}\n\n{}\n\n"])
def test_files_as_other_programs_write_them(desk: Desk, text: str) -> None:
    line = PLAIN.format(1, 64, 16)
    desk.source.write_bytes(text.format(HEADER, line).encode())
    assert desk.try_it().code == 0
    assert len(desk.read()) == 1


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("", "empty"),
        (f"{HEADER}\n", "no rows"),
        (f"{HEADER.replace('model', 'modell')}\nx\n", "column 'model' is missing"),
        (f"{HEADER}\n1,2,3\n", "line 2"),
        (f"{HEADER.replace(',', ';')}\n", "semicolons"),
        (f"{HEADER},batch\n{PLAIN.format(1, 2, 3)},1\n", "keep one"),
        (f"{HEADER},tp\n{PLAIN.format(1, 2, 3)},1\n", "twice"),
    ],
)
def test_a_table_that_is_none_changes_nothing(desk: Desk, text: str, about: str) -> None:
    desk.target.write_text("as it was")
    desk.source.write_text(text)
    said = desk.try_it()
    assert said.code == 2
    assert said.err.count("\n") == 1
    assert about in said.err
    assert desk.target.read_text() == "as it was"
    assert {path.name for path in desk.target.parent.iterdir()} <= {
        desk.target.name, desk.source.name,
    }  # fmt: skip


def test_a_fault_far_down_leaves_nothing_behind(desk: Desk) -> None:
    lines = [PLAIN.format(1, 64, 16)] * 300
    desk.source.write_text("\n".join([HEADER, *lines, "1,2,3"]) + "\n")
    said = desk.try_it()
    assert said.code == 2
    assert "line 302" in said.err
    assert not desk.target.exists()


def test_options_that_the_table_answers_are_refused(desk: Desk) -> None:
    desk.source.write_text(f"{HEADER}\n{PLAIN.format(1, 64, 16)}\n")
    said = desk.try_it("--model llama-3-8b")
    assert said.code == 2
    assert "--model" in said.err


def test_what_was_predicted_before_is_predicted_anew(desk: Desk) -> None:
    first = desk.predict(HEADER, PLAIN.format(8, 64, 16))
    desk.source.write_bytes(desk.target.read_bytes())
    desk.try_it()
    assert desk.read() == first


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-cmd", "@SUM(A1)", "\tx"])
def test_formulas_are_not_handed_to_spreadsheets(desk: Desk, text: str) -> None:
    assert harmless(text) == f"'{text}"
    lines = [f'{PLAIN.format(1, 64, 16)},"{text}"', f'{PLAIN.format(1, 64, 16)},"-3.5"']
    first, second = desk.predict(f"{HEADER},remark", *lines)
    assert first["remark"] == f"'{text}"
    assert second["remark"] == "-3.5"


def test_where_no_version_is_stated_the_generation_that_suits_is_taken(
    desk: Desk, own_rates: Path
) -> None:
    served = (own_rates / "RTX3090__vllm-v1.toml").read_text()
    static = served.replace('engine = "vllm-v1"', 'engine = "vllm-v0"')
    (own_rates / "RTX3090__vllm-v0.toml").write_text(static)
    (own_rates / "RTX3090__vllm-v1.toml").write_text(
        served.replace('arrivals = ["static"]', 'arrivals = ["closed_loop"]')
    )
    line = "RTX3090,1,1,1,,llama-2-7b,vLLM,{},fp16,fp16,4,{},128,32"
    rows = desk.predict(
        HEADER,
        line.format("", "static batch"),
        line.format("", "closed-loop concurrency"),
        line.format("0.9.0", "static batch"),
        line.format("0.7.1", "closed-loop concurrency"),
        options="",
    )
    engines = [row["pred_calibration"].partition("@")[0].partition("/")[2] for row in rows]
    assert engines == ["vllm-v0", "vllm-v1", "vllm-v1", "vllm-v0"]


@pytest.mark.parametrize("named", ["vLLM (Splitwise fork, 2023)", "vLLM 0.2.7", "vllm-2023"])
def test_a_generation_in_the_engines_name_is_the_one_taken(desk: Desk, named: str) -> None:
    asked = f'A100-SXM-80GB,8,8,1,,llama-2-70b,"{named}",,fp16,fp16,1,static batch,512,128'
    stated = "A100-SXM-80GB,8,8,1,,llama-2-70b,vLLM,0.2.7,fp16,fp16,1,static batch,512,128"
    by_name, by_version = desk.predict(HEADER, asked, stated, options="")
    assert by_name["pred_calibration"].startswith("A100-SXM-80GB/vllm-2023@")
    assert by_name["pred_tpot_ms"] == by_version["pred_tpot_ms"]
