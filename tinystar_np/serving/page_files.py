"""The page at /: its files, as they are in page/, with what a browser may do with them.

    GET /                 the page
    GET /page/{name}      its styles, its script, its icon

The page needs nothing but this server: no script runs that is not one of these files, nothing is fetched from
elsewhere, and no other site may show it in a frame.
"""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parent / "page"
KINDS = {
    "index.html": "text/html",
    "chat.css": "text/css",
    "chat.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_routes() -> list[Route]:
    """Return the routes of the page; they hold no secret, and need no key."""
    files = [Route(f"/page/{name}", _answer(name)) for name in KINDS if name != "index.html"]
    return [Route("/", _answer("index.html")), *files]


def _answer(name: str):  # type: ignore[no-untyped-def]  # an endpoint, as Starlette types it
    content = (FOLDER / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=KINDS[name], headers=HEADERS)

    return answer
