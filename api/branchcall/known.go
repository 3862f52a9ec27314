package branchcall

import (
	"strings"
	"sync"
)

// Bounds of the endpoints that are kept taken apart.
const (
	endpointsKnownMax     = 1024
	endpointKnownBytesMax = 512
)

// endpoints are those that were found allowed, taken apart: each transaction names a few,
// mostly the same, and each is read where it is named and again where it is called. What
// an endpoint means, and whether the list allows it, never changes; the address that it
// leads to is checked at each connection.
type endpoints struct {
	mu    sync.RWMutex
	known map[string]target
}

// target takes an endpoint apart that the list allows. Nothing of it may be changed.
func (a *Allow) target(endpoint string) (target, error) {
	a.known.mu.RLock()
	t, ok := a.known.known[endpoint]
	a.known.mu.RUnlock()
	if ok {
		return t, nil
	}
	if len(endpoint) > endpointKnownBytesMax {
		return a.parse(endpoint)
	}
	endpoint = strings.Clone(endpoint) // it may be a part of a whole request
	t, err := a.parse(endpoint)
	if err == nil {
		a.known.keep(endpoint, t)
	}
	return t, err
}

// keep forgets all others where there are too many: those that are in use come again.
func (e *endpoints) keep(endpoint string, t target) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known == nil || len(e.known) >= endpointsKnownMax {
		e.known = make(map[string]target)
	}
	e.known[endpoint] = t
}
