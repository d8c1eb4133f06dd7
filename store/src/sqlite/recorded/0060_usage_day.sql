-- What a server of schema 0060_usage_day had beside it: it summed up each call when it was made.

INSERT INTO usage_day (day, user, repo, workflow, model, cost_micro, tokens_input, tokens_output, tokens_cache_read, tokens_cache_write, calls, unpriced_calls) VALUES (19675, 'ann', 'octo/cat', 'coding/new-task-v1', 'x', 1500, 100, 20, 0, 0, 2, 0);
