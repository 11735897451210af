"""Follows a stream with httpx-sse; comes back with the last id, as its README shows.

    client_httpx_sse.py URL        over HTTP/2 with HTTP2=yes
"""

import json
import os
import sys
import time

import h2.exceptions
import httpx
from httpx_sse import connect_sse

url = sys.argv[1]
client = httpx.Client(http2="HTTP2" in os.environ, verify=False, timeout=None)
last_id, wait = "", 0.2
while True:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    try:
        with connect_sse(client, "GET", url, headers=headers) as source:
            for event in source.iter_sse():
                seen = {"event": event.event or "message", "data": event.data, "id": event.id}
                print(json.dumps(seen), flush=True)
                last_id = event.id
                wait = wait if event.retry is None else event.retry / 1000
    # That of h2 where something follows a GOAWAY, after which h2 reads nothing more.
    except (httpx.TransportError, h2.exceptions.ProtocolError) as error:
        print(repr(error), file=sys.stderr)
    time.sleep(wait)
