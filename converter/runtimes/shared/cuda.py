"""What the CUDA driver and the loaded CUDA libraries say about themselves, by ctypes: no torch and no extra program."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.metadata
from typing import Any

_DRIVERS = ("libcuda.so.1", "nvcuda.dll")
_PACKAGES = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12")


def cuda_facts() -> dict[str, Any]:
    """The first GPU's name, compute capability and memory in bytes, the driver's CUDA version, and library versions.

    What cannot be found out is left out; nothing is raised.
    """
    facts: dict[str, Any] = {}
    driver = _driver()
    if driver is not None and driver.cuInit(0) == 0:
        number, device = ctypes.c_int(), ctypes.c_int()
        if driver.cuDriverGetVersion(ctypes.byref(number)) == 0:
            facts["cuda_driver"] = f"{number.value // 1000}.{number.value % 1000 // 10}"
        if driver.cuDeviceGet(ctypes.byref(device), 0) == 0:
            facts |= _device(driver, device)
    for name in _PACKAGES:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return facts


def _device(driver: Any, device: ctypes.c_int) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    name = ctypes.create_string_buffer(256)
    if driver.cuDeviceGetName(name, len(name), device) == 0:
        facts["device_name"] = name.value.decode(errors="replace")
    major, minor = ctypes.c_int(), ctypes.c_int()
    # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
    found = [driver.cuDeviceGetAttribute(ctypes.byref(part), key, device) for part, key in ((major, 75), (minor, 76))]
    if not any(found):
        facts["compute_capability"] = f"{major.value}.{minor.value}"
    memory = ctypes.c_size_t()
    if driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device) == 0:
        facts["device_memory"] = memory.value
    return facts


def _driver() -> Any:
    """The driver's library, or None where the machine has none."""
    for name in _DRIVERS:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
