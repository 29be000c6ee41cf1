"""Files of a deployment: a manifest for Kubernetes, and the measurements that would confirm it."""

from __future__ import annotations

import csv
import io
import math
import re

from analyzer.search import Found, Row
from calibration.candidates import COLUMNS
from reports.deploy import Launch, Served, hub_id

IMAGES = {
    "vllm": "vllm/vllm-openai:latest",
    "sglang": "lmsysorg/sglang:latest",
    "tensorrt-llm": "nvcr.io/nvidia/tensorrt-llm/release:latest",
}
PORTS = {"vllm": 8000, "sglang": 30000, "tensorrt-llm": 8000}
RESOURCES = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "intel": "habana.ai/gaudi"}
_WORDS = {"closed_loop": "closed-loop concurrency", "static": "static batch"}
POINTS = (1.0, 0.5, 0.25)
"""Shares of the plan's concurrency that are measured to confirm it."""


def served_of(found: Found, row: int) -> Served:
    """What a server must know of one plan of a search."""
    asked = found.question
    return Served(
        asked.model,
        found.system(row),
        found.plan(row),
        max(int(found.columns.batch[row] / found.columns.decode_workers[row]), 1),
        asked.input_tokens + asked.output_tokens,
    )


def manifest(served: Served, launch: Launch) -> str:
    """A Deployment and its Service; of replicas that span nodes, a LeaderWorkerSet."""
    name = manifest_name(served.model.name)
    devices = int(served.plan.tp * served.plan.pp)
    per_node = min(devices, served.system.devices_per_node)
    nodes = math.ceil(devices / per_node)
    port = PORTS[launch.server]
    body = container(served, launch, name, per_node, nodes)
    kind = (
        _several(name, served.plan.dp, nodes, body)
        if nodes > 1
        else _one(name, served.plan.dp, body)
    )
    return f"{kind}---\n{service(name, port)}"


def manifest_name(text: str) -> str:
    """A name that Kubernetes takes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:50] or "model"


def container(
    served: Served, launch: Launch, name: str, per_node: int, nodes: int, environment: str = ""
) -> str:
    """The pod's one container and its volumes."""
    vendor = served.system.device.vendor.lower()
    resource = RESOURCES.get(vendor, f"{vendor or 'vendor'}.com/accelerator")
    words = [*launch.words]
    if launch.server == "vllm" and nodes > 1:
        words += ["--nnodes", str(nodes), "--node-rank", "$(LWS_WORKER_INDEX)"]
        words += ["--master-addr", "$(LWS_LEADER_ADDRESS)"]
    words += ["--host", "0.0.0.0"]  # noqa: S104  # inside of its pod
    listed = "\n".join(f"- {_quoted(word)}" for word in words)
    port = PORTS[launch.server]
    return (
        f"containers:\n- name: {name}\n  image: {IMAGES[launch.server]}\n  command:\n"
        f"{indented(listed, 2)}\n{environment}  ports:\n  - containerPort: {port}\n"
        f"  resources:\n    limits:\n      {resource}: {per_node}\n"
        "  volumeMounts:\n  - name: shm\n    mountPath: /dev/shm\n"
        f"  readinessProbe:\n    httpGet:\n      path: /health\n      port: {port}\n"
        "    periodSeconds: 10\n    failureThreshold: 180\n"
        "volumes:\n- name: shm\n  emptyDir:\n    medium: Memory\n"
    )


def _quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def indented(text: str, spaces: int) -> str:
    """Every line further in."""
    return "\n".join(f"{' ' * spaces}{line}" if line else line for line in text.splitlines())


def _one(name: str, replicas: int, body: str) -> str:
    return (
        f"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\nspec:\n"
        f"  replicas: {replicas}\n  selector:\n    matchLabels:\n      app: {name}\n  template:\n"
        f"    metadata:\n      labels:\n        app: {name}\n    spec:\n{indented(body, 6)}\n"
    )


def _several(name: str, replicas: int, nodes: int, body: str) -> str:
    return (
        "apiVersion: leaderworkerset.x-k8s.io/v1\nkind: LeaderWorkerSet\nmetadata:\n"
        f"  name: {name}\nspec:\n  replicas: {replicas}\n  leaderWorkerTemplate:\n"
        f"    size: {nodes}\n    workerTemplate:\n      metadata:\n        labels:\n"
        f"          app: {name}\n      spec:\n{indented(body, 8)}\n"
    )


def service(name: str, port: int, app: str = "", headless: bool = False) -> str:
    """A Service; a headless one gives every pod of a StatefulSet a name of its own."""
    own, outer = ("  clusterIP: None\n", port) if headless else ("", 80)
    return (
        f"apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n{own}  selector:\n"
        f"    app: {app or name}\n  ports:\n  - port: {outer}\n    targetPort: {port}\n"
    )


def measurement_plan(found: Found, row: int) -> str:
    """Rows as `calibrate --suggest` writes them: the plan at its load, and below it."""
    asked, plan = found.question, found.plan(row)
    columns = (*COLUMNS, "attention_dp") if plan.attention_dp > 1 else COLUMNS
    rows = []
    batches = {max(round(found.columns.batch[row] * share), 1) for share in POINTS}
    for batch in sorted(batches, reverse=True):
        known = {
            "hardware": found.system(row).name,
            "gpus": plan.tp * plan.pp,
            "tp": plan.tp // plan.attention_dp,
            "pp": plan.pp,
            "ep": plan.ep if plan.ep > 1 else "",
            "attention_dp": plan.attention_dp,
            "model": asked.model.name,
            "engine": plan.engine,
            "weight_precision": plan.weights,
            "kv_precision": plan.kv,
            "batch_or_concurrency": batch,
            "arrival": _WORDS[asked.arrival],
            "input_tokens": asked.input_tokens,
            "output_tokens": asked.output_tokens,
        }
        rows.append({name: known.get(name, "") for name in columns})
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def benchmark_line(found: Found, row: Row) -> str:
    """How vLLM's own load generator would measure the plan's point."""
    asked = found.question
    batch = int(row.batch)
    return (
        f"vllm bench serve --model {hub_id(asked.model)} --dataset-name random "
        f"--random-input-len {asked.input_tokens} --random-output-len {asked.output_tokens} "
        f"--max-concurrency {batch} --num-prompts {max(8 * batch, 64)} --ignore-eos"
    )
