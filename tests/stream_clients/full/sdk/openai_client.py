"""Reads a chat completion and a response with the official SDK: openai_client.py URL

Over HTTP/2 with HTTP2=yes.
"""

import json
import os
import sys

import httpx
from openai import OpenAI

http = httpx.Client(http2="HTTP2" in os.environ, verify=False, timeout=60)
client = OpenAI(api_key="none", base_url=f"{sys.argv[1]}/v1", http_client=http, max_retries=0)
chunks = client.chat.completions.create(
    model="m", messages=[{"role": "user", "content": "hello"}], stream=True
)
chat = [chunk.choices[0].delta.content for chunk in chunks]
events = client.responses.create(model="m", input="hello", stream=True)
response = [event.delta if event.type == "response.output_text.delta" else event.type for event in events]
print(json.dumps({"chat": chat, "response": response}))
