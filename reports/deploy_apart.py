"""Prefill and decoding on servers of their own: vLLM with its NIXL connector and a proxy.

Flags and environment are those of vLLM's NixlConnector guide: every server gets the same transfer
configuration and a side channel for the handshake; a proxy sends each prompt to a prefill server
and its answer to a decoding one. vLLM's own example proxy stands in for the router of llm-d or
Dynamo. A StatefulSet gives each server the fixed name that the proxy has to be told.
"""

from __future__ import annotations

import json
import shlex
from typing import NamedTuple

import msgspec

from analyzer.errors import ConfigError
from analyzer.search import Found
from reports.deploy import Launch, Served, launch
from reports.deploy_files import PORTS, container, indented, manifest_name, served_of, service

SIDE_CHANNEL = 5600
PROXY = "tests/v1/kv_connector/nixl_integration/toy_proxy_server.py"
PROXY_PORT = 8192
SAME = (
    "both kinds of servers need the same vLLM version, attention backend and cache format "
    "(vLLM's NixlConnector compatibility matrix lists what may differ)"
)


class Pool(NamedTuple):
    """Servers of one kind."""

    role: str
    """'prefill' or 'decode'."""
    served: Served
    servers: int
    launch: Launch


def pools(found: Found, row: int) -> tuple[Pool, Pool]:
    """The two kinds of servers of one disaggregated plan."""
    one, split = found.row(row), int(found.columns.prefill[row])
    decoding = served_of(found, row)
    if one.prefill_plan is None:
        raise ConfigError(f"row {row} has no prefill workers of its own")
    reading = decoding._replace(
        plan=msgspec.structs.replace(one.prefill_plan, dp=1),
        sequences=int(found.prefill.prompts[split]),
    )
    decoding = decoding._replace(plan=msgspec.structs.replace(decoding.plan, dp=1))
    return (
        _pool("prefill", "kv_producer", reading, one.prefill_workers * one.replicas),
        _pool("decode", "kv_consumer", decoding, one.decode_workers * one.replicas),
    )


def _pool(role: str, kv_role: str, served: Served, servers: int) -> Pool:
    plain = launch(served, "vllm")
    words = list(plain.words)
    if role == "prefill":
        # A step takes as many whole prompts as the plan has them together.
        place = words.index("--max-num-batched-tokens") + 1
        if served.plan.chunk_tokens is None:
            words[place] = str(served.sequences * served.max_tokens)
    transfer = {"kv_connector": "NixlConnector", "kv_role": kv_role}
    words += ["--kv-transfer-config", json.dumps(transfer)]
    return Pool(role, served, servers, plain._replace(words=tuple(words)))


def plural(count: int, what: str) -> str:
    """'1 server', '2 servers'."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def scripts(both: tuple[Pool, Pool]) -> dict[str, str]:
    """A script to start one server of each kind, and the proxy before them."""
    files = {}
    for pool in both:
        notes = "".join(f"# {note}\n" for note in (*pool.launch.notes, SAME))
        files[f"vllm-{pool.role}.sh"] = (
            f"#!/bin/sh\n# One of {plural(pool.servers, pool.role + ' server')}, each on "
            f"{pool.served.plan.tp * pool.served.plan.pp} {pool.served.system.name} of its own.\n"
            f"{notes}"
            "# An address at which the other kind reaches this machine:\n"
            'export VLLM_NIXL_SIDE_CHANNEL_HOST="${1:?this machine\'s address}"\n'
            f"export VLLM_NIXL_SIDE_CHANNEL_PORT={SIDE_CHANNEL}\n"
            f"exec {pool.launch.line} --host 0.0.0.0 --port {PORTS['vllm']}\n"
        )
    files["proxy.sh"] = (
        "#!/bin/sh\n# In a checkout of vLLM; PREFILL and DECODE hold the servers' addresses.\n"
        f"exec python {PROXY} --port {PROXY_PORT} "
        "--prefiller-hosts ${PREFILL:?} --prefiller-ports "
        f"{' '.join([str(PORTS['vllm'])] * both[0].servers)} "
        "--decoder-hosts ${DECODE:?} --decoder-ports "
        f"{' '.join([str(PORTS['vllm'])] * both[1].servers)}\n"
    )
    return files


def fits_nodes(both: tuple[Pool, Pool]) -> bool:
    """Whether every server has room on one node."""
    return all(
        pool.served.plan.tp * pool.served.plan.pp <= pool.served.system.devices_per_node
        for pool in both
    )


def manifest(both: tuple[Pool, Pool]) -> str:
    """A StatefulSet and a headless Service per kind; the proxy and its Service."""
    name = manifest_name(both[0].served.model.name)
    parts = [_proxy(name, both), service(name, PROXY_PORT, app=f"{name}-proxy")]
    for pool in both:
        own = f"{name}-{pool.role}"
        parts += [_stateful(own, pool), service(own, PORTS["vllm"], headless=True)]
    return "---\n".join(parts)


def _stateful(name: str, pool: Pool) -> str:
    served = pool.served
    devices = int(served.plan.tp * served.plan.pp)
    environment = (
        "  env:\n  - name: VLLM_NIXL_SIDE_CHANNEL_HOST\n    valueFrom:\n      fieldRef:\n"
        "        fieldPath: status.podIP\n  - name: VLLM_NIXL_SIDE_CHANNEL_PORT\n"
        f'    value: "{SIDE_CHANNEL}"\n'
    )
    body = container(served, pool.launch, name, devices, 1, environment)
    return (
        f"apiVersion: apps/v1\nkind: StatefulSet\nmetadata:\n  name: {name}\nspec:\n"
        f"  serviceName: {name}\n  replicas: {pool.servers}\n  podManagementPolicy: Parallel\n"
        f"  selector:\n    matchLabels:\n      app: {name}\n  template:\n    metadata:\n"
        f"      labels:\n        app: {name}\n    spec:\n{indented(body, 6)}\n"
    )


def _proxy(name: str, both: tuple[Pool, Pool]) -> str:
    """The example proxy of vLLM's repository, told every server's name."""
    hosts = {
        pool.role: " ".join(
            f"{name}-{pool.role}-{n}.{name}-{pool.role}" for n in range(pool.servers)
        )
        for pool in both
    }
    ports = {pool.role: " ".join([str(PORTS["vllm"])] * pool.servers) for pool in both}
    line = (
        f"python {PROXY} --host 0.0.0.0 --port {PROXY_PORT} "
        f"--prefiller-hosts {hosts['prefill']} --prefiller-ports {ports['prefill']} "
        f"--decoder-hosts {hosts['decode']} --decoder-ports {ports['decode']}"
    )
    command = (
        f"git clone --depth 1 https://github.com/vllm-project/vllm /vllm && cd /vllm && {line}"
    )
    return (
        f"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}-proxy\nspec:\n"
        f"  replicas: 1\n  selector:\n    matchLabels:\n      app: {name}-proxy\n  template:\n"
        f"    metadata:\n      labels:\n        app: {name}-proxy\n    spec:\n      containers:\n"
        "      - name: proxy\n        image: vllm/vllm-openai:latest\n        command:\n"
        f"        - sh\n        - -c\n        - {shlex.quote(command)}\n        ports:\n"
        f"        - containerPort: {PROXY_PORT}\n"
    )
