"""The files of the page, and the answers to HTTP requests for them. Pure, once the files are read.

A browser asks each time whether its copy of a file is up to date (ETag). All files together are
smaller than 40 KiB, so nothing is compressed.
"""

import hashlib
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "page"
INDEX = "index.html"

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}
"""Types of the files, by suffix. A file with another suffix is not served."""

CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "manifest-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""Policy that a browser applies to the page. It allows the gateway's files and WebSocket. It
forbids inline code, other sites, and text that becomes HTML (Trusted Types)."""

SECURITY = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of every answer."""


class Answer(NamedTuple):
    """An answer to a request."""

    status: HTTPStatus
    headers: dict[str, str]
    body: bytes = b""


class File(NamedTuple):
    """A file of the page."""

    kind: str
    """Content-Type."""
    tag: str
    """ETag: a hash of the content."""
    body: bytes


class Site:
    """The page's files, which are read once."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {}
        for path in folder.iterdir():
            if path.suffix in TYPES:
                body = path.read_bytes()
                tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
                self._files[f"/{path.name}"] = File(TYPES[path.suffix], tag, body)
        self._files["/"] = self._files[f"/{INDEX}"]

    def answer(self, method: str, path: str, known_tags: Sequence[str] = ()) -> Answer:
        """Answer a request for `path`. `known_tags`: values of If-None-Match."""
        if method not in ("GET", "HEAD"):
            return text(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD.", Allow="GET, HEAD")
        file = self._files.get(path.partition("?")[0])
        if file is None:
            return text(HTTPStatus.NOT_FOUND, "There is no such page.", empty=method == "HEAD")
        headers = {"Cache-Control": "no-cache", "ETag": file.tag, **SECURITY}
        known = [tag.strip().removeprefix("W/") for tags in known_tags for tag in tags.split(",")]
        if file.tag in known or "*" in known:
            return Answer(HTTPStatus.NOT_MODIFIED, headers)
        headers |= {"Content-Type": file.kind, "Content-Length": str(len(file.body))}
        return Answer(HTTPStatus.OK, headers, b"" if method == "HEAD" else file.body)


def text(status: HTTPStatus, says: str, empty: bool = False, **headers: str) -> Answer:
    """Return an answer in plain text; `empty`: without its body, for HEAD."""
    body = f"{says}\n".encode()
    headers |= {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
    headers["Cache-Control"] = "no-store"
    return Answer(status, headers | SECURITY, b"" if empty else body)
