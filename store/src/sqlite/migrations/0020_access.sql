-- Who may come in, and who did what. No secret is kept: of a key its hash, of a webhook the number of its secret.

CREATE TABLE api_key (
  id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
  user         TEXT    NOT NULL,
  role         TEXT    NOT NULL,
  name         TEXT    NOT NULL,
  hash         BLOB    NOT NULL CHECK (length(hash) = 32),
  -- Wire names, separated by spaces.
  scopes       TEXT    NOT NULL,
  created_at   INTEGER NOT NULL,
  updated_at   INTEGER NOT NULL,
  expires_at   INTEGER,
  revoked_at   INTEGER,
  last_used_at INTEGER
) STRICT;

CREATE INDEX api_key_user ON api_key (user, id);

CREATE TABLE webhook (
  id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
  user           TEXT    NOT NULL,
  role           TEXT    NOT NULL,
  name           TEXT    NOT NULL,
  signature      TEXT    NOT NULL CHECK (signature IN ('strict', 'plain')),
  generation     INTEGER NOT NULL,
  previous_until INTEGER,
  created_at     INTEGER NOT NULL,
  updated_at     INTEGER NOT NULL,
  revoked_at     INTEGER,
  last_used_at   INTEGER
) STRICT;

CREATE INDEX webhook_user ON webhook (user, id);

-- Deliveries that came in and whose signature is still good: each is taken once.
CREATE TABLE webhook_delivery (
  webhook_id BLOB    NOT NULL REFERENCES webhook (id),
  signed_at  INTEGER NOT NULL,
  delivery   TEXT    NOT NULL,
  PRIMARY KEY (webhook_id, signed_at, delivery)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
  id               BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
  at               INTEGER NOT NULL,
  actor            TEXT    NOT NULL,
  authenticated_by TEXT    NOT NULL,
  credential       TEXT,
  action           TEXT    NOT NULL,
  object           TEXT,
  status           INTEGER NOT NULL,
  request          TEXT    NOT NULL
) STRICT;

CREATE INDEX audit_actor ON audit (actor, id);
CREATE INDEX audit_object ON audit (object, id) WHERE object IS NOT NULL;
