"""Stories told by stomp.py: `stomp_py.py STORY VERSION PORT` ends with 0 when the story came true.

Every wait is for a frame, with a limit. Each story uses destinations of its own.
"""

import queue
import sys
import time

import stomp

HOST = "127.0.0.1"
PATIENCE_S = 20
CONNECTIONS = {
    "1.0": stomp.Connection10,
    "1.1": stomp.Connection11,
    "1.2": stomp.Connection12,
}


class Inbox(stomp.ConnectionListener):
    """Keeps what arrives, by kind, until the story asks for it."""

    def __init__(self):
        self.messages, self.receipts, self.errors = queue.Queue(), queue.Queue(), queue.Queue()
        self.ends = queue.Queue()
        self.heartbeats = queue.Queue()
        self.connected = None
        self.timed_out = False

    def on_connected(self, frame):
        self.connected = frame

    def on_message(self, frame):
        self.messages.put(frame)

    def on_receipt(self, frame):
        self.receipts.put(frame)

    def on_error(self, frame):
        self.errors.put(frame)

    def on_disconnected(self):
        self.ends.put(True)

    def on_heartbeat(self):
        self.heartbeats.put(True)

    def on_heartbeat_timeout(self):
        self.timed_out = True


class Client:
    """One connection in one version, with the differences of the versions inside."""

    def __init__(self, **options):
        self.conn = CONNECTIONS[VERSION]([(HOST, PORT)], **options)
        self.inbox = Inbox()
        self.receipts = 0
        self.conn.set_listener("inbox", self.inbox)
        self.conn.connect("guest", "guest", wait=True)
        version = self.inbox.connected.headers.get("version", "1.0")
        assert version == VERSION, f"asked for {VERSION} and got {version}"

    def receipt(self):
        self.receipts += 1
        return f"r:{self.receipts}" if VERSION != "1.0" else f"r{self.receipts}"

    def wait_receipt(self, receipt):
        frame = self.inbox.receipts.get(timeout=PATIENCE_S)
        assert frame.headers["receipt-id"] == receipt, frame

    def send(self, destination, body, **headers):
        receipt = self.receipt()
        self.conn.send(destination, body, headers={"receipt": receipt, **headers})
        self.wait_receipt(receipt)

    def subscribe(self, destination, ack="auto", id="s1", **headers):
        receipt = self.receipt()
        headers = {"receipt": receipt, **headers}
        self.conn.subscribe(destination, id=id, ack=ack, headers=headers)
        self.wait_receipt(receipt)

    def unsubscribe(self, id="s1"):
        receipt = self.receipt()
        self.conn.unsubscribe(id=id, headers={"receipt": receipt})
        self.wait_receipt(receipt)

    def message(self):
        return self.inbox.messages.get(timeout=PATIENCE_S)

    def ack(self, frame):
        self._settle(self.conn.ack, frame)

    def nack(self, frame):
        self._settle(self.conn.nack, frame)

    def _settle(self, verb, frame):
        receipt, headers = self.receipt(), frame.headers
        if VERSION == "1.0":
            verb(headers["message-id"], receipt=receipt)
        elif VERSION == "1.1":
            verb(headers["message-id"], headers["subscription"], receipt=receipt)
        else:
            verb(headers["ack"], receipt=receipt)
        self.wait_receipt(receipt)

    def ack_in(self, transaction, frame):
        headers = frame.headers
        if VERSION == "1.0":
            self.conn.ack(headers["message-id"], transaction)
        elif VERSION == "1.1":
            self.conn.ack(headers["message-id"], headers["subscription"], transaction)
        else:
            self.conn.ack(headers["ack"], transaction)

    def end(self, verb, transaction):
        receipt = self.receipt()
        verb(transaction, headers={"receipt": receipt})
        self.wait_receipt(receipt)

    def disconnect(self):
        receipt = self.receipt()
        self.conn.disconnect(receipt=receipt)
        self.inbox.ends.get(timeout=PATIENCE_S)


def same(found, expected):
    assert found == expected, f"found {found!r}, expected {expected!r}"


def rest_of(destination):
    """All bodies that wait in a queue, up to a mark sent behind them; nothing is consumed."""
    client = Client()
    client.send(destination, "the end")
    client.subscribe(destination, ack="client-individual", id="rest")
    bodies = []
    while True:
        frame = client.message()
        if frame.body == "the end":
            client.ack(frame)
            client.disconnect()
            return bodies
        bodies.append(frame.body)


def sends_and_receives():
    client = Client()
    client.subscribe("/queue/py.plain")
    client.send("/queue/py.plain", "hello", colour="blue")
    frame = client.message()
    same(frame.body, "hello")
    same(frame.headers["destination"], "/queue/py.plain")
    same(frame.headers["subscription"], "s1")
    same(frame.headers["colour"], "blue")
    assert frame.headers["message-id"], frame
    client.disconnect()


def auto_ack_consumes_on_delivery():
    client = Client()
    for body in ["a", "b"]:
        client.send("/queue/py.auto", body)
    client.subscribe("/queue/py.auto", ack="auto")
    same([client.message().body for _ in range(2)], ["a", "b"])
    client.unsubscribe()
    client.disconnect()
    same(rest_of("/queue/py.auto"), [])


def client_ack_covers_all_before():
    client = Client()
    for body in ["a", "b", "c", "d"]:
        client.send("/queue/py.client", body)
    client.subscribe("/queue/py.client", ack="client")
    frames = [client.message() for _ in range(4)]
    client.ack(frames[2])
    client.disconnect()
    same(rest_of("/queue/py.client"), ["d"])


def individual_ack_covers_one():
    client = Client()
    for body in ["a", "b", "c"]:
        client.send("/queue/py.individual", body)
    client.subscribe("/queue/py.individual", ack="client-individual")
    frames = [client.message() for _ in range(3)]
    client.ack(frames[1])
    client.disconnect()
    same(rest_of("/queue/py.individual"), ["a", "c"])


def nack_brings_a_message_back():
    client = Client()
    client.send("/queue/py.nack", "again")
    client.subscribe("/queue/py.nack", ack="client-individual")
    first = client.message()
    assert first.headers.get("redelivered") != "true", first
    client.nack(first)
    second = client.message()
    same(second.body, "again")
    same(second.headers["redelivered"], "true")
    same(second.headers["message-id"], first.headers["message-id"])
    client.ack(second)
    client.disconnect()
    same(rest_of("/queue/py.nack"), [])


def unacknowledged_goes_to_the_next():
    first = Client()
    first.send("/queue/py.next", "held")
    first.subscribe("/queue/py.next", ack="client-individual")
    held = first.message()
    second = Client()
    second.subscribe("/queue/py.next", ack="client-individual")
    first.disconnect()
    frame = second.message()
    same(frame.body, "held")
    same(frame.headers["redelivered"], "true")
    same(frame.headers["message-id"], held.headers["message-id"])
    second.ack(frame)
    second.disconnect()


def prefetch_limits_what_is_outstanding():
    greedy, other = Client(), Client()
    for body in ["a", "b"]:
        greedy.send("/queue/py.prefetch", body)
    limit = {"activemq.prefetchSize": "1"}
    greedy.subscribe("/queue/py.prefetch", ack="client-individual", **limit)
    other.subscribe("/queue/py.prefetch", ack="client-individual", **limit)
    same((greedy.message().body, other.message().body), ("a", "b"))
    greedy.disconnect()
    other.disconnect()


def bodies_arrive_byte_by_byte():
    client = Client(auto_decode=False)
    client.subscribe("/queue/py.bodies")
    for body in [bytes(range(256)) * 40, "Grüße, 世界 🦀".encode(), b"\0", b"\n\n\0\n", b""]:
        client.send("/queue/py.bodies", body, **{"content-type": "application/octet-stream"})
        frame = client.message()
        found = frame.body if isinstance(frame.body, bytes) else (frame.body or "").encode()
        same(found, body)
        if body:
            same(frame.headers["content-type"], "application/octet-stream")
    client.disconnect()


def large_body_arrives_whole():
    client = Client()
    client.subscribe("/queue/py.large")
    body = "0123456789abcdef" * (1 << 16)
    client.send("/queue/py.large", body)
    assert client.message().body == body, "the large body changed"
    client.disconnect()


def headers_keep_their_marks():
    client = Client()
    client.subscribe("/queue/py.headers")
    marks = {"colon": "a:b", "slash": "a\\b", "end": "ends with \\", "speech": "ü 世"}
    if VERSION != "1.0":
        marks["lines"] = "two\nlines"
        marks["na:me"] = "in the name"
    if VERSION == "1.2":
        marks["return"] = "a\r\nb"
    if VERSION != "1.0":
        # stomp.py escapes values and leaves names to its user.
        sent = {name.replace(":", "\\c"): value for name, value in marks.items()}
    else:
        sent = marks
    client.send("/queue/py.headers", "x", **sent)
    headers = client.message().headers
    for name, value in marks.items():
        same(headers.get(name), value)
    client.disconnect()


def heart_beats_keep_an_idle_connection():
    client = Client(heartbeats=(400, 400))
    _, out = client.inbox.connected.headers["heart-beat"].split(",")
    assert int(client.inbox.connected.headers["heart-beat"].split(",")[0]) > 0, "none offered"
    assert int(out) > 0, "none wanted"
    # Four beats of the broker are longer than either side's patience for one.
    for _ in range(4):
        client.inbox.heartbeats.get(timeout=PATIENCE_S)
    assert not client.inbox.timed_out, "the broker's heart stood still"
    client.send("/queue/py.heart", "still here")
    same(rest_of("/queue/py.heart"), ["still here"])
    client.disconnect()


def topic_reaches_all_who_listen_now():
    early, other = Client(), Client()
    early.subscribe("/topic/py.news")
    other.subscribe("/topic/py.news")
    early.send("/topic/py.news", "one")
    same((early.message().body, other.message().body), ("one", "one"))
    late = Client()
    late.subscribe("/topic/py.news")
    early.send("/topic/py.news", "two")
    same((early.message().body, other.message().body, late.message().body), ("two",) * 3)
    for client in [early, other, late]:
        client.disconnect()


def unsubscribed_gets_no_more():
    client = Client()
    client.subscribe("/queue/py.gone", id="s1")
    client.send("/queue/py.gone", "one")
    same(client.message().body, "one")
    client.unsubscribe(id="s1")
    client.send("/queue/py.gone", "two")
    client.subscribe("/queue/py.other", id="s2")
    client.send("/queue/py.other", "three")
    same(client.message().body, "three")
    client.disconnect()
    same(rest_of("/queue/py.gone"), ["two"])


def errors_say_why():
    client = Client()
    if VERSION == "1.0":
        client.conn.ack("no-such-message")
    elif VERSION == "1.1":
        client.conn.ack("no-such-message", "no-such-subscription")
    else:
        client.conn.ack("no-such-message")
    error = client.inbox.errors.get(timeout=PATIENCE_S)
    assert error.headers["message"], error
    client.inbox.ends.get(timeout=PATIENCE_S)


def error_names_the_receipt_it_answers():
    client = Client()
    client.conn.send_frame("SEND", {"receipt": "r9"}, "to nowhere")
    error = client.inbox.errors.get(timeout=PATIENCE_S)
    same(error.headers["receipt-id"], "r9")
    client.inbox.ends.get(timeout=PATIENCE_S)


def a_commit_does_all_and_an_abort_nothing():
    client = Client()
    source, target = "/queue/py.tx.in", "/queue/py.tx.out"
    for body in ["kept", "given back"]:
        client.send(source, body)
    client.subscribe(source, ack="client-individual")
    first, second = client.message(), client.message()
    kept = client.conn.begin()
    client.ack_in(kept, first)
    client.send(target, "moved", transaction=kept)
    other = client.conn.begin()
    client.ack_in(other, second)
    client.send(target, "never", transaction=other)
    same(rest_of(target), [])
    client.end(client.conn.commit, kept)
    client.end(client.conn.abort, other)
    again = client.message()
    same(again.body, "given back")
    same(again.headers["redelivered"], "true")
    client.disconnect()
    same(rest_of(source), ["given back"])
    same(rest_of(target), ["moved"])


def a_schedule_repeats_and_a_transaction_delays():
    client = Client()
    client.subscribe("/queue/py.later", ack="client-individual")
    repeated = {"AMQ_SCHEDULED_PERIOD": "100", "AMQ_SCHEDULED_REPEAT": "2"}
    client.send("/queue/py.later", "again", **repeated)
    frames = [client.message() for _ in range(3)]
    same([frame.body for frame in frames], ["again"] * 3)
    same(len({frame.headers["message-id"] for frame in frames}), 3)
    same(len({frame.headers["scheduledJobId"] for frame in frames}), 1)
    unit = client.conn.begin()
    client.send("/queue/py.later", "late", transaction=unit, AMQ_SCHEDULED_DELAY="200")
    committed = time.monotonic()
    client.end(client.conn.commit, unit)
    late = client.message()
    same(late.body, "late")
    assert time.monotonic() - committed >= 0.2, "it came before its time"
    for frame in [*frames, late]:
        client.ack(frame)
    client.disconnect()
    same(rest_of("/queue/py.later"), [])


def many_messages_keep_their_order():
    client = Client()
    client.subscribe("/queue/py.many", ack="client-individual")
    started = time.monotonic()
    for number in range(1000):
        client.conn.send("/queue/py.many", str(number), headers={"persistent": "true"})
    for number in range(1000):
        frame = client.message()
        same(frame.body, str(number))
        client.ack(frame)
    print(f"1000 in {time.monotonic() - started:.2f} s")
    client.disconnect()
    same(rest_of("/queue/py.many"), [])


if __name__ == "__main__":
    STORY, VERSION, PORT = sys.argv[1], sys.argv[2], int(sys.argv[3])
    globals()[STORY]()
    print(f"{STORY} in {VERSION}: ok")
