-- What was spent, summed by UTC day (days since 1970): budgets and reports read this and not every call. It outlives
-- the tasks it sums up.
CREATE TABLE usage_day (
  day                INTEGER NOT NULL,
  user               TEXT    NOT NULL,
  repo               TEXT    NOT NULL,
  workflow           TEXT    NOT NULL,
  model              TEXT    NOT NULL,
  cost_micro         INTEGER NOT NULL,
  tokens_input       INTEGER NOT NULL,
  tokens_output      INTEGER NOT NULL,
  tokens_cache_read  INTEGER NOT NULL,
  tokens_cache_write INTEGER NOT NULL,
  calls              INTEGER NOT NULL,
  unpriced_calls     INTEGER NOT NULL,
  PRIMARY KEY (day, user, repo, workflow, model)
) STRICT, WITHOUT ROWID;

INSERT INTO usage_day
SELECT u.at / 86400000000000, t.user, t.repo, json_extract(t.body, '$.spec.workflow'), u.model,
       coalesce(sum(u.cost_micro), 0), sum(u.tokens_input), sum(u.tokens_output), sum(u.tokens_cache_read),
       sum(u.tokens_cache_write), count(*), count(*) - count(u.cost_micro)
  FROM usage u JOIN task t ON t.id = u.task_id
 GROUP BY 1, 2, 3, 4, 5;
