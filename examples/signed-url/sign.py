"""Signs a URL for a route with auth.signed_url. To try it:
SECRET=… python3 sign.py 'https://app.example/events?channel=news' k1 3600
"""

import base64
import hashlib
import hmac
import os
import re
import sys
import time


def sign_url(url, key, secret, expires, method="GET"):
    origin, host, path = re.match(r"(https?://([^/?:]+|\[[^]]+\])(?::\d+)?)(/.*)", url, re.I).groups()
    signed = f"{path}{'&' if '?' in path else '?'}exp={expires}&kid={key}"
    message = f"{method}\n{host.lower()}\n{signed}"
    tag = hmac.new(secret.encode(), message.encode(), hashlib.sha256).digest()
    return f"{origin}{signed}&sig={base64.urlsafe_b64encode(tag).decode().rstrip('=')}"


if __name__ == "__main__":
    print(sign_url(sys.argv[1], sys.argv[2], os.environ["SECRET"], int(time.time()) + int(sys.argv[3])))
