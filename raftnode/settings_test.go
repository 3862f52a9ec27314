package raftnode

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// mayBeZero are the settings whose zero says something.
var mayBeZero = map[string]bool{"TrailingEntries": true, "CatchUpEntriesMax": true}

// Every number among the settings is looked at, those to come too: a zero that nobody
// meant is named, and not lived with.
func TestConfig_EveryNumberIsLookedAt(t *testing.T) {
	fields := reflect.TypeFor[Config]()
	for i := range fields.NumField() {
		name, cfg := fields.Field(i).Name, testConfig(t)
		field := reflect.ValueOf(&cfg).Elem().Field(i)
		if !field.CanInt() && !field.CanUint() || mayBeZero[name] {
			continue
		}
		field.SetZero()
		if err := cfg.validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is 0: %v", name, err)
		}
	}
	for name, change := range map[string]func(*Profile){
		"heartbeat": func(p *Profile) { p.HeartbeatTimeout = 0 }, "election": func(p *Profile) { p.ElectionTimeout = p.HeartbeatTimeout - 1 },
		"lease": func(p *Profile) { p.LeaseTimeout = 0 }, "a long lease": func(p *Profile) { p.LeaseTimeout = p.HeartbeatTimeout + 1 },
		"exchange": func(p *Profile) { p.RPCTimeout = 0 },
	} {
		cfg := testConfig(t)
		change(&cfg.Profile)
		if err := cfg.validate(); err == nil || !strings.Contains(err.Error(), "Profile") {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg := testConfig(t)
	if err := cfg.validate(); err != nil {
		t.Error(err)
	}
}

// What was set reaches the library, each under its own name; what the library must not do
// it is told not to.
func TestConfig_ReachesTheLibrary(t *testing.T) {
	n := bare()
	n.self = "me"
	n.stores = &stores{snapshots: &snapshotStore{}}
	n.stores.snapshots.latest.Store(&saved{})
	n.cfg.Profile = Profile{HeartbeatTimeout: 11 * time.Second, ElectionTimeout: 12 * time.Second, LeaseTimeout: 10 * time.Second, RPCTimeout: 13 * time.Second}
	n.cfg.SnapshotInterval, n.cfg.TrailingEntries, n.cfg.SnapshotEntries = 14*time.Second, 15, 16
	got := n.raftConfig()
	if err := raft.ValidateConfig(got); err != nil {
		t.Error(err)
	}
	type settings struct {
		self                                raft.ServerID
		heartbeat, election, lease, look    time.Duration
		trailing, threshold                 uint64
		endOnRemoval, noPreVote, startEmpty bool
	}
	want := settings{"me", 11 * time.Second, 12 * time.Second, 10 * time.Second, 14 * time.Second, 15, 16, false, false, false}
	if is := (settings{got.LocalID, got.HeartbeatTimeout, got.ElectionTimeout, got.LeaderLeaseTimeout, got.SnapshotInterval,
		got.TrailingLogs, got.SnapshotThreshold, got.ShutdownOnRemove, got.PreVoteDisabled, got.NoSnapshotRestoreOnStart}); is != want {
		t.Errorf("the library is told %+v, want %+v", is, want)
	}
}

// Each figure is told under its own name.
func TestMetrics_EachIsItsOwn(t *testing.T) {
	c := newCluster(t, 1, nil)
	n := c.leader().Node
	var want Metrics
	counters := reflect.ValueOf(&n.counters).Elem()
	metrics := reflect.ValueOf(&want).Elem()
	told := n.Metrics()
	for i := range counters.NumField() {
		name := counters.Type().Field(i).Name
		add := uint64(1000 * (i + 1))
		switch counter := counters.Field(i).Addr().UnsafePointer(); counters.Field(i).Type() {
		case reflect.TypeFor[atomic.Uint64]():
			(*atomic.Uint64)(counter).Add(add)
		case reflect.TypeFor[atomic.Int64]():
			(*atomic.Int64)(counter).Add(int64(add))
			defer (*atomic.Int64)(counter).Add(-int64(add))
		}
		exported := strings.ToUpper(name[:1]) + name[1:]
		field := metrics.FieldByName(exported)
		was, is := reflect.ValueOf(told).FieldByName(exported), reflect.ValueOf(n.Metrics()).FieldByName(exported)
		if !field.IsValid() {
			t.Errorf("%s is told to nobody", name)
		} else if was, is := fmt.Sprint(was), fmt.Sprint(is); !strings.HasPrefix(is, fmt.Sprint(add/1000)) || was == is {
			t.Errorf("%s went on by %d, and is told as %s after %s", name, add, is, was)
		}
	}
}

// Who the node is changes on the disk first: what could not be written is not so.
func TestIdentity_IsWhatTheDiskHas(t *testing.T) {
	id, err := openIdentity(t.TempDir(), "")
	must(t, err)
	before := id.now
	id.path = filepath.Join(id.path, "nowhere")
	if err := errors.Join(id.found(testCluster)); err == nil {
		t.Error("it was founded")
	}
	if err := id.adopt(testCluster); err == nil {
		t.Error("it was adopted")
	}
	if now, founding := id.get(); now != before || founding {
		t.Errorf("it is %+v, founding %v, and the disk says %+v", now, founding, before)
	}
}

// A node that is told to do what it need not do anew says so as the leader only: what
// another knows of the cluster may be old.
func TestMembership_OnlyTheLeaderSaysThatItIsSo(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.set("x", "1")
	c.converge("x", "1")
	for _, follower := range c.others(c.leader()) {
		for _, m := range c.members {
			id := string(m.self)
			for name, err := range map[string]error{
				"add": follower.AddNonvoter(c.ctx(), id, m.cfg.Address, m.Identity().ClusterID), "promote": follower.Promote(c.ctx(), id),
				"remove": follower.Remove(c.ctx(), id, true), "transfer": follower.TransferLeadership(c.ctx(), id),
			} {
				if !errors.Is(err, ErrNotLeader) {
					t.Errorf("a follower is asked to %s: %v", name, err)
				}
			}
		}
	}
}

// A node that was set back is spoken of once a term, and not with every message.
func TestPeers_ASetBackIsToldOnceATerm(t *testing.T) {
	told := 0
	p := newPeers(nil, func(error) { told++ })
	for term := uint64(3); term < 6; term++ {
		p.heard("a", term, 9)
		for range 4 {
			p.setBack("a", errors.New("set back"))
		}
		p.heard("a", term, 10) // it answers all the same
		p.setBack("a", errors.New("set back"))
	}
	if told != 3 {
		t.Errorf("told %d times in 3 terms", told)
	}
}
