package participant

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// Limits on the names of prepared branches in databases, in bytes.
const (
	// xaPartBytesMax is XA's limit on gtrid and bqual (X/Open XA, xa.h: MAXGTRIDSIZE).
	xaPartBytesMax = 64
	// postgresGIDBytesMax is Postgres' limit on a prepared transaction's identifier
	// (GIDSIZE in access/xact.h, with its closing zero).
	postgresGIDBytesMax = 199
	// xidTimeoutSecondsMax is what four digits hold.
	xidTimeoutSecondsMax = 9999
)

// postgresPrefix opens every identifier of ours in pg_prepared_xacts.
const postgresPrefix = "quorate:"

// xaXid is an XA transaction's name: gtrid is the GID, bqual is
// `<cluster>.<timeout>.<branch>` (PROTOCOL.md, section 5).
type xaXid struct{ gtrid, bqual string }

// newXAXid names a branch for XA START and its kin.
func newXAXid(p Prepared) (xaXid, error) {
	timeout, err := xidTimeout(p)
	if err != nil {
		return xaXid{}, err
	}
	x := xaXid{gtrid: string(p.GID), bqual: p.Cluster + "." + timeout + "." + p.ID}
	if len(x.bqual) > xaPartBytesMax {
		return xaXid{}, fmt.Errorf("participant: the xid of branch %s takes %d bytes, XA allows %d", p.BranchRef, len(x.bqual), xaPartBytesMax)
	}
	return x, nil
}

// sql is the xid as XA statements want it. The parts are checked when the xid
// is made or read: they hold neither quotes nor backslashes.
func (x xaXid) sql() string { return "'" + x.gtrid + "','" + x.bqual + "'" }

// parseXAXid reads a row of XA RECOVER; ok is false for xids that are not ours.
func parseXAXid(gtridLen, bqualLen int, data string) (Prepared, bool) {
	if gtridLen != ulid.EncodedSize || bqualLen < 0 || gtridLen+bqualLen != len(data) {
		return Prepared{}, false
	}
	gid, bqual := data[:gtridLen], data[gtridLen:]
	cluster, rest, ok1 := strings.Cut(bqual, ".")
	timeout, branch, ok2 := strings.Cut(rest, ".")
	if !ok1 || !ok2 {
		return Prepared{}, false
	}
	return parseXid(cluster, gid, timeout, branch)
}

// newPostgresXid names a branch for PREPARE TRANSACTION:
// `quorate:<cluster>:<gid>:<timeout>:<branch>`.
func newPostgresXid(p Prepared) (string, error) {
	timeout, err := xidTimeout(p)
	if err != nil {
		return "", err
	}
	xid := postgresPrefix + strings.Join([]string{p.Cluster, string(p.GID), timeout, p.ID}, ":")
	if len(xid) > postgresGIDBytesMax {
		return "", fmt.Errorf("participant: the identifier of branch %s takes %d bytes, Postgres allows %d", p.BranchRef, len(xid), postgresGIDBytesMax)
	}
	return xid, nil
}

// parsePostgresXid reads an identifier of pg_prepared_xacts; ok is false for
// those that are not ours.
func parsePostgresXid(xid string) (Prepared, bool) {
	rest, ok := strings.CutPrefix(xid, postgresPrefix)
	if !ok {
		return Prepared{}, false
	}
	parts := strings.SplitN(rest, ":", 4)
	if len(parts) != 4 {
		return Prepared{}, false
	}
	return parseXid(parts[0], parts[1], parts[2], parts[3])
}

// parseXid reads the parts that both forms have. It accepts exactly what the
// makers make, so that a name that is nearly ours stays somebody else's.
func parseXid(cluster, gid, timeout, branch string) (Prepared, bool) {
	g, err := ParseGID(gid)
	if err != nil || string(g) != gid || !isULID(cluster) || !validXidBranch(branch) {
		return Prepared{}, false
	}
	seconds, err := strconv.ParseUint(timeout, 10, 16)
	if err != nil || seconds > xidTimeoutSecondsMax || strconv.FormatUint(seconds, 10) != timeout {
		return Prepared{}, false
	}
	return Prepared{
		BranchRef: BranchRef{GID: g, ID: branch}, Cluster: cluster, Timeout: time.Duration(seconds) * time.Second,
	}, true
}

// xidTimeout checks the parts of a name and returns the timeout's digits.
func xidTimeout(p Prepared) (string, error) {
	if !isULID(p.Cluster) {
		return "", fmt.Errorf("participant: cluster id %q of branch %s is no ULID", p.Cluster, p.BranchRef)
	}
	if !isULID(string(p.GID)) {
		return "", fmt.Errorf("participant: GID of branch %s is no ULID", p.BranchRef)
	}
	if !validXidBranch(p.ID) {
		return "", fmt.Errorf("participant: branch id %q cannot be a part of an xid: want 1 to %d of letters, digits and ._:@-", p.ID, BranchIDBytesMax)
	}
	n := seconds(p.Timeout)
	if n < 0 || n > xidTimeoutSecondsMax {
		return "", fmt.Errorf("participant: timeout %v of branch %s does not fit an xid: at most %d seconds", p.Timeout, p.BranchRef, xidTimeoutSecondsMax)
	}
	return strconv.FormatInt(n, 10), nil
}

// isULID reports whether s is a ULID in its canonical form, upper case.
func isULID(s string) bool {
	id, err := ulid.ParseStrict(s)
	return err == nil && id.String() == s
}

// validXidBranch admits the characters that need no quoting in any dialect.
func validXidBranch(id string) bool {
	if id == "" || len(id) > BranchIDBytesMax {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z',
			c == '.', c == '_', c == ':', c == '@', c == '-':
		default:
			return false
		}
	}
	return true
}
