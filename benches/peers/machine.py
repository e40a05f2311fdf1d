"""What a measurement was made on, and how busy the machine was with other things meanwhile."""

import os
import platform
import resource
import subprocess
import time

FLAGS = ["avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve"]


def describe():
    """The machine as a dictionary."""
    info = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition(":")
                info.setdefault(key.strip(), value.strip())
    except OSError:
        pass
    flags = set(info.get("flags", info.get("Features", "")).split())
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": info.get("model name", platform.processor() or "unknown"),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "instructions": [flag for flag in FLAGS if flag in flags],
        "memory_gib": round(memory / 2**30),
        "system": platform.system(),
        "rustc": rustc,
    }


class OtherLoad:
    """The share of all cores' time that went to anything but this process's children since the object was made.

    Time that a hypervisor gave to other guests counts as well.
    """

    def __init__(self):
        self.begin = self._now()

    @staticmethod
    def _now():
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        try:
            with open("/proc/stat", encoding="utf-8") as file:
                ticks = [int(field) for field in file.readline().split()[1:9]]
        except OSError:
            return None
        user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return time.monotonic(), busy, children.ru_utime + children.ru_stime

    def share(self):
        """0 to 1; None where the system does not say."""
        end = self._now()
        if self.begin is None or end is None:
            return None
        elapsed, busy, own = (after - before for before, after in zip(self.begin, end))
        return max(0.0, min(1.0, (busy - own) / max(1e-9, elapsed * os.cpu_count())))
