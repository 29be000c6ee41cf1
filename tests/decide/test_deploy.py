"""A deployment says what the plan says: flags, devices, files, and rows that can be measured."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import msgspec
import pytest
import yaml

from analyzer import basis
from analyzer.errors import ConfigError
from analyzer.models_catalog import load
from analyzer.plan import Offload, Plan, Speculation
from analyzer.search import Found, Offer, Space, search
from analyzer.systems_catalog import load_system
from analyzer.workload import SLO
from calibration.corpus.perf_dir import read_perf_dir
from reports.deploy import LAUNCHERS, Served, launch
from reports.deploy_apart import pools
from reports.deploy_files import manifest, measurement_plan
from reports.search_files import write_deployment
from tests.decide.asked import question

SERVED = Served(
    load("deepseek-v3"),
    load_system("H200-SXM"),
    Plan(tp=8, ep=8, attention_dp=4, pp=2, weights="fp8-block", kv="fp8", chunk_tokens=4096),
    64,
    5000,
)


def flags(server: str, served: Served = SERVED) -> dict[str, str]:
    """Flags of a command with their values; '' where they have none."""
    words = launch(served, server).words
    found = {}
    for place, word in enumerate(words):
        if word.startswith("--"):
            following = words[place + 1] if place + 1 < len(words) else ""
            found[word] = "" if following.startswith("--") else following
    return found


def test_vllm_says_the_plan() -> None:
    found = flags("vllm")
    assert found["--tensor-parallel-size"] == "2"
    assert found["--data-parallel-size"] == "4"
    assert found["--pipeline-parallel-size"] == "2"
    assert "--enable-expert-parallel" in found
    assert found["--kv-cache-dtype"] == "fp8"
    assert found["--max-num-seqs"] == "64"
    assert found["--max-model-len"] == "5000"
    assert found["--max-num-batched-tokens"] == "4096"
    assert launch(SERVED, "vllm").words[2] == "deepseek-ai/DeepSeek-V3"


def test_the_others_say_it_in_their_words() -> None:
    sglang = flags("sglang")
    assert (sglang["--tp-size"], sglang["--dp-size"], sglang["--ep-size"]) == ("8", "4", "8")
    assert "--enable-dp-attention" in sglang
    assert sglang["--chunked-prefill-size"] == "4096"
    tensorrt = launch(SERVED, "tensorrt-llm")
    assert flags("tensorrt-llm")["--ep_size"] == "8"
    ((name, text),) = tensorrt.files
    assert name == "trtllm-options.yaml"
    options = yaml.safe_load(text)
    assert options["enable_attention_dp"] is True
    assert options["kv_cache_config"]["dtype"] == "fp8"


def test_drafts_offload_and_online_quantisation_have_flags() -> None:
    plan = Plan(
        weights="fp8",
        speculation=Speculation(tokens=3, acceptance=0.7),
        offload=Offload(weights_host=0.5),
    )
    served = Served(load("llama-3.1-8b"), load_system("RTX4090"), plan, 8, 2048)
    found = flags("vllm", served)
    assert found["--quantization"] == "fp8"
    assert '"num_speculative_tokens": 3' in found["--speculative-config"]
    assert float(found["--cpu-offload-gb"]) == pytest.approx(0.5 * 8.03, abs=0.06)


def test_what_a_flag_cannot_say_is_a_note() -> None:
    served = Served(
        load("llama-3.1-8b"), load_system("RTX4090"), Plan(weights="int4-awq-g128"), 8, 99
    )
    assert any("checkpoint in int4-awq-g128" in note for note in launch(served, "vllm").notes)
    with pytest.raises(ConfigError, match="did you mean"):
        launch(served, "vlm")


@pytest.mark.parametrize("server", LAUNCHERS)
def test_the_manifest_asks_for_the_devices_of_the_plan(server: str) -> None:
    documents = list(yaml.safe_load_all(manifest(SERVED, launch(SERVED, server))))
    kinds = [document["kind"] for document in documents]
    assert kinds == ["LeaderWorkerSet", "Service"], "sixteen devices are two nodes"
    group = documents[0]["spec"]["leaderWorkerTemplate"]
    assert group["size"] == 2
    (container,) = group["workerTemplate"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    one = SERVED._replace(plan=msgspec.structs.replace(SERVED.plan, pp=1, dp=3))
    deployed, service = yaml.safe_load_all(manifest(one, launch(one, server)))
    assert deployed["spec"]["replicas"] == 3
    (container,) = deployed["spec"]["template"]["spec"]["containers"]
    assert container["command"][: len(launch(one, server).words)] == list(launch(one, server).words)
    ports = container["ports"][0]["containerPort"]
    assert service["spec"]["ports"][0]["targetPort"] == ports
    labels = deployed["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels == deployed["spec"]["selector"]["matchLabels"]


@pytest.fixture(scope="module")
def found() -> Found:
    return search(question(slo=SLO(), space=Space(batch=(8, 32))))


def test_the_measurement_plan_can_be_filled_in_and_read(found: Found, tmp_path: Path) -> None:
    best = found.best()
    assert best is not None
    rows = list(csv.DictReader(io.StringIO(measurement_plan(found, best))))
    assert {row["model"] for row in rows} == {"llama-3-70b"}
    assert int(rows[0]["batch_or_concurrency"]) == found.columns.batch[best]
    for row in rows:
        row |= {"ttft_ms": "100", "tpot_ms": "20", "e2e_ms": "2000"}
    with (tmp_path / "measured.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    read = read_perf_dir(tmp_path).records
    assert len(read) == len(rows)
    scenario = read[0].scenario
    plan = found.plan(best)
    assert (scenario.tp, scenario.pp) == (plan.tp, plan.pp)
    assert scenario.arrival is not None
    assert scenario.arrival.kind == "closed_loop"


def test_a_deployment_is_a_folder_of_its_own(found: Found, tmp_path: Path) -> None:
    best = found.best()
    assert best is not None
    write_deployment(found, best, str(tmp_path / "out"))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"vllm.sh", "sglang.sh", "deployment.yaml", "measure.csv", "README.md"} <= names
    page = (tmp_path / "out" / "README.md").read_text()
    assert "uncalibrated" in page
    assert "vllm bench serve" in page


@pytest.fixture(scope="module")
def split() -> tuple[Found, int]:
    """The best plan whose prefill workers are apart."""
    found = search(question(slo=SLO(), space=Space(batch=(8, 32), disaggregated=True)))
    rows = [row for row in found.ranked(found.plans) if found.columns.prefill[row] >= 0]
    return found, rows[0]


def test_apart_both_kinds_of_servers_hand_over_the_cache(split: tuple[Found, int]) -> None:
    found, row = split
    one = found.row(row)
    reading, writing = pools(found, row)
    assert one.prefill_plan is not None
    assert reading.servers == one.prefill_workers * one.replicas
    assert writing.servers == one.decode_workers * one.replicas
    for pool, plan, role in (
        (reading, one.prefill_plan, "kv_producer"),
        (writing, one.plan, "kv_consumer"),
    ):
        words = pool.launch.words
        transfer = json.loads(words[words.index("--kv-transfer-config") + 1])
        assert transfer == {"kv_connector": "NixlConnector", "kv_role": role}
        assert words[words.index("--tensor-parallel-size") + 1] == str(plan.tp)


def test_apart_the_proxy_knows_every_server(split: tuple[Found, int], tmp_path: Path) -> None:
    found, row = split
    write_deployment(found, row, str(tmp_path))
    names = {path.name for path in tmp_path.iterdir()}
    assert {"vllm-prefill.sh", "vllm-decode.sh", "proxy.sh", "README.md"} <= names
    documents = list(yaml.safe_load_all((tmp_path / "deployment.yaml").read_text()))
    sets = {each["metadata"]["name"]: each for each in documents if each["kind"] == "StatefulSet"}
    services = {each["metadata"]["name"] for each in documents if each["kind"] == "Service"}
    (proxy,) = (each for each in documents if each["kind"] == "Deployment")
    told = proxy["spec"]["template"]["spec"]["containers"][0]["command"][-1]
    for pool in pools(found, row):
        name = f"llama-3-70b-{pool.role}"
        spec = sets[name]["spec"]
        assert spec["replicas"] == pool.servers
        assert spec["serviceName"] in services
        for number in range(pool.servers):
            assert f"{name}-{number}.{name}" in told
        (container,) = spec["template"]["spec"]["containers"]
        devices = pool.served.plan.tp * pool.served.plan.pp
        assert container["resources"]["limits"] == {"nvidia.com/gpu": devices}
        assert container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"


def test_apart_only_the_time_per_token_has_an_interval() -> None:
    """Decoding workers say nothing of prompts that others read."""
    system = load_system("H100-SXM")
    offers = (Offer(system, basis.calibrated(system, "vllm-v1", "closed_loop")),)
    space = Space(batch=(32,), tp=(4,), pp=(1,), disaggregated=True)
    found = search(question(offers=offers, slo=SLO(), space=space))
    row = next(row for row in found.ranked(found.plans) if found.columns.prefill[row] >= 0)
    answered = found.answer(row)
    assert found.interval(row, "ttft_s", answered) is None
    held = found.interval(row, "tpot_s", answered)
    assert held is not None
    assert held.low < found.columns.tpot_s[row] < held.high
