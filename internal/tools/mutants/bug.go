package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// bug is one planted bug: a behaviour that must not survive the suites, as
// replacements in the text of a few files. The sources hold no switch for it:
// the changed copies exist in a temporary directory and reach the compiler by
// -overlay, so no build that lacks the overlay can hold one.
type bug struct {
	Name   string // of its file
	Title  string // in one line, what is wrong
	Breaks string // the promises that it breaks: S1, S13, L1 ...
	Listed bool   // in the published list of bugs that must be found
	// Tests are the packages whose own tests are tried, in this order.
	Tests []string
	// First names tests that should notice, as a regular expression: they are run
	// before the rest of their package.
	First string
	// Suites are tried after them; empty: those that the touched packages imply.
	Suites []string
	// Pending names the feature that has yet to be built before the bug can be
	// planted. There are no edits then.
	Pending string
	// Smoke is false where the bug needs no fault to show, so that a run without
	// faults may be red too.
	Smoke bool
	Note  string
	Edits []edit
}

// edit replaces one text of one file, which must hold it exactly once.
type edit struct {
	File     string // from the module's root
	Old, New string
}

//go:embed bugs/*.txt
var files embed.FS

// bugs reads all bugs, in the order of their names.
func bugs() ([]bug, error) {
	entries, err := files.ReadDir("bugs")
	if err != nil {
		return nil, err
	}
	var all []bug
	for _, e := range entries {
		text, err := files.ReadFile("bugs/" + e.Name())
		if err != nil {
			return nil, err
		}
		b, err := parse(strings.TrimSuffix(e.Name(), ".txt"), string(text))
		if err != nil {
			return nil, fmt.Errorf("bugs/%s: %w", e.Name(), err)
		}
		all = append(all, b)
	}
	return all, nil
}

// The lines around an edit's texts.
const (
	openMark  = "<<<<"
	midMark   = "===="
	closeMark = ">>>>"
)

// parse reads a bug's file: lines "key: value", then for each file a line
// "-- path" and the edits in it.
func parse(name, text string) (bug, error) {
	b := bug{Name: name, Smoke: true}
	lines := strings.Split(text, "\n")
	file := ""
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		switch {
		case strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "-- "):
			file = strings.TrimSpace(line[3:])
		case line == openMark:
			if file == "" {
				return b, fmt.Errorf("line %d: an edit before its file", i+1)
			}
			mid := i + slices.Index(lines[i:], midMark)
			end := i + slices.Index(lines[i:], closeMark)
			if mid < i || end < mid {
				return b, fmt.Errorf("line %d: the edit does not end", i+1)
			}
			b.Edits = append(b.Edits, edit{
				File: file,
				Old:  strings.Join(lines[i+1:mid], "\n"),
				New:  strings.Join(lines[mid+1:end], "\n"),
			})
			i = end
		default:
			if err := b.set(line); err != nil {
				return b, fmt.Errorf("line %d: %w", i+1, err)
			}
		}
	}
	return b, b.check()
}

// set takes one line "key: value".
func (b *bug) set(line string) error {
	key, value, ok := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	if !ok || value == "" {
		return fmt.Errorf("%q is no line KEY: VALUE", line)
	}
	switch key {
	case "title":
		b.Title = value
	case "breaks":
		b.Breaks = value
	case "listed":
		b.Listed = value == "yes"
	case "tests":
		b.Tests = strings.Fields(value)
	case "first":
		b.First = value
	case "suites":
		b.Suites = strings.Fields(value)
	case "pending":
		b.Pending = value
	case "smoke":
		b.Smoke = value != "no"
	case "note":
		b.Note = value
	default:
		return fmt.Errorf("%q is no key", key)
	}
	return nil
}

func (b *bug) check() error {
	switch {
	case b.Title == "":
		return fmt.Errorf("it has no title")
	case b.Breaks == "":
		return fmt.Errorf("it breaks no promise: then it is no bug")
	case b.Pending != "" && len(b.Edits) > 0:
		return fmt.Errorf("it is pending and has edits")
	case b.Pending == "" && len(b.Edits) == 0:
		return fmt.Errorf("it changes nothing")
	case b.Pending == "" && len(b.Tests) == 0:
		return fmt.Errorf("it names no package whose tests should notice")
	}
	for _, name := range b.Suites {
		if _, ok := suiteNamed(name); !ok {
			return fmt.Errorf("there is no suite %q", name)
		}
	}
	return nil
}

// apply returns the changed contents of the files that the bug touches, by
// path from root.
func (b *bug) apply(root string) (map[string][]byte, error) {
	changed := make(map[string][]byte)
	for i, e := range b.Edits {
		content, ok := changed[e.File]
		if !ok {
			var err error
			if content, err = os.ReadFile(filepath.Join(root, e.File)); err != nil {
				return nil, fmt.Errorf("%s: %w", b.Name, err)
			}
		}
		if n := bytes.Count(content, []byte(e.Old)); n != 1 {
			return nil, fmt.Errorf("%s: edit %d fits %d times into %s, once is wanted: the source has moved on, move the bug too", b.Name, i+1, n, e.File)
		}
		changed[e.File] = bytes.Replace(content, []byte(e.Old), []byte(e.New), 1)
	}
	return changed, nil
}

// overlay writes the changed files into dir, with the list that the go command
// reads, and returns its path.
func (b *bug) overlay(root, dir string) (string, error) {
	changed, err := b.apply(root)
	if err != nil {
		return "", err
	}
	replace := make(map[string]string)
	for file, content := range changed {
		path := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, file)] = path
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, list, 0o600)
}

// packages are the directories that the bug touches, from the root.
func (b *bug) packages() []string {
	var dirs []string
	for _, e := range b.Edits {
		dirs = append(dirs, "./"+filepath.ToSlash(filepath.Dir(e.File)))
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// touches says that the bug changes a file whose path begins so.
func (b *bug) touches(prefixes ...string) bool {
	for _, e := range b.Edits {
		for _, prefix := range prefixes {
			if strings.HasPrefix(e.File, prefix) {
				return true
			}
		}
	}
	return false
}
