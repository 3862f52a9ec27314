package branchbank

import (
	"os"
	"path/filepath"
	"testing"
)

// A call that was done again is told from one that was done once, by two processes one
// after the other, and a line that a kill cut is not counted.
func TestCallsAreCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bank.calls")
	one := Call{GID: gidOne, Branch: "01", Operation: "action"}
	other := Call{GID: gidOne, Branch: "01", Operation: "compensate"}
	for _, note := range [][]Call{{one, other}, {one}} {
		c, err := openCalls(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range note {
			c.note(call, "modes-saga-1")
		}
		c.close()
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("modes-saga-1 action of"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	got, err := ReadCalls(path)
	if err != nil || len(got) != 1 || len(got["modes-saga-1"]) != 2 || got["modes-saga-1"][one.String()] != 2 || got["modes-saga-1"][other.String()] != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if none, err := ReadCalls(path + "-none"); err != nil || len(none) != 0 {
		t.Errorf("a file that is not there: %v, %v", none, err)
	}
}
