"""A running room that Prometheus scrapes."""

import os
import signal
import socket
import struct
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

import chatroom
from chatroom.sidecars.metrics import SCRAPE_WITHIN
from chatroom.system.signals import HANDLED_SIGNALS
from tests.integration.clients import talk
from tests.integration.processes import Process
from tests.integration.rooms import (
    DIED,
    ERROR_LINE,
    NEVER_SILENT,
    ROOT,
    Room,
    addresses,
    command,
    room,
    started,
)
from tests.integration.waiting import PATIENCE, until
from tests.sidecars.test_metrics import samples
from tests.system.ends import has_ended

METRICS = ("--metrics", "127.0.0.1:0")


def where(here: Room) -> str:
    """Read the URL of the metrics from the room's output."""
    line = here.read_until("\n").decode()
    assert line.startswith("metrics on http://127.0.0.1:"), line
    return line.removeprefix("metrics on ").strip()


def scrape(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        return samples(answer.read().decode())


def server(here: Room) -> Process:
    """Return the metrics process: it does not map the log, and started after the registry."""
    return [client for client in here.children() if not client.maps_log][-1]


def test_scraped_figures_match_what_clients_saw() -> None:
    with room("--workers", 2, *METRICS, *NEVER_SILENT, logs=DIED) as here:
        url = where(here)
        first = scrape(url)
        assert first["chatroom_members"] == first["chatroom_joins_total"] == 0
        assert first["chatroom_workers"] == first["chatroom_workers_wanted"] == 2
        assert first['chatroom_leaves_total{reason="lagged"}'] == 0
        assert first['chatroom_refusals_total{reason="The room is full"}'] == 0
        assert abs(first["chatroom_start_time_seconds"] - time.time()) < 60
        members = here.join_all(addresses(4))
        talk(members)
        until(lambda: scrape(url)["chatroom_deliveries_total"] == 12, "all deliveries are counted")
        until(lambda: scrape(url)["chatroom_joins_total"] == 4, "all joins are counted")
        members.pop().close()
        left = 'chatroom_leaves_total{reason="closed"}'
        until(lambda: scrape(url)[left] == 1, "one member has left")
        here.workers()[0].kill()
        talk(members)
        until(lambda: scrape(url)["chatroom_recovery_seconds_count"] == 1, "the recovery is over")
        found = scrape(url)
        assert found["chatroom_members"] == 3
        assert found["chatroom_joins_total"] == 4
        assert found["chatroom_messages_total"] == 7
        assert found["chatroom_message_bytes_total"] == 7 * len("<127.0.0.2>0\n")
        assert found["chatroom_deliveries_total"] >= 12
        assert found["chatroom_worker_restarts_total"] == 1
        assert found["chatroom_lag_bytes"] == 0
        pause = found["chatroom_recovery_seconds_sum"]
        assert 0 < pause == found["chatroom_recovery_longest_seconds"] < PATIENCE


def test_metrics_work_with_ipv6_and_without_a_run_dir(ipv6: None, tmp_path: Path) -> None:
    (tmp_path / "chatroom").touch()
    options = ("--workers", 1, "--metrics", "[::1]:0")
    environment = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with room(*options, environment=environment, logs="event=no-control") as here:
        line = here.read_until("\n").decode()
        assert line.startswith("metrics on http://[::1]:")
        assert scrape(line.removeprefix("metrics on ").strip())["chatroom_members"] == 0


METRICS_DIED = r" level=warning event=metrics-died exit=(-9|1) again_in=[\d.]+ says="


def test_a_metrics_process_that_dies_is_replaced() -> None:
    """A scrape between the death and the replacement waits, and then succeeds."""
    with room("--workers", 2, *METRICS, logs=METRICS_DIED) as here:
        url, members = where(here), here.join_all(addresses(3))
        for number in range(3):
            scrape(url)
            server(here).kill()
            talk(members)
            until(lambda n=number: here.errors.count("\n") == n + 1, "the death is logged")  # type: ignore[misc]
            assert scrape(url)["chatroom_members"] == 3
        assert len(here.children()) == 4


def test_a_metrics_process_that_hangs_does_not_delay_the_room() -> None:
    with room("--workers", 2, *METRICS) as here:
        url, members = where(here), here.join_all(addresses(3))
        scrape(url)
        for number in HANDLED_SIGNALS:
            assert server(here).blocks(number)
        os.kill(server(here).pid, signal.SIGSTOP)
        talk(members)
        here.stop()


def test_the_metrics_process_ends_with_a_killed_main_process() -> None:
    with room("--workers", 1, *METRICS) as here:
        scrape(where(here))
        os.kill(here.pid, signal.SIGKILL)
        here.process.wait()
        until(lambda: not here.processes(), "all processes of the room end")


def test_bad_scrapes_disturb_nobody() -> None:
    """Clients send garbage, stop within a request, reset their connections, or open too many. The
    room continues, and other scrapes succeed."""
    with room("--workers", 2, *METRICS) as here, ExitStack() as leaving:
        url, members = where(here), here.join_all(addresses(3))
        scrape(url)
        host, _, port = url.removeprefix("http://").removesuffix("/metrics").rpartition(":")

        def connect() -> socket.socket:
            end = socket.create_connection((host, int(port)), timeout=PATIENCE)
            return leaving.enter_context(end)

        broken = connect()
        broken.sendall(b"\xff\x00garbage\r\n\r\n")
        assert b"400" in broken.recv(9999)
        posted = connect()
        posted.sendall(b"POST /metrics HTTP/1.0\r\n\r\n")
        assert posted.recv(9999).startswith(b"HTTP/1.0 ")
        slow = [connect() for _ in range(8)]
        for end in slow:
            end.sendall(b"GET /metr")
        assert scrape(url)["chatroom_members"] == 3
        for end in slow[:2]:  # The server waits for these connections, so reset them.
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()
        crowd = [connect() for _ in range(30)]
        until(lambda: has_ended(crowd[-1]), "the last connection is closed", SCRAPE_WITHIN / 2)
        talk(members)
        until(here.is_idle, "the room is idle")
        leaving.close()
        until(lambda: works(url), "other scrapes are served again")
        assert here.errors == ""


def works(url: str) -> bool:
    try:
        return scrape(url)["chatroom_members"] == 3
    except OSError:
        return False


def test_an_address_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        at = f"127.0.0.1:{other.getsockname()[1]}"
        with started(command("--workers", 1, "--metrics", at), logs=ERROR_LINE) as here:
            here.expect_error(1, f"can't listen on {at}: Address already in use")


def test_metrics_without_the_extra_are_an_error() -> None:
    if not Path(chatroom.__file__).is_relative_to(ROOT):
        pytest.skip("-S would hide chatroom too, which is in site-packages")
    words = command("--workers", 1, *METRICS)
    with started([words[0], "-S", *words[1:]], logs=ERROR_LINE) as here:
        here.expect_error(1, "--metrics needs prometheus-client: pip install 'chatroom[metrics]'")
