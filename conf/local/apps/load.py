#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""load.py URL SECONDS [THREADS]: requests, each on a new connection; prints a summary as JSON.

SIGTERM ends it early. A request has failed when it did not bring status 200 and the whole body. Exit code 1 if any did.
"""

import http.client
import json
import signal
import sys
import threading
import time
from collections import Counter
from urllib.parse import urlsplit


stop = threading.Event()


def worker(url, end, answers, errors, lock):
    while time.monotonic() < end and not stop.is_set():
        try:
            connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=10)
            connection.request("GET", url.path or "/", headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read().decode(errors="replace")
            connection.close()
            key, counter = " ".join(body.split()[:3]), answers
            if response.status != 200:
                key, counter = f"status {response.status}", errors
        except (OSError, http.client.HTTPException) as e:
            key, counter = f"{type(e).__name__}: {e}", errors
        with lock:
            counter[key] += 1


def main():
    url, seconds = urlsplit(sys.argv[1]), float(sys.argv[2])
    n_threads = int(sys.argv[3]) if len(sys.argv) > 3 else 4
    answers, errors, lock = Counter(), Counter(), threading.Lock()
    end = time.monotonic() + seconds
    threads = [threading.Thread(target=worker, args=(url, end, answers, errors, lock))
               for _ in range(n_threads)]
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"requests": sum(answers.values()) + sum(errors.values()),
                      "failed": sum(errors.values()), "answers": answers, "errors": errors},
                     indent=2))
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
