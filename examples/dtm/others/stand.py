"""What the SDKs talk to: the branches, and a proxy to the coordinator that keeps
each exchange. Python's standard library only."""

import collections
import http.client
import json
import os
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What differs from run to run, and says nothing of the SDK.
HEADERS_LEFT_OUT = {"host", "content-length", "connection", "user-agent", "accept-encoding", "transfer-encoding"}


class Stand:
    """One port: /api/ is the coordinator's, all else are branches."""

    def __init__(self, coordinator):
        self.coordinator = coordinator
        self.lock = threading.Lock()
        self.exchanges = []
        self.calls = collections.defaultdict(list)  # by gid, what the coordinator called
        self.seen = collections.Counter()  # by gid, branch and op, whoever called
        stand = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                forward = self.path.startswith("/api/")
                status, answer, kind = (stand.forward if forward else stand.branch)(self, body)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = serve

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = "127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def forward(self, req, body):
        conn = http.client.HTTPConnection(self.coordinator, timeout=60)
        headers = {k: v for k, v in req.headers.items() if k.lower() not in ("host", "content-length", "connection")}
        conn.request(req.command, req.path, body, headers)
        answer = conn.getresponse()
        text = answer.read()
        conn.close()
        with self.lock:
            self.exchanges.append({
                "method": req.command, "path": req.path,
                "header": {k: v for k, v in sorted(req.headers.items()) if k.lower() not in HEADERS_LEFT_OUT},
                "body": body.decode(), "status": answer.status, "answer": text.decode().strip(),
            })
        return answer.status, text, answer.getheader("Content-Type", "")

    def branch(self, req, body):
        """/refuse refuses its first phase, and all else does as it is asked."""
        url = urllib.parse.urlsplit(req.path)
        q = {k: v[0] for k, v in urllib.parse.parse_qs(url.query).items()}
        gid, branch, op = q.get("gid", ""), q.get("branch_id", ""), q.get("op", "")
        with self.lock:
            self.seen[gid, branch, op] += 1
            if req.headers.get("User-Agent") == "quorate":
                self.calls[gid].append("%s %s %s %s %s" % (branch, op, req.command, url.path, body.decode()))
        if url.path == "/refuse" and op in ("action", "try"):
            return 409, b"not enough FAILURE", "text/plain"
        return 200, b'{"dtm_result":"SUCCESS"}', "application/json"

    def query(self, gid):
        conn = http.client.HTTPConnection(self.coordinator, timeout=60)
        conn.request("GET", "/api/dtmsvr/query?gid=" + urllib.parse.quote(gid))
        answer = json.loads(conn.getresponse().read())
        conn.close()
        return answer["transaction"] or {"status": "unknown"}

    def ends(self, gid, status):
        """Waits until a transaction has a status."""
        deadline = time.monotonic() + 30
        while self.query(gid)["status"] != status:
            if time.monotonic() > deadline:
                raise AssertionError("%s is %s, not %s" % (gid, self.query(gid)["status"], status))
            time.sleep(0.05)  # between two looks, under the deadline

    def take(self):
        """The exchanges since the last time."""
        with self.lock:
            taken, self.exchanges = self.exchanges, []
            return taken

    def write(self, directory, scene, sdk, gid, status, exchanges):
        """Keeps a scene as a file that TestOtherSDKs replays."""
        scene_file = {"sdk": sdk, "recorded": True, "ends": status, "exchanges": exchanges, "calls": sorted(self.calls[gid])}
        text = json.dumps(scene_file, indent=1, ensure_ascii=False)
        text = text.replace(gid, "{{gid}}").replace("http://" + self.address, "{{bank}}")
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, scene + ".json"), "w") as f:
            f.write(text + "\n")
