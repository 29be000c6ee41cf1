"""Catches what a model hands to one of its layers, and times that call alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from profilers.cases import Case, Failure, Outcome, outcome
from profilers.measure import Bench, measure_together
from profilers.measurement import Measurement
from profilers.modelling import build_model, decoder_layers, make_config, shortened, token_ids
from profilers.stopping import Rules
from profilers.worker import classify, failure

if TYPE_CHECKING:
    from profilers.workbench import Workbench


def measure_layers(
    cases: Sequence[Case], bench: Workbench, rules: Rules, seed: int
) -> Iterator[Outcome | Failure]:
    """A case's figure is the sum over the model's kinds of layer, each timed on its own."""
    first = cases[0]
    config = shortened(make_config(json.loads(str(first.case["config"]))))
    model = build_model(config, first.scenario.weight_precision, bench)
    benches: list[Bench] = []
    kinds: dict[str, dict[str, str]] = {}
    for case in cases:
        try:
            calls = layer_calls(model, case, bench)
        except (RuntimeError, MemoryError, NotImplementedError, TypeError, ValueError) as error:
            yield failure(case, error)
            if classify(error) == "crash":
                return
            continue
        kinds[case.id] = {}
        for kind, (run, reset) in calls.items():
            name = f"{case.id} {kind}"
            kinds[case.id][kind] = name
            benches.append(Bench(name=name, run=run, before=reset, cold=True))
    results = measure_together(benches, bench.kit, rules, seed) if benches else {}
    for case in cases:
        if case.id in kinds:
            measured = {kind: results[name] for kind, name in kinds[case.id].items()}
            yield layer_outcome(case, measured)
    benches.clear()
    del model
    bench.free()


def layer_outcome(case: Case, measured: dict[str, Measurement]) -> Outcome:
    """The first kind's time is the record's; further kinds of a hybrid model have their own."""
    kinds = list(measured)
    more = {
        f"latency_{kind.replace(', ', '_').replace(' ', '_')}_s": measured[kind].summary.median_s
        for kind in kinds[1:]
    }
    answer = outcome(case, measured[kinds[0]], notes={"layer_kind": kinds[0]})
    metrics = {**answer.metrics, **more}
    return Outcome(
        case=case.id,
        metrics=metrics,
        samples=answer.samples,
        spread=answer.spread,
        flags=answer.flags,
        notes={**answer.notes, "layer_kinds": len(kinds)},
    )


def layer_calls(
    model: Any, case: Case, bench: Workbench
) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """For each kind of layer: the call, and what undoes its effect on the cache."""
    from transformers import DynamicCache

    batch = int(case.scenario.concurrency or 1)
    length = int(case.scenario.input_tokens or 1)
    prompt = token_ids(bench, batch, length, int(model.config.vocab_size))
    cache = DynamicCache(config=model.config)
    layers = decoder_layers(model)
    if case.case["phase"] == "prefill":
        caught = _catch(model, layers, prompt, cache)
        empty = DynamicCache(config=model.config)
        return {kind: _call(layer, caught[kind], empty, cache) for kind, layer in layers}
    model(input_ids=prompt, past_key_values=cache, use_cache=True, logits_to_keep=1)
    before = _snapshot(cache)
    caught = _catch(model, layers, prompt[:, -1:], cache)
    _restore(cache, before)
    return {kind: _call(layer, caught[kind], cache, cache) for kind, layer in layers}


Caught = tuple[tuple[Any, ...], dict[str, Any]]


def _catch(model: Any, layers: list[tuple[str, Any]], tokens: Any, cache: Any) -> dict[str, Caught]:
    """Run the model once and keep what each layer was called with."""
    caught: dict[str, Caught] = {}

    def watch(kind: str) -> Callable[[Any, tuple[Any, ...], dict[str, Any]], None]:
        def keep(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            caught[kind] = (args, dict(kwargs))

        return keep

    hooks = [
        layer.register_forward_pre_hook(watch(kind), with_kwargs=True) for kind, layer in layers
    ]
    try:
        model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
    finally:
        for hook in hooks:
            hook.remove()
    return caught


def _call(
    layer: Any, caught: Caught, start: Any, caught_cache: Any
) -> tuple[Callable[[], object], Callable[[], object]]:
    """The layer's call on a cache in the state of `start`."""
    args, kwargs = caught
    kwargs = {key: start if value is caught_cache else value for key, value in kwargs.items()}
    state = _snapshot(start)
    return (lambda: layer(*args, **kwargs)), (lambda: _restore(start, state))


def _snapshot(cache: Any) -> list[dict[str, Any]]:
    """References to what every layer of the cache holds; updates replace tensors, never edit."""
    return [dict(vars(layer)) for layer in cache.layers]


def _restore(cache: Any, state: list[dict[str, Any]]) -> None:
    for layer, held in zip(cache.layers, state, strict=True):
        vars(layer).clear()
        vars(layer).update(held)
