"""A proxy between pagehaul and a store that does what stores do now and then, as its dice say.

Lost answers (carried out, answered with 500), conflicts (409, and nothing is stored), storms of 503, connections that break before or
after the request was carried out, slow responses; and a network that is cut.
"""

import http.client
import random
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("lost", "conflict", "broken before", "broken after", "slow", "storm")
STORM = 4  # requests


class Proxy:
    """Listens on a port of this machine. `share`: of the requests, how many are hit."""

    def __init__(self, target, seed, share):
        self.target, self.share, self.cut = target, share, False
        self.dice, self.lock, self.storm, self.done = random.Random(seed), threading.Lock(), 0, {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def fault(self):
        with self.lock:
            if self.storm:
                self.storm -= 1
                return "storm"
            if self.dice.random() >= self.share:
                return None
            fault = self.dice.choice(FAULTS)
            self.storm = STORM if fault == "storm" else 0
            return fault

    def heal(self):
        """From now on the store does not err."""
        with self.lock:
            self.share, self.storm, self.cut = 0, 0, False

    def count(self, fault):
        with self.lock:
            self.done[fault] = self.done.get(fault, 0) + 1

    def handler(self):
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = proxy.fault()
                writes = self.command in ("PUT", "POST", "DELETE")
                conditional = "If-None-Match" in self.headers or "If-Match" in self.headers
                if proxy.cut or fault == "broken before":
                    proxy.count("broken before")
                    return self.hang_up()
                if fault == "storm":
                    return self.answer(503, b"<Error><Code>SlowDown</Code><Message>Slower.</Message></Error>", fault)
                if fault == "conflict" and conditional:
                    code = b"<Error><Code>ConditionalRequestConflict</Code><Message>Again.</Message></Error>"
                    return self.answer(409, code, fault)
                connection = http.client.HTTPConnection(*proxy.target, timeout=60)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
                try:
                    connection.request(self.command, self.path, body, headers)
                    response = connection.getresponse()
                    content = response.read()
                except OSError:
                    return self.hang_up()
                finally:
                    connection.close()
                if fault == "lost" and writes:
                    return self.answer(500, b"<Error><Code>InternalError</Code><Message>?</Message></Error>", fault)
                if fault == "broken after" and writes:
                    proxy.count(fault)
                    return self.hang_up()
                if fault == "slow":
                    proxy.count(fault)
                    time.sleep(2)
                self.answer(response.status, content, None, response.getheaders())

            def hang_up(self):
                self.close_connection = True
                try:
                    self.connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # the other side was faster

            def answer(self, status, content, fault, headers=()):
                if fault:
                    proxy.count(fault)
                try:
                    self.send_response_only(status)
                    for name, value in headers:
                        if name.lower() not in ("connection", "transfer-encoding", "content-length", "keep-alive"):
                            self.send_header(name, value)
                    length = dict((name.lower(), value) for name, value in headers).get("content-length")
                    self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(content)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(content)
                except OSError:
                    pass

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do

        return Handler
