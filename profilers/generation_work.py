"""Runs whole generations and times their parts on the host's clock."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from analyzer.records import Flag
from profilers.cases import Case, Failure, Outcome, measurement_notes, quality_flags, rounded
from profilers.device import CpuDevice
from profilers.measure import Bench, measure_together
from profilers.measurement import Measurement
from profilers.modelling import attention_of, build_model, make_config, token_ids
from profilers.stats import summarise
from profilers.stopping import Rules
from profilers.worker import failure

if TYPE_CHECKING:
    from profilers.workbench import Workbench

WARM_TOKENS = 3
CAPTURE_ROOM = 4
"""Steps that capturing a graph takes before the cache is reset."""
ENERGY_WINDOW_S = 1.0
"""NVML's energy counter moves about ten times a second: shorter runs tell nothing."""


class Generator:
    """One model, one prompt batch, one output length; every call is a complete generation."""

    def __init__(self, model: Any, case: Case, bench: Workbench) -> None:
        scenario = case.scenario
        self._model, self._bench = model, bench
        self._output = int(scenario.output_tokens or 1)
        batch, prompt = int(scenario.concurrency or 1), int(scenario.input_tokens or 1)
        self._prompt = token_ids(bench, batch, prompt, int(model.config.vocab_size))
        self._static = case.case["cache"] == "static"
        self._cache: Any = None
        self._graph: Any = None
        self._parts: dict[str, float] = {}
        if self._static:
            self._prepare_static(prompt + self._output)

    def warm(self) -> float:
        """Seconds of a shortened run, which finds kernels and allocates what later runs reuse."""
        whole, self._output = self._output, min(self._output, WARM_TOKENS)
        try:
            self.run()
        finally:
            self._output = whole
        return self._parts["e2e_s"]

    def run(self) -> None:
        """Prefill, then one token at a time; each token is on the host before the next begins."""
        now = self._bench.clock.now
        cache = self._fresh_cache()
        start = now()
        token, cache = self._forward(self._prompt, cache)
        token.cpu()
        first = now()
        step = self._replay if self._graph is not None else self._forward
        for _ in range(self._output - 1):
            token, cache = step(token, cache)
            token.cpu()
        end = now()
        self._parts = {"ttft_s": first - start, "e2e_s": end - start}
        if self._output > 1:
            self._parts["tpot_s"] = (end - first) / (self._output - 1)

    def parts(self) -> dict[str, float]:
        """Seconds of the last run."""
        return dict(self._parts)

    @property
    def is_graphed(self) -> bool:
        return self._graph is not None

    def _forward(self, tokens: Any, cache: Any) -> tuple[Any, Any]:
        """(next tokens, cache); without a cache the model makes the kind that it needs."""
        out = self._model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1:].argmax(dim=-1), out.past_key_values

    def _fresh_cache(self) -> Any:
        if self._static:
            self._cache.reset()
            return self._cache
        return None

    def _prepare_static(self, length: int) -> None:
        """Allocate the cache once and, on a GPU, capture one decode step."""
        from transformers import StaticCache

        self._cache = StaticCache(config=self._model.config, max_cache_len=length + CAPTURE_ROOM)
        token, _ = self._forward(self._prompt, self._cache)
        if self._bench.is_cpu or self._output < 2:
            return
        from profilers.cuda import captured

        self._fed = token.clone()

        def step() -> None:
            self._drawn, _ = self._forward(self._fed, self._cache)

        self._graph = captured(step)

    def _replay(self, token: Any, cache: Any) -> tuple[Any, Any]:
        self._fed.copy_(token)
        self._graph()
        return self._drawn, cache


def measure_generations(
    cases: Sequence[Case], bench: Workbench, rules: Rules, seed: int
) -> Iterator[Outcome | Failure]:
    """Cases of one batch share a model. On a CPU they take random turns; on a GPU, whose memory
    the caches of all would fill, one follows the other."""
    first = cases[0]
    config = make_config(json.loads(str(first.case["config"])))
    model = build_model(config, first.scenario.weight_precision, bench)
    for turn in [cases] if bench.is_cpu else [[case] for case in cases]:
        for reply in _measure_together(model, turn, bench, rules, seed):
            yield reply
            if isinstance(reply, Failure) and reply.code == "crash":
                return
        bench.free()
    del model
    bench.free()


def _measure_together(
    model: Any, cases: Sequence[Case], bench: Workbench, rules: Rules, seed: int
) -> Iterator[Outcome | Failure]:
    generators: dict[str, Generator] = {}
    warm_s: dict[str, float] = {}
    for case in cases:
        try:
            generator = Generator(model, case, bench)
            warm_s[case.id] = generator.warm()
            generators[case.id] = generator
        except (RuntimeError, MemoryError, NotImplementedError, TypeError, ValueError) as error:
            yield failure(case, error)
    kit = replace(bench.kit, device=CpuDevice(bench.clock))
    benches = [
        Bench(
            name=name,
            run=made.run,
            details=made.parts,
            cuda_graph=made.is_graphed,
            first_s=warm_s[name],
        )
        for name, made in generators.items()
    ]
    results = measure_together(benches, kit, rules, seed) if benches else {}
    by_id = {case.id: case for case in cases}
    for name, measured in results.items():
        yield generation_outcome(by_id[name], measured, attention_of(model))


def generation_outcome(case: Case, measured: Measurement, attention: str) -> Outcome:
    """TTFT, TPOT and E2E with their own samples and spread; energy where runs were long enough."""
    metrics, samples, spread = {}, {}, {}
    for name, values in measured.details_s.items():
        summary = summarise(values)
        metrics[name] = summary.median_s
        samples[name] = tuple(rounded(value) for value in values)
        spread[name] = {
            "sd": summary.stdev_s,
            "mad": summary.mad_s,
            "p10": summary.p10_s,
            "p90": summary.p90_s,
            "ci_low": summary.ci_low_s,
            "ci_high": summary.ci_high_s,
        }
    energy = measured.telemetry.get("block_energy_J")
    tokens = float(case.scenario.concurrency or 1) * float(case.scenario.output_tokens or 1)
    if energy is not None and measured.summary.median_s >= ENERGY_WINDOW_S:
        metrics["energy_J_per_token"] = energy.mean / tokens
    return Outcome(
        case=case.id,
        metrics=metrics,
        samples=samples,
        spread=spread,
        flags=(*quality_flags(measured), *_noise_flags(measured)),
        notes={**measurement_notes(measured), "attention_used": attention},
    )


def _noise_flags(measured: Measurement) -> Iterator[Flag]:
    """A part may be noisier than the whole run: the first token of a long generation is."""
    for name, values in measured.details_s.items():
        half_width = summarise(values).half_width
        if half_width > NOISY_PART:
            reason = f"median known to ±{100 * half_width:.2g} %"
            yield Flag(code="noisy", reason=reason, metrics=(name,))


NOISY_PART = 0.05
