package participant

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// What was remembered of a text is what a scan finds, whoever else scans; and it is
// bounded: texts that hold values do not pile up.
func TestScannedIsWhatAScanFinds(t *testing.T) {
	var s scanned
	texts := []string{
		"UPDATE a SET b = 1", "COMMIT", "SELECT f()", "INSERT INTO a VALUES (1); COMMIT", "SET x = 1",
		"DELETE FROM a", "CREATE TABLE a (b int)", strings.Repeat(" ", scannedBytesMax) + "COMMIT",
	}
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for i := range 2*scannedMax + 10 {
				text := texts[i%len(texts)]
				if got, want := s.scan(text, true), scanStatements(text, true); got != want {
					t.Errorf("%.40q: %+v, want %+v", text, got, want)
				}
				s.scan(fmt.Sprintf("UPDATE a SET b = %d", i), true)
			}
		})
	}
	wait.Wait()
	if n := len(s.found); n == 0 || n > scannedMax {
		t.Errorf("%d texts are remembered", n)
	}
	if _, kept := s.found[texts[len(texts)-1]]; kept {
		t.Error("a long text is remembered")
	}
	text := texts[0]
	if n := testing.AllocsPerRun(100, func() { s.scan(text, true) }); n != 0 {
		t.Errorf("%v allocations for a text that is known", n)
	}
}
