"""A receiver of OTLP/HTTP around OpenTelemetry's own messages (opentelemetry-proto). Prints its port, then every span as
one line of JSON. First argument: `take`; `refuse` (500); `busy` (503); `hang` (answers nothing)."""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service

MOOD = sys.argv[1]
OUT = threading.Lock()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = service.ExportTraceServiceRequest()
        request.ParseFromString(body)
        asked = {"path": self.path, "headers": {name.lower(): value for name, value in self.headers.items()}}
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    told = MessageToDict(span)
                    told.update(trace_id=span.trace_id.hex(), span_id=span.span_id.hex())
                    told.update(parent_span_id=span.parent_span_id.hex(), asked=asked)
                    told.update(resource=MessageToDict(resource.resource), scope=MessageToDict(scope.scope))
                    told["links"] = [{"trace_id": l.trace_id.hex(), "span_id": l.span_id.hex()} for l in span.links]
                    with OUT:
                        print(json.dumps(told), flush=True)
        if MOOD == "hang":
            time.sleep(3600)
        status = {"take": 200, "refuse": 500, "busy": 503}[MOOD]
        answer = service.ExportTraceServiceResponse().SerializeToString()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
server.daemon_threads = True
print(json.dumps({"port": server.server_address[1]}), flush=True)
server.serve_forever()
