"""What models are used for, as lengths, beams and promises."""

from __future__ import annotations

from typing import NamedTuple

from analyzer.errors import ConfigError, nearest
from analyzer.workload import SLO, Workload

GENZ = "published: Bambhaniya et al., arXiv 2406.01698, as in its repository's 'Paper charts'"
ASSUMED = "assumed: no source; a common shape of such requests"


class UseCase(NamedTuple):
    """One kind of request and what its users wait for."""

    name: str
    about: str
    input_tokens: int
    output_tokens: int
    beams: int
    slo: SLO
    source: str
    cached_tokens: int = 0

    def workload(self, batch: int = 1) -> Workload:
        """So many of these requests at once."""
        return Workload(
            batch=batch,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            beams=self.beams,
            cached_tokens=self.cached_tokens,
            slo=self.slo,
        )


def _case(name: str, about: str, lengths: tuple[int, int, int], slo: SLO, **more: int) -> UseCase:
    source = GENZ if name not in ("reasoning", "agents") else ASSUMED
    return UseCase(name, about, *lengths, slo, source, **more)


USE_CASES: dict[str, UseCase] = {
    case.name: case
    for case in (
        _case("qa", "question answering", (1000, 200, 4), SLO(ttft_s=0.2, tpot_s=0.010)),
        _case("chat", "chat bot", (3000, 1000, 2), SLO(ttft_s=0.2, tpot_s=0.010)),
        _case("rag", "questions with retrieval", (10_000, 200, 4), SLO(ttft_s=0.4, tpot_s=0.010)),
        _case("summarization", "summaries", (15_000, 1000, 4), SLO(ttft_s=2.0, tpot_s=0.020)),
        _case("code", "code generation", (20_000, 50, 4), SLO(ttft_s=5.0, tpot_s=0.020)),
        _case("reasoning", "long chains of thought", (1000, 8000, 1), SLO(ttft_s=1.0, tpot_s=0.02)),
        _case(
            "agents",
            "many short turns over a long, mostly cached context",
            (24_000, 300, 1),
            SLO(ttft_s=1.0, tpot_s=0.02),
            cached_tokens=22_000,
        ),
    )
}


def use_case(name: str) -> UseCase:
    """The use case of that name."""
    if name not in USE_CASES:
        raise ConfigError(
            f"unknown use case {name!r}{nearest(name, USE_CASES)}; use {', '.join(USE_CASES)}"
        )
    return USE_CASES[name]
