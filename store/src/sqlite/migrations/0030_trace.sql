-- The traces that are whole: the bytes are objects, these are the facts.
CREATE TABLE trace (
  task_id   BLOB PRIMARY KEY REFERENCES task (id),
  object    TEXT NOT NULL,
  uri       TEXT NOT NULL,
  bytes     INTEGER NOT NULL,
  sealed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
