#!/usr/bin/env python3
"""Runs a conversion and stops it when its first shard is finished.

    interrupt.py WHAT DST FP8CAST ARGUMENT...

No luck is needed: standard error is a full pipe, so the program is caught in
telling that a shard is finished and cannot go on (run it with --threads 1).
WHAT is

    kill    SIGKILL
    int     SIGINT, then the pipe is emptied and the program may go on
    term    the same with SIGTERM
    twice   SIGINT until it is dead
    second  tries the same command a second time meanwhile, whose output and
            exit status are passed on, then SIGKILL to the first

Prints what the program wrote to stderr and exits with its exit status, 128
and more for a signal.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time

FILLER = b"."
SECONDS = 20  # of patience before giving up


def full_pipe():
    read_end, write_end = os.pipe()
    flags = fcntl.fcntl(write_end, fcntl.F_GETFL)
    fcntl.fcntl(write_end, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    try:
        while True:
            os.write(write_end, FILLER * 4096)
    except BlockingIOError:
        pass
    try:
        while True:
            os.write(write_end, FILLER)
    except BlockingIOError:
        pass
    fcntl.fcntl(write_end, fcntl.F_SETFL, flags)
    return read_end, write_end


def shards(folder):
    try:
        return {name for name in os.listdir(folder)
                if name.endswith(".safetensors")}
    except FileNotFoundError:
        return set()


def wait_for(condition, what):
    """False when time is up."""
    end = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > end:
            print(f"interrupt.py: waited in vain for {what}", file=sys.stderr)
            return False
        time.sleep(0.005)
    return True


def heed_signals():
    """A shell that runs the tests in the background has SIGINT ignored, and
    the program would ignore it too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def drain(read_end):
    text = b""
    while chunk := os.read(read_end, 65536):
        text += chunk
    return text.lstrip(FILLER)


def main():
    what, dst, command = sys.argv[1], sys.argv[2], sys.argv[3:]
    before = shards(dst)
    read_end, write_end = full_pipe()
    child = subprocess.Popen(command, stderr=write_end,
                             stdout=subprocess.DEVNULL,
                             preexec_fn=heed_signals)
    os.close(write_end)
    try:
        # An error message would be held up by the full pipe as well.
        if not wait_for(lambda: shards(dst) != before, "a finished shard"):
            child.kill()
            sys.exit("interrupt.py: stderr: " + drain(read_end).decode())
        if what == "second":
            second = subprocess.run(command, stdout=subprocess.DEVNULL,
                                    check=False)
            return second.returncode
        if what == "twice":
            def is_dead():
                child.send_signal(signal.SIGINT)
                return child.poll() is not None
            wait_for(is_dead, "death by SIGINT")
        else:
            child.send_signal({"kill": signal.SIGKILL, "int": signal.SIGINT,
                               "term": signal.SIGTERM}[what])
        sys.stdout.write(drain(read_end).decode())
        status = child.wait(SECONDS)
        return status if status >= 0 else 128 - status
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


if __name__ == "__main__":
    sys.exit(main())
