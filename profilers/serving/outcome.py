"""What one timed request came to."""

from __future__ import annotations

import msgspec

OK = "ok"
FAILURES: dict[str, str] = {
    "refused": "the connection was refused",
    "connect_timeout": "no connection in time",
    "first_token_timeout": "no first event in time",
    "between_tokens_timeout": "the stream stood still",
    "total_timeout": "the answer took too long",
    "reset": "the connection broke",
    "http_error": "a status other than 200",
    "server_error": "an error inside the stream",
    "malformed": "not HTTP or not an event stream",
    "cut_short": "the stream ended before its end mark",
    "no_tokens": "the answer was empty",
    "short": "fewer tokens than asked for",
    "cancelled": "the run was stopped",
}


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request as the client saw it. Times in seconds since the run began."""

    number: int
    label: str
    """'ok', or one of FAILURES."""
    detail: str = ""
    status: int = 0
    scheduled_s: float
    sent_s: float
    """When the generator took it up (before connecting)."""
    written_s: float | None = None
    """When its bytes had been handed to the system."""
    first_chunk_s: float | None = None
    first_token_s: float | None = None
    """First event with text."""
    end_s: float
    chunk_s: tuple[float, ...] = ()
    """When each event with a token came."""
    asked_input: int
    asked_output: int
    prompt_tokens: int | None = None
    """As the server counted them; None: it did not say."""
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reused_connection: bool = False

    @property
    def ok(self) -> bool:
        return self.label == OK

    @property
    def lag_s(self) -> float:
        """How much later than planned the generator took it up."""
        return self.sent_s - self.scheduled_s

    def ttft_s(self, since: str = "scheduled_s") -> float | None:
        """Time to the first token, from the scheduled or the sent time."""
        if self.first_token_s is None:
            return None
        return self.first_token_s - float(getattr(self, since))

    def e2e_s(self, since: str = "scheduled_s") -> float:
        """Time to the last token, from the scheduled or the sent time."""
        last = self.chunk_s[-1] if self.chunk_s else self.end_s
        return last - float(getattr(self, since))

    @property
    def tpot_s(self) -> float | None:
        """Mean time per token after the first; needs the server's count and two tokens."""
        if self.first_token_s is None or not self.output_tokens or self.output_tokens < 2:
            return None
        return (self.chunk_s[-1] - self.first_token_s) / (self.output_tokens - 1)

    @property
    def gaps_s(self) -> tuple[float, ...]:
        """Times between events that carried tokens."""
        return tuple(b - a for a, b in zip(self.chunk_s, self.chunk_s[1:], strict=False))
