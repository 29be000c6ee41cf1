"""Folders of measurements are read as they are, and nothing in them vanishes in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.errors import ConfigError, DataError, InputError, nearest
from calibration.corpus import Reader, read_perf_dir
from corpus.trial import outcome

HERE = {"hardware": "RTX3090", "model": "meta-llama/Llama-2-7b-hf"}
CHAT = (
    "conversation_id,input_tokens,output_tokens,E2E,TTFT,TPOT,n_runs_total,n_runs_used,"
    "e2e_p25,e2e_p75,input_text"
)
SHORT = "conversation_id,input_tokens,output_tokens,E2E,TTFT,TPOT,n_runs_total,n_runs_used"


def _chat_row(number: int, length: int, text: str = "hello") -> str:
    ttft, tpot = 15 + 0.2 * length, 18.6 + 0.001 * length
    e2e = ttft + 199 * tpot
    return f'c{number},{length},200.0,{e2e:.3f},{ttft:.3f},{tpot:.6f},5,5,{e2e},{e2e},"{text}"'


def _folder(tmp_path: Path, name: str = "3090-tp2-llama2-7b") -> Path:
    folder = tmp_path / name
    folder.mkdir()
    return folder


def _chat(folder: Path, *rows: str, header: str = CHAT, name: str = "chat.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_chat_files_are_read_as_they_are(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    _chat(folder, _chat_row(1, 24, 'two\nlines, "quoted"'.replace('"', '""')), _chat_row(2, 900))
    found = read_perf_dir(folder, HERE)
    first, second = found.records
    assert first.scenario.input_tokens == 24
    assert first.scenario.tp == 2, "from the folder's name"
    assert "tp = 2 from the folder's name" in found.assumed[0]
    assert second.metrics["ttft_s"] == pytest.approx(0.195)
    assert second.repeats == 5
    assert second.spread["e2e_s"]["p25"] == pytest.approx(second.metrics["e2e_s"], rel=1e-6)
    assert second.case == {"conversation_id": "c2", "n_runs_total": 5.0}
    assert "hello" not in repr(found.records), "prompts are other people's words"


def test_the_variant_without_spread_and_text_reads_alike(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    rows = [",".join(_chat_row(i, 100 * i).split(",")[:8]) for i in (1, 2, 3)]
    _chat(folder, *rows, header=SHORT, name="chat-vllm.csv")
    assert len(read_perf_dir(folder, {**HERE, "tp": 1}).records) == 3


def test_simulated_files_are_not_taken_for_measured_ones(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    _chat(folder, _chat_row(1, 24))
    simulated = "Request_ID,Model,Batch,Input_Tokens,TTFT(ms),TPOT(ms),E2E(ms)"
    _chat(folder, "0,llama,1,24,20,18,3000", header=simulated, name="chat-sim.csv")
    found = read_perf_dir(folder, HERE)
    assert len(found.records) == 1
    assert [Path(skipped.path).name for skipped in found.skipped] == ["chat-sim.csv"]
    assert "mapping.toml" in found.skipped[0].reason


def test_any_table_is_read_with_a_small_mapping(tmp_path: Path) -> None:
    folder = _folder(tmp_path, "mine")
    _chat(folder, "128;64;4;250,5".replace(",", "."), header="isl;osl;bs;tps", name="runs.csv")
    (folder / "mapping.toml").write_text(
        """
        title = "my runs"
        delimiter = ";"
        [constants]
        engine = "vLLM"
        tp = 1
        arrival = "static batch"
        [columns]
        isl = { field = "input_tokens" }
        osl = { field = "output_tokens" }
        bs = { field = "concurrency" }
        tps = { field = "throughput", unit = "tok/s", counts = "output", over = "request" }
        """
    )
    (record,) = read_perf_dir(folder, HERE).records
    assert record.metrics["e2e_s"] == pytest.approx(4 * 64 / 250.5)
    assert record.provenance.source == "my runs"
    assert record.scenario.hardware == "RTX3090"


def test_the_corpus_own_columns_need_no_mapping(tmp_path: Path) -> None:
    folder = _folder(tmp_path, "mine")
    header = (
        "hardware,model,engine,tp,batch_or_concurrency,arrival,input_tokens,output_tokens,ttft_ms"
    )
    _chat(folder, "H20,qwen,SGLang,1,4,static batch,128,64,31.5", header=header, name="runs.csv")
    _chat(folder, "H20,1,2", header="hardware,ttft_ms,pred_ttft_ms", name="predictions.csv")
    found = read_perf_dir(folder)
    (record,) = found.records
    assert [skipped.reason for skipped in found.skipped] == ["it holds predictions"]
    assert (record.scenario.hardware, record.metrics["ttft_s"]) == ("H20", 0.0315)


ROW = _chat_row(1, 24)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (CHAT.replace("TTFT", "first") + "\n" + ROW, "it lacks 'TTFT'"),
        (CHAT.replace("input_tokens", "input_tokans") + "\n" + ROW, "(did you mean input_tokans"),
        ("", "the file is empty"),
        (CHAT + "\n", "no rows"),
        (CHAT.replace(",", ";") + "\n" + ROW.replace(",", ";"), "semicolons"),
        (CHAT + "\n" + ROW.replace("c1,24", "c1,many"), "column 'input_tokens': 'many' is not a"),
        (
            CHAT + "\n" + ROW.replace("c1,24", "c1,NaN"),
            "column 'input_tokens': 'NaN' is not a fini",
        ),
        (CHAT + "\n" + ROW.replace("c1,24", "c1,-24"), "-24 is below 0"),
        (CHAT + "\n" + ROW.replace("19.800", "-19.8"), "column 'TTFT': -19.8 is not above 0"),
        (CHAT + "\n" + ROW.replace("19.800", "0"), "column 'TTFT': 0 is not above 0"),
        (CHAT + "\n" + ROW.replace("19.800", '"19,8"'), "write the decimal mark as a point"),
        (CHAT + "\n" + ROW + "\n" + ROW, "line 3 repeats line 2"),
        (CHAT + "\n" + ROW + ",x", "12 cells where the header has 11"),
        (CHAT + "\n" + 'c2,,,,,,,,,,""', "no figure in the whole row"),
        (
            CHAT.replace("input_text", "speed") + "\n" + ROW,
            "nothing says what column 'speed' holds",
        ),
    ],
)
def test_bad_files_name_file_row_column_and_remedy(tmp_path: Path, content: str, says: str) -> None:
    path = _folder(tmp_path) / "chat.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_perf_dir(path.parent, HERE)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_byte_order_mark_and_crlf_change_nothing(tmp_path: Path) -> None:
    plain, odd = _folder(tmp_path, "a-tp1"), _folder(tmp_path, "b-tp1")
    text = "\n".join([CHAT, _chat_row(1, 24), _chat_row(2, 50)]) + "\n"
    (plain / "chat.csv").write_text(text)
    (odd / "chat.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    pairs = zip(read_perf_dir(plain, HERE).records, read_perf_dir(odd, HERE).records, strict=True)
    assert all(a.metrics == b.metrics and a.scenario == b.scenario for a, b in pairs)


def test_unknown_systems_and_models_are_named_with_their_row(tmp_path: Path) -> None:
    def check(name: str) -> None:
        if name != "RTX3090":
            raise ConfigError(f"unknown system '{name}'{nearest(name, ['RTX3090', 'RTX4090'])}")

    folder = _folder(tmp_path)
    _chat(folder, ROW)
    with pytest.raises(DataError, match=r"line 2, column 'hardware': unknown system 'RTX3900' \("):
        read_perf_dir(folder, {**HERE, "hardware": "RTX3900"}, Reader(check_hardware=check))
    assert read_perf_dir(folder, HERE, Reader(check_hardware=check)).records


@pytest.mark.parametrize(
    ("constants", "says"),
    [
        ({"model": "x"}, "not every row gives the hardware"),
        ({**HERE, "arrival": "sometimes"}, "arrival 'sometimes' is not known"),
        ({**HERE, "tp": 0}, "constant 'tp'"),
        ({**HERE, "ttft_ms": 3}, "'ttft_ms' cannot be a constant"),
        ({**HERE, "hardwear": "x"}, "did you mean hardware"),
    ],
)
def test_wrong_constants_are_named(tmp_path: Path, constants: dict[str, object], says: str) -> None:
    folder = _folder(tmp_path)
    _chat(folder, ROW)
    with pytest.raises(InputError) as caught:
        read_perf_dir(folder, constants)  # type: ignore[arg-type]
    assert says in str(caught.value)


def test_empty_and_absent_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no CSV file"):
        read_perf_dir(tmp_path, HERE)
    with pytest.raises(DataError, match="no such file or folder"):
        read_perf_dir(tmp_path / "absent", HERE)


def test_a_mapping_with_a_wrong_key_names_the_right_one(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    _chat(folder, ROW)
    (folder / "mapping.toml").write_text('[columns.E2E]\nfeild = "e2e_s"\n')
    with pytest.raises(
        ConfigError, match=r"columns\.E2E: unknown key 'feild' \(did you mean field"
    ):
        read_perf_dir(folder, HERE)


CELL = st.sampled_from(["24", "200", "3700.5", "", "nan", "-1", "x", "1e400", '"a\nb"', "é", "0"])


@settings(max_examples=200)
@given(rows=st.lists(st.lists(CELL, min_size=8, max_size=9), min_size=0, max_size=4))
def test_any_rows_are_read_or_refused_and_none_is_lost(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    _chat(folder, *(",".join(row) for row in rows), header=SHORT)
    found = outcome(lambda: read_perf_dir(folder, HERE))
    if isinstance(found, InputError):
        assert str(folder) in str(found)
    else:
        assert len(found.records) == len(rows)


@settings(max_examples=200)
@given(content=st.binary(max_size=200), header=st.booleans())
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, header: bool
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "chat.csv").write_bytes((SHORT.encode() + b"\n" if header else b"") + content)
    found = outcome(lambda: read_perf_dir(folder, HERE))
    assert isinstance(found, InputError) or found.records
