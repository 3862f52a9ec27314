package bank_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/quorate/quorate/internal/testdb"
)

// built is the program under test, built at its first use.
var built = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaries, "quorate")
	if out, err := exec.Command("go", "build", "-o", path, "github.com/quorate/quorate/cmd/quorate").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build quorate: %w\n%s", err, out)
	}
	return path, nil
})

var binaries string

func quorate(t *testing.T) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMain(m *testing.M) {
	var err error
	if binaries, err = os.MkdirTemp("", "quorate-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	testdb.Close()
	_ = os.RemoveAll(binaries)
	os.Exit(code)
}
