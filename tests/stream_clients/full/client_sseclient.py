"""Follows a stream with sseclient, which comes back by itself.

    client_sseclient.py URL
"""

import json
import sys
import time

import requests
from sseclient import SSEClient

requests.packages.urllib3.disable_warnings()
last_id = None
while True:
    try:
        # It says on standard output why it comes back, and gives up after a reset, or where nobody
        # listens.
        for event in SSEClient(sys.argv[1], last_id, retry=200, verify=False):
            seen = {"event": event.event, "data": event.data, "id": event.id}
            print(json.dumps(seen), flush=True)
            last_id = event.id or last_id
    except OSError as error:
        print(repr(error), file=sys.stderr)
    time.sleep(0.2)
