# SPDX-License-Identifier: Apache-2.0
"""A WebSocket client over HTTP/2 (RFC 8441): hyper-h2 has the frames, wsproto the messages."""

import socket

import h2.config
import h2.connection
import h2.events
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage


class WebSocket:
    def __init__(self, host, path, port=80, fields=()):
        self.sock = socket.create_connection((host, port), 10)
        self.sock.settimeout(10)
        self.conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.conn.initiate_connection()
        self.frames = Connection(ConnectionType.CLIENT)
        self.events, self.messages = [], []
        self.text, self.bytes = "", b""
        self.is_ended, self.reset = False, None
        self.flush()
        self.until(lambda: any(isinstance(e, h2.events.RemoteSettingsChanged) for e in self.events))
        self.is_announced = self.conn.remote_settings.enable_connect_protocol == 1
        self.conn.send_headers(1, [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
            (":authority", host), (":path", path), ("sec-websocket-version", "13"), *fields])
        self.flush()
        self.until(lambda: self.head() is not None or self.reset is not None)

    def flush(self):
        self.sock.sendall(self.conn.data_to_send())

    def head(self):
        for event in self.events:
            if isinstance(event, h2.events.ResponseReceived):
                return {k.decode(): v.decode() for k, v in event.headers}
        return None

    def until(self, condition):
        while not condition():
            data = self.sock.recv(1 << 16)
            assert data, "the connection ended"
            for event in self.conn.receive_data(data):
                self.events.append(event)
                if isinstance(event, h2.events.DataReceived):
                    self.conn.acknowledge_received_data(event.flow_controlled_length, 1)
                    self.take(event.data)
                elif isinstance(event, h2.events.StreamEnded):
                    self.is_ended = True
                elif isinstance(event, h2.events.StreamReset):
                    self.reset = event.error_code
            self.flush()

    def take(self, data):
        if self.head()[":status"] != "200" or not data:
            return
        self.frames.receive_data(data)
        for event in self.frames.events():
            if isinstance(event, TextMessage):
                self.text += event.data
                if event.message_finished:
                    self.messages.append(self.text)
                    self.text = ""
            elif isinstance(event, BytesMessage):
                self.bytes += event.data
                if event.message_finished:
                    self.messages.append(self.bytes)
                    self.bytes = b""
            elif isinstance(event, CloseConnection):
                self.messages.append(("closed", event.code))
                self.write(self.frames.send(event.response()))

    def write(self, data):
        while data:
            room = min(self.conn.local_flow_control_window(1), self.conn.max_outbound_frame_size)
            if room == 0:
                self.until(lambda: self.conn.local_flow_control_window(1) > 0)
                continue
            self.conn.send_data(1, data[:room])
            data = data[room:]
            self.flush()

    def send(self, message):
        kind = TextMessage if isinstance(message, str) else BytesMessage
        self.write(self.frames.send(kind(message)))

    def recv(self):
        self.until(lambda: self.messages)
        return self.messages.pop(0)

    def ask(self, message):
        self.send(message)
        return self.recv()
