"""How many connections one process may hold open."""

from __future__ import annotations


def raise_file_limit(files: int) -> None:
    """Allow this process as many open files as a run may need, if the system permits."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files if hard == resource.RLIM_INFINITY else min(files, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
