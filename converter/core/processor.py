"""What this machine's processor does with products of 8 bits."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

FLAGS = ("avx2", "avx512bw", "avx_vnni", "avx512_vnni", "amx_int8")
"""The instructions that decide how x86 multiplies int8; the last three do not saturate"""

_EXACT = FLAGS[2:]
_X86 = ("x86_64", "AMD64", "i686")
_CPU = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Processor:
    """The machine, those of `FLAGS` that it has, and whether they are `known`.

    `exact` is False if sums of two products of 8 bits may saturate at 16 bits: on an x86 without VNNI, or one whose
    flags are not known.
    """

    machine: str
    flags: tuple[str, ...]
    exact: bool
    known: bool

    def __str__(self) -> str:
        if not self.known:
            return f"this processor ({self.machine}) does not say what it has"
        listed = ", ".join(self.flags) or ("none of " + ", ".join(FLAGS) if self.machine in _X86 else "no such limit")
        return f"this processor ({self.machine}) has {listed}"


def processor() -> Processor:
    """The processor of this machine, from the system's description of it."""
    machine = platform.machine()
    if machine not in _X86:
        return Processor(machine, (), exact=True, known=True)
    try:
        lines = _CPU.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Processor(machine, (), exact=False, known=False)
    present = set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
    flags = tuple(flag for flag in FLAGS if flag in present)
    return Processor(machine, flags, exact=bool(present & set(_EXACT)), known=True)
