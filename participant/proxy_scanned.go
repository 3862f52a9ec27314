package participant

import "sync"

// Bounds of what a proxy remembers of SQL text. Services have few texts, of which each is
// scanned at every use; those that put values into it have as many as there are values.
const (
	scannedMax      = 1024
	scannedBytesMax = 4096 // of one text
)

// scanned remembers what was found in SQL text.
type scanned struct {
	mu    sync.RWMutex
	found map[string]statements
}

// scan is scanStatements, once for texts that come again.
func (s *scanned) scan(text string, mysql bool) statements {
	s.mu.RLock()
	found, ok := s.found[text]
	s.mu.RUnlock()
	if ok {
		return found
	}
	found = scanStatements(text, mysql)
	if len(text) > scannedBytesMax {
		return found
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.found == nil || len(s.found) >= scannedMax {
		s.found = make(map[string]statements) // which of them come again is soon known anew
	}
	s.found[text] = found
	return found
}
