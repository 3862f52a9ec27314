package docs

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/proc"
	"github.com/quorate/quorate/internal/testkit"
)

// block is a command block of the README, marked `<!-- tour: name -->`.
var block = regexp.MustCompile("(?s)<!-- tour: ([a-z]+) -->\n```sh\n(.*?)```")

// wants is what the answer to each block must say.
var wants = map[string][]string{
	"cluster": nil, // started by the test itself
	"begin":   {`"gid":`, `"created":`},
	"enlist":  {`"verdict":`},
	"vote":    {"VERDICT_WAIT"},
	"commit":  {"DECISION_COMMIT"},
	"report":  {`"header":`},
	"look":    {"order-4711", "committed", "n1", "n2", "n3"},
}

// TestReadmeTour types the README's tour, block after block, into one shell.
// Only the addresses differ: the cluster of the test listens on free ports.
func TestReadmeTour(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := block.FindAllStringSubmatch(string(readme), -1)
	if len(blocks) != len(wants) {
		t.Fatalf("the README's tour has %d blocks, this test knows %d", len(blocks), len(wants))
	}
	binary := build(t)
	http, grpc := startDev(t, binary, blocks)

	script := "set -euo pipefail\n"
	for _, b := range blocks[1:] {
		commands := strings.ReplaceAll(b[2], "localhost:36789", http)
		commands = strings.ReplaceAll(commands, "go run ./cmd/quorate", binary)
		script += fmt.Sprintf("echo '=== %s'\n%s\necho\n", b[1], commands)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Env = append(os.Environ(), "QUORATE_ENDPOINTS="+grpc)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	answers := map[string]string{}
	for _, part := range strings.Split(string(out), "=== ")[1:] {
		name, answer, _ := strings.Cut(part, "\n")
		answers[name] = answer
	}
	for name, want := range wants {
		for _, w := range want {
			if !strings.Contains(answers[name], w) {
				t.Errorf("the answer to %q lacks %q:\n%s", name, w, answers[name])
			}
		}
		if strings.Contains(answers[name], `"code":`) {
			t.Errorf("the answer to %q is an error:\n%s", name, answers[name])
		}
	}
}

func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "quorate")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/quorate/quorate/cmd/quorate").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// startDev runs the tour's first block on free ports and returns the HTTP and
// gRPC addresses of the first node.
func startDev(t *testing.T, binary string, blocks [][]string) (http, grpc string) {
	t.Helper()
	if first := strings.TrimSpace(blocks[0][2]); blocks[0][1] != "cluster" || first != "go run ./cmd/quorate dev" {
		t.Fatalf("the tour begins with %q: %q", blocks[0][1], first)
	}
	address, err := cluster.FreeAddress("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address)
	log := filepath.Join(t.TempDir(), "dev.log")
	p, err := proc.Start(proc.Spec{Name: "dev", Path: binary, Args: []string{"dev", "--port", port}, LogPath: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	// The banner stands once the cluster serves; it names the addresses, which
	// are others when the port was taken in the meantime.
	banner := regexp.MustCompile(`(?s)HTTP\s+http://(\S+).*?gRPC\s+(\S+)`)
	var text []byte
	testkit.Eventually(t, time.Minute, func() bool {
		text, _ = os.ReadFile(log)
		return banner.Match(text) && bytes.Count(text, []byte("\n")) > 3
	}, "dev's banner in %s", log)
	found := banner.FindSubmatch(text)
	return string(found[1]), string(found[2])
}
