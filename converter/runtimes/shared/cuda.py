"""Facts about the GPU from the CUDA driver, by ctypes, and the versions of CUDA packages; torch is not needed."""

from __future__ import annotations

import ctypes

from converter.core.foreign import Facts
from converter.runtimes.shared.installed import installed

_DRIVERS = ("libcuda.so.1", "nvcuda.dll")
_PACKAGES = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12")
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of CUdevice_attribute


def cuda_facts() -> Facts:
    """The first GPU's name, compute capability and memory in bytes, the driver's CUDA version, and package versions.

    A fact that is not available is left out; nothing is raised.
    """
    facts: Facts = {}
    driver = _driver()
    if driver is not None and driver.cuInit(0) == 0:
        number, device = ctypes.c_int(), ctypes.c_int()
        if driver.cuDriverGetVersion(ctypes.byref(number)) == 0:
            facts["cuda_driver"] = f"{number.value // 1000}.{number.value % 1000 // 10}"
        if driver.cuDeviceGet(ctypes.byref(device), 0) == 0:
            facts |= _device(driver, device)
    versions = {name: installed(name) for name in _PACKAGES}
    return facts | {name: version for name, version in versions.items() if version}


def _device(driver: ctypes.CDLL, device: ctypes.c_int) -> Facts:
    facts: Facts = {}
    name = ctypes.create_string_buffer(256)
    if driver.cuDeviceGetName(name, len(name), device) == 0:
        facts["device_name"] = name.value.decode(errors="replace")
    major, minor = ctypes.c_int(), ctypes.c_int()
    states = [
        driver.cuDeviceGetAttribute(ctypes.byref(part), key, device) for part, key in ((major, _MAJOR), (minor, _MINOR))
    ]
    if not any(states):  # 0 is success
        facts["compute_capability"] = f"{major.value}.{minor.value}"
    memory = ctypes.c_size_t()
    if driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device) == 0:
        facts["device_memory"] = memory.value
    return facts


def _driver() -> ctypes.CDLL | None:
    """The driver's library, or None if this machine has none."""
    for name in _DRIVERS:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
