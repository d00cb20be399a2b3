"""Wait for events. `Poller` is a thin layer over epoll for the workers; `wait` is a single call.

`selectors` is used only on systems without epoll. For each event, it makes two objects and looks up
the descriptor, which takes a third of the time of a turn that sends one line to one member.
"""

import select
import selectors
from collections.abc import Sequence
from typing import Any, Protocol


class HasFileno(Protocol):
    """An object with a descriptor."""

    def fileno(self) -> int: ...


Source = int | HasFileno
"""A descriptor, or an object that has one. The descriptor must not change while it is watched."""

_HAS_EPOLL = hasattr(select, "epoll")

READ: int = getattr(select, "EPOLLIN", selectors.EVENT_READ)
WRITE: int = getattr(select, "EPOLLOUT", selectors.EVENT_WRITE)


def _descriptor(source: Source) -> int:
    return source if isinstance(source, int) else source.fileno()


class Poller:
    """Watched sources, each with some data that `poll` returns.

    A poller is itself a source: it is readable while one of its sources has an event.
    """

    def __init__(self) -> None:
        # `Any`: the module has epoll on Linux only.
        self._poll: Any = select.epoll() if _HAS_EPOLL else _Selector()
        self._data: dict[int, Any] = {}
        """Data of the watched sources, by descriptor."""

    def __len__(self) -> int:
        return len(self._data)

    def fileno(self) -> int:
        fd: int = self._poll.fileno()
        return fd

    def register(self, source: Source, events: int, data: Any) -> None:
        """Watch a source for READ, WRITE or both. Raises KeyError if it is watched already."""
        fd = _descriptor(source)
        if fd in self._data:
            raise KeyError(fd)
        self._poll.register(fd, events)
        self._data[fd] = data

    def modify(self, source: Source, events: int) -> None:
        """Change the events of a watched source."""
        self._poll.modify(_descriptor(source), events)

    def unregister(self, source: Source) -> None:
        """Stop watching a source. Raises KeyError if it is not watched."""
        fd = _descriptor(source)
        del self._data[fd]
        self._poll.unregister(fd)

    def poll(self, timeout: float | None = None) -> list[Any]:
        """Wait for events and return the data of the sources that have an event.

        `timeout`: seconds; None: without a limit. A closed or broken connection counts as an event.
        """
        data = self._data
        return [data[fd] for fd, _ in self._poll.poll(timeout, len(data) or 1)]

    def close(self) -> None:
        self._poll.close()


class _Selector:
    """The methods of epoll that `Poller` uses, for other systems."""

    def __init__(self) -> None:
        self._selector: Any = selectors.DefaultSelector()
        self.fileno = self._selector.fileno
        self.register = self._selector.register
        self.modify = self._selector.modify
        self.unregister = self._selector.unregister
        self.close = self._selector.close

    def poll(self, timeout: float | None, _most: int) -> list[tuple[int, int]]:
        return [(key.fd, events) for key, events in self._selector.select(timeout)]


def wait(sources: Sequence[Source], timeout: float | None = None) -> list[Source]:
    """Wait until a source can be read; return all readable sources. `timeout`: as for `poll`.

    `multiprocessing.connection.wait` is not used: its import would take a quarter of a worker's
    start. select() is not used, because it accepts no descriptor above 1,023.
    """
    by_fd = {_descriptor(source): source for source in sources}
    poll = select.poll()
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    found = poll.poll(None if timeout is None else 1000 * max(0.0, timeout))
    return [by_fd[fd] for fd, _ in found]
