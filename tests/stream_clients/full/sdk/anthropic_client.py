"""Reads a message with the official SDK: anthropic_client.py URL

Over HTTP/2 with HTTP2=yes.
"""

import json
import os
import sys

import httpx2
from anthropic import Anthropic

http = httpx2.Client(http2="HTTP2" in os.environ, verify=False, timeout=60)
client = Anthropic(api_key="none", base_url=sys.argv[1], http_client=http, max_retries=0)
message = {"role": "user", "content": "hello"}
with client.messages.stream(model="m", max_tokens=10, messages=[message]) as stream:
    texts = list(stream.text_stream)
    final = stream.get_final_message()
print(json.dumps({"texts": texts, "stop": final.stop_reason, "tokens": final.usage.output_tokens}))
