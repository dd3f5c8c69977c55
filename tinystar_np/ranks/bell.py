"""A bell that wakes a rank which waits for a message of another on its machine.

MPI has no waiting that leaves the core to others. Asking again and again does not either, however short:
where ranks divide layers, one waits while another computes with all cores. Each question takes a core from
one of its threads, which hold each other up: with 60 to 70 questions in a token of SmolLM2's shape the
layers took 23 to 32 ms, with a few questions 16. So who sends a message rings, by an empty datagram over the
loopback interface, and who waits sleeps until then. Nothing is lost where a bell is not heard: a rank also
asks from time to time.
"""

import select
import socket
from contextlib import suppress

Address = tuple[str, int]


class Bell:
    """This process's bell.

    address  where others ring it; None where it does not work
    """

    def __init__(self) -> None:
        self.address: Address | None = None
        try:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._socket.bind(("127.0.0.1", 0))
            own: Address = self._socket.getsockname()
            self.ring(own)
            if self.wait(0.1):
                self.address = own
        except OSError:
            pass

    def ring(self, address: Address) -> None:
        """Wake the process that has this bell."""
        with suppress(OSError):  # it has many rings already, or has ended
            self._socket.sendto(b"", address)

    def wait(self, seconds: float) -> bool:
        """Sleep until somebody rings, or so long; says whether somebody has."""
        found, _, _ = select.select([self._socket], [], [], seconds)
        with suppress(OSError):  # until there are no more
            while found:
                self._socket.recv(1)
        return bool(found)
