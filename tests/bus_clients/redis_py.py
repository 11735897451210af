"""What a Python backend does with redis-py: publish, in a pipeline, and listen, in both protocols."""

import json
import sys

import redis

host, port = sys.argv[1], int(sys.argv[2])
for protocol in (2, 3):
    with redis.Redis(host=host, port=port, protocol=protocol, socket_timeout=5) as client:
        print("ping", client.ping())
        print("publish", client.publish("news", json.dumps({"hello": "wörld"})))
        pipeline = client.pipeline()
        pipeline.publish("news", "one").publish("news", "two")
        print("pipeline", pipeline.execute())

        listener = client.pubsub(ignore_subscribe_messages=True)
        listener.subscribe("mine")
        listener.get_message(timeout=5)
        print("mine", client.publish("mine", "to myself"))
        message = None
        while message is None:
            message = listener.get_message(timeout=5)
        print("heard", message["channel"], message["data"])
        listener.close()
