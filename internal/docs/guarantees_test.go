package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGuaranteesNameTestsThatExist reads the tables of docs/guarantees.md and
// docs/history.md: each row of a promise, and of a bug that others had, names
// tests, and each of them is there.
func TestGuaranteesNameTestsThatExist(t *testing.T) {
	exists := testsOfTheRepository(t)
	for _, page := range []struct {
		file, from string
		rows       int
	}{
		{"guarantees.md", "## How each is shown", 10},
		{"history.md", "# Bugs that others shipped", 25},
	} {
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", page.file))
		if err != nil {
			t.Fatal(err)
		}
		_, table, _ := strings.Cut(string(text), page.from)
		if rows := checkTable(t, table, exists); rows < page.rows {
			t.Errorf("%s: only %d rows were read", page.file, rows)
		}
	}
}

// checkTable looks for the tests that the rows name, and returns how many rows
// there are.
func checkTable(t *testing.T, table string, exists map[string]bool) (rows int) {
	t.Helper()
	name := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| promise") || strings.HasPrefix(line, "| bug") {
			continue
		}
		rows++
		named := name.FindAllStringSubmatch(line, -1)
		if len(named) == 0 {
			t.Errorf("no test is named for: %s", line)
		}
		for _, n := range named {
			if !exists[n[1]] {
				t.Errorf("there is no test %s, named in: %s", n[1], line)
			}
		}
	}
	return rows
}

func testsOfTheRepository(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(text, -1) {
			found[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
