package proc

import (
	"bytes"
	"os"
	"strings"
)

// LastLines returns the end of a log file, indented, for the error that says that
// its process has ended: the file may be gone before anybody reads it.
func LastLines(path string, count int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(bytes.TrimSpace(text)), "\n")
	if len(lines) > count {
		lines = lines[len(lines)-count:]
	}
	return "  " + strings.Join(lines, "\n  ")
}
