"""`python -m converter.fleets.guard ARGUMENTS…`: the command `cnnexport`, in a process that ends with its parent.

On Linux the kernel kills it when the thread that started it ends, so that a killed worker leaves no export behind that
holds the lock of its directory.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent(parent: int) -> None:
    """Have this process killed when its parent `parent` dies; end at once if that has happened."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            raise SystemExit(8)


if __name__ == "__main__":
    end_with_parent(int(os.environ.pop("CNNEXPORT_FLEET_PARENT", os.getppid())))
    sys.argv[0] = "cnnexport"
    runpy.run_module("converter", run_name="__main__", alter_sys=True)
