"""Running programs and looking at the page cache: what bench/run measures
with. Linux only; nothing here prints."""

import ctypes
import mmap
import os
import platform
import shutil
import signal
import subprocess
import threading
import time

PIECE = 4 << 20
PAGE = mmap.PAGESIZE

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int,
                      ctypes.c_int, ctypes.c_int, ctypes.c_int64]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


class Failed(Exception):
    """A program that was to be measured did not succeed."""


# ---- programs ---------------------------------------------------------------

def busy_seconds():
    """CPU seconds that all of the machine has spent on something."""
    with open("/proc/stat") as lines:
        user, nice, system, _, _, *irq = map(int, next(lines).split()[1:9])
    return (user + nice + system + sum(irq)) / os.sysconf("SC_CLK_TCK")


def run(argv, env=None, cpus=None):
    """Runs argv; its wall and CPU seconds, those that everything else on the
    machine took meanwhile, and its peak memory in bytes.

    wait4's ru_maxrss of a child counts what it was before exec, a copy of
    this interpreter; so it is time(1), a small program, that forks and waits.
    """
    out, inner = os.pipe()
    given = dict(os.environ, **(env or {}))
    before = os.sched_getaffinity(0)
    if cpus:
        os.sched_setaffinity(0, cpus)
    try:
        busy, start = busy_seconds(), time.perf_counter()
        process = subprocess.Popen(
            ["/usr/bin/time", "-q", "-f", "%U %S %M",
             "-o", f"/dev/fd/{inner}", *argv],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=given,
            pass_fds=[inner], start_new_session=True)
        try:
            said = process.communicate()[1]
        except BaseException:  # we are stopped, so it must not go on
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        wall = time.perf_counter() - start
        busy = busy_seconds() - busy
    finally:
        os.sched_setaffinity(0, before)
        os.close(inner)
    with os.fdopen(out) as times:
        if process.returncode != 0:
            raise Failed(f"{' '.join(argv)}: exit {process.returncode}: "
                         f"{said.decode(errors='replace').strip()}")
        user, system, peak_kib = times.read().split()
    cpu = float(user) + float(system)
    return {"wall_s": round(wall, 4), "cpu_s": round(cpu, 2),
            "other_cpu_s": round(max(busy - cpu, 0), 2),
            "peak_bytes": int(peak_kib) * 1024}


# ---- the page cache ---------------------------------------------------------

def files(folder):
    return [os.path.join(where, name)
            for where, _, names in os.walk(folder) for name in names]


def folder_bytes(folder):
    return sum(os.path.getsize(path) for path in files(folder))


def resident(folder):
    """The share of a folder's bytes that the page cache holds (mincore)."""
    pages = held = 0
    for path in files(folder):
        size = os.path.getsize(path)
        if size == 0:
            continue
        fd = os.open(path, os.O_RDONLY)
        at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        os.close(fd)
        if at == ctypes.c_void_p(-1).value:
            raise Failed(f"{path}: cannot be mapped")
        count = (size + PAGE - 1) // PAGE
        bits = ctypes.create_string_buffer(count)
        libc.mincore(at, size, bits)
        libc.munmap(at, size)
        pages += count
        held += sum(1 for byte in bits.raw if byte & 1)
    return held / pages if pages else 0.0


def warm(folder):
    """Reads everything, so that the page cache holds it."""
    buffer = bytearray(PIECE)
    for path in files(folder):
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def evict(folder):
    """Has the page cache forget a folder's files, which are synced first."""
    for path in files(folder):
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def remove(folder):
    """Deletes a folder and waits until the disk is done with it."""
    shutil.rmtree(folder, ignore_errors=True)
    os.sync()


class CachedGrowth:
    """How far `Cached` of /proc/meminfo rose while the block ran."""

    def __enter__(self):
        self.first = self.most = self.now()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def watch(self):
        while not self.done.wait(0.02):
            self.most = max(self.most, self.now())

    @staticmethod
    def now():
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("Cached:"):
                    return int(line.split()[1]) * 1024
        return 0

    @property
    def growth_bytes(self):
        return self.most - self.first


# ---- the device -------------------------------------------------------------

def in_flight(job, offsets, threads):
    """Calls job(offset, buffer) for every offset, several at a time."""
    todo = iter(offsets)
    lock = threading.Lock()
    errors = []

    def worker():
        buffer = mmap.mmap(-1, PIECE)
        while not errors:
            with lock:
                at = next(todo, None)
            if at is None:
                return
            try:
                job(at, buffer)
            except OSError as error:
                errors.append(error)

    team = [threading.Thread(target=worker) for _ in range(threads)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    if errors:
        raise errors[0]


def device_write(path, size, threads=4):
    """Bytes a second into one new file, past the page cache, fsync included:
    what the disk takes when nothing else is done."""
    start = time.perf_counter()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_DIRECT)
    try:
        os.posix_fallocate(fd, 0, size)
        in_flight(lambda at, buffer: os.pwrite(fd, buffer, at),
                  range(0, size - PIECE + 1, PIECE), threads)
        os.fsync(fd)
    finally:
        os.close(fd)
    return size // PIECE * PIECE / (time.perf_counter() - start)


def device_read(folder, threads=4):
    """Bytes a second out of a folder's files, past the page cache."""
    total, start = 0, time.perf_counter()
    for path in files(folder):
        size = os.path.getsize(path) // PIECE * PIECE
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            in_flight(lambda at, buffer: os.preadv(fd, [buffer], at),
                      range(0, size, PIECE), threads)
        finally:
            os.close(fd)
        total += size
    return total / (time.perf_counter() - start)


# ---- the machine ------------------------------------------------------------

def file_system(path):
    """Type and device of the file system that holds path."""
    best = ("", "unknown", "unknown")
    path = os.path.realpath(path)
    with open("/proc/mounts") as lines:
        for line in lines:
            device, where, kind = line.split()[:3]
            inside = path == where or path.startswith(where.rstrip("/") + "/")
            if inside and len(where) >= len(best[0]):
                best = (where, kind, device)
    return best[1], best[2]


def cpu_name():
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def machine(folder):
    kind, device = file_system(folder)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": cpu_name(), "cpus": len(os.sched_getaffinity(0)),
            "architecture": platform.machine(), "memory_bytes": memory,
            "system": f"{platform.system()} {platform.release()}",
            "file_system": kind, "device": device}
