package demo

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/failpoint"
)

const (
	// awaitInterval is how often a waiting transfer looks whether the kill before
	// it has been mended.
	awaitInterval = 10 * time.Millisecond
	// successorTimeout bounds the wait for the next leader before a killed node is
	// started again.
	successorTimeout = 10 * time.Second
)

// reaper arms the kills, sees the processes end, starts them again, and keeps
// count. Its methods may be called from any goroutine.
type reaper struct {
	r       *run
	ctx     context.Context // ends with the run: nothing is started again after it
	pending sync.WaitGroup  // restarts under way

	mu        sync.Mutex
	watching  bool // from when all processes are up until the demo ends them
	kills     []Kill
	bankKills int
	mended    map[string]bool // by mark
	surprises []string
}

func newReaper(ctx context.Context, r *run) *reaper {
	return &reaper{r: r, ctx: ctx, mended: map[string]bool{}}
}

// nodeEnv arms what has not fired yet, on every node alike: whoever leads when
// the named transfer comes by dies. A restarted node is not armed for its own
// kill again.
func (p *reaper) nodeEnv(string, int) []string { return armed(p.r.aims.Leader) }

func armed(aims []Aim) []string {
	var specs []string
	for _, a := range aims {
		if !a.fired() {
			specs = append(specs, a.Spec())
		}
	}
	return []string{failpoint.Variable + "=" + strings.Join(specs, ";")}
}

func (a Aim) fired() bool {
	_, err := os.Stat(a.Mark)
	return err == nil
}

// nodeExited is told of each node that ended without being asked.
func (p *reaper) nodeExited(n *cluster.Node, err error) {
	if !p.enter() {
		return
	}
	defer p.pending.Done()
	mark, aim, ok := p.claim(p.r.aims.Leader, n.Pid())
	if !ok {
		p.surprise("%s ended though nothing was aimed at it (%v); see %s", n.Name, err, n.LogPath)
	} else {
		p.mu.Lock()
		p.kills = append(p.kills, Kill{Phase: aim.Phase, Node: n.Name, Victim: mark.transaction(), At: mark.at})
		p.mu.Unlock()
		p.r.progress.Say("kill", "%s, the leader, killed %s of %s", n.Name, aim.Phase, mark.key)
	}
	p.replaceNode(n, mark)
	if ok {
		p.mend(aim)
	}
}

// replaceNode waits for the survivors' leader, then starts the node again and
// waits until the cluster is whole.
func (p *reaper) replaceNode(n *cluster.Node, m mark) {
	ctx, cancel := context.WithTimeout(p.ctx, successorTimeout)
	if leader, err := p.r.cluster.WaitLeader(ctx); err == nil && !m.at.IsZero() {
		p.r.progress.Say("elected", "%s leads, seen %d ms after the kill; starting %s again", leader.Name, time.Since(m.at).Milliseconds(), n.Name)
	}
	cancel()
	ctx, cancel = context.WithTimeout(p.ctx, cluster.StartTimeout)
	defer cancel()
	if err := n.Restart(ctx); err != nil {
		p.surprise("%s could not be started again: %v", n.Name, err)
		return
	}
	if err := p.r.cluster.WaitWhole(ctx); err != nil {
		p.surprise("the cluster is not whole after %s was started again: %v", n.Name, err)
	}
}

// bankExited is told of a bank that ended without being asked.
func (p *reaper) bankExited(b *bankProcess, err error) {
	if !p.enter() {
		return
	}
	defer p.pending.Done()
	var aims []Aim
	if b.side == BankB {
		aims = p.r.aims.Participant
	}
	mark, aim, ok := p.claim(aims, b.pid())
	if !ok {
		p.surprise("%s ended though nothing was aimed at it (%v); see %s", b.side, err, b.logPath())
	} else {
		p.mu.Lock()
		p.bankKills++
		p.mu.Unlock()
		p.r.progress.Say("kill", "%s killed with %s prepared and its vote not sent; starting it again", b.side, mark.key)
	}
	ctx, cancel := context.WithTimeout(p.ctx, cluster.StartTimeout)
	defer cancel()
	if err := b.start(ctx); err != nil {
		p.surprise("%s could not be started again: %v", b.side, err)
	}
	if ok {
		p.mend(aim)
	}
}

// await holds a transfer that a kill is aimed at until every earlier kill has
// been mended: each kill hits a whole cluster.
func (p *reaper) await(ctx context.Context, key string) {
	for _, earlier := range p.before(key) {
		for earlier.fired() && !p.isMended(earlier) && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(awaitInterval):
			}
		}
	}
}

// before returns the aims that lie before the one that key is a candidate of;
// none when it is no candidate.
func (p *reaper) before(key string) []Aim {
	all := append(append([]Aim(nil), p.r.aims.Participant...), p.r.aims.Leader...)
	for i, a := range all {
		for _, candidate := range a.Candidates {
			if candidate == key {
				return all[:i]
			}
		}
	}
	return nil
}

// finish stops the reaper's work and waits for the restarts under way: from
// here on processes end because the demo ends them.
func (p *reaper) finish() {
	p.pending.Wait()
	p.mu.Lock()
	p.watching = false
	p.mu.Unlock()
	p.pending.Wait() // what entered between the two
}

// watch begins: every process is up.
func (p *reaper) watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watching = true
}

// enter registers a restart, if the reaper is to mend what ends.
func (p *reaper) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.watching {
		return false
	}
	p.pending.Add(1)
	return true
}

// claim returns the aim that the process with this pid was killed by.
func (p *reaper) claim(aims []Aim, pid int) (mark, Aim, bool) {
	for _, a := range aims {
		if m, err := readMark(a.Mark); err == nil && m.pid == pid {
			return m, a, true
		}
	}
	return mark{}, Aim{}, false
}

func (p *reaper) mend(a Aim) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mended[a.Mark] = true
}

func (p *reaper) isMended(a Aim) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mended[a.Mark]
}

func (p *reaper) surprise(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	p.r.progress.Say("surprise", "%s", text)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.surprises = append(p.surprises, text)
}

// mark is what a dying process writes into its aim's file.
type mark struct {
	pid int
	at  time.Time
	key string
}

// transaction is the key without the branch that it may name.
func (m mark) transaction() string {
	key, _, _ := strings.Cut(m.key, "#")
	return key
}

func readMark(path string) (mark, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return mark{}, err
	}
	var m mark
	for _, field := range strings.Fields(string(text)) {
		name, value, _ := strings.Cut(field, "=")
		switch name {
		case "pid":
			m.pid, err = strconv.Atoi(value)
		case "at":
			m.at, err = time.Parse(time.RFC3339Nano, value)
		case "key":
			m.key = value
		}
		if err != nil {
			return mark{}, fmt.Errorf("read %s: %w", path, err)
		}
	}
	return m, nil
}
