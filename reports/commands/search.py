"""The best plan for a model under a promise and a budget, and why the others lost.

  plumbline search --model llama-3-70b --system H100-SXM,H200-SXM --devices 8 \\
                   --input 4000 --output 500 --ttft-ms 1000 --tpot-ms 30
  plumbline search --offload --model llama-3.1-70b --system RTX4090 --prompt-len 512 --gen-len 32

Every legal tp, pp, ep and attention-DP of every system is predicted with every batch; what else may
vary is a list. With --offload: FlexGen-like policies for a model that does not fit the device.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from analyzer.errors import ConfigError
from analyzer.models_catalog import load as load_model
from reports.commands import search_offload
from reports.commands.options import basis_of, declare_basis, engine_of, system_of
from reports.commands.search_offload import MEANT_FOR_OFFLOAD
from reports.commands.sweep_axes import axis

if TYPE_CHECKING:
    from analyzer.plan import Speculation
    from analyzer.search import Found, Question, Space
    from analyzer.workload import SLO

_LISTS = ("tp", "pp", "ep", "attention-dp")


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--model", help="catalog name, hub id, or a config.json")
    parser.add_argument("--system", metavar="LIST", help="catalog names or .toml files")
    _declare_load(parser)
    _declare_limits(parser)
    _declare_space(parser)
    declare_basis(parser)
    _declare_output(parser)
    search_offload.declare(parser.add_argument_group("offload policies"))


def _declare_load(parser: ArgumentParser) -> None:
    work = parser.add_argument_group("work")
    work.add_argument(
        "--use-case", metavar="NAME", help="chat, rag, code, ... give lengths and SLO"
    )
    work.add_argument("--input", type=int, metavar="TOKENS", help="prompt tokens (1024)")
    work.add_argument("--output", type=int, metavar="TOKENS", help="answer tokens (128)")
    work.add_argument("--beams", type=int, metavar="N", help="beams of every prompt (1)")
    work.add_argument("--cached", type=int, metavar="TOKENS", help="prefix hit (0)")
    work.add_argument(
        "--arrival",
        choices=("closed_loop", "static"),
        default="closed_loop",
        help="requests in flight at all times, or batches that start together",
    )
    work.add_argument("--rate", type=float, metavar="PER_S", help="requests per second to serve")
    work.add_argument("--engine", default="vllm", help="vllm (unless said), tensorrt-llm, sglang")


def _declare_limits(parser: ArgumentParser) -> None:
    promise = parser.add_argument_group("promise")
    for name in ("ttft", "tpot", "e2e"):
        promise.add_argument(f"--{name}-ms", type=float, metavar="MS")
    promise.add_argument("--surely", action="store_true", help="at the interval's upper end too")
    budget = parser.add_argument_group("budget")
    budget.add_argument("--devices", type=int, metavar="N", help="of all replicas (one node)")
    budget.add_argument("--usd-per-hour", type=float, metavar="USD")
    budget.add_argument("--power-kw", type=float, metavar="KW")
    budget.add_argument(
        "--objective",
        default="device",
        metavar="NAME",
        help="device, dollar, joule (most tokens per each), user, fewest",
    )


def _declare_space(parser: ArgumentParser) -> None:
    space = parser.add_argument_group("what may vary (lists: 1,2,4 or 1:64)")
    for name in _LISTS:
        space.add_argument(f"--{name}", metavar="LIST", help="every legal power of two")
    space.add_argument("--batch", metavar="LIST", help="sequences of a replica (1 to 1024)")
    space.add_argument("--weights", default="", metavar="FORMATS", help="the model's own")
    space.add_argument("--kv", default="", metavar="FORMATS", help="the engine's habit")
    space.add_argument("--chunk", metavar="LIST", help="prompt tokens per step; 0: whole prompts")
    space.add_argument("--spec-tokens", metavar="LIST", help="tokens drafted per step; 0: none")
    space.add_argument("--acceptance", type=float, metavar="P", help="chance that one is accepted")
    space.add_argument("--draft", metavar="MODEL", help="draft model; none: drafting is free")
    space.add_argument("--weights-host", metavar="SHARES", help="weights in host memory: 0,0.5")
    space.add_argument("--disaggregated", action="store_true", help="separate prefill workers too")


def _declare_output(parser: ArgumentParser) -> None:
    shown = parser.add_argument_group("output")
    shown.add_argument("--best", type=int, default=5, metavar="N", help="layouts to show")
    shown.add_argument("--why", type=int, metavar="ROW", help="why the plan of that row lost")
    shown.add_argument("--plans", metavar="FILE", help="every plan with its verdict, as CSV")
    shown.add_argument("--front", metavar="FILE", help="the Pareto front, as SVG")
    shown.add_argument("--simulate", type=int, metavar="N", help="let the simulator serve the best")
    shown.add_argument("--deploy", metavar="DIR", help="command lines, manifest, measurement plan")
    shown.add_argument("--json", action="store_true", help="one JSON document on one line")


def run(options: Namespace) -> None:
    """Search, and say what was found."""
    if options.offload:
        search_offload.run(options)
        return
    for name, usual in MEANT_FOR_OFFLOAD.items():
        if getattr(options, name) != usual:
            raise ConfigError(f"--{name.replace('_', '-')} goes with --offload")
    from analyzer.search import search

    if options.best < 1:
        raise ConfigError("--best must be at least 1")
    found = search(question_of(options))
    _tell(found, options)


def _tell(found: Found, options: Namespace) -> None:
    from reports.console import show, write, write_json
    from reports.search_files import write_deployment, write_plans
    from reports.search_text import confirmed, document, summary, why

    if options.plans:
        write_plans(found, options.plans)
    if options.front:
        from reports.search_plot import write_front

        write_front(found, options.front)
    best = found.best()
    if options.deploy:
        if best is None:
            raise ConfigError("nothing to deploy: no plan keeps the promise and the budget")
        write_deployment(found, best, options.deploy)
    seen = _simulated(found, options)
    offloaded = _offloaded(found, options)
    if options.json:
        held = [each for one in offloaded for each in search_offload.plain(one)]
        write_json({**document(found, options.best, seen), "offloaded": held})
        return
    show(*summary(found, options.best))
    for one in offloaded:
        show(*search_offload.beside_table(one))
    if seen:
        show(*confirmed(found, seen))
    if options.why is not None:
        write(why(found, options.why))
    for name in ("plans", "front", "deploy"):
        if getattr(options, name):
            write(f"{name}: {getattr(options, name)}")


def _offloaded(found: Found, options: Namespace) -> list[search_offload.Beside]:
    """Policies for devices that nothing fits; none where anything does."""
    if not found.nothing_fits:
        return []
    asked = found.question
    named = [name.strip() for name in options.system.split(",") if name.strip()]
    return [
        search_offload.beside(
            options.model, name, asked.input_tokens, asked.output_tokens, options.best
        )
        for name in named
    ]


def _simulated(found: Found, options: Namespace) -> list[Any]:
    if options.simulate is None:
        return []
    if options.simulate < 1:
        raise ConfigError("--simulate must be at least 1")
    from analyzer.search.confirm import confirm

    return confirm(found, found.leaders(options.simulate))


def question_of(options: Namespace) -> Question:
    """The question that the options ask."""
    from analyzer.search import Budget, Offer, Question

    for name in ("model", "system"):
        if not getattr(options, name):
            raise ConfigError(f"--{name} is missing")
    named = [name.strip() for name in options.system.split(",") if name.strip()]
    systems = [system_of(Namespace(system=name))[0] for name in named]
    offers = tuple(Offer(s, basis_of(options, s, options.arrival)) for s in systems)
    power = None if options.power_kw is None else options.power_kw * 1e3
    lengths, slo = _work(options)
    return Question(
        model=load_model(options.model),
        offers=offers,
        **lengths,
        slo=slo,
        surely=options.surely,
        arrival=options.arrival,
        requests_per_s=options.rate,
        budget=Budget(devices=options.devices, usd_per_hour=options.usd_per_hour, power_W=power),
        space=space_of(options),
        objective=options.objective,
        engine=engine_of(options),
    )


def _work(options: Namespace) -> tuple[dict[str, int], SLO]:
    """Lengths and promise: as given, else the use case's, else the usual ones."""
    from analyzer.use_cases import use_case
    from analyzer.workload import SLO

    usual = {"input_tokens": 1024, "output_tokens": 128, "beams": 1, "cached_tokens": 0}
    slo = SLO()
    if options.use_case:
        case = use_case(options.use_case)
        usual, slo = {name: getattr(case, name) for name in usual}, case.slo
    given = {name: getattr(options, name.removesuffix("_tokens")) for name in usual}
    lengths = {name: usual[name] if value is None else value for name, value in given.items()}
    promised = {
        f"{name}_s": value / 1e3
        for name in ("ttft", "tpot", "e2e")
        if (value := getattr(options, f"{name}_ms")) is not None
    }
    held = {name: getattr(slo, name) for name in ("ttft_s", "tpot_s", "e2e_s")}
    return lengths, SLO(**{**held, **promised})


def space_of(options: Namespace) -> Space:
    """What the options let vary."""
    from analyzer.search import Space

    given: dict[str, Any] = {}
    for name in (*_LISTS, "batch"):
        text = getattr(options, name.replace("-", "_"))
        if text:
            given[name.replace("-", "_")] = axis(name, text)
    for name in ("weights", "kv"):
        text = getattr(options, name)
        if text:
            given[name] = tuple(part.strip() for part in text.split(","))
    if options.chunk:
        given["chunk_tokens"] = axis("chunk", options.chunk, least=0)
    if options.weights_host:
        given["weights_host"] = _shares(options.weights_host)
    return Space(speculation=_speculations(options), disaggregated=options.disaggregated, **given)


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--weights-host: {text!r} is not a list of shares like 0,0.5") from None


def _speculations(options: Namespace) -> tuple[Speculation | None, ...]:
    from analyzer.plan import Speculation

    if not options.spec_tokens:
        if options.draft or options.acceptance is not None:
            raise ConfigError("--draft and --acceptance need --spec-tokens")
        return (None,)
    if options.acceptance is None or not 0.0 <= options.acceptance <= 1.0:
        raise ConfigError("--spec-tokens needs --acceptance, a chance from 0 to 1")
    draft = load_model(options.draft) if options.draft else None
    return tuple(
        Speculation(tokens=tokens, acceptance=options.acceptance, draft=draft) if tokens else None
        for tokens in axis("spec-tokens", options.spec_tokens, least=0)
    )
