package participant

import "time"

// PinnedConnectionsMax is how many connections of a resource may be kept from
// their pool at once by branches that are being worked on, prepared or held, unless
// [PinnedMax] sets another number.
const PinnedConnectionsMax = 64

// lockWaitDefault is how long a branch waits for a lock.
const lockWaitDefault = 5 * time.Second

// proxyConfig is what a proxy can be told.
type proxyConfig struct {
	waits     bool
	strict    bool
	unsafe    bool
	pinnedMax int
	lockWait  time.Duration
	dialect   Dialect // of HeldDB
}

func newProxyConfig(opts []ProxyOption) proxyConfig {
	cfg := proxyConfig{pinnedMax: PinnedConnectionsMax, lockWait: lockWaitDefault, dialect: DialectSQLite}
	for _, o := range opts {
		o(&cfg)
	}
	return cfg
}

// ProxyOption is a setting of [Postgres], [MySQL] and [HeldDB].
type ProxyOption func(*proxyConfig)

// CommitWaits makes tx.Commit wait for the decision and return its outcome: nil
// when the branch committed, *[RolledBackError] when it rolled back. Inside a call
// that the initiator waits for it is refused with [ErrWaitsForItself].
func CommitWaits() ProxyOption { return func(c *proxyConfig) { c.waits = true } }

// Strict makes the proxy refuse work whose context carries no GID; without it such
// work passes as if the proxy were not there. [Outside] lets it through.
func Strict() ProxyOption { return func(c *proxyConfig) { c.strict = true } }

// AllowUnsafe accepts database settings that lose acknowledged work in a crash.
// Quorate's promises do not hold for such a resource.
func AllowUnsafe() ProxyOption { return func(c *proxyConfig) { c.unsafe = true } }

// PinnedMax bounds the pinned connections (default [PinnedConnectionsMax]).
func PinnedMax(n int) ProxyOption { return func(c *proxyConfig) { c.pinnedMax = max(1, n) } }

// LockWait bounds how long a branch waits for a lock (default 5 s). It is cut to
// the time that the transaction has left.
func LockWait(d time.Duration) ProxyOption { return func(c *proxyConfig) { c.lockWait = d } }

// HeldDialect says which database [HeldDB] talks to (default [DialectSQLite]).
func HeldDialect(d Dialect) ProxyOption { return func(c *proxyConfig) { c.dialect = d } }
