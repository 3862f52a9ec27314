package raftnode

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/quorate/quorate/internal/testkit"
)

// TestSynced_WhatIsAcknowledgedIsOnTheDisk: kill -9 loses nothing that the
// kernel has, so only the kernel can say whether a power cut would. A
// follower's answer is an acknowledgement too, so all nodes are asked.
func TestSynced_WhatIsAcknowledgedIsOnTheDisk(t *testing.T) {
	for store, files := range storeFiles {
		t.Run(store, func(t *testing.T) { whatIsAcknowledgedIsSynced(t, store, files[0]) })
	}
}

func whatIsAcknowledgedIsSynced(t *testing.T, store, file string) {
	c := newCluster(t, 1, func(_ int, cfg *Config) { cfg.LogStore = store })
	node := c.members[0]
	for i := range 20 {
		c.set(fmt.Sprintf("r%d", i), "x")
		// Nothing else writes meanwhile: an idle leader of one node is silent.
		if !testkit.Synced(t, node.one(t, file)) {
			return
		}
	}
	c.must(node.Snapshot(c.ctx()))
	snapshots, err := filepath.Glob(filepath.Join(node.cfg.DataDir, "snapshots", "*", "*"))
	if err != nil || len(snapshots) < 2 {
		t.Fatalf("a snapshot of %v, %v", snapshots, err)
	}
	testkit.Synced(t, snapshots...)
}

// TestSynced_TheVote: a vote that a power cut forgets may be given twice.
func TestSynced_TheVote(t *testing.T) {
	for _, kind := range []string{LogStoreBolt, LogStoreWAL} {
		t.Run(kind, func(t *testing.T) {
			cfg := testConfig(t)
			cfg.LogStore = kind
			if err := makeDir(cfg.DataDir); err != nil {
				t.Fatal(err)
			}
			fail := newFailStop(func(err error) { t.Error(err) })
			stores, err := openStores(&cfg, fail, new(histogram))
			if err != nil {
				t.Fatal(err)
			}
			defer stores.close()
			for term := range uint64(5) {
				if err := stores.stable.SetUint64([]byte(keyVoteTerm), term+1); err != nil {
					t.Fatal(err)
				}
				if err := stores.stable.Set([]byte(keyVoteCandidate), []byte("n1")); err != nil {
					t.Fatal(err)
				}
				files, err := filepath.Glob(filepath.Join(cfg.DataDir, "*.db"))
				more, err2 := filepath.Glob(filepath.Join(cfg.DataDir, "wal", "*.db"))
				if err != nil || err2 != nil || len(files)+len(more) == 0 {
					t.Fatal("no store in the data directory", err, err2)
				}
				testkit.Synced(t, append(files, more...)...)
			}
		})
	}
}
