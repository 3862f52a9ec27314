package participant

import (
	"sync"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// clock is what the client has heard of the cluster: its clock, floor, epoch
// and id. It only ever repeats what it heard: a clock made up from local time
// could be ahead of a successor's (PROTOCOL.md, section 1).
type clock struct {
	mu sync.Mutex
	// clockMS and floorMS are the newest heard, in milliseconds.
	clockMS uint64
	floorMS uint64
	// at is the local, monotonic time at which clockMS was heard.
	at time.Time
	// epoch is the newest heard.
	epoch epoch
	// cluster is the id heard first; answers of another cluster are refused.
	cluster string
}

// epoch orders leaders: incarnation of the cluster first, then Raft's term.
type epoch struct{ incarnation, term uint64 }

func (e epoch) less(o epoch) bool {
	if e.incarnation != o.incarnation {
		return e.incarnation < o.incarnation
	}
	return e.term < o.term
}

func epochOf(e *quoratev1.Epoch) epoch { return epoch{e.GetIncarnation(), e.GetTerm()} }

// hear takes over what an answer's header says. It returns ErrOtherCluster, and
// takes nothing, when the answer comes from another cluster.
func (c *clock) hear(h *quoratev1.ResponseHeader) error {
	if h == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if id := h.GetClusterId(); id != "" {
		if c.cluster == "" {
			c.cluster = id
		}
		if c.cluster != id {
			return ErrOtherCluster
		}
	}
	if h.GetClockMs() >= c.clockMS {
		c.clockMS, c.at = h.GetClockMs(), time.Now()
	}
	c.floorMS = max(c.floorMS, h.GetFloorMs())
	if e := epochOf(h.GetEpoch()); c.epoch.less(e) {
		c.epoch = e
	}
	return nil
}

// now is the newest clock heard, and how long ago that was.
func (c *clock) now() (clockMS uint64, age time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clockMS, time.Since(c.at)
}

// since is how long ago a GID was made, by the newest clock heard, and how long ago that
// was; the first includes the second.
func (c *clock) since(gid GID) (passed, heard time.Duration) {
	now, heard := c.now()
	passed = heard
	if born := gid.BornMS(); now > born {
		passed += time.Duration(now-born) * time.Millisecond
	}
	return passed, heard
}

func (c *clock) floor() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.floorMS
}

func (c *clock) newestEpoch() epoch {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

func (c *clock) clusterID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cluster
}
