"""What a Python backend does with redis-py: publish, in a pipeline, and listen, in both protocols."""

import json
import sys
import threading

import redis

host, port = sys.argv[1], int(sys.argv[2])
for protocol in (2, 3):
    with redis.Redis(host=host, port=port, protocol=protocol, socket_timeout=5) as client:
        print("ping", client.ping())
        print("publish", client.publish("news", json.dumps({"hello": "wörld"})))
        pipeline = client.pipeline()
        pipeline.publish("news", "one").publish("news", "two")
        print("pipeline", pipeline.execute())

        client.delete("log")
        woken = []
        waiter = redis.Redis(host=host, port=port, protocol=protocol)
        wait = lambda: woken.append(waiter.xread({"log": "$"}, block=0))
        thread = threading.Thread(target=wait)
        thread.start()
        while client.info("clients")["blocked_clients"] == 0:
            pass
        entry = client.xadd("log", {"data": "wörld"}, id="1-1", maxlen=100)
        thread.join()
        print("woken", entry, woken[0])
        print("range", client.xrange("log", count=10), client.xread({"log": "$"}, block=1))
        print("info", client.xinfo_stream("log")["length"], client.xlen("log"))
        waiter.close()

        listener = client.pubsub(ignore_subscribe_messages=True)
        listener.subscribe("mine")
        listener.get_message(timeout=5)
        print("mine", client.publish("mine", "to myself"))
        message = None
        while message is None:
            message = listener.get_message(timeout=5)
        print("heard", message["channel"], message["data"])
        listener.close()
