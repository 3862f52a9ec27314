package participant

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// toldTogether notes which reports went together.
type toldTogether struct {
	mu   sync.Mutex
	told [][]string
}

func (w *toldTogether) tell(reports ...*quoratev1.SessionRequest) {
	var branches []string
	for _, r := range reports {
		branches = append(branches, r.GetReport().GetBranch())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, branches)
}

func (w *toldTogether) all() [][]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}

func reportOn(branch string) *quoratev1.SessionRequest {
	return frameOf(&quoratev1.ReportRequest{Branch: branch})
}

func (w *toldTogether) want(t *testing.T, want string) {
	t.Helper()
	if got := fmt.Sprint(w.all()); got != want {
		t.Errorf("told %s, want %s", got, want)
	}
}

// A report that is alone goes at once; one with others under way goes with the last of them.
func TestReportsGoTogether(t *testing.T) {
	var w toldTogether
	r := newReports(w.tell)
	defer r.close()
	r.begin()
	r.end(reportOn("a"))
	w.want(t, "[[a]]")
	for range 4 {
		r.begin()
	}
	r.end(reportOn("b"))
	r.end(nil)
	r.end(reportOn("c"))
	w.want(t, "[[a]]")
	r.end(reportOn("d"))
	w.want(t, "[[a] [b c d]]")
	r.begin()
	r.end(nil)
	w.want(t, "[[a] [b c d]]")
}

// No report waits for long for a branch that is slow, however many do.
func TestReportsDoNotWaitForTheSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w toldTogether
		r := newReports(w.tell)
		defer r.close()
		r.begin() // and it does not end
		for i := range 3 {
			r.begin()
			r.end(reportOn(fmt.Sprint(i)))
			time.Sleep(reportHoldMax / 4)
		}
		w.want(t, "[]")
		time.Sleep(reportHoldMax)
		synctest.Wait()
		w.want(t, "[[0 1 2]]")
		r.begin()
		r.end(reportOn("later"))
		time.Sleep(reportHoldMax + time.Nanosecond)
		synctest.Wait()
		w.want(t, "[[0 1 2] [later]]")
		for range reportsHeldMax {
			r.begin()
			r.end(reportOn("x"))
		}
		if all := w.all(); len(all) != 3 || len(all[2]) != reportsHeldMax {
			t.Errorf("of %d reports that went at once: %v", reportsHeldMax, all[2:])
		}
		r.begin()
		r.end(reportOn("last"))
		r.flush()
		if all := w.all(); len(all) != 4 || fmt.Sprint(all[3]) != "[last]" {
			t.Errorf("at the end %v was told", all[3:])
		}
	})
}
