"""Kinds of use: how long prompts and answers are, and how many beams are followed.

The first four are those that the GenZ site compares, with its lengths and beams; the last two are
ours, for models that think before they answer and for agents that read much and write little.
"""

from __future__ import annotations

from typing import NamedTuple


class UseCase(NamedTuple):
    """One kind of use."""

    title: str
    input_tokens: int
    output_tokens: int
    beams: int = 1


USE_CASES: dict[str, UseCase] = {
    "chat": UseCase("chat", 2048, 128, 2),
    "question-answering": UseCase("question answering", 1000, 200, 4),
    "summarization": UseCase("summarization", 15000, 1000, 4),
    "code-generation": UseCase("code generation", 20000, 50, 4),
    "reasoning": UseCase("reasoning", 1024, 8192),
    "agents": UseCase("agents", 8192, 512),
}
