-- Ids are 16 bytes, big-endian: they compare as ULIDs do. Times are nanoseconds since 1970. Money is micro-dollars.

CREATE TABLE task (
  id                 BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
  user               TEXT    NOT NULL,
  repo               TEXT    NOT NULL,
  status             TEXT    NOT NULL,
  version            INTEGER NOT NULL,
  attempt            INTEGER NOT NULL,
  created_at         INTEGER NOT NULL,
  started_at         INTEGER,
  completed_at       INTEGER,
  -- When the orchestrator must next look, and whether somebody asked for it since the last claim.
  wake_at            INTEGER,
  woken              INTEGER NOT NULL DEFAULT 0,
  -- Who looks now. The epoch survives the lease.
  lease_owner        TEXT,
  lease_epoch        INTEGER NOT NULL DEFAULT 0,
  lease_until        INTEGER,
  -- Why it is queued, and the scope in which it was last refused a slot.
  queue_reason       TEXT,
  not_before         INTEGER,
  waits_for          TEXT,
  waits_limit        INTEGER,
  -- The head of its event log.
  last_seq           INTEGER NOT NULL DEFAULT 0,
  last_event_id      BLOB,
  attempt_events     INTEGER NOT NULL DEFAULT 0,
  attempt_cut        INTEGER NOT NULL DEFAULT 0,
  -- What it cost; written by usage only.
  cost_micro         INTEGER NOT NULL DEFAULT 0,
  tokens_input       INTEGER NOT NULL DEFAULT 0,
  tokens_output      INTEGER NOT NULL DEFAULT 0,
  tokens_cache_read  INTEGER NOT NULL DEFAULT 0,
  tokens_cache_write INTEGER NOT NULL DEFAULT 0,
  calls              INTEGER NOT NULL DEFAULT 0,
  unpriced_calls     INTEGER NOT NULL DEFAULT 0,
  -- Everything else, JSON.
  body               TEXT    NOT NULL
) STRICT;

CREATE INDEX task_due ON task (wake_at) WHERE wake_at IS NOT NULL AND lease_until IS NULL;
CREATE INDEX task_leased ON task (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX task_user ON task (user, id);
CREATE INDEX task_repo ON task (repo, id);
CREATE INDEX task_status ON task (user, status);
CREATE INDEX task_queue ON task (waits_for, created_at, id)
  WHERE status = 'QUEUED' AND queue_reason = 'concurrency_limit';
CREATE INDEX task_queue_user ON task (user, created_at, id) WHERE status = 'QUEUED';
CREATE INDEX task_ended ON task (completed_at) WHERE completed_at IS NOT NULL AND started_at IS NOT NULL;

CREATE TABLE idempotency (
  user      TEXT NOT NULL,
  key       TEXT NOT NULL,
  body_hash TEXT NOT NULL,
  task_id   BLOB NOT NULL REFERENCES task (id),
  PRIMARY KEY (user, key)
) STRICT, WITHOUT ROWID;

-- `id` rises with `seq` within a task, so a search by id needs no index of its own.
CREATE TABLE event (
  task_id    BLOB    NOT NULL REFERENCES task (id),
  seq        INTEGER NOT NULL,
  id         BLOB    NOT NULL CHECK (length(id) = 16),
  kind       TEXT    NOT NULL,
  at         INTEGER NOT NULL,
  metadata   TEXT    NOT NULL,
  attempt    INTEGER,
  client_key TEXT,
  PRIMARY KEY (task_id, seq)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX event_client_key ON event (task_id, attempt, client_key) WHERE client_key IS NOT NULL;

CREATE TABLE slot (
  scope   TEXT NOT NULL,
  task_id BLOB NOT NULL REFERENCES task (id),
  PRIMARY KEY (scope, task_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX slot_task ON slot (task_id);

CREATE TABLE session (
  task_id      BLOB    NOT NULL REFERENCES task (id),
  attempt      INTEGER NOT NULL,
  opened_at    INTEGER NOT NULL,
  instance     TEXT,
  attached_at  INTEGER,
  heartbeat_at INTEGER,
  stage        TEXT,
  poll_errors  INTEGER NOT NULL DEFAULT 0,
  poll_ended   INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (task_id, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE usage (
  call_id            TEXT    NOT NULL PRIMARY KEY,
  task_id            BLOB    NOT NULL REFERENCES task (id),
  attempt            INTEGER NOT NULL,
  model              TEXT    NOT NULL,
  at                 INTEGER NOT NULL,
  cost_micro         INTEGER,
  tokens_input       INTEGER NOT NULL,
  tokens_output      INTEGER NOT NULL,
  tokens_cache_read  INTEGER NOT NULL,
  tokens_cache_write INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE obligation (
  id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
  task_id    BLOB    NOT NULL REFERENCES task (id),
  duty       TEXT    NOT NULL,
  created_at INTEGER NOT NULL,
  due_at     INTEGER NOT NULL,
  tries      INTEGER NOT NULL DEFAULT 0,
  last_error TEXT,
  alarm      INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE INDEX obligation_due ON obligation (due_at);

CREATE TABLE outbox (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  channel    TEXT    NOT NULL,
  task_id    BLOB    NOT NULL,
  seq        INTEGER NOT NULL,
  due_at     INTEGER NOT NULL,
  tries      INTEGER NOT NULL DEFAULT 0,
  last_error TEXT,
  FOREIGN KEY (task_id, seq) REFERENCES event (task_id, seq)
) STRICT;

CREATE INDEX outbox_order ON outbox (channel, task_id, id);
CREATE INDEX outbox_due ON outbox (channel, due_at);

CREATE TABLE pull_request (
  task_id BLOB NOT NULL PRIMARY KEY REFERENCES task (id),
  body    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row that a readiness check writes.
CREATE TABLE pulse (
  one  INTEGER PRIMARY KEY CHECK (one = 1),
  beat INTEGER NOT NULL
) STRICT;

INSERT INTO pulse (one, beat) VALUES (1, 0);
