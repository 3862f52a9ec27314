package embedded

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/quorate/quorate/chaos/disks"
	"github.com/quorate/quorate/participant"
)

// childVariable names the file of a store that this process is to work on until it
// is killed.
const childVariable = "QUORATE_TEST_EMBEDDED_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childVariable); path != "" {
		child(path)
	}
	goleak.VerifyTestMain(m)
}

// child commits, prepares and fences for ever, and says each number once it is
// done with it.
func child(path string) {
	s, err := Open(path, "bank")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		r := numbered(i)
		switch i % 3 {
		case 0:
			err = s.writer.update(func(tx *bbolt.Tx) error { return apply(tx, r.writes) })
		case 1:
			err = s.prepare(r)
		case 2:
			_, err = s.Rollback(context.Background(), r.BranchRef)
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(i)
	}
}

// numbered is the i-th record.
func numbered(i int) *record {
	key := fmt.Sprint("key ", i)
	return &record{
		Prepared: participant.Prepared{
			BranchRef: participant.BranchRef{GID: participant.GID(fmt.Sprintf("01JD9S7KQZ%016d", i)), ID: "1"},
			Cluster:   "01JD9S7KQAAAAAAAAAAAAAAAAA", Timeout: time.Second,
		},
		keys: []string{key}, writes: []write{{key: key, value: []byte("1")}},
	}
}

// S6 for a participant: what was acknowledged survives kill -9.
func TestAcknowledgedSurvivesKill(t *testing.T) {
	survives(t, filepath.Join(t.TempDir(), "store.db"), 3, func() func() { return func() {} })
}

// And it survives the loss of power, as a canary beside it does not.
func TestAcknowledgedSurvivesPowerLoss(t *testing.T) {
	if err := disks.Possible(); err != nil {
		t.Logf("not possible here: %v", err)
		return
	}
	v, err := disks.NewVolume(filepath.Join(t.TempDir(), "disk"), 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	survives(t, filepath.Join(v.Dir, "store.db"), 5, func() func() {
		canary, err := disks.PlantCanary(v.Dir)
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := v.Cut(); err != nil {
				t.Fatal(err)
			}
			if err := canary.Check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// survives kills a child that works on a store, again and again, and looks for
// what it had acknowledged. before is called before each kill, what it returns
// after it.
func survives(t *testing.T, path string, rounds int, before func() (after func())) {
	t.Helper()
	next := 0
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), childVariable+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		last := -1
		for last < 30 && lines.Scan() {
			if last, err = strconv.Atoi(strings.TrimSpace(lines.Text())); err != nil {
				t.Fatalf("the child says %q", lines.Text())
			}
		}
		after := before()
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it had acknowledged before it died
			if n, err := strconv.Atoi(strings.TrimSpace(lines.Text())); err == nil {
				last = n
			}
		}
		_ = cmd.Wait()
		after()
		if last < 30 {
			t.Fatalf("the child of round %d came to %d only", round, last)
		}
		next = max(next, last+1)
		verify(t, path, next)
	}
}

// verify opens the store and looks for the first n records.
func verify(t *testing.T, path string, n int) {
	t.Helper()
	s := openAt(t, path)
	defer func() { _ = s.Close() }()
	found, err := s.Recover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	prepared := map[participant.Prepared]bool{}
	for _, p := range found {
		prepared[p] = true
	}
	for i := range n {
		r := numbered(i)
		switch i % 3 {
		case 0:
			if v, err := s.Get(r.writes[0].key); err != nil || string(v) != "1" {
				t.Errorf("the acknowledged write %d is %q, %v", i, v, err)
			}
		case 1:
			if !prepared[r.Prepared] {
				t.Errorf("the acknowledged prepare %d is not listed", i)
			}
			if s.locks.held[r.keys[0]] == nil {
				t.Errorf("the prepared branch %d has not taken its lock again", i)
			}
		case 2:
			if err := s.prepare(r); err == nil {
				t.Errorf("the acknowledged fence %d is gone: the branch prepared", i)
			}
		}
	}
}
