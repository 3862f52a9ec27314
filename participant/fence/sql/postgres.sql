-- The fence of branch operations; see package participant/fence.
-- born: the GID's time part in milliseconds of the cluster's clock, 0 for a key.
-- created: milliseconds of the writer's wall clock; keys are kept by it.
-- cluster: the cluster's id where it is known: clusters share no clock.
-- The rows of part 'floor' remember in created how far a cluster's rows have been swept.
CREATE TABLE IF NOT EXISTS quorate_fence (
	gid         text COLLATE "C" NOT NULL,
	branch      text COLLATE "C" NOT NULL,
	part        text COLLATE "C" NOT NULL,
	cluster     text COLLATE "C" NOT NULL,
	state       text NOT NULL,
	incarnation bigint NOT NULL,
	term        bigint NOT NULL,
	calls       bigint NOT NULL,
	born        bigint NOT NULL,
	created     bigint NOT NULL,
	detail      text NOT NULL,
	PRIMARY KEY (gid, branch, part)
);
CREATE INDEX IF NOT EXISTS quorate_fence_born ON quorate_fence (cluster, born, created);
INSERT INTO quorate_fence (gid, branch, part, cluster, state, incarnation, term, calls, born, created, detail)
	VALUES ('', '', 'floor', '', 'floor', 0, 0, 0, -1, 0, '') ON CONFLICT DO NOTHING;
