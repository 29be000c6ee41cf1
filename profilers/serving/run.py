"""`plumbline profile serve`: server, load, figures, records."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import msgspec

from analyzer.errors import ConfigError, ServerFailed
from analyzer.workload_arrivals import AllAtOnce, ClosedLoop, Constant, Gamma, Load, Poisson
from profilers.serving.compare import Comparison, compare_with_vllm_bench
from profilers.serving.file_limit import raise_file_limit
from profilers.serving.generator import HEARTBEAT_S, Generator, RunLog
from profilers.serving.measures import RunSummary, summarise
from profilers.serving.options import ServeOptions, Sweep
from profilers.serving.prometheus import Reading, look, watch
from profilers.serving.server import RunningServer, ServerFacts, attach, started
from profilers.serving.serving_records import case_id, run_record

Tell = Callable[[str], None]
Runner = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine to its end on an event loop; tests put a virtual clock here."""
WARMUP_SEED = 987_654_321
MOST_FILES = 65_536
RARE_HEARTBEAT_S = 0.2


class ServeRun(msgspec.Struct, frozen=True, kw_only=True):
    """One load and what came of it."""

    load: Load
    summary: RunSummary
    log: RunLog
    server_readings: tuple[Reading, ...]


class ServeReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one `profile serve` found."""

    facts: ServerFacts
    runs: tuple[ServeRun, ...]
    saturation_rate_per_s: float | None
    """Requests per second that ended while more came than the server could do; None: not seen."""
    comparison: Comparison | None = None


class Session:
    """A warmed-up server on which one load after another can be run."""

    def __init__(
        self, options: ServeOptions, server: RunningServer, runner: Runner = asyncio.run
    ) -> None:
        self.options = options
        self.facts = server.facts
        self._server = server
        self._runner = runner

    @property
    def server_log(self) -> str | None:
        """Path of the log of a server that was started, while it runs."""
        return self._server.log

    @property
    def process_group(self) -> int | None:
        """Of a server that was started; None for one that somebody else runs."""
        return self._server.process.pid if self._server.process is not None else None

    def run(
        self, load: Load, texts: Mapping[int, str] | None = None, *, bare: bool = False
    ) -> ServeRun:
        """Run one load; raises ServerFailed if the server died under it.

        `texts` are sent in place of the token ids of the requests of these numbers. A `bare` run
        leaves out what other generators do not do: reading /metrics, and most heartbeats.
        """
        run = _one_run(self.options, load, self._runner, texts, bare)
        self._server.check_alive()
        return run


@contextlib.contextmanager
def session(options: ServeOptions) -> Iterator[Session]:
    """Start the server or attach to it, read its facts, warm it up; stop it in the end."""
    raise_file_limit(MOST_FILES)
    with _server(options) as server:
        target = msgspec.structs.replace(options.target, url=server.url)
        options = msgspec.structs.replace(options, target=target)
        _warm_up(options, server)
        yield Session(options, server)


def run_serve(options: ServeOptions, tell: Tell = lambda line: None) -> ServeReport:
    """Profile a server as asked; `tell` gets a line of progress now and then."""
    with session(options) as opened:
        facts = opened.facts
        tell(f"server {opened.options.target.url} {facts.version}, {facts.kv_blocks} KV blocks")
        runs = list(_runs(opened, tell))
        comparison = None
        if options.compare:
            load = runs[0].load
            comparison = compare_with_vllm_bench(
                opened.options,
                # Reading /metrics takes the server's time, and the other tool does not do it.
                lambda texts: opened.run(load, texts, bare=True).summary,
                tell,
                options.compare_rounds,
            )
    report = ServeReport(
        facts=facts,
        runs=tuple(runs),
        saturation_rate_per_s=saturation_rate(runs),
        comparison=comparison,
    )
    if options.store is not None:
        store_runs(options, report)
    return report


@contextlib.contextmanager
def _server(options: ServeOptions) -> Iterator[RunningServer]:
    if options.server is None:
        yield attach(options.target.url.rstrip("/"), options.target.model)
    else:
        with started(options.server, options.target.model) as server:
            yield server


def _warm_up(options: ServeOptions, server: RunningServer) -> None:
    """A few requests that are not counted: first-use costs are not the server's speed."""
    if options.warmup_requests == 0:
        return
    load = msgspec.structs.replace(
        options.load,
        arrivals=ClosedLoop(concurrency=min(2, options.warmup_requests)),
        requests=options.warmup_requests,
        trace=None if _lengths_are_drawn(options.load) else options.load.trace,
        turns=None,
        seed=WARMUP_SEED,
    )
    log, _ = measure(options, load, scrape=False)
    if not any(outcome.ok for outcome in log.outcomes):
        server.check_alive()
        first = log.outcomes[0]
        raise ServerFailed(f"no warm-up request succeeded: {first.label} {first.detail}")


def _lengths_are_drawn(load: Load) -> bool:
    from analyzer.workload_arrivals import TraceLength

    return not isinstance(load.input_tokens, TraceLength) and not isinstance(
        load.output_tokens, TraceLength
    )


def _runs(opened: Session, tell: Tell) -> Iterator[ServeRun]:
    beyond = 0
    sweep = opened.options.sweep
    for load in _loads(opened.options):
        run = opened.run(load)
        tell(progress_line(run))
        yield run
        verdict = run.summary.saturation
        beyond += verdict is not None and verdict.saturated
        searching = sweep is not None and not sweep.rates_per_s
        enough = sweep is not None and beyond >= max(sweep.beyond_saturation, 1)
        if run.log.interrupted or (searching and enough):
            return


def _loads(options: ServeOptions) -> Iterator[Load]:
    if options.sweep is None:
        yield options.load
        return
    arrivals = options.load.arrivals
    if not isinstance(arrivals, Poisson | Gamma | Constant):
        raise ConfigError("a sweep of rates needs arrivals 'poisson', 'gamma' or 'constant'")
    for number, rate in enumerate(_rates(options.sweep)):
        wanted = max(int(rate * options.sweep.seconds_per_rate), options.sweep.least_requests)
        yield msgspec.structs.replace(
            options.load,
            arrivals=msgspec.structs.replace(arrivals, rate_per_s=rate),
            requests=wanted,
            # Other prompts than before, or a prefix cache would know them.
            seed=options.load.seed + number,
        )


def _rates(sweep: Sweep) -> Iterator[float]:
    if sweep.rates_per_s:
        yield from sweep.rates_per_s
        return
    for step in range(sweep.most_runs):
        yield sweep.start_per_s * sweep.factor**step


def _one_run(
    options: ServeOptions,
    load: Load,
    runner: Runner,
    texts: Mapping[int, str] | None,
    bare: bool,
) -> ServeRun:
    scrape = options.scrape_s > 0 and not bare
    log, readings = measure(options, load, runner, scrape=scrape, texts=texts, bare=bare)
    open_loop = not isinstance(load.arrivals, ClosedLoop | AllAtOnce) and load.turns is None
    summary = summarise(log, options.slo, open_loop=open_loop)
    return ServeRun(load=load, summary=summary, log=log, server_readings=tuple(readings))


def measure(
    options: ServeOptions,
    load: Load,
    runner: Runner = asyncio.run,
    *,
    scrape: bool,
    texts: Mapping[int, str] | None = None,
    bare: bool = False,
) -> tuple[RunLog, list[Reading]]:
    """Run one load; Ctrl-C ends it and keeps what is known so far."""

    async def run() -> tuple[RunLog, list[Reading]]:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        with contextlib.suppress(ValueError, RuntimeError):  # only the main thread may
            loop.add_signal_handler(signal.SIGINT, stop.set)
        readings: list[Reading] = []
        watcher = None
        if scrape:
            page = options.target.url
            start = loop.time()
            watcher = loop.create_task(watch(page, options.scrape_s, start, readings))
        heartbeat_s = RARE_HEARTBEAT_S if bare else HEARTBEAT_S
        sender = Generator(options.target, load, stop, texts=texts, heartbeat_s=heartbeat_s)
        log = await sender.run()
        if watcher is not None:
            watcher.cancel()
            await look(page, start, readings)  # counters as they stand at the end
        return log, readings

    done: tuple[RunLog, list[Reading]] = runner(run())
    return done


def saturation_rate(runs: list[ServeRun] | tuple[ServeRun, ...]) -> float | None:
    """Median rate at which requests ended in over-saturated runs."""
    ended = sorted(
        run.summary.saturation.completed_per_s
        for run in runs
        if run.summary.saturation is not None and run.summary.saturation.saturated
    )
    return ended[len(ended) // 2] if ended else None


def store_runs(options: ServeOptions, report: ServeReport) -> None:
    """Append every run to the common store."""
    from profilers.environment import capture
    from profilers.store import Store

    if options.store is None:
        return
    server = {name: str(value) for name, value in report.facts.as_environment().items()}
    environment = capture(server, None)
    with Store(options.store, environment.facts, fingerprint=environment.fingerprint) as store:
        for run in report.runs:
            record = run_record(options, run.load, run.log, run.summary, report.facts)
            store.append(case_id(options, run.load), record)


def progress_line(run: ServeRun) -> str:
    """One run in one line."""
    summary = run.summary
    ttft = summary.from_scheduled.ttft
    first = f"TTFT p50 {ttft.percentiles.get('p50', ttft.mean) * 1e3:.1f} ms" if ttft else "no TTFT"
    tpot = (
        f"TPOT p50 {summary.tpot.percentiles.get('p50', summary.tpot.mean) * 1e3:.2f} ms"
        if (summary.tpot)
        else "no TPOT"
    )
    rate = getattr(run.load.arrivals, "rate_per_s", None)
    asked = f"{rate:.3g}/s" if rate else msgspec.json.encode(run.load.arrivals).decode()
    doubts = f"  [{'; '.join(summary.invalid)}]" if summary.invalid else ""
    return (
        f"{asked}: {summary.ok}/{summary.requests} ok, {summary.request_rate_per_s:.3g}/s, "
        f"{first}, {tpot}{doubts}"
    )
