package embedded

import (
	"path/filepath"
	"testing"

	"github.com/quorate/quorate/internal/testkit"
)

// TestSynced_WhatIsCommittedIsOnTheDisk: kill -9 loses nothing that the kernel
// has, so only the kernel can say whether a power cut would.
func TestSynced_WhatIsCommittedIsOnTheDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path)
	for range 20 {
		set(t, s, "a", "1")
		if !testkit.Synced(t, path) {
			return
		}
	}
}
