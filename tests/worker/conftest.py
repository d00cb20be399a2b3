"""Fixtures with rooms of workers, for the tests of a worker's parts."""

from collections.abc import Iterator

import pytest

from tests.worker.drivers import MakeRoom, Room


@pytest.fixture(name="make_room")
def fixture_make_room(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeRoom]:
    rooms: list[Room] = []

    def make(workers: int = 1, **options: object) -> Room:
        rooms.append(Room(monkeypatch, workers, **options))
        return rooms[-1]

    yield make
    for room in rooms:
        room.close()


@pytest.fixture(name="room")
def fixture_room(make_room: MakeRoom) -> Room:
    return make_room()
