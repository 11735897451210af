"""Reads a stream of an AI service with a library as applications use it: read.py LIBRARY URL

One line of JSON for each thing that the application is given. The stream comes from the path that the
library asks for under URL.
"""

import json
import sys

library, url = sys.argv[1:]
chat = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def show(seen):
    print(json.dumps(seen), flush=True)


def openai():
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/openai", api_key="anna", max_retries=0)
    for chunk in client.chat.completions.create(**chat):
        show(chunk.model_dump(mode="json"))


def anthropic():
    from anthropic import Anthropic

    client = Anthropic(base_url=f"{url}/anthropic", api_key="anna", max_retries=0)
    for event in client.messages.create(max_tokens=9, **chat):
        show(event.model_dump(mode="json"))


def httpx_sse():
    import httpx
    from httpx_sse import connect_sse

    headers = {"authorization": "Bearer anna"}
    with httpx.Client(timeout=30) as client:
        with connect_sse(client, "POST", f"{url}/events", headers=headers, json={}) as source:
            for event in source.iter_sse():
                show({"event": event.event, "data": event.data})


def langgraph():
    from langgraph_sdk import get_sync_client

    client = get_sync_client(url=url, api_key="anna")
    for part in client.runs.stream(None, "agent", input={}):
        show({"event": part.event, "data": part.data})


{"openai": openai, "anthropic": anthropic, "httpx-sse": httpx_sse, "langgraph": langgraph}[library]()
