package bank

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// Progress is what the initiators were told so far.
type Progress struct {
	// Operations answered; Commits and Rollbacks acknowledged; Unknown outcomes.
	Operations, Commits, Rollbacks, Unknown int64
}

// tally counts the ledgers' lines as they grow: the initiators may be killed at
// any time, and their ledgers say all that they were told.
type tally struct {
	mu   sync.Mutex
	read map[string]int64 // bytes of each file
	sum  Progress
}

// Progress counts what is in the ledgers now.
func (b *Bank) Progress() Progress {
	t := &b.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.read == nil {
		t.read = map[string]int64{}
	}
	for _, s := range b.plan.Initiators {
		files, err := filepath.Glob(filepath.Join(b.plan.Dir, s.Name+".*.jsonl"))
		if err != nil {
			continue // a pattern of ours is none that is malformed
		}
		for _, f := range files {
			t.add(f)
		}
	}
	return t.sum
}

// add counts the whole lines that a file has got since.
func (t *tally) add(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	if _, err := f.Seek(t.read[path], io.SeekStart); err != nil {
		return
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return
	}
	whole := bytes.LastIndexByte(text, '\n') + 1
	t.read[path] += int64(whole)
	for line := range bytes.Lines(text[:whole]) {
		var e Entry
		if json.Unmarshal(line, &e) == nil {
			t.sum.count(e)
		}
	}
}

func (p *Progress) count(e Entry) {
	switch e.Word {
	case "":
		return
	case WordCommit:
		p.Commits++
	case WordRollback:
		p.Rollbacks++
	case WordUnknown:
		p.Unknown++
	}
	p.Operations++
}
