"""Tests of the bridge's tasks, without a network."""

import asyncio
from typing import Any

from chatroom.sidecars.cluster.bridge import Bridge

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
