package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// reach is what one test does when it runs alone.
type reach struct {
	Test    string
	Seconds float64
	Lines   map[string][]int // file -> lines that it runs
}

// reaches runs every test of the package alone and notes which lines it comes
// to, so that a mutant meets first the tests that can notice it. The answer is
// kept for as long as the package's files stay as they are; its tests may change, and
// those that are new are run. Who has changed the old ones a lot deletes what is kept.
func (b *bench) reaches() (all []reach, err error) {
	kept, err := b.keptAt()
	if err != nil {
		return nil, err
	}
	all, err = readReaches(kept)
	if err != nil {
		return nil, err
	}
	binary := filepath.Join(b.tmp, "covered")
	if out, err := b.command("go", "test", "-c", "-vet=off", "-cover", "-coverpkg="+b.source.path, "-o", binary, ".").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build with coverage: %w\n%s", err, out)
	}
	tests, err := b.command(binary, "-test.list=.").Output()
	if err != nil {
		return nil, fmt.Errorf("list the tests: %w", err)
	}
	into, err := os.OpenFile(kept, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, into.Close()) }()
	until := time.Now().Add(b.measure)
	for _, test := range strings.Fields(string(tests)) {
		if time.Now().After(until) {
			fmt.Printf("%d tests are measured so far\n", len(all))
			break
		}
		known := slices.ContainsFunc(all, func(r reach) bool { return r.Test == test })
		if known || !strings.HasPrefix(test, "Test") || b.skip.MatchString(test) {
			continue
		}
		b.hold()
		profile := filepath.Join(b.tmp, "profile")
		v := b.execute(binary, b.source.dir, b.limit(time.Minute), append([]string{"-test.run=^" + test + "$", "-test.coverprofile=" + profile}, b.flags...)...)
		r := reach{Test: test, Seconds: v.took.Seconds()}
		if v.red {
			fmt.Printf("%s is red alone, by %s: it is run with all others only\n", test, v.sign)
		} else if r.Lines, err = linesOf(profile); err != nil {
			return nil, err
		}
		if err := json.NewEncoder(into).Encode(r); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	slices.SortStableFunc(all, func(a, b reach) int { return int(1000 * (a.Seconds - b.Seconds)) })
	return all, nil
}

// readReaches reads what is kept so far, of some tests or of all.
func readReaches(path string) ([]reach, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []reach
	for d := json.NewDecoder(bytes.NewReader(content)); err == nil; {
		var r reach
		if err = d.Decode(&r); err == nil {
			all = append(all, r)
		}
	}
	if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}

// keptAt is where the answer is kept: a name made of what the package's files hold.
func (b *bench) keptAt() (string, error) {
	paths, err := filepath.Glob(filepath.Join(b.source.dir, "*.go"))
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintln(sum, b.source.path, b.skip, b.flags)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(sum, path, len(content))
		sum.Write(content)
	}
	return filepath.Join(b.cache, fmt.Sprintf("%x.json", sum.Sum(nil)[:12])), os.MkdirAll(b.cache, 0o700)
}

// linesOf reads a coverage profile: which lines of which file were run.
func linesOf(profile string) (map[string][]int, error) {
	content, err := os.ReadFile(profile)
	if err != nil {
		return nil, err
	}
	lines := make(map[string][]int)
	for s := bufio.NewScanner(bytes.NewReader(content)); s.Scan(); {
		// path/file.go:12.5,14.20 3 1
		where, rest, ok := strings.Cut(s.Text(), ".go:")
		var from, to, column, statements, times int
		if !ok {
			continue
		}
		if _, err := fmt.Sscanf(rest, "%d.%d,%d.%d %d %d", &from, &column, &to, &column, &statements, &times); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", profile, s.Text(), err)
		}
		for line := from; times > 0 && line <= to; line++ {
			file := filepath.Base(where) + ".go"
			lines[file] = append(lines[file], line)
		}
	}
	for _, of := range lines {
		slices.Sort(of)
	}
	return lines, nil
}

// reaching are the tests that come to a mutant's line, the quickest first.
func reaching(all []reach, m mutant) []reach {
	var some []reach
	for _, r := range all {
		if _, ok := slices.BinarySearch(r.Lines[m.file], m.line); ok {
			some = append(some, r)
		}
	}
	return some
}
