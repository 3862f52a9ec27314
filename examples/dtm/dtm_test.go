package main

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestDTMsClientUnchanged runs saga, TCC, XA, message and workflow of the real
// client over HTTP and gRPC through a follower, each across a leader's SIGKILL.
func TestDTMsClientUnchanged(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "./run.sh", "-quick").CombinedOutput()
	if err != nil {
		t.Fatalf("./run.sh -quick: %v\n%s", err, out)
	}
	if !strings.Contains(string(out), "all 10 as they must be") {
		t.Fatalf("./run.sh -quick did not play everything:\n%s", out)
	}
	t.Logf("\n%s", out)
}
