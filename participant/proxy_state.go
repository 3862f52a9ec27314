package participant

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
)

// sessionState is what the proxy knows of a connection's session, so that it need not
// ask the server before each branch. It goes with the connection.
type sessionState struct {
	// single is the proxy's: driver and server take one statement a request.
	single *atomic.Bool
	// writable: the session's transactions were found to be able to write (Postgres).
	writable bool
	// ownLockWait is the session's own lock timeout in seconds, 0 while it is not known, and
	// lockWait is what it is set to (MySQL).
	ownLockWait, lockWait int64
	// kept are the prepared statements that are run again.
	kept kept
}

// unknownLockWait stands for what somebody else may have set.
const unknownLockWait = -1

func (p *Proxy) newState() *sessionState { return &sessionState{single: &p.single} }

// session speaks on the connection.
func (c *proxyConn) session() rawSession { return rawSession{raw: c.raw, state: c.state} }

// batch runs statements without parameters: in one request where driver and server
// take that, and one after the other elsewhere. After an error, those behind the
// one that failed have not run.
func (s rawSession) batch(ctx context.Context, statements ...string) error {
	if s.state != nil && !s.state.single.Load() {
		_, err := s.exec(ctx, strings.Join(statements, "; "))
		if !takesOne(err) {
			return err
		}
		s.state.single.Store(true)
	}
	for _, q := range statements {
		if _, err := s.exec(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// takesOne says that a request of several statements was refused as such, before any of
// them ran: Postgres when the driver prepares it, MySQL unless the DSN says
// multiStatements=true.
func takesOne(err error) bool {
	if n, ok := mysqlNumber(err); ok {
		const parseError = 1064 // ER_PARSE_ERROR
		return n == parseError
	}
	var state interface{ SQLState() string }
	return errors.As(err, &state) && state.SQLState() == "42601" && strings.Contains(err.Error(), "multiple commands")
}
