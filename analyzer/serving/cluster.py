"""The clock of the simulation: arrivals, steps and transfers in order of time.

Ties are broken by kind (arrivals before transfers before steps' ends before steps' beginnings) and
then by order of entry, so a seed decides every byte.
"""

from __future__ import annotations

import gc
import heapq
from collections.abc import Callable, Iterator

from analyzer.serving.meters import Meters
from analyzer.serving.options import SimOptions
from analyzer.serving.pipeline import PipelinedReplica
from analyzer.serving.replica import Replica
from analyzer.serving.routing import POLICIES, Router
from analyzer.serving.sequence import RequestTimes, Sequence
from analyzer.serving.timers import StepTimer
from analyzer.workload_arrivals import ClosedLoop, RequestSpec, requests

_ARRIVE, _MOVED, _END, _BEGIN = range(4)

Done = Callable[[RequestTimes], bool]
"""Called at each request's end; True stops the simulation."""


class Cluster:
    """Replicas, router and event queue of one simulation."""

    def __init__(self, options: SimOptions, timer: StepTimer, done: Done) -> None:
        self.meters = Meters(options.timeline_bins, options.keep_steps)
        self.replicas = _replicas(options, timer, self.meters)
        self.now_s = 0.0
        self.submitted = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.in_flight_s = 0.0
        """Requests in the system, integrated over time."""
        self._options = options
        self._done = done
        first = options.disaggregation.prefill_replicas if options.disaggregation else 0
        policy = POLICIES[options.router]
        self._route: Router = policy(self.replicas[:first] or self.replicas)
        self._route_decoding: Router = policy(self.replicas[first:])
        self._link_free_s = [0.0] * len(self.replicas)
        self._source: Iterator[RequestSpec] = requests(options.load)
        self._closed = (
            options.load.arrivals if isinstance(options.load.arrivals, ClosedLoop) else None
        )
        self._events: list[tuple[float, int, int, object]] = []
        self._entries = 0
        self._end_tokens: list[int] = [-1] * len(self.replicas)
        self._beginning = [False] * len(self.replicas)
        self._stopped = False

    def run(self) -> None:
        """Serve the whole load, or until `until_s`, or until `done` says stop."""
        collecting = gc.isenabled()
        gc.disable()  # requests form no cycles, and looking for some takes a third of the time
        try:
            self._serve()
        finally:
            if collecting:
                gc.enable()

    def _serve(self) -> None:
        for _ in range(self._closed.concurrency if self._closed else 1):
            self._next_arrival(0.0)
        handlers = (self._arrive, self._moved, self._end, self._begin)
        limit = self._options.until_s
        while self._events and not self._stopped:
            time_s, kind, entry, what = heapq.heappop(self._events)
            if limit is not None and time_s > limit:
                self._move_clock(limit)
                return
            self._move_clock(time_s)
            handlers[kind](time_s, entry, what)

    def _move_clock(self, time_s: float) -> None:
        self.in_flight_s += self.in_flight * (time_s - self.now_s)
        self.now_s = time_s

    def _push(self, time_s: float, kind: int, what: object) -> int:
        self._entries += 1
        heapq.heappush(self._events, (time_s, kind, self._entries, what))
        return self._entries

    def _next_arrival(self, now_s: float) -> None:
        spec = next(self._source, None)
        if spec is not None:
            time_s = spec.scheduled_s if spec.scheduled_s is not None else now_s
            self._push(time_s, _ARRIVE, spec)

    def _arrive(self, time_s: float, entry: int, what: object) -> None:
        """A request comes; or, its HTTP work done, gets into a replica's queue."""
        if isinstance(what, Sequence):
            self._enqueue(what, self._route(what.spec), time_s)
            return
        assert isinstance(what, RequestSpec)  # noqa: S101 (narrows the event's type)
        if self._closed is None and what.scheduled_s is not None:
            self._next_arrival(time_s)
        self.submitted += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        sequence = Sequence(what, time_s)
        delay_s = self._options.engine.host.request_s
        if delay_s > 0:
            self._push(time_s + delay_s, _ARRIVE, sequence)
        else:
            self._enqueue(sequence, self._route(what), time_s)

    def _enqueue(self, sequence: Sequence, replica: Replica, now_s: float) -> None:
        if not all(each.accepts(sequence) for each in (replica, self.replicas[-1])):
            self._finish(sequence, now_s, refused=True)
            return
        cut = replica.submit(sequence, now_s)
        if cut is not None:
            self._end_tokens[replica.index] = self._push(cut, _END, replica)
        self._wake(replica, now_s)

    def _wake(self, replica: Replica, now_s: float) -> None:
        if replica.idle and not self._beginning[replica.index]:
            if not self._events or self._events[0][0] > now_s:
                self._begin(now_s, 0, replica)  # nothing else happens now: no need to queue
                return
            self._beginning[replica.index] = True
            self._push(now_s, _BEGIN, replica)

    def _begin(self, time_s: float, entry: int, what: object) -> None:
        assert isinstance(what, Replica)  # noqa: S101
        self._beginning[what.index] = False
        end_s = what.plan(time_s)
        if end_s is not None:
            self._end_tokens[what.index] = self._push(end_s, _END, what)

    def _end(self, time_s: float, entry: int, what: object) -> None:
        assert isinstance(what, Replica)  # noqa: S101
        if self._end_tokens[what.index] != entry:
            return  # the run was cut short; its new end has an event of its own
        outcome = what.commit()
        for sequence in outcome.finished:
            self._finish(sequence, time_s)
        for sequence in outcome.handed_off:
            self._send(sequence, what, time_s)
        self._wake(what, time_s)

    def _send(self, sequence: Sequence, source: Replica, now_s: float) -> None:
        """Queue the prompt's cache on the prefill replica's link."""
        how = self._options.disaggregation
        assert how is not None  # noqa: S101
        start_s = max(now_s, self._link_free_s[source.index])
        tokens = sequence.spec.input_tokens
        end_s = start_s + how.link_s + tokens * how.kv_token_B / how.link_Bps
        self._link_free_s[source.index] = end_s
        self._push(end_s, _MOVED, (sequence, source))

    def _moved(self, time_s: float, entry: int, what: object) -> None:
        assert isinstance(what, tuple)  # noqa: S101
        sequence, source = what
        source.free_handed_off(sequence)
        self._wake(source, time_s)
        sequence.computed = sequence.target = sequence.spec.input_tokens
        self._enqueue(sequence, self._route_decoding(sequence.spec), time_s)

    def _finish(self, sequence: Sequence, now_s: float, refused: bool = False) -> None:
        self.in_flight -= 1
        delay_s = self._options.engine.host.token_s
        if refused:
            times = sequence.times(now_s, refused=True)
        else:
            times = sequence.times(now_s + delay_s)
            times = times._replace(first_token_s=times.first_token_s + delay_s)
        self._stopped = self._done(times) or self._stopped
        self._follow(sequence.spec, now_s)

    def _follow(self, spec: RequestSpec, now_s: float) -> None:
        """The next turn of a conversation, or the closed loop's next request."""
        if spec.follow_ups:
            following, *later = spec.follow_ups
            following = following._replace(follow_ups=tuple(later))
            self._push(now_s + following.think_s, _ARRIVE, following)
        elif self._closed is not None:
            self._next_arrival(now_s + self._closed.think_s)


def _replicas(options: SimOptions, timer: StepTimer, meters: Meters) -> list[Replica]:
    split = options.disaggregation
    built: list[Replica] = []
    for index in range(options.replicas):
        prefills = split is not None and index < split.prefill_replicas
        engine = (split.prefill_engine if split and prefills else None) or options.engine
        kind = PipelinedReplica if engine.stages > 1 else Replica
        built.append(kind(engine, timer, index, options.load.seed, meters, prefills))
    return built
