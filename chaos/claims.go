package chaos

import "sync"

// claims are the companions of the cluster, by name, that a fault of the window has:
// banks, seats, databases.
type claims struct {
	mu   sync.Mutex
	held map[string]bool
}

// claim reserves a companion; false when another fault has it.
func (c *claims) claim(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held[name] {
		return false
	}
	if c.held == nil {
		c.held = map[string]bool{}
	}
	c.held[name] = true
	return true
}

// release ends claims.
func (c *claims) release(names ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		delete(c.held, name)
	}
}
