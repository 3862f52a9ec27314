package participant

import (
	"strings"
	"testing"
	"time"
)

var someXid = Prepared{
	BranchRef: BranchRef{"01JD9S7KQ00000000000000000", "1.2"}, Cluster: "01JD9S8TM00000000000000000", Timeout: 29500 * time.Millisecond,
}

// TestXidForms: the forms of PROTOCOL.md, section 5, to the letter.
func TestXidForms(t *testing.T) {
	x, err := newXAXid(someXid)
	if err != nil || x.gtrid != "01JD9S7KQ00000000000000000" || x.bqual != "01JD9S8TM00000000000000000.30.1.2" {
		t.Errorf("XA xid = %+v, %v", x, err)
	}
	p, err := newPostgresXid(someXid)
	if err != nil || p != "quorate:01JD9S8TM00000000000000000:01JD9S7KQ00000000000000000:30:1.2" {
		t.Errorf("Postgres xid = %q, %v", p, err)
	}
	longest := someXid
	longest.ID, longest.Timeout = strings.Repeat("1", BranchIDBytesMax), xidTimeoutSecondsMax*time.Second
	x, err = newXAXid(longest)
	if err != nil || len(x.bqual) != xaPartBytesMax {
		t.Errorf("the longest bqual has %d bytes, %v; want %d", len(x.bqual), err, xaPartBytesMax)
	}
	if p, err = newPostgresXid(longest); err != nil || len(p) >= 200 {
		t.Errorf("the longest identifier has %d bytes, %v", len(p), err)
	}
}

func TestXidRefusesWhatDoesNotFit(t *testing.T) {
	for name, change := range map[string]func(*Prepared){
		"cluster":    func(p *Prepared) { p.Cluster = "" },
		"gid":        func(p *Prepared) { p.GID = "01jd9s7kq00000000000000000" },
		"no branch":  func(p *Prepared) { p.ID = "" },
		"long":       func(p *Prepared) { p.ID = strings.Repeat("1", BranchIDBytesMax+1) },
		"quote":      func(p *Prepared) { p.ID = "1'" },
		"backslash":  func(p *Prepared) { p.ID = `1\` },
		"control":    func(p *Prepared) { p.ID = "1\n" },
		"not ASCII":  func(p *Prepared) { p.ID = "ä" },
		"timeout":    func(p *Prepared) { p.Timeout = 10_000 * time.Second },
		"no timeout": func(p *Prepared) { p.Timeout = -2 * time.Second },
	} {
		p := someXid
		change(&p)
		if x, err := newXAXid(p); err == nil {
			t.Errorf("%s: XA xid %+v", name, x)
		}
		if x, err := newPostgresXid(p); err == nil {
			t.Errorf("%s: Postgres xid %q", name, x)
		}
	}
}

// FuzzPostgresXid: what is read as ours is exactly what we make.
func FuzzPostgresXid(f *testing.F) {
	x, _ := newPostgresXid(someXid)
	for _, seed := range []string{x, "", "quorate:", x + ":", strings.Replace(x, ":30:", ":030:", 1), strings.ToLower(x), "other:" + x} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, xid string) {
		p, ok := parsePostgresXid(xid)
		if !ok {
			return
		}
		if again, err := newPostgresXid(p); err != nil || again != xid {
			t.Fatalf("%q is read as %+v, which is made as %q, %v", xid, p, again, err)
		}
	})
}

// FuzzXAXid does the same for XA RECOVER.
func FuzzXAXid(f *testing.F) {
	x, _ := newXAXid(someXid)
	f.Add(len(x.gtrid), len(x.bqual), x.gtrid+x.bqual)
	f.Add(0, 0, "")
	f.Add(-1, 1, "")
	f.Add(26, -26, "")
	f.Add(26, 38, strings.Repeat("x", 64))
	f.Fuzz(func(t *testing.T, gtridLen, bqualLen int, data string) {
		p, ok := parseXAXid(gtridLen, bqualLen, data)
		if !ok {
			return
		}
		if again, err := newXAXid(p); err != nil || again.gtrid+again.bqual != data {
			t.Fatalf("%q is read as %+v, which is made as %+v, %v", data, p, again, err)
		}
	})
}

func TestMySQLVersions(t *testing.T) {
	for version, ok := range map[string]bool{
		"10.11.19-MariaDB-0+deb12u1": true, "10.5.2-MariaDB": true, "10.5.1-MariaDB": false, "10.4.30-MariaDB-log": false,
		"5.5.5-10.6.12-MariaDB": true, "11.4.2-MariaDB": true, "8.0.36": true, "5.7.44-log": true, "5.7.6": false, "5.6.51": false,
		"": false, "MariaDB": false, "99999999999999999999.1.1": false,
	} {
		if err := checkMySQLVersion(version); (err == nil) != ok {
			t.Errorf("version %q: %v, want accepted: %v", version, err, ok)
		}
	}
}
