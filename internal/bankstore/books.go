package bankstore

import (
	"strings"
)

// Books are all that a bank holds.
type Books struct {
	Balances map[int]int64 `json:"balances"`
	// Ledger has the moves of each branch that took effect, by `GID/branch`, in the
	// order of the accounts.
	Ledger map[string][]Move `json:"ledger"`
	// Evidence has the SDK's evidence rows by `GID/branch`: true when it says that
	// the branch's local transaction happened, false when it says that it can no
	// longer happen. A database may hold rows of others, too.
	Evidence map[string]bool `json:"evidence"`
	// Prepared are the branches that wait for their decision, of the whole server
	// where it cannot tell its databases apart.
	Prepared []Xid `json:"prepared"`
}

// NewBooks returns empty books.
func NewBooks() Books {
	return Books{Balances: map[int]int64{}, Ledger: map[string][]Move{}, Evidence: map[string]bool{}}
}

// Total is the money in the bank.
func (b Books) Total() int64 {
	var sum int64
	for _, balance := range b.Balances {
		sum += balance
	}
	return sum
}

// Xid is one prepared branch as its database lists it.
type Xid struct {
	// Name is the xid as it is listed; in MySQL's case both parts, and a zero byte
	// between them.
	Name string `json:"name"`
	// Cluster, GID and Branch are empty for what is not Quorate's.
	Cluster string `json:"cluster,omitempty"`
	GID     string `json:"gid,omitempty"`
	Branch  string `json:"branch,omitempty"`
}

// Ours says that the xid is one of Quorate's, of whatever cluster.
func (x Xid) Ours() bool { return x.GID != "" }

// xaNameSeparator stands between the parts of an XA xid's name.
const xaNameSeparator = "\x00"

// readPostgresXid reads `quorate:cluster:gid:timeout:branch`. It is read here
// anew, and not by the SDK that wrote it: a checker does not ask the checked.
func readPostgresXid(name string) Xid {
	x := Xid{Name: name}
	if parts := strings.SplitN(name, ":", 5); len(parts) == 5 && parts[0] == "quorate" {
		x.Cluster, x.GID, x.Branch = parts[1], parts[2], parts[4]
	}
	return x
}

// readXAXid reads a row of XA RECOVER: gtrid is the GID, bqual is
// `cluster.timeout.branch`.
func readXAXid(gtridLen, bqualLen int, data string) Xid {
	if gtridLen < 0 || bqualLen < 0 || gtridLen+bqualLen != len(data) {
		return Xid{Name: data}
	}
	gtrid, bqual := data[:gtridLen], data[gtridLen:]
	x := Xid{Name: gtrid + xaNameSeparator + bqual}
	const ulidLen = 26
	if parts := strings.SplitN(bqual, ".", 3); len(gtrid) == ulidLen && len(parts) == 3 && len(parts[0]) == ulidLen {
		x.Cluster, x.GID, x.Branch = parts[0], gtrid, parts[2]
	}
	return x
}
