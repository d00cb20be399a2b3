"""Tests of the bridge's tasks, without a network."""

import asyncio
from typing import Any

from chatroom.sidecars.cluster.bridge import Bridge
from chatroom.system.channel import Channel, Record
from tests.integration.waiting import PATIENCE

UNUSED: Any = None


def test_node_6_the_other_tasks_run_while_the_bridge_waits_for_space() -> None:
    """Otherwise, a full log would block NATS' pings and the count of progress."""

    async def run() -> list[int]:
        bridge = Bridge(UNUSED, UNUSED, UNUSED, [], UNUSED, None)
        turns = 0
        seen: list[int] = []

        async def ring() -> None:
            nonlocal turns
            while True:
                turns += 1
                bridge._bell.set()
                await asyncio.sleep(0)

        def append() -> bool:
            seen.append(turns)
            return len(seen) == 5

        ringing = asyncio.create_task(ring())
        await bridge._space(append)
        ringing.cancel()
        return seen

    seen = asyncio.run(run())
    assert seen == sorted(set(seen)), "an append was repeated before another task had a turn"


def test_a_record_arrives_although_the_channel_was_full() -> None:
    """The main process sends nothing meanwhile: after `drain`, it waits for `drained`."""

    async def run() -> list[Record]:
        ours, theirs = Channel.pair()
        bridge = Bridge(UNUSED, UNUSED, UNUSED, [], ours, None)
        records: list[Record] = []
        complete = asyncio.Event()

        def receive() -> None:
            records.extend(record for record, _ in theirs.receive())
            if records[-1] == {"drained": True}:
                complete.set()

        while not ours.backlog:
            bridge._tell({"missed": 1})
        bridge._tell({"drained": True})
        loop = asyncio.get_running_loop()
        loop.add_reader(theirs.fileno(), receive)
        try:
            async with asyncio.timeout(PATIENCE):
                await complete.wait()
        finally:
            loop.remove_reader(theirs.fileno())
            ours.close()
            theirs.close()
        return records

    records = asyncio.run(run())
    assert records == [{"missed": 1}] * (len(records) - 1) + [{"drained": True}]
