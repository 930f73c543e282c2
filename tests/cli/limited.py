#!/usr/bin/env python3
"""Runs a command within limits.

    limited.py SECONDS MIB COMMAND...

Ends with the command's exit status, or with 125 and a line on stderr when it
took more than SECONDS of processor time or MIB of memory (0: any), or was
still there after 10 times as many seconds on the clock: it hung. The peak of
memory is what the kernel counted, so no limit makes the command itself fail.
"""

import os
import signal
import sys


def main():
    seconds, mib, command = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    child = os.fork()
    if child == 0:
        os.execv(command[0], command)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)
    _, status, used = os.wait4(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    took = used.ru_utime + used.ru_stime
    if os.WIFSIGNALED(status):
        print(f"limited: ended by signal {os.WTERMSIG(status)} after "
              f"{took:.1f} s", file=sys.stderr)
        return 125
    if took > seconds or 0 < mib < used.ru_maxrss / 1024:
        print(f"limited: took {took:.1f} s and {used.ru_maxrss // 1024} MiB, "
              f"expected at most {seconds} s and {mib} MiB", file=sys.stderr)
        return 125
    log = os.environ.get("LIMITED_LOG")
    if log:
        with open(log, "a", encoding="utf-8") as file:
            print(f"{took:.3f} {used.ru_maxrss // 1024} {os.getcwd()} "
                  f"{' '.join(command[1:])}", file=file)
    return os.WEXITSTATUS(status)


if __name__ == "__main__":
    sys.exit(main())
