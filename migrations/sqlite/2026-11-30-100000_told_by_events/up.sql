-- From here on the row of an open session may leave its JSON to its last event, of the same revision: its `detail` is empty then.
-- What is stored stays as it is; programs that do not know this must not open it.
SELECT 1;
