"""A leash: `python leash.py PARENT_PID PROGRAM [ARGUMENT…]` becomes PROGRAM, and dies with its parent.

On Linux the kernel then kills the program when the thread that started it ends, however it ends (`kill -9`
included), so that no server is left behind. It is a script of its own because the request has to be made
between fork and exec, where a process with threads may run no Python.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for the signal, and become the program. Ends with 1 when the parent is gone already."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    # Signals that Python ignores, or a shell does for what it starts with &, would stay ignored in the program.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(program[0], program)
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
