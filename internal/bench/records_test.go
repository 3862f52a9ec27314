package bench

import (
	"math"
	"testing"
)

// recordsOf is what one operation puts into the log: before its caller is answered, and
// in all. A record is what all nodes write, fsync and apply: one more is half
// as much again for a short transaction.
var recordsOf = map[string]struct{ before, inAll float64 }{
	"decide":  {1, 2},
	"submit":  {1, 1},
	"managed": {6, 7},
	"saga":    {2, 2},
	"tcc":     {4, 5},
	"message": {2, 3},
	"read":    {0, 0},
}

// checkRecords holds the product's records against recordsOf.
func checkRecords(t *testing.T, name string, got Footprint) {
	t.Helper()
	want, known := recordsOf[name]
	switch {
	case !known:
		t.Errorf("%s: its number of records is not held here: %v", name, got)
	case got.Before > want.before || got.Records > want.inAll:
		t.Errorf("%s puts %v records into the log before its answer and %v in all; it was %v and %v. Find what proposes one more "+
			"(who calls Propose, or the coordinator's batcher), and gather it with another; if it must be, change the numbers here and say why",
			name, got.Before, got.Records, want.before, want.inAll)
	case got.Before < want.before || got.Records < want.inAll:
		t.Errorf("%s puts %v records into the log before its answer and %v in all, fewer than %v and %v: write the new numbers here, so that they stay",
			name, got.Before, got.Records, want.before, want.inAll)
	}
}

// bytesApart is how much the floor's bytes may differ from the product's, as a share.
const bytesApart = 0.10

// checkFloorIsOne: as many messages of as many bytes, and the records that the floor's
// description tells of. A floor that did less would make the product look slow; one
// that did more would flatter it.
func checkFloorIsOne(t *testing.T, sc scenario, p, f Footprint) {
	t.Helper()
	t.Logf("%s, product: %v", sc.Name, p)
	t.Logf("%s, floor:   %v", sc.Name, f)
	if f.Records != float64(sc.floorRecords) {
		t.Errorf("%s: the floor makes %v records, and says %d", sc.Name, f.Records, sc.floorRecords)
	}
	if p.SentMessages != f.SentMessages || p.ReceivedMessages != f.ReceivedMessages || p.BranchCalls != f.BranchCalls {
		t.Errorf("%s: the product is sent %v messages, answers %v, calls %v; the floor %v, %v, %v",
			sc.Name, p.SentMessages, p.ReceivedMessages, p.BranchCalls, f.SentMessages, f.ReceivedMessages, f.BranchCalls)
	}
	for what, pair := range map[string][2]float64{
		"sent": {p.SentBytes, f.SentBytes}, "received": {p.ReceivedBytes, f.ReceivedBytes}, "to branches": {p.BranchBytes, f.BranchBytes}, "in the log": {p.LogBytes, f.LogBytes},
	} {
		if math.Abs(pair[0]-pair[1]) > bytesApart*max(pair[0], pair[1]) {
			t.Errorf("%s: %v bytes %s by the product, %v by the floor", sc.Name, pair[0], what, pair[1])
		}
	}
}

// TestOneLateCountChangesNoRecords: an entry that is counted with the next operation is
// in neither's figure.
func TestOneLateCountChangesNoRecords(t *testing.T) {
	of := []Footprint{{Records: 2, LogBytes: 9}, {Records: 1, LogBytes: 8}, {Records: 3, LogBytes: 7}, {Records: 2, LogBytes: 9}, {Records: 2, LogBytes: 9}}
	if got := leastFootprint(of); got.Records != 2 || got.LogBytes != 7 {
		t.Errorf("%+v", got)
	}
}
