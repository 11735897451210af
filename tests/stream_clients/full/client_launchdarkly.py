"""Follows a stream with launchdarkly-eventsource, which comes back by itself.

    client_launchdarkly.py URL
"""

import json
import sys

import urllib3
from ld_eventsource import SSEClient
from ld_eventsource.config import ConnectStrategy, ErrorStrategy

urllib3.disable_warnings()
pool = urllib3.PoolManager(cert_reqs="CERT_NONE")
client = SSEClient(
    ConnectStrategy.http(sys.argv[1], pool=pool),
    initial_retry_delay=0.2,
    error_strategy=ErrorStrategy.always_continue(),
)
for event in client.events:
    seen = {"event": event.event, "data": event.data, "id": event.last_event_id}
    print(json.dumps(seen), flush=True)
