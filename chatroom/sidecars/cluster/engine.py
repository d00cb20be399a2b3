"""The connection to NATS JetStream: the room's stream, publishing, and the messages in order.

nats-py keeps the connection, and connects again if it is lost. The ordered consumer of nats-py is
not used, because it loses messages silently if its reader is slow. Instead, the engine requests
messages in batches from a consumer. After a gap, a silence or a reconnection, another consumer
replaces this one and continues with the next sequence number.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api
from nats.js import errors as js_errors

from chatroom.config.cluster_url import ClusterURL
from chatroom.config.sizes import MIB
from chatroom.sidecars.cluster.process import Credentials, Position
from chatroom.sidecars.cluster.stream_message import (
    FORMAT,
    MAX_SIZE,
    Publication,
    PublicationError,
)
from chatroom.system.error_text import error_text

OLDEST = (2, 9)
"""Oldest version of nats-server that has all features used here."""

CONNECT_WITHIN = 5.0
"""Timeout (s) for the first connection."""
ANSWER_WITHIN = 2.0
"""Timeout (s) for an answer of the engine."""
PUBLISHED_WITHIN = 1.0
"""Timeout (s) for the answer to a publication. An engine that restarts loses the answer. The
timeout is shorter than OUT_OF_REACH_AFTER (bridge.py), so that the bridge can publish again before
it tells the members."""
RETRY_AFTER = 0.2
"""Pause (s) before a failed request is repeated."""
PING_EVERY = 2
"""Seconds between two pings. After three pings without an answer, the connection counts as
lost."""

PULL = 64
"""Number of publications to request at once. A publication has at most about 600 KiB, so this
number bounds the memory."""
HEARTBEAT = 1.0
"""Seconds of silence after which NATS answers a waiting request with a heartbeat."""
SILENCE = 3 * HEARTBEAT
"""Seconds without a message or heartbeat after which the consumer is replaced."""
EXPIRES = 30.0
"""Seconds after which NATS ends a request; the next request follows at once."""

MAX_AGE = 24 * 3600.0
"""Age (s) at which a new stream drops messages. A node that was cut off for longer misses the
dropped messages."""
REPLICAS = 3
"""Number of copies of a new stream, if there are at least as many servers."""
MAX_BYTES = 256 * MIB
"""Size (bytes) beyond which a new stream drops its oldest messages."""

WRONG_LAST_SEQUENCE = 10071
"""JetStream's error code if the last sequence number is not the expected number."""
NO_STORAGE = 10047
"""JetStream's error code if the servers can't reserve the space of a new stream."""

DESCRIPTION = f"chatroom, publication format {FORMAT}"
"""Description of the stream. It contains the version of the format, so that a node with another
version can't use the stream."""

NANOSECONDS = 1_000_000_000

UNREACHABLE = (
    nats.errors.Error,
    asyncio.TimeoutError,
    OSError,
)
"""Errors after which it is unknown whether the engine has carried out a request."""


class EngineError(Exception):
    """The engine can't be used. The message is one line that says why."""


class Refused(Exception):
    """A publication was refused, because the node's last publication in the stream is not the
    expected one."""


class _Client(Client):
    """A client that sends nothing in clear text if the URL begins with tls://.

    If the server does not offer TLS, nats-py itself would send everything in clear text, including
    the credentials.
    """

    def _connect_command(self) -> bytes:
        if "tls" in self.options and not self._server_info.get("tls_required"):
            raise nats.errors.Error("the server does not offer TLS")
        return super()._connect_command()


def stream_name(room: str) -> str:
    return f"CHATROOM_{room}"


def log_subject(room: str, node: str = "*") -> str:
    """Return the subject of a node's publications; by default, a pattern for the publications of
    all nodes."""
    return f"chatroom.{room}.log.{node}"


def nodes_subject(room: str) -> str:
    """Return the subject on which all nodes reply with their names."""
    return f"chatroom.{room}.nodes"


def request_subject(room: str, node: str) -> str:
    """Return the subject of requests to one node."""
    return f"chatroom.{room}.request.{node}"


async def connect(
    url: ClusterURL,
    credentials: Credentials,
    name: str,
    on_disconnected: Callable[[], Awaitable[None]] | None = None,
    on_reconnected: Callable[[], Awaitable[None]] | None = None,
    on_error: Callable[[str], None] = lambda _: None,
    attempts: int = -1,
) -> Client:
    """Connect to the servers; nats-py then connects again whenever the connection is lost.

    `name`: name of the connection in the monitoring of NATS. `on_error` gets each error as text: a
    failed attempt to connect, or an error that a server has sent. `attempts`: number of times that
    nats-py retries a server that it can't reach; -1: no limit. Raises EngineError.
    """
    client = _Client()
    cause: Exception | None = None

    async def note_error(error: Exception) -> None:
        on_error(_reason(error))
        # A server's refusal says more than the error that follows when the connection ends.
        nonlocal cause
        if not (isinstance(cause, nats.errors.Error) and isinstance(error, OSError)):
            cause = error

    options: dict[str, Any] = {}
    try:
        if url.scheme == "tls":
            options["tls"] = ssl.create_default_context(cafile=credentials.ca)
        if credentials.credentials:
            credentials.credentials.read_bytes()  # nats-py's own error does not name the file
            options["user_credentials"] = str(credentials.credentials)
    except (OSError, ssl.SSLError) as error:
        file = credentials.ca if url.scheme == "tls" and "tls" not in options else None
        reason = getattr(error, "strerror", None) or error
        raise EngineError(f"{file or credentials.credentials} can't be used: {reason}") from None
    if url.password:
        options |= {"user": url.user, "password": url.password}
    elif url.user:
        options["token"] = url.user
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            await client.connect(
                [f"{url.scheme}://{server}" for server in url.servers],
                name=name,
                error_cb=note_error,
                max_reconnect_attempts=attempts,
                reconnect_time_wait=RETRY_AFTER,  # type: ignore[arg-type]
                ping_interval=PING_EVERY,
                connect_timeout=2,
                disconnected_cb=on_disconnected,
                reconnected_cb=on_reconnected,
                **options,
            )
    except UNREACHABLE as error:
        with contextlib.suppress(*UNREACHABLE):
            await client.close()
        reason = _reason(cause or error) or f"no answer within {CONNECT_WITHIN:g} s"
        raise EngineError(f"can't connect to {url}: {reason}") from None
    return client


def missing_permission(client: Client) -> str:
    """Return the server's last answer if it says that a permission is missing, otherwise ""."""
    reason = _reason(client.last_error) if client.last_error else ""
    return reason if reason.lower().startswith("permissions violation") else ""


def _reason(error: Exception) -> str:
    """Return an error as text; "" if there was no answer in time."""
    if isinstance(error, ssl.SSLError):
        return error.strerror or str(error)
    if isinstance(error, OSError) and error.errno:
        return error_text(error)
    if isinstance(error, TimeoutError):  # nats-py's, too
        return ""
    if isinstance(error, js_errors.APIError):
        return error.description or str(error)
    return str(error).removeprefix("nats: ").strip("'\"")


class Engine:
    """The room's stream."""

    def __init__(self, client: Client, url: ClusterURL, node: str) -> None:
        """`node`: name of this node in subjects."""
        self._client = client
        self._js: JetStreamContext = client.jetstream(timeout=ANSWER_WITHIN)
        self._url = url
        self._stream = stream_name(url.room)
        self._subject = log_subject(url.room, node)
        self._arrived: asyncio.Queue[Msg | None] = asyncio.Queue()
        """Messages of the consumer; None: replace it."""
        self._wanted = 0
        """Number of messages that were requested and have not arrived."""

    async def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(*UNREACHABLE):
            await self._client.close()

    def why_closed(self) -> str | None:
        """Return the reason if nats-py has given the connection up, otherwise None.

        It does so after most errors that a server sends, for example when the credentials have
        expired. It never connects again.
        """
        if not self._client.is_closed:
            return None
        error = self._client.last_error
        return f"{self._url}: {_reason(error) if error else 'the connection is closed'}"

    def why_unanswered(self, error: Exception) -> str:
        """Return the reason for one of UNREACHABLE; "" if it is unknown."""
        return _reason(error) or missing_permission(self._client)

    # --- the stream ----------------------------------------------------------

    async def open_stream(self, replicas: int) -> Position:
        """Create the stream if it does not exist, and return its end.

        `replicas`: number of copies of a new stream; 0: REPLICAS if there are at least as many
        servers, otherwise one. Raises EngineError if the stream can't be used.
        """
        version = self._client.connected_server_version
        if (version.major, version.minor) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise EngineError(f"{self._url}: nats-server {version} is too old; needs {oldest}")
        if self._client.max_payload < MAX_SIZE:
            raise EngineError(
                f"{self._url}: max_payload of nats-server is {self._client.max_payload} bytes; the"
                f" room needs {MAX_SIZE}"
            )
        wanted = api.StreamConfig(
            name=self._stream,
            description=DESCRIPTION,
            subjects=[log_subject(self._url.room)],
            retention=api.RetentionPolicy.LIMITS,
            storage=api.StorageType.FILE,
            discard=api.DiscardPolicy.OLD,
            max_age=MAX_AGE,
            max_bytes=MAX_BYTES,
            num_replicas=replicas or 1,
        )
        deadline = monotonic() + CONNECT_WITHIN
        while True:
            try:
                return await self._open(wanted, replicas)
            except (js_errors.ServiceUnavailableError, nats.errors.NoRespondersError):
                reason = "JetStream is not enabled (nats-server --jetstream)"
            except js_errors.APIError as error:
                reason = _reason(error)
                if error.err_code == NO_STORAGE:
                    reason += f"; the stream of a room needs {MAX_BYTES // MIB} MiB"
                if (error.code or 0) < 500:
                    raise EngineError(f"{self._url}: {reason}") from None
            except UNREACHABLE as error:
                reason = self.why_unanswered(error) or "no answer"
            if monotonic() >= deadline:
                raise EngineError(f"{self._url}: {reason}")
            await asyncio.sleep(RETRY_AFTER)

    async def _open(self, wanted: api.StreamConfig, replicas: int) -> Position:
        try:
            found = await self._js.stream_info(self._stream)
        except js_errors.NotFoundError:
            if not replicas and len(self._client.servers) >= REPLICAS:
                wanted.num_replicas = REPLICAS
            found = await self._js.add_stream(wanted)
        self._check(found.config, wanted)
        return Position(found.state.last_seq, 0.0)

    def _check(self, found: api.StreamConfig, wanted: api.StreamConfig) -> None:
        """Check an existing stream. Raises EngineError if the room can't use it."""
        if found.description != wanted.description:
            raise EngineError(
                f"{self._url}: the stream {self._stream} is of another version of chatroom:"
                f" {found.description!r}, not {wanted.description!r}"
            )
        for key in ("subjects", "retention", "storage", "discard"):
            has, needs = getattr(found, key), getattr(wanted, key)
            if has != needs:
                raise EngineError(
                    f"{self._url}: the stream {self._stream} has {key} {_value(has)}; the room"
                    f" needs {_value(needs)}"
                )

    async def check_permissions(self) -> None:
        """Raise EngineError if a server has refused a subscription."""
        with contextlib.suppress(*UNREACHABLE):
            # The ping of the first flush overtakes the subscriptions, which nats-py writes later.
            for _ in range(2):
                await self._client.flush(int(ANSWER_WITHIN))
        if reason := missing_permission(self._client):
            raise EngineError(f"{self._url}: {reason}")

    # --- publishing ----------------------------------------------------------

    async def publish(self, publication: Publication, after: int) -> int:
        """Publish, if the sequence number of the node's last publication is `after` (0: there is
        none).

        Return the sequence number of the new publication. Raises Refused if `after` is wrong. If it
        raises one of UNREACHABLE, it is unknown whether the publication was accepted.
        """
        try:
            answer = await self._js.publish(
                self._subject,
                publication.encode(),
                timeout=PUBLISHED_WITHIN,
                stream=self._stream,
                headers={api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE: str(after)},
            )
        except js_errors.APIError as error:
            if error.err_code == WRONG_LAST_SEQUENCE:
                raise Refused from None
            raise
        return answer.seq

    async def last_publication(self) -> tuple[int, Publication | None]:
        """Return the sequence number of this node's last publication, and the publication.

        Return 0 and None if there is none. The answer may be old if the server is cut off from the
        other servers. Raises one of UNREACHABLE.
        """
        try:
            found = await self._js.get_last_msg(self._stream, self._subject)
        except js_errors.NotFoundError:
            return 0, None
        try:
            return found.seq or 0, Publication.decode(found.data or b"")
        except PublicationError:
            return found.seq or 0, None

    # --- the messages --------------------------------------------------------

    def reconnected(self) -> None:
        """Make `messages` replace the consumer. Call this after a reconnection."""
        self._arrived.put_nowait(None)

    async def messages(self, after: Position) -> AsyncIterator[tuple[int, float, bytes]]:
        """Yield the messages of all nodes after a position: sequence number, time (s) and data.

        The numbers grow. They are contiguous, unless messages were deleted from the stream, or the
        stream has dropped them: then the next message that is still in the stream follows. If the
        engine has lost the end of the stream, it uses numbers again.
        """
        inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(
            inbox, cb=self._arrived.put, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        try:
            while True:
                try:
                    consumer, before = await self._new_consumer(after)
                except UNREACHABLE:
                    await asyncio.sleep(RETRY_AFTER)
                    continue
                async for sequence, time, data in self._pull(consumer, inbox, before):
                    after = Position(sequence, time)
                    yield sequence, time, data
                with contextlib.suppress(*UNREACHABLE):
                    await self._js.delete_consumer(self._stream, consumer)
        finally:
            with contextlib.suppress(*UNREACHABLE):
                await subscription.unsubscribe()

    async def _new_consumer(self, after: Position) -> tuple[str, int]:
        """Make a consumer of the messages after a position.

        Return its name, and a sequence number before its first message.
        """
        state = (await self._js.stream_info(self._stream)).state
        config = api.ConsumerConfig(
            ack_policy=api.AckPolicy.NONE,
            inactive_threshold=60.0,
            mem_storage=True,
            num_replicas=1,
        )
        first = min(max(after.sequence + 1, state.first_seq), state.last_seq + 1)
        if not after.time or await self._is_kept(after, state):
            config.deliver_policy = api.DeliverPolicy.BY_START_SEQUENCE
            config.opt_start_seq = first
        else:
            # The engine has lost the end of the stream, for example in a power failure, and uses
            # its numbers again. So find the new messages by time: they were stored after the last
            # message that was received.
            config.deliver_policy = api.DeliverPolicy.BY_START_TIME
            config.opt_start_time = datetime.fromtimestamp(after.time + 1e-6, UTC)
        info = await self._js.add_consumer(self._stream, config)
        return info.name, 0 if config.opt_start_seq is None else first - 1

    async def _is_kept(self, after: Position, state: api.StreamState) -> bool:
        """Return False if the engine has lost the message at the position `after`."""
        if after.sequence > state.last_seq:
            return False
        if after.sequence < state.first_seq:
            return True
        try:
            found = await self._js.get_msg(self._stream, seq=after.sequence)
        except js_errors.NotFoundError:
            return True
        return found.time is None or abs(found.time.timestamp() - after.time) < 1e-3

    async def _pull(
        self, consumer: str, inbox: str, after: int
    ) -> AsyncIterator[tuple[int, float, bytes]]:
        """Yield the messages of a consumer until it must be replaced.

        A consumer counts its messages. If this count is contiguous, no message was lost on the way,
        and messages that are missing were deleted from the stream. A server that is behind the
        others may begin too early: then it must be replaced.
        """
        count = 0
        while not self._arrived.empty():
            self._arrived.get_nowait()
        self._wanted = 0
        while True:
            if self._wanted <= PULL // 4:
                try:
                    await self._request(consumer, inbox)
                except UNREACHABLE:
                    return
            message = await self._next_message()
            if message is None:
                return
            if (message.headers or {}).get("Status"):
                if not self._handle_status(message):
                    return
                continue
            metadata = message.metadata
            if metadata.consumer != consumer:
                continue  # a message of an earlier consumer
            sequence = metadata.sequence.stream
            self._wanted -= 1
            count += 1
            if metadata.sequence.consumer != count or sequence <= after:
                return
            after = sequence
            yield sequence, metadata.timestamp.timestamp(), message.data

    async def _next_message(self) -> Msg | None:
        """Return the next message that arrives; None if the consumer must be replaced."""
        with contextlib.suppress(asyncio.QueueEmpty):
            return self._arrived.get_nowait()  # faster than the timeout below
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SILENCE):
                return await self._arrived.get()
        return None

    async def _request(self, consumer: str, inbox: str) -> None:
        request = {
            "batch": PULL,
            "expires": int(EXPIRES * NANOSECONDS),
            "idle_heartbeat": int(HEARTBEAT * NANOSECONDS),
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{consumer}"
        await self._client.publish(subject, json.dumps(request).encode(), reply=inbox)
        self._wanted += PULL

    def _handle_status(self, message: Msg) -> bool:
        """Handle a status message; return False if the consumer must be replaced."""
        headers = message.headers or {}
        match headers.get("Status"):
            case "100":  # a heartbeat
                return True
            case "408" if "Nats-Pending-Messages" in headers:  # the end of a request
                self._wanted -= int(headers["Nats-Pending-Messages"])
                return True
            case _:
                return False


def _value(value: object) -> str:
    return str(getattr(value, "value", value))
