-- What a server of schema 0020_access had beside it: a key, a webhook with a delivery, a line of the audit log.

INSERT INTO api_key (id, user, role, name, hash, scopes, created_at, updated_at) VALUES (x'018bcfe56800000000000000000000d1', 'ann', 'member', 'ci', x'abababababababababababababababababababababababababababababababab', 'tasks:read tasks:write', 1700000000000000000, 1700000000000000000);
INSERT INTO webhook (id, user, role, name, signature, generation, created_at, updated_at) VALUES (x'018bcfe56800000000000000000000e1', 'ann', 'member', 'issues', 'strict', 1, 1700000000000000000, 1700000000000000000);
INSERT INTO webhook_delivery (webhook_id, signed_at, delivery) VALUES (x'018bcfe56800000000000000000000e1', 1700000001000000000, 'd-1');
INSERT INTO audit (id, at, actor, authenticated_by, credential, action, object, status, request) VALUES (x'018bcfe56800000000000000000000f1', 1700000001000000000, 'ann', 'owner_key', NULL, 'POST /v1/tasks', '01HF7YAT000000000000000001', 201, '01ARZ3NDEKTSV4RRFFQ69G5FAV');
