"""Ports on 127.0.0.1: whether one is free, and choosing some that are."""

import secrets
import socket

# Below the ranges that systems take ports of outgoing connections from (32768 on Linux, 49152 elsewhere),
# also with the distance added that SeaweedFS puts between a port and its gRPC twin.
GRPC_DISTANCE = 10_000
_CHOICE = range(10_240, 20_240)  # two of them never lie that distance apart


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on host:port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do it: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def is_free_pair(port: int) -> bool:
    """Whether both `port` and its gRPC twin are free."""
    return is_free(port) and is_free(port + GRPC_DISTANCE)


def choose(count: int) -> list[int]:
    """`count` different ports, each free together with its gRPC twin."""
    chosen: list[int] = []
    while len(chosen) < count:
        port = secrets.choice(_CHOICE)
        if port not in chosen and is_free_pair(port):
            chosen.append(port)
    return chosen
