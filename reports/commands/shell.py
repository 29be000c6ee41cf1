"""Words to a command: finds it, loads only it, parses strictly, and turns errors into one line."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import signal
import sys
from typing import NamedTuple, NoReturn

from analyzer.errors import ConfigError, InputError, PlumblineError, nearest
from reports.console import complain, write


class Command(NamedTuple):
    """Where a command lives and what it does, in a few words."""

    module: str
    about: str


COMMANDS: dict[str, Command] = {
    "predict": Command("reports.commands.predict", "latency, throughput, memory of scenarios"),
    "sweep": Command("reports.commands.sweep", "a grid of batches, lengths, tp and formats"),
    "models": Command("reports.commands.models", "the models of the catalog"),
    "systems": Command("reports.commands.systems", "the systems of the catalog"),
    "replay": Command("reports.commands.replay", "measurements in, predictions and figures out"),
    "calibrate": Command("reports.commands.calibrate", "fit rates to measurements"),
    "validate": Command("reports.commands.validate", "the error report, or its check"),
    "bakeoff": Command("reports.commands.bakeoff", "other predictors on the same rows"),
    "profile": Command("reports.commands.profile", "measure this machine"),
    "simulate": Command("reports.commands.simulate", "a server under a load, request by request"),
    "web": Command("reports.commands.web", "pages in the browser, or as files"),
    "search": Command("reports.commands.search", "the best plan under a promise and a budget"),
    "require": Command("reports.commands.require", "the machine that a promise needs"),
    "sensitivity": Command("reports.commands.sensitivity", "what a better part would buy"),
    "compare": Command("reports.commands.compare", "models, systems, plans side by side"),
    "network": Command("reports.commands.network", "collectives simulated beside closed forms"),
    "sources": Command("reports.commands.sources", "who can be asked for operators' times"),
    "calibrations": Command("reports.commands.calibrations", "what was fitted, and how well"),
}

PROFILES: dict[str, Command] = {
    "check": Command("reports.commands.profile_check", "what no profile measured, and compare"),
    "offload": Command("reports.commands.profile_offload", "a model that need not fit the device"),
    "serve": Command("reports.commands.profile_serve", "a server under a load"),
}
"""Profiles with options of their own: `plumbline profile NAME ...`."""

_USAGE = "plumbline COMMAND [options]      (plumbline COMMAND --help says which)"


class Parser(argparse.ArgumentParser):
    """Refuses in one line, with the nearest right option; `--a_b` is `--a-b`."""

    def error(self, message: str) -> NoReturn:
        plainer = re.sub(r"invalid (\w+) value: (.*)", _plainer, message)
        raise ConfigError(plainer.removeprefix("argument "))

    def parse_strictly(self, words: list[str]) -> argparse.Namespace:
        """The options, all of them known."""
        parsed, rest = self.parse_known_args([_hyphened(word) for word in words])
        if rest:
            known = [name for action in self._actions for name in action.option_strings]
            first = rest[0].partition("=")[0]
            raise ConfigError(f"unknown option {first!r}{nearest(first, known)}")
        return parsed


def _plainer(found: re.Match[str]) -> str:
    wanted = {"int": "a whole number", "float": "a number"}.get(found[1], found[1])
    return f"{found[2]} is not {wanted}"


def _hyphened(word: str) -> str:
    """`--system_eff=0.6` as `--system-eff=0.6`; values stay as they are."""
    name, sign, value = word.partition("=")
    return f"{name.replace('_', '-')}{sign}{value}" if word.startswith("--") else word


def run(words: list[str]) -> int:
    """Run a command line; returns the exit code."""
    try:
        _run(words)
    except InputError as error:
        complain(f"plumbline: {error}")
        return 2
    except PlumblineError as error:
        complain(f"plumbline: {error}")
        return 1
    except BrokenPipeError:
        # Whoever reads has read enough; nothing may be written any more, not even on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        complain("plumbline: interrupted")
        return 128 + signal.SIGINT
    return 0


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help", "help"):
        _overview()
    elif words[0] in ("-V", "--version"):
        from importlib.metadata import version  # slow to load, and asked for seldom

        write(f"plumbline {version('plumbline')}")
    else:
        _command(words[0], words[1:])


def _overview() -> None:
    write(f"{_USAGE}\n")
    width = max(map(len, COMMANDS))
    for name, command in COMMANDS.items():
        write(f"  {name:<{width}}  {command.about}")


def _command(name: str, words: list[str]) -> None:
    command = COMMANDS.get(name)
    if command is None:
        raise ConfigError(f"unknown command {name!r}{nearest(name, COMMANDS)}; {_USAGE}")
    if name == "profile" and words and words[0] in PROFILES:
        name, command, words = f"profile {words[0]}", PROFILES[words[0]], words[1:]
    module = importlib.import_module(command.module)
    parser = Parser(
        prog=f"plumbline {name}",
        description=module.__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.declare(parser)
    try:
        options = parser.parse_strictly(words)
    except SystemExit:  # --help was asked for and given
        return
    module.run(options)
