"""One exchange over HTTP/1.1 (h11), HTTP/2 (h2) or HTTP/3 (aioquic), with one interface.

Knows nothing of what is asked; `features.py` does. Each connection carries exchanges; an exchange gives events:

    ("interim", status, headers)   ("head", status, headers)   ("data", octets)
    ("trailers", headers)          ("end",)                    ("cut", why)
"""

import asyncio
import ssl

import h11
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
from aioquic.asyncio.client import connect as quic_connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StopSendingReceived, StreamReset

READ_LEN = 64 * 1024
H3_REQUEST_CANCELLED = 0x10C
# What a test's body may hold back: far above what it sends at once.
WINDOW = 16 * 1024 * 1024


class Place:
    """Where to connect, and whom to trust."""

    def __init__(self, host, port, ca):
        self.host, self.port, self.ca = host, port, ca

    @property
    def authority(self):
        return f"{self.host}:{self.port}"

    def tls(self, alpn):
        context = ssl.create_default_context(cafile=self.ca)
        context.set_alpn_protocols([alpn])
        return context

    async def open(self, alpn):
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.tls(alpn), server_hostname=self.host, limit=2**20
        )


class Exchange:
    """Events of one exchange, as they come."""

    def __init__(self):
        self.queue = asyncio.Queue()
        self.writable = asyncio.Event()
        self.stopped = False

    async def event(self):
        return await self.queue.get()

    async def head(self):
        """Interim heads, then the final one."""
        interim = []
        while True:
            event = await self.event()
            if event[0] == "interim":
                interim.append((event[1], event[2]))
            elif event[0] == "head":
                return interim, event[1], event[2]
            else:
                raise AssertionError(f"no head, but {event}")

    async def rest(self):
        """The body to its end, its trailers, and whether it was whole."""
        body, trailers = bytearray(), []
        while True:
            event = await self.event()
            if event[0] == "data":
                body += event[1]
            elif event[0] == "trailers":
                trailers = event[1]
            elif event[0] == "end":
                return bytes(body), trailers, None
            else:
                return bytes(body), trailers, event[1]

    async def data(self, length):
        """At least this much of the body."""
        body = bytearray()
        while len(body) < length:
            event = await self.event()
            assert event[0] == "data", f"no data, but {event}"
            body += event[1]
        return bytes(body)


def pairs(headers):
    return [(bytes(name).decode("latin-1").lower(), bytes(value).decode("latin-1")) for name, value in headers]


class H1:
    """A connection for one exchange."""

    protocol = "h1"

    def __init__(self, place):
        self.place = place

    async def __aenter__(self):
        self.reader, self.writer = await self.place.open("http/1.1")
        self.machine = h11.Connection(h11.CLIENT)
        self.task = None
        return self

    async def __aexit__(self, *_):
        if self.task:
            self.task.cancel()
        self.writer.transport.abort()

    async def request(self, method, path, headers=(), end=True, length=None):
        fields = [("host", self.place.authority), *headers]
        if not end:
            fields.append(("transfer-encoding", "chunked") if length is None else ("content-length", str(length)))
        exchange = H1Exchange(self)
        self.writer.write(self.machine.send(h11.Request(method=method, target=path, headers=fields)))
        if end:
            self.writer.write(self.machine.send(h11.EndOfMessage()))
        await self.writer.drain()
        self.task = asyncio.create_task(exchange.read())
        return exchange


class H1Exchange(Exchange):
    def __init__(self, connection):
        super().__init__()
        self.connection = connection

    async def send(self, data, end=False, trailers=()):
        machine, writer = self.connection.machine, self.connection.writer
        if data:
            writer.write(machine.send(h11.Data(data=data)))
        if end:
            writer.write(machine.send(h11.EndOfMessage(headers=list(trailers))))
        await writer.drain()

    async def raw(self, data):
        self.connection.writer.write(data)
        await self.connection.writer.drain()

    async def leave(self):
        self.connection.writer.transport.abort()

    async def read(self):
        machine, reader = self.connection.machine, self.connection.reader
        try:
            while True:
                event = machine.next_event()
                if event is h11.NEED_DATA:
                    machine.receive_data(await reader.read(READ_LEN))
                elif isinstance(event, h11.InformationalResponse):
                    kind = "head" if event.status_code == 101 else "interim"
                    self.queue.put_nowait((kind, event.status_code, pairs(event.headers)))
                elif isinstance(event, h11.Response):
                    self.queue.put_nowait(("head", event.status_code, pairs(event.headers)))
                elif isinstance(event, h11.Data):
                    self.queue.put_nowait(("data", bytes(event.data)))
                elif isinstance(event, h11.EndOfMessage):
                    if event.headers:
                        self.queue.put_nowait(("trailers", pairs(event.headers)))
                    self.queue.put_nowait(("end",))
                    return
                elif event is h11.PAUSED:
                    data = machine.trailing_data[0]
                    while True:
                        if data:
                            self.queue.put_nowait(("data", bytes(data)))
                        data = await reader.read(READ_LEN)
                        if not data:
                            self.queue.put_nowait(("end",))
                            return
                else:
                    raise AssertionError(f"unexpected {event}")
        except Exception as why:  # whatever broke the exchange is what a test wants to see
            self.queue.put_nowait(("cut", f"{type(why).__name__}: {why}"))


class H2:
    """A connection for many exchanges."""

    protocol = "h2"

    def __init__(self, place):
        self.place, self.exchanges = place, {}

    async def __aenter__(self):
        self.reader, self.writer = await self.place.open("h2")
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self.machine = h2.connection.H2Connection(config)
        self.machine.initiate_connection()
        self.machine.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW})
        self.machine.increment_flow_control_window(WINDOW)
        self.settled = asyncio.Event()
        await self.flush()
        self.task = asyncio.create_task(self.read())
        await asyncio.wait_for(self.settled.wait(), 10)
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        self.writer.transport.abort()

    @property
    def extended_connect(self):
        return self.machine.remote_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL, 0) == 1

    async def flush(self):
        self.writer.write(self.machine.data_to_send())
        await self.writer.drain()

    async def request(self, method, path, headers=(), end=True, length=None, protocol=None):
        fields = [(":method", method), (":scheme", "https"), (":authority", self.place.authority), (":path", path)]
        if protocol:
            fields.insert(1, (":protocol", protocol))
        fields += list(headers)
        if length is not None:
            fields.append(("content-length", str(length)))
        number = self.machine.get_next_available_stream_id()
        exchange = self.exchanges[number] = H2Exchange(self, number)
        self.machine.send_headers(number, fields, end_stream=end)
        await self.flush()
        return exchange

    async def read(self):
        why = "closed"
        try:
            while data := await self.reader.read(READ_LEN):
                for event in self.machine.receive_data(data):
                    self.handle(event)
                await self.flush()
        except Exception as broken:
            why = f"{type(broken).__name__}: {broken}"
        for exchange in self.exchanges.values():
            exchange.queue.put_nowait(("cut", why))
            exchange.stopped = True
            exchange.writable.set()

    def handle(self, event):
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self.settled.set()
            for exchange in self.exchanges.values():
                exchange.writable.set()
            return
        number = getattr(event, "stream_id", None)
        if isinstance(event, h2.events.WindowUpdated):
            for exchange in self.exchanges.values() if number == 0 else [self.exchanges[number]]:
                exchange.writable.set()
            return
        exchange = self.exchanges.get(number)
        if exchange is None:
            return
        put = exchange.queue.put_nowait
        if isinstance(event, h2.events.InformationalResponseReceived):
            headers = pairs(event.headers)
            put(("interim", int(dict(headers)[":status"]), headers))
        elif isinstance(event, h2.events.ResponseReceived):
            headers = pairs(event.headers)
            put(("head", int(dict(headers)[":status"]), headers))
        elif isinstance(event, h2.events.DataReceived):
            self.machine.acknowledge_received_data(event.flow_controlled_length, number)
            put(("data", event.data))
        elif isinstance(event, h2.events.TrailersReceived):
            put(("trailers", pairs(event.headers)))
        elif isinstance(event, h2.events.StreamEnded):
            put(("end",))
        elif isinstance(event, h2.events.StreamReset):
            exchange.stopped = True
            exchange.writable.set()
            put(("cut", f"RST_STREAM {event.error_code!r}"))


class H2Exchange(Exchange):
    def __init__(self, connection, number):
        super().__init__()
        self.connection, self.number = connection, number

    async def send(self, data, end=False, trailers=()):
        machine = self.connection.machine
        while data and not self.stopped:
            room = min(machine.local_flow_control_window(self.number), machine.max_outbound_frame_size)
            if room <= 0:
                self.writable.clear()
                await self.writable.wait()
                continue
            machine.send_data(self.number, data[:room])
            data = data[room:]
            await self.connection.flush()
        if end and not self.stopped:
            if trailers:
                machine.send_headers(self.number, list(trailers), end_stream=True)
            else:
                machine.end_stream(self.number)
            await self.connection.flush()

    async def raw(self, data):
        await self.send(data)

    async def leave(self):
        self.connection.machine.reset_stream(self.number, h2.errors.ErrorCodes.CANCEL)
        await self.connection.flush()


class Http3(H3Connection):
    """aioquic, told which responses say a length and have no body: it compares the two for HEAD too."""

    def __init__(self, quic):
        super().__init__(quic)
        self.bodiless = set()

    def _check_content_length(self, stream):
        if stream.stream_id not in self.bodiless:
            super()._check_content_length(stream)


class H3Protocol(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = Http3(self._quic)
        self.exchanges = {}

    def quic_event_received(self, event):
        if isinstance(event, StreamReset) and event.stream_id in self.exchanges:
            exchange = self.exchanges[event.stream_id]
            exchange.queue.put_nowait(("cut", f"RESET_STREAM 0x{event.error_code:x}"))
        if isinstance(event, StopSendingReceived) and event.stream_id in self.exchanges:
            self.exchanges[event.stream_id].stopped = True
        if isinstance(event, ConnectionTerminated):
            for exchange in self.exchanges.values():
                exchange.stopped = True
                exchange.queue.put_nowait(("cut", f"closed 0x{event.error_code:x} {event.reason_phrase}"))
        for http in self.http.handle_event(event):
            self.http_event(http)

    def http_event(self, event):
        exchange = self.exchanges.get(getattr(event, "stream_id", None))
        if exchange is None:
            return
        put = exchange.queue.put_nowait
        if isinstance(event, HeadersReceived):
            headers = pairs(event.headers)
            status = dict(headers).get(":status")
            if status is None:
                put(("trailers", headers))
            else:
                put(("interim" if status.startswith("1") else "head", int(status), headers))
        elif isinstance(event, DataReceived) and event.data:
            put(("data", event.data))
        if isinstance(event, (HeadersReceived, DataReceived)) and event.stream_ended:
            put(("end",))


class H3:
    """A connection for many exchanges."""

    protocol = "h3"

    def __init__(self, place):
        self.place = place

    async def __aenter__(self):
        config = QuicConfiguration(
            is_client=True, alpn_protocols=["h3"], server_name=self.place.host, max_data=WINDOW, max_stream_data=WINDOW
        )
        config.load_verify_locations(self.place.ca)
        self.opening = quic_connect("127.0.0.1", self.place.port, configuration=config, create_protocol=H3Protocol)
        self.client = await self.opening.__aenter__()
        return self

    async def __aexit__(self, *_):
        self.client.close()
        self.client.transmit()

    @property
    def extended_connect(self):
        return bool((self.client.http.received_settings or {}).get(8))

    async def request(self, method, path, headers=(), end=True, length=None):
        fields = [(":method", method), (":scheme", "https"), (":authority", self.place.authority), (":path", path)]
        fields += list(headers)
        if length is not None:
            fields.append(("content-length", str(length)))
        number = self.client._quic.get_next_available_stream_id()
        exchange = self.client.exchanges[number] = H3Exchange(self.client, number)
        if method == "HEAD":
            self.client.http.bodiless.add(number)
        encoded = [(name.encode(), value.encode()) for name, value in fields]
        self.client.http.send_headers(number, encoded, end_stream=end)
        self.client.transmit()
        return exchange


class H3Exchange(Exchange):
    # aioquic takes all it is given; this much at a time keeps its buffers and the event loop's turns short.
    PIECE_LEN = 64 * 1024

    def __init__(self, client, number):
        super().__init__()
        self.client, self.number = client, number

    async def send(self, data, end=False, trailers=()):
        if self.stopped:
            return
        http = self.client.http
        for start in range(0, len(data), self.PIECE_LEN):
            if self.stopped:
                return
            http.send_data(self.number, data[start : start + self.PIECE_LEN], end_stream=False)
            self.client.transmit()
            await asyncio.sleep(0)
        if end:
            if trailers:
                http.send_headers(self.number, [(n.encode(), v.encode()) for n, v in trailers], end_stream=True)
            else:
                http.send_data(self.number, b"", end_stream=True)
        self.client.transmit()

    async def leave(self):
        quic = self.client._quic
        quic.stop_stream(self.number, H3_REQUEST_CANCELLED)
        stream = quic._streams.get(self.number)
        if stream is not None and not stream.sender.is_finished:
            quic.reset_stream(self.number, H3_REQUEST_CANCELLED)
        self.client.transmit()


CONNECTIONS = {"h1": H1, "h2": H2, "h3": H3}
