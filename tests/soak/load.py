# SPDX-License-Identifier: Apache-2.0
"""The load of the soak run: servers and clients, each in a process of its own.

A connection begins with a line of the client's that says what is to happen:

    echo 0 0     the server sends back what it gets, until the client ends
    give N S     the server sends N bytes of pattern S and ends
    take N S     the server reads N bytes of pattern S and answers "ok"
    reset N S    the server reads N bytes and resets

Both ends know every byte and how many there are, so that one that is lost, doubled or wrong shows,
and so does a connection that was cut but ends as if it were complete ("short").
"""

import collections
import contextlib
import errno
import multiprocessing
import os
import random
import signal
import socket
import struct
import threading
import time

from mesh.netns import setns

fork = multiprocessing.get_context("fork")
PERIOD = 65521
RUN, PAUSE, STOP = 0, 1, 2
TIMEOUT_S = float(os.environ.get("SOAK_TIMEOUT", "20"))
KINDS = ("short", "plain", "bulk", "idle", "slow", "reset", "churn", "dns", "victim", "denied",
         "refused", "server")
# What happens to a flow: done, as promised; cut: ended by something that may end it (a pod that was
# deleted, the end of a drain); the others break a promise.
RESULTS = ("done", "cut", "failed", "short", "corrupt", "bytes")


class Corrupt(Exception):
    pass


class Short(Exception):
    """The end of the stream, without a reset, before all bytes came."""


class Shared:
    """What the coordinator and all load processes share."""

    def __init__(self):
        self.phase = fork.Value("i", RUN)
        self.epoch = fork.Value("i", 0)  # counts the events that may end long flows
        self.open = fork.Value("i", 0)  # flows of the clients'
        self.counts = fork.Array("q", len(KINDS) * len(RESULTS))
        self.errors = fork.SimpleQueue()
        self.n_errors = fork.Value("i", 0)

    def add(self, kind, result, n=1):
        with self.counts.get_lock():
            self.counts[KINDS.index(kind) * len(RESULTS) + RESULTS.index(result)] += n

    def get(self, kind, result):
        return self.counts[KINDS.index(kind) * len(RESULTS) + RESULTS.index(result)]

    def total(self, result):
        return sum(self.get(kind, result) for kind in KINDS)

    def error(self, kind, result, text):
        self.add(kind, result)
        with self.n_errors.get_lock():
            self.n_errors.value += 1
            if self.n_errors.value > 200:  # the pipe's reader needs a chance
                return
        self.errors.put(f"{time.strftime('%H:%M:%S')} {kind} {result}: {text}")


patterns = {}


def pattern(seed, offset, n):
    """`n` <= PERIOD bytes of the endless pattern `seed`, from `offset`."""
    twice = patterns.get(seed)
    if twice is None:
        once = random.Random(seed).randbytes(PERIOD)
        twice = patterns[seed] = memoryview(once + once)
    start = offset % PERIOD
    return twice[start:start + n]


def read_pattern(conn, n, seed, pace=None):
    got = 0
    while got < n:
        data = conn.recv(min(PERIOD, n - got) if pace is None else pace(got, n))
        if not data:
            raise Short(f"{got} of {n} bytes")
        if data != pattern(seed, got, len(data)):
            raise Corrupt(f"within bytes {got} to {got + len(data)} of {n}")
        got += len(data)


def read_end(conn):
    data = conn.recv(1)
    if data:
        raise Corrupt("bytes after the end")


def write_pattern(conn, n, seed, rate=0):
    begin, sent = time.monotonic(), 0
    while sent < n:
        sent += conn.send(pattern(seed, sent, min(PERIOD, n - sent)))
        ahead = sent / rate - (time.monotonic() - begin) if rate else 0
        if ahead > 0.01:
            time.sleep(ahead)


def reset(conn, is_on=1):
    """close(), also that of a process that dies, sends RST."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", is_on, 0))


# Servers


def read_line(conn):
    line = b""
    while not line.endswith(b"\n"):
        data = conn.recv(1)
        if not data:
            raise EOFError
        line += data
    kind, n, seed = line.decode().split()
    return kind, int(n), int(seed)


def serve_one(shared, conn, rate):
    kind = "?"
    try:
        reset(conn)  # a server that is killed does not look like one that ended
        kind, n, seed = read_line(conn)
        if kind == "echo":
            while data := conn.recv(1 << 16):
                conn.sendall(data)
        elif kind == "give":
            write_pattern(conn, n, seed, rate)
        elif kind == "take":
            read_pattern(conn, n, seed)
            conn.sendall(b"ok")
        elif kind == "reset":
            read_pattern(conn, n, seed)
            return
        reset(conn, 0)
    except Short as e:
        # Clients never end early without a reset.
        shared.error("server", "short", f"{kind}: {e}")
    except Corrupt as e:
        shared.error("server", "corrupt", f"{kind}: {e}")
    except (EOFError, OSError):
        pass
    finally:
        conn.close()


def child(target, netns, name, *args):
    """A process that runs target(*args) within the network namespace."""

    def run():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        threading.stack_size(256 << 10)
        fd = os.open(netns, os.O_RDONLY)
        setns(fd)
        os.close(fd)
        target(*args)

    process = fork.Process(target=run, name=name, daemon=True)
    process.start()
    return process


def serve(shared, port, rate=0):
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", port))
    listener.listen(1024)
    is_stopping = []
    threads = set()

    def on_term(*_):
        # As a server in Kubernetes does it: no new connections, and the running ones to their end.
        is_stopping.append(1)
        listener.shutdown(socket.SHUT_RDWR)

    def one(conn):
        serve_one(shared, conn, rate)
        threads.discard(threading.current_thread())

    signal.signal(signal.SIGTERM, on_term)
    while not is_stopping:
        try:
            conn, _ = listener.accept()
        except OSError as e:
            if not is_stopping:
                shared.error("server", "failed", f"accept: {e!r}")
                time.sleep(0.1)
            continue
        thread = threading.Thread(target=one, args=(conn,), daemon=True)
        threads.add(thread)
        thread.start()
    for thread in list(threads):
        thread.join(20)


# Clients


class Client:
    """What the threads of one kind do, over and over. `to`: (address, port), some to choose from."""

    def __init__(self, shared, kind, to, may_cut=False):
        self.shared, self.kind, self.to, self.may_cut = shared, kind, to, may_cut
        self.rng = random.Random()

    @contextlib.contextmanager
    def connect(self):
        to = self.rng.choice(self.to)
        conn = socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET)
        conn.settimeout(TIMEOUT_S)
        with self.shared.open.get_lock():
            self.shared.open.value += 1
        try:
            conn.connect(to)
            yield conn
        except OSError as e:
            e.to = to
            raise
        finally:
            conn.close()
            with self.shared.open.get_lock():
                self.shared.open.value -= 1

    def begin(self, conn, kind, n):
        seed = self.rng.randrange(50)
        conn.sendall(f"{kind} {n} {seed}\n".encode())
        return seed

    def pause(self, seconds):
        time.sleep(self.rng.uniform(0, 2 * seconds))

    def run_once(self):
        raise NotImplementedError

    def loop(self):
        shared = self.shared
        while shared.phase.value != STOP:
            if shared.phase.value == PAUSE:
                time.sleep(0.1)
                continue
            epoch = shared.epoch.value
            begin = time.monotonic()
            try:
                self.run_once()
                shared.add(self.kind, "done")
            except Short as e:
                shared.error(self.kind, "short", str(e))
            except Corrupt as e:
                shared.error(self.kind, "corrupt", str(e))
            except OSError as e:
                if self.may_cut or self.is_excused(epoch):
                    shared.add(self.kind, "cut")
                    self.pause(0.1)
                else:
                    age = time.monotonic() - begin
                    shared.error(self.kind, "failed",
                                 f"{e!r} to {getattr(e, 'to', '')} after {age:.2f} s")

    def is_excused(self, epoch):
        return False


class Short1(Client):
    """Requests: a connection each, both ways to end it."""

    def run_once(self):
        n = self.rng.choice((100, 1000, 1000, 10000))
        with self.connect() as conn:
            seed = self.begin(conn, "echo", 0)
            data = bytes(pattern(seed, self.rng.randrange(PERIOD), n))
            conn.sendall(data)
            is_half_closed = self.rng.random() < 0.5
            if is_half_closed:
                conn.shutdown(socket.SHUT_WR)
            got = b""
            while len(got) < n:
                more = conn.recv(n)
                if not more:
                    raise Short(f"{len(got)} of {n} bytes")
                got += more
            if got != data:
                raise Corrupt(f"an echo of {n} bytes")
            if is_half_closed:
                read_end(conn)
        self.shared.add(self.kind, "bytes", 2 * n)
        self.pause(0.02)


class Bulk(Client):
    def run_once(self):
        n = self.rng.randrange(1 << 20, 32 << 20)
        with self.connect() as conn:
            if self.rng.random() < 0.5:
                read_pattern(conn, n, self.begin(conn, "give", n))
                read_end(conn)
            else:
                write_pattern(conn, n, self.begin(conn, "take", n))
                conn.shutdown(socket.SHUT_WR)
                if conn.recv(2) != b"ok":
                    raise Short("the answer after an upload")
        self.shared.add(self.kind, "bytes", n)
        self.pause(0.2)


class Idle(Client):
    """Long and quiet. Only the deadline of a drain, or the run's end, ends it."""

    def is_excused(self, epoch):
        return self.shared.epoch.value != epoch

    def run_once(self):
        epoch = self.shared.epoch.value
        with self.connect() as conn:
            self.begin(conn, "echo", 0)
            n = 0
            while self.shared.phase.value == RUN:
                message = b"%d %d" % (id(conn), n)
                conn.sendall(message)
                got = conn.recv(100)
                if not got:
                    raise Short("an idle connection")
                if got != message:
                    raise Corrupt("a message of an idle connection")
                self.shared.add(self.kind, "bytes", len(got))
                if self.shared.epoch.value != epoch and self.rng.random() < 0.3:
                    return  # some leave the process that drains
                for _ in range(self.rng.randrange(10, 50)):
                    if self.shared.phase.value == RUN:
                        time.sleep(0.1)


class Slow(Client):
    """Lets megabytes wait in the tunnel, then takes them all."""

    def run_once(self):
        n = 6 << 20
        calm = time.monotonic() + self.rng.uniform(1, 8)

        def pace(got, n):
            if time.monotonic() < calm and self.shared.phase.value == RUN:
                time.sleep(0.02)
                return min(4096, n - got)
            return min(PERIOD, n - got)

        with self.connect() as conn:
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
            read_pattern(conn, n, self.begin(conn, "give", n), pace)
            read_end(conn)
        self.shared.add(self.kind, "bytes", n)


class Reset(Client):
    """Resets by the client in the middle, and by the server."""

    def run_once(self):
        n = self.rng.randrange(1, 200000)
        with self.connect() as conn:
            kind = self.rng.choice(("take", "give", "reset"))
            if kind == "reset":
                seed = self.begin(conn, "reset", n)
                write_pattern(conn, n, seed)
                try:
                    if not conn.recv(1):
                        raise Short("the server's reset arrives as an end")
                except ConnectionResetError:
                    pass
            elif kind == "take":
                seed = self.begin(conn, "take", 2 * n)
                write_pattern(conn, n, seed)
                self.pause(0.01)
            else:
                seed = self.begin(conn, "give", 100 * n)
                read_pattern(conn, n, seed)
            reset(conn)
        self.pause(0.02)


class Victim(Client):
    """Downloads from a pod that is deleted while they run."""

    def run_once(self):
        n = 8 << 20
        with self.connect() as conn:
            read_pattern(conn, n, self.begin(conn, "give", n))
        self.shared.add(self.kind, "bytes", n)
        self.pause(0.1)


class Refused(Client):
    """Must not get an answer. `denied`: a policy; `refused`: a closed port."""

    def run_once(self):
        try:
            with self.connect() as conn:
                self.begin(conn, "echo", 0)
                data = conn.recv(10)
        except socket.timeout:
            raise
        except OSError as e:
            if e.errno not in (errno.ECONNRESET, errno.ECONNREFUSED, errno.EPIPE):
                raise
            data = b""
        if data:
            raise Corrupt("answered")
        self.pause(0.1)


class Dns(Client):
    def run_once(self):
        name = b"\6server\4demo\3svc\7cluster\5local\0"
        query = struct.pack("!HHHHHH", self.rng.randrange(65536), 0x100, 1, 0, 0, 0) + name \
            + struct.pack("!HH", 1, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(TIMEOUT_S)
            sock.connect(self.to[0])
            sock.send(query)
            answer = sock.recv(512)
        if answer[:2] != query[:2] or answer[3] & 15 != 0 or answer[6:8] != b"\0\1":
            raise Corrupt(f"DNS answer {answer[:12].hex()}")
        self.pause(0.05)


CLASSES = collections.defaultdict(lambda: Short1, bulk=Bulk, idle=Idle, slow=Slow, reset=Reset,
                                  dns=Dns, victim=Victim, denied=Refused, refused=Refused)


def clients(shared, plan):
    """plan: (kind, number of threads, addresses, may_cut)."""
    threads = []
    for kind, n, to, may_cut in plan:
        for _ in range(n):
            client = CLASSES[kind](shared, kind, to, may_cut)
            threads.append(threading.Thread(target=client.loop, daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
