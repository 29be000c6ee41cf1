"""Open the pages: predictions, comparisons, plans, serving, the error report.

plumbline web                      serves http://127.0.0.1:8501, to this machine only
plumbline web --static out/        writes pages that open from a file, without any server
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace

from reports.console import write
from reports.web.serve import HOST, PORT, check_free, server


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"default: {PORT}")
    parser.add_argument("--static", metavar="FOLDER", help="write files instead of serving")


def run(options: Namespace) -> None:
    """Serve until interrupted, or write the files."""
    if options.static:
        from reports.web.static_site import build

        for path in build(options.static):
            write(f"wrote {path}")
        return
    words = server(options.port)
    check_free(options.port)
    write(f"http://{HOST}:{options.port} (Ctrl-C ends it)")
    # The server takes this process's place: signals and exit codes are its own.
    os.execv(words[0], words)  # noqa: S606 - no shell, and no word of it comes from outside
