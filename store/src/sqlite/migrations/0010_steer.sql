-- What people say to agents. `number` is the order in which it was said.

CREATE TABLE nudge (
  number        INTEGER PRIMARY KEY AUTOINCREMENT,
  id            BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
  task_id       BLOB    NOT NULL REFERENCES task (id),
  person        TEXT    NOT NULL,
  text          TEXT    NOT NULL,
  submitted_at  INTEGER NOT NULL,
  taken_attempt INTEGER,
  taken_at      INTEGER
) STRICT;

CREATE INDEX nudge_task ON nudge (task_id, number);

CREATE TABLE ask (
  number      INTEGER PRIMARY KEY AUTOINCREMENT,
  id          BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
  task_id     BLOB    NOT NULL REFERENCES task (id),
  person      TEXT    NOT NULL,
  question    TEXT    NOT NULL,
  opened_at   INTEGER NOT NULL,
  answer      TEXT,
  source      TEXT,
  answered_at INTEGER
) STRICT;

CREATE INDEX ask_task ON ask (task_id, number);
CREATE UNIQUE INDEX ask_open ON ask (task_id, person) WHERE answered_at IS NULL;
