"""A backend on python's h2, which checks every frame that a client sends: small windows, few streams.

    h2_backend.py

It prints its port. /upload answers with the length of the request's body, /large with 300,000 octets,
anything else with "ok" and trailers. What h2 calls a fault of the client's is written to standard error.
"""

import socket
import sys
import threading

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

SETTINGS = {
    h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 5000,
    h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 8,
    h2.settings.SettingCodes.HEADER_TABLE_SIZE: 0,
}


class Connection:
    def __init__(self, client):
        self.socket = client
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=SETTINGS)
        self.paths, self.lengths, self.waiting = {}, {}, {}

    def serve(self):
        self.h2.initiate_connection()
        self.flush()
        while data := self.socket.recv(65536):
            for event in self.h2.receive_data(data):
                self.handle(event)
            for stream in list(self.waiting):
                self.send(stream)
            self.flush()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def handle(self, event):
        if isinstance(event, h2.events.RequestReceived):
            self.paths[event.stream_id] = dict(event.headers)[":path"]
            self.lengths[event.stream_id] = 0
        elif isinstance(event, h2.events.DataReceived):
            self.lengths[event.stream_id] += len(event.data)
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.respond(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.waiting.pop(event.stream_id, None)

    def respond(self, stream):
        path, length = self.paths.pop(stream), self.lengths.pop(stream)
        body = {"/upload": str(length).encode(), "/large": b"x" * 300_000}.get(path, b"ok")
        self.h2.send_headers(stream, [(":status", "200"), ("x-length", str(length))])
        self.waiting[stream] = body

    def send(self, stream):
        body = self.waiting[stream]
        while body:
            size = min(len(body), self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if size <= 0:
                self.waiting[stream] = body
                return
            self.h2.send_data(stream, body[:size])
            body = body[size:]
        self.h2.send_headers(stream, [("x-end", "yes")], end_stream=True)
        del self.waiting[stream]


def serve(client):
    try:
        Connection(client).serve()
    except h2.exceptions.ProtocolError as error:
        print(f"fault: {error!r}", file=sys.stderr, flush=True)
    except OSError:
        pass


def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    print(listener.getsockname()[1], flush=True)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()


if __name__ == "__main__":
    main()
