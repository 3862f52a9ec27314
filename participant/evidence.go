package participant

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
)

// EvidenceTable is the table of evidence rows in each database: the fence of its
// branches. A row says of one branch what its local transaction did:
//
//	gid     the transaction
//	branch  the branch id
//	state   `done`: the local transaction happened. It is inserted as its last
//	        statement, so it is there exactly if the work is.
//	        `fenced`: it can no longer happen. Whoever had to know inserted it
//	        first, and the key admits one row.
//	born    the GID's time part, in milliseconds of the cluster's clock
//	cluster the cluster's id: clusters do not share a clock
//
// GIDs sort by their birth, so what is to be swept stands first in the primary key, and `born`
// needs no index: a row costs less to write. Tables of before have one; it may be dropped.
//
// Rows are swept once their cluster's floor has passed `born`; the row of gid
// `floor`, with the cluster's id as its branch, remembers how far, and a GID of that
// cluster born at or below it is refused. In Postgres
// the row of gid `timeline` remembers the server's timeline.
const EvidenceTable = "quorate_evidence"

// States of an evidence row.
const (
	evidenceDone   = "done"
	evidenceFenced = "fenced"
)

// floorGID is the gid of the row that remembers the floor.
const floorGID = "floor"

// Bounds of the proxy's own statements.
const (
	// fenceWaitMax bounds the wait for a transaction that holds the evidence row's key.
	fenceWaitMax = time.Second
	// sweepRowsMax is how many rows one statement of a sweep deletes.
	sweepRowsMax = 1000
)

// evidence is what the fence says of a branch.
type evidence int

const (
	// evidenceOfWork means that the branch's work is committed.
	evidenceOfWork evidence = iota + 1
	// evidenceOfNone means that it is not, and never will be.
	evidenceOfNone
	// evidenceSwept means that the row may have been swept: nobody can tell.
	evidenceSwept
)

// outcome turns evidence into what the branch did. A swept row leaves a commit in
// hazard; for a rollback it means rolled back, as for any GID of that age.
func (e evidence) outcome(v Verdict) Outcome {
	switch {
	case e == evidenceOfWork:
		return OutcomeCommitted
	case e == evidenceSwept && v == VerdictCommit:
		return OutcomeHazard
	}
	return OutcomeRolledBack
}

// settle asks the fence about a branch whose transaction cannot be found: it
// inserts the row, so that the branch can never prepare or commit any more,
// unless a row stands. ErrBusy means that the branch's transaction holds the key:
// it may still live.
func settle(ctx context.Context, d dialect, s rawSession, ref BranchRef) (evidence, error) {
	if err := checkEvidenceKey(ref); err != nil {
		return 0, err
	}
	floor, err := readFloor(ctx, d, s)
	if err != nil {
		return 0, err
	}
	if ref.GID.BornMS() <= floor {
		return evidenceSwept, nil
	}
	if err := d.fence(ctx, s, ref); err != nil {
		switch faultOf(err) {
		case faultLockTimeout, faultDeadlock:
			return 0, fmt.Errorf("%w: the local transaction of branch %s is still open: %w", ErrBusy, ref, err)
		}
		return 0, err
	}
	row, err := s.row(ctx, "SELECT state FROM "+EvidenceTable+" WHERE gid = "+d.literal(string(ref.GID))+" AND branch = "+d.literal(ref.ID))
	if err != nil {
		return 0, fmt.Errorf("read the evidence of branch %s: %w", ref, err)
	}
	if text(row[0]) == evidenceDone {
		return evidenceOfWork, nil
	}
	return evidenceOfNone, nil
}

// checkEvidenceKey admits what needs no quoting, as xids do.
func checkEvidenceKey(ref BranchRef) error {
	if !isULID(string(ref.GID)) || !validXidBranch(ref.ID) {
		return fmt.Errorf("participant: %q cannot name a branch of a database: want a GID, and 1 to %d of letters, digits and ._:@-", ref, BranchIDBytesMax)
	}
	return nil
}

// readFloor is the time to which evidence was swept, in cluster milliseconds.
func readFloor(ctx context.Context, d dialect, s rawSession) (uint64, error) {
	row, err := s.row(ctx, "SELECT born FROM "+EvidenceTable+" WHERE gid = "+d.literal(floorGID)+" AND branch = "+d.literal(d.cluster()))
	if errors.Is(err, errNoRow) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the evidence floor: %w", err)
	}
	n, err := number(row[0])
	return uint64(n), err
}

// sweep drops the rows born at or below floorMS. The floor is raised first: a
// branch of that age must be refused before its row can be missing.
func sweep(ctx context.Context, d dialect, s rawSession, floorMS uint64) error {
	standing, err := readFloor(ctx, d, s)
	if err != nil || floorMS <= standing {
		return err
	}
	// The floor rises all the time. It is written only where a row can go: nobody's
	// transactions should meet a writer that has nothing to do.
	err = d.byIndex(ctx, s, func() error {
		_, err := s.row(ctx, "SELECT gid FROM "+EvidenceTable+" WHERE "+d.upTo(floorMS)+" LIMIT 1")
		return err
	})
	if errors.Is(err, errNoRow) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for evidence born at or before %d: %w", floorMS, err)
	}
	if err := d.raiseFloor(ctx, s, floorMS); err != nil {
		return fmt.Errorf("raise the evidence floor to %d: %w", floorMS, err)
	}
	for {
		n, err := d.sweepSome(ctx, s, floorMS)
		if err != nil {
			return fmt.Errorf("sweep evidence born at or before %d: %w", floorMS, err)
		}
		if n < sweepRowsMax {
			return nil
		}
	}
}

// ensureSchema creates the evidence table where it is missing.
func ensureSchema(ctx context.Context, d dialect, s rawSession) error {
	_, err := readFloor(ctx, d, s)
	if faultOf(err) != faultNoTable {
		return err
	}
	for _, statement := range d.schema() {
		// Another process may create it at the same moment; what counts is that it is there.
		if _, createErr := s.exec(ctx, statement); createErr != nil {
			if _, err := readFloor(ctx, d, s); err != nil {
				return fmt.Errorf("create table %s: %w; create it by hand (see participant.EvidenceDDL) or grant CREATE", EvidenceTable, createErr)
			}
		}
	}
	return nil
}

// EvidenceDDL is the SQL that creates the evidence table, one statement an
// element, for administrators who do not let services create tables.
func EvidenceDDL(d Dialect) []string { return d.make("").schema() }

// errFenced is what a branch hears whose evidence row was inserted by others.
func errFenced(ref BranchRef, err error) error {
	return fmt.Errorf("branch %s was rolled back while it was being worked on (its evidence row is fenced): %w", ref, err)
}

// errSwept is what a branch hears that is older than the floor.
func errSwept(ref BranchRef) error {
	return refusef("branch %s is refused: evidence of its age has been swept, so its transaction has ended long ago", ref)
}

// errSwapped is what a branch hears whose transaction is not the one begun.
func errSwapped(ref BranchRef) error {
	return fmt.Errorf("branch %s: the open transaction is not the one that BeginTx began: %w", ref, ErrTransactionControl)
}

// dialect is what differs in the SQL of databases.
type dialect interface {
	// cluster is the id of the cluster whose rows are written and swept.
	cluster() string
	// literal quotes a checked string.
	literal(string) string
	// mysql text is tokenized by MySQL's rules.
	mysqlText() bool
	// schema creates the evidence table.
	schema() []string
	// durability refuses settings that lose what was acknowledged.
	durability(ctx context.Context, s rawSession) error
	// begin opens a plain local transaction.
	begin(ctx context.Context, s rawSession, o opening) (mark, error)
	// guard returns an error when the open transaction is not the one that begin
	// began, where record cannot tell.
	guard(ctx context.Context, s rawSession) error
	// record inserts the row `done` as the last statement of an open transaction, and
	// checks that it is still the one that was begun. wrote is false, and there is no
	// row, when the transaction wrote nothing.
	record(ctx context.Context, s rawSession, ref BranchRef, m mark) (wrote bool, err error)
	// fence inserts the row `fenced` unless a row stands, in a transaction of its own,
	// waiting at most fenceWaitMax.
	fence(ctx context.Context, s rawSession, ref BranchRef) error
	raiseFloor(ctx context.Context, s rawSession, floorMS uint64) error
	// upTo is the condition for the rows of the cluster's GIDs born at or below floorMS.
	upTo(floorMS uint64) string
	// byIndex runs f, whose statements have the condition of upTo, where the database
	// goes by an index for that.
	byIndex(ctx context.Context, s rawSession, f func() error) error
	sweepSome(ctx context.Context, s rawSession, floorMS uint64) (int64, error)
	// settings puts back what begin changed on the connection; after an error it
	// must not be used again.
	settings(ctx context.Context, s rawSession, m mark) error
}

// opening is what a local transaction begins with.
type opening struct {
	gid      GID
	opts     driver.TxOptions
	lockWait time.Duration
	young    bool // its evidence cannot have been swept
}

// mark is what begin notes for record and settings.
type mark struct {
	// token is the transaction's identity in Postgres.
	token string
	// wrote is set by the proxy when a statement has surely changed a row.
	wrote bool
	// young is set by the proxy when the evidence cannot have been swept.
	young bool
	// readOnly transactions cannot hold an evidence row.
	readOnly bool
	// writes counts the rows that the session had written before, where that was counted.
	writes  int64
	counted bool
	// schemaChanged is set by the proxy when a statement that is no plain reading or
	// changing of rows went through.
	schemaChanged bool
	// lockWait is the session's own lock timeout, where it was changed.
	lockWait        int64
	lockWaitChanged bool
}

// clusterID is a dialect's cluster.
type clusterID string

func (c clusterID) cluster() string { return string(c) }

// upTo names the end in the key, too: a look at what stands before it is all that a sweep
// takes. `floor` and `timeline` come after every GID, byte by byte.
func (c clusterID) upTo(floorMS uint64) string {
	return fmt.Sprintf("born <= %d AND gid < '%s' AND cluster = '%s'", floorMS, firstGID(floorMS+1), c)
}

func (clusterID) byIndex(_ context.Context, _ rawSession, f func() error) error { return f() }

// rollBack ends a transaction of the proxy's own in which a statement failed with err. Its
// connection serves others next: an ended context must not leave it in the transaction.
func rollBack(ctx context.Context, s rawSession, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commandTimeout)
	defer cancel()
	_, undoErr := s.exec(ctx, "ROLLBACK")
	return errors.Join(err, undoErr)
}

// firstGID is the least GID born at a time.
func firstGID(bornMS uint64) GID {
	var id ulid.ULID
	if err := id.SetTime(min(bornMS, ulid.MaxTime())); err != nil {
		panic(fmt.Sprintf("participant: a ULID does not hold its largest time: %v", err)) // it does
	}
	return GID(id.String())
}

// Dialect names a kind of database.
type Dialect int

// The dialects that are known.
const (
	DialectPostgres Dialect = iota + 1
	DialectMySQL            // MariaDB too
	DialectSQLite
)

// make is the dialect for a cluster's branches. The id comes over the wire and
// becomes a part of statements, so what is no ULID is left out.
func (d Dialect) make(cluster string) dialect {
	if !isULID(cluster) {
		cluster = ""
	}
	switch d {
	case DialectPostgres:
		return postgresDialect{clusterID(cluster)}
	case DialectMySQL:
		return &mysqlDialect{clusterID: clusterID(cluster)}
	case DialectSQLite:
		return sqliteDialect{clusterID(cluster)}
	}
	panic(fmt.Sprintf("participant: no such dialect: %d", d))
}

// guardSavepoint is set as a plain transaction begins, and released before its
// evidence row: it is there exactly while that transaction is. SQLite after
// some errors, and MySQL after a deadlock, have rolled the transaction back and
// run what follows outside of any: the row would stand without the work.
const guardSavepoint = "quorate_branch"

func checkGuard(ctx context.Context, s rawSession) error {
	if _, err := s.exec(ctx, "RELEASE SAVEPOINT "+guardSavepoint); err != nil {
		return fmt.Errorf("the transaction that BeginTx began is gone: an error before has rolled it back: %w", err)
	}
	return nil
}

// isolation is the SQL name of a level, or "" for the default.
func isolation(o driver.TxOptions) (string, error) {
	switch o.Isolation {
	case 0: // sql.LevelDefault
		return "", nil
	case 1:
		return "READ UNCOMMITTED", nil
	case 2:
		return "READ COMMITTED", nil
	case 4:
		return "REPEATABLE READ", nil
	case 6:
		return "SERIALIZABLE", nil
	}
	return "", refusef("participant: isolation level %d is not supported", o.Isolation)
}
