-- The fence of branch operations; see package participant/fence.
-- born: the GID's time part in milliseconds of the cluster's clock, 0 for a key.
-- created: milliseconds of the writer's wall clock; keys are kept by it.
-- cluster: the cluster's id where it is known: clusters share no clock.
-- The rows of part 'floor' remember in created how far a cluster's rows have been swept.
CREATE TABLE IF NOT EXISTS quorate_fence (
	gid         TEXT NOT NULL,
	branch      TEXT NOT NULL,
	part        TEXT NOT NULL,
	cluster     TEXT NOT NULL,
	state       TEXT NOT NULL,
	incarnation INTEGER NOT NULL,
	term        INTEGER NOT NULL,
	calls       INTEGER NOT NULL,
	born        INTEGER NOT NULL,
	created     INTEGER NOT NULL,
	detail      TEXT NOT NULL,
	PRIMARY KEY (gid, branch, part)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS quorate_fence_born ON quorate_fence (cluster, born, created);
INSERT INTO quorate_fence (gid, branch, part, cluster, state, incarnation, term, calls, born, created, detail)
	VALUES ('', '', 'floor', '', 'floor', 0, 0, 0, -1, 0, '') ON CONFLICT DO NOTHING;
