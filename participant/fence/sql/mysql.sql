-- The fence of branch operations; see package participant/fence. MySQL and MariaDB.
-- born: the GID's time part in milliseconds of the cluster's clock, 0 for a key.
-- created: milliseconds of the writer's wall clock; keys are kept by it.
-- The row of part 'floor' remembers in created how far rows have been swept.
CREATE TABLE IF NOT EXISTS quorate_fence (
	gid         VARBINARY(128) NOT NULL,
	branch      VARBINARY(128) NOT NULL,
	part        VARBINARY(64) NOT NULL,
	state       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	incarnation BIGINT NOT NULL,
	term        BIGINT NOT NULL,
	calls       BIGINT NOT NULL,
	born        BIGINT NOT NULL,
	created     BIGINT NOT NULL,
	detail      VARBINARY(255) NOT NULL,
	PRIMARY KEY (gid, branch, part),
	KEY born (born, created)
) ENGINE=InnoDB;
INSERT IGNORE INTO quorate_fence (gid, branch, part, state, incarnation, term, calls, born, created, detail)
	VALUES ('', '', 'floor', 'floor', 0, 0, 0, -1, 0, '');
