"""Catches what a model hands to one of its layers, and times that call alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from profilers.cases import Case, Failure, Outcome, outcome
from profilers.measure import Bench, measure_together
from profilers.measurement import Measurement
from profilers.modelling import (
    attention_of,
    build_model,
    decoder_layers,
    make_config,
    shortened,
    token_ids,
)
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
            yield layer_outcome(case, measured, attention_of(model))
    benches.clear()
    del model
    bench.free()


def layer_outcome(case: Case, measured: dict[str, Measurement], attention: str) -> Outcome:
    """The first kind's time is the record's; further kinds of a hybrid model have their own."""
    kinds = list(measured)
    more = {
        f"latency_{kind.replace(', ', '_').replace(' ', '_')}_s": measured[kind].summary.median_s
        for kind in kinds[1:]
    }
    answer = outcome(
        case, measured[kinds[0]], notes={"layer_kind": kinds[0], "attention_used": attention}
    )
    metrics = {**answer.metrics, **more}
    return Outcome(
        case=case.id,
        metrics=metrics,
        samples=answer.samples,
        spread=answer.spread,
        flags=answer.flags,
        notes={**answer.notes, "layer_kinds": len(kinds)},
    )


Calls = dict[str, tuple[Callable[[], object], Callable[[], object]]]
"""For each kind of layer: the call, and what undoes its effect on the cache."""


def layer_calls(model: Any, case: Case, bench: Workbench) -> Calls:
    """What the model hands its layers in a prefill, or in a decode step after one."""
    batch = int(case.scenario.concurrency or 1)
    length = int(case.scenario.input_tokens or 1)
    prompt = token_ids(bench, batch, length, int(model.config.vocab_size))
    layers = decoder_layers(model)
    if case.case["phase"] == "prefill":
        caught = _catch(model, layers, prompt, None)
    else:
        filled = model(input_ids=prompt, use_cache=True, logits_to_keep=1).past_key_values
        caught = _catch(model, layers, prompt[:, -1:], filled)
    return {kind: _call(layer, caught[kind]) for kind, layer in layers}


class _Caught(NamedTuple):
    """Arguments of one layer's call, and its cache with the state it had just before."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    cache: Any
    state: tuple[dict[str, Any], list[dict[str, Any]]]


def _catch(
    model: Any, layers: list[tuple[str, Any]], tokens: Any, cache: Any
) -> dict[str, _Caught]:
    """Run the model once and keep what each layer was called with."""
    from transformers import Cache

    caught: dict[str, _Caught] = {}

    def watch(kind: str) -> Callable[[Any, tuple[Any, ...], dict[str, Any]], None]:
        def keep(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            values = (*args, *kwargs.values())
            used = next((value for value in values if isinstance(value, Cache)), None)
            state = _snapshot(used) if used is not None else ({}, [])
            caught[kind] = _Caught(args, dict(kwargs), used, state)

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


def _call(layer: Any, caught: _Caught) -> tuple[Callable[[], object], Callable[[], object]]:
    def reset() -> None:
        if caught.cache is not None:
            _restore(caught.cache, caught.state)

    return (lambda: layer(*caught.args, **caught.kwargs)), reset


def _snapshot(cache: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """References to what a cache holds. Updates put new tensors in place of old ones; recurrent
    states are overwritten, which changes no shape and so no time."""
    return _copied(cache), [_copied(layer) for layer in cache.layers]


def _copied(holder: Any) -> dict[str, Any]:
    values = dict(vars(holder))
    return {key: _shallow(value) for key, value in values.items() if key != "layers"}


def _shallow(value: Any) -> Any:
    return type(value)(value) if type(value) in (list, dict) else value


def _restore(cache: Any, state: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    own, layers = state
    vars(cache).update({key: _shallow(value) for key, value in own.items()})
    for layer, held in zip(cache.layers, layers, strict=False):
        vars(layer).clear()
        vars(layer).update({key: _shallow(value) for key, value in held.items()})
