"""Follows a stream with sseclient-py over requests; comes back with the last id.

    client_sseclient_py.py URL
"""

import json
import sys
import time

import requests
from sseclient import SSEClient

url = sys.argv[1]
requests.packages.urllib3.disable_warnings()
last_id = None
while True:
    headers = {"Accept": "text/event-stream"}
    if last_id:
        headers["Last-Event-ID"] = last_id
    try:
        response = requests.get(url, stream=True, headers=headers, verify=False)
        for event in SSEClient(response).events():
            seen = {"event": event.event, "data": event.data, "id": event.id}
            print(json.dumps(seen), flush=True)
            last_id = event.id or last_id
    except requests.RequestException as error:
        print(repr(error), file=sys.stderr)
    time.sleep(0.2)
