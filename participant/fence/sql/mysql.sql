-- The fence of branch operations; see package participant/fence. MySQL and MariaDB.
-- born: the GID's time part in milliseconds of the cluster's clock, 0 for a key.
-- created: milliseconds of the writer's wall clock; keys are kept by it.
-- cluster: the cluster's id where it is known: clusters share no clock.
-- The rows of part 'floor' remember in created how far a cluster's rows have been swept.
CREATE TABLE IF NOT EXISTS quorate_fence (
	gid         VARBINARY(128) NOT NULL,
	branch      VARBINARY(128) NOT NULL,
	part        VARBINARY(64) NOT NULL,
	cluster     VARBINARY(64) NOT NULL,
	state       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	incarnation BIGINT NOT NULL,
	term        BIGINT NOT NULL,
	calls       BIGINT NOT NULL,
	born        BIGINT NOT NULL,
	created     BIGINT NOT NULL,
	detail      VARBINARY(255) NOT NULL,
	PRIMARY KEY (gid, branch, part),
	KEY born (cluster, born, created)
) ENGINE=InnoDB;
INSERT IGNORE INTO quorate_fence (gid, branch, part, cluster, state, incarnation, term, calls, born, created, detail)
	VALUES ('', '', 'floor', '', 'floor', 0, 0, 0, -1, 0, '');
