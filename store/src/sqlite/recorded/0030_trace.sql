-- What a server of schema 0030_trace had beside it: the trace of the task that was delivered.

INSERT INTO trace (task_id, object, uri, bytes, sealed_at) VALUES (x'018bcfe5680000000000000000000002', 'traces/t2.ndjson.gz', 'file:///traces/t2.ndjson.gz', 99, 1700000010000000000);
