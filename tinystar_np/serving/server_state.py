"""What all requests to a server share: its models, access control, metrics, and whether it stops."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from tinystar_np.serving.access import Access
from tinystar_np.serving.api_errors import api_error_of
from tinystar_np.serving.metrics import Metrics
from tinystar_np.serving.served import ServedModels
from tinystar_np.serving.texts import Texts

MOST_BODY = 10_000_000  # bytes


@dataclass
class ServerState:
    """A running server.

    models    of the server
    access    decides which requests are answered
    timeout   seconds for each text; None for any time
    max_body  the most bytes of a request
    log       takes a line for each request, and the server's own errors; None for no log
    metrics   counts requests and tokens
    stopping  whether new requests are refused
    active    how many requests are not answered yet
    texts     of the requests that are not answered yet
    """

    models: ServedModels
    access: Access
    timeout: float | None = None
    max_body: int = MOST_BODY
    log: Callable[[str], None] | None = None
    metrics: Metrics = field(default_factory=Metrics)
    stopping: bool = False
    active: int = 0
    texts: set[Texts] = field(default_factory=set)

    def failed(self, error: BaseException) -> None:
        """Write down an error that is no client's fault: where it happened, without what clients sent."""
        if self.log is not None and api_error_of(error).status == 500:
            where = "".join(traceback.format_tb(error.__traceback__)[-6:])
            self.log(f"{where}{type(error).__name__}: {error}"[:4000])
