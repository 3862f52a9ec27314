package raftnode

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/hashicorp/raft"
)

// Names of the log stores, for Config.LogStore.
const (
	LogStoreBolt = "boltdb"
	LogStoreWAL  = "wal"

	// LogStoreDefault is that of a new data directory for which none was named.
	// See docs/decisions/023-the-log-store.md.
	LogStoreDefault = LogStoreWAL
)

// Profile is how fast a cluster notices that its leader is gone, against how
// much delay it takes for a loss.
type Profile struct {
	// Name is what flags and logs call it.
	Name string
	// HeartbeatTimeout is how long a follower waits for its leader.
	HeartbeatTimeout time.Duration
	// ElectionTimeout is how long a candidate waits for an election to end.
	ElectionTimeout time.Duration
	// LeaseTimeout is how long a leader serves without hearing from a quorum.
	LeaseTimeout time.Duration
	// RPCTimeout bounds one exchange between two nodes, and a dial.
	RPCTimeout time.Duration
}

// Fast suits nodes of one rack or one machine: dev, demo, chaos.
func Fast() Profile {
	return Profile{Name: "fast", HeartbeatTimeout: 300 * time.Millisecond, ElectionTimeout: 300 * time.Millisecond,
		LeaseTimeout: 150 * time.Millisecond, RPCTimeout: 2 * time.Second}
}

// Default suits production. HeartbeatTimeout stays at one second or more,
// since heartbeats share the main path with writes to the disk (#695).
func Default() Profile {
	return Profile{Name: "default", HeartbeatTimeout: time.Second, ElectionTimeout: time.Second,
		LeaseTimeout: 500 * time.Millisecond, RPCTimeout: 5 * time.Second}
}

// Config is everything that a node needs. DataDir and Address have no default.
type Config struct {
	// DataDir is the node's directory; it is made with mode 0700 when missing.
	DataDir string
	// Address is the host and port at which the other nodes reach this one. It
	// is stored in the cluster's configuration as it is: prefer a DNS name.
	Address string
	// Bind is the host and port to listen on; empty means Address.
	Bind string
	// Listener is used instead of listening on Bind, and closed with the node.
	Listener net.Listener
	// NodeID, when set, must be the id in the data directory: a directory of
	// another node is refused.
	NodeID string
	// ServerTLS and ClientTLS secure the connections between nodes; nil means
	// plain TCP. For mutual TLS ServerTLS must require client certificates.
	ServerTLS, ClientTLS *tls.Config
	// Dial makes the connections to other nodes; it must refuse where nobody
	// listens, with syscall.ECONNREFUSED in the error.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// LogStore is LogStoreBolt or LogStoreWAL. A data directory keeps the one that
	// it was made with, and another is refused. Empty means that one, and
	// LogStoreDefault for a new directory.
	LogStore string
	// Profile holds the timeouts of leader election.
	Profile Profile

	// CommandBytesMax bounds one command.
	CommandBytesMax int
	// EntryBytesMax bounds the commands of one entry. Entries over 512 KiB
	// delay heartbeats, so it must stay below that.
	EntryBytesMax int
	// EntryCommandsMax bounds the number of commands in one entry.
	EntryCommandsMax int
	// EntriesInFlightMax is how many entries wait to be committed before commands
	// accumulate; with fewer in flight they are proposed at once.
	EntriesInFlightMax int
	// QueueCallsMax bounds the Propose calls waiting to be packed.
	QueueCallsMax int
	// QueueBytesMax bounds the bytes of these.
	QueueBytesMax int

	// StoreOperationMax is how long an operation of the disk may take before
	// the node stops itself.
	StoreOperationMax time.Duration
	// TransferMax bounds a transfer of leadership.
	TransferMax time.Duration
	// TransferRefusalMax is how long after a transfer the library may go on
	// refusing proposals before the node stops itself. It must outlast what a
	// transfer to a node that does not answer takes by itself: the message under
	// way to it, a dial and the last message, each bounded by the RPC timeout.
	TransferRefusalMax time.Duration
	// HandshakeMax bounds the handshake of an incoming connection.
	HandshakeMax time.Duration
	// ConnectionsMax bounds the incoming connections.
	ConnectionsMax int

	// SnapshotEntries is how many entries after the last snapshot make the next one due,
	// and so many times more as that snapshot is larger than SnapshotBytes.
	SnapshotEntries uint64
	// SnapshotBytes is how many bytes of commands after the last snapshot make
	// the next one due at once, or as many as that snapshot has when that is more: a
	// node that comes back reads the snapshot and applies what follows it, and what
	// is written for snapshots stays within what is written to the log.
	SnapshotBytes int64
	// SnapshotInterval is how often the node looks whether entries make one due; the
	// library adds up to as much again.
	SnapshotInterval time.Duration
	// TrailingEntries stay in the log after a snapshot, so that a node that was
	// away for a while need not be sent the whole snapshot.
	TrailingEntries uint64
	// TrailingBytes bounds these by their bytes as well, or the latest snapshot's
	// size does when that is more: up to there it is less to send than the snapshot.
	// A node that starts verifies all of its log.
	TrailingBytes int64
	// SnapshotsKept is how many snapshots stay on disk.
	SnapshotsKept int
	// CatchUpEntriesMax is how many entries a non-voter may be behind when it is promoted.
	CatchUpEntriesMax uint64

	// Logger receives what the node and the library have to say.
	Logger *slog.Logger
	// Clock is a monotonic clock: time since any fixed moment.
	Clock func() time.Duration
	// Wall is the wall clock. It is stored with entries and shown, never compared.
	Wall func() time.Time
	// Applied is called after entries have been applied, with the index of the
	// last, outside the lock and in order, also before Open has returned. It must
	// not block.
	Applied func(index uint64)
	// Fatal is called once when the node must stop: the disk failed or stalled,
	// data is damaged, or the state machine found itself broken. It should not
	// return; the default logs and exits with status 1.
	Fatal func(error)

	// WrapLogStore, WrapStableStore and WrapTransport let tests put faults below
	// our own wrappers, next to the disk and the wire.
	WrapLogStore    func(raft.LogStore) raft.LogStore
	WrapStableStore func(raft.StableStore) raft.StableStore
	WrapTransport   func(Transport) Transport
}

// DefaultConfig returns a configuration that lacks only DataDir and Address.
func DefaultConfig() Config {
	start := time.Now()
	return Config{
		Dial:               new(net.Dialer).DialContext,
		Profile:            Default(),
		CommandBytesMax:    256 << 10,
		EntryBytesMax:      384 << 10,
		EntryCommandsMax:   1024,
		EntriesInFlightMax: 4,
		QueueCallsMax:      8192,
		QueueBytesMax:      16 << 20,
		StoreOperationMax:  10 * time.Second,
		TransferMax:        5 * time.Second,
		TransferRefusalMax: 16 * time.Second,
		HandshakeMax:       5 * time.Second,
		ConnectionsMax:     256,
		SnapshotEntries:    8192,
		SnapshotBytes:      32 << 20,
		SnapshotInterval:   20 * time.Second,
		TrailingEntries:    10240,
		TrailingBytes:      64 << 20,
		SnapshotsKept:      2,
		CatchUpEntriesMax:  64,
		Logger:             slog.Default(),
		Clock:              func() time.Duration { return time.Since(start) },
		Wall:               time.Now,
		Applied:            func(uint64) {},
	}
}

// entryBytesCeiling is where entries begin to delay heartbeats.
const entryBytesCeiling = 512 << 10

// validate reports every setting that cannot be used.
func (c *Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.DataDir == "" {
		bad("DataDir is empty: name the directory of this node")
	}
	if host, port, err := net.SplitHostPort(c.Address); err != nil {
		bad("Address %q is no host:port: %w", c.Address, err)
	} else if port == "" || port == "0" {
		bad("Address %q has no port: other nodes could not reach this one", c.Address)
	} else if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		bad("Address %q is no address that other nodes could reach: name a host, and give %q as Bind", c.Address, c.Address)
	}
	if c.LogStore != "" && c.LogStore != LogStoreBolt && c.LogStore != LogStoreWAL {
		bad("LogStore %q is unknown: use %s or %s", c.LogStore, LogStoreBolt, LogStoreWAL)
	}
	if (c.ServerTLS == nil) != (c.ClientTLS == nil) {
		bad("ServerTLS and ClientTLS must both be set or both be nil")
	}
	p := c.Profile
	if p.HeartbeatTimeout <= 0 || p.ElectionTimeout < p.HeartbeatTimeout || p.LeaseTimeout <= 0 ||
		p.LeaseTimeout > p.HeartbeatTimeout || p.RPCTimeout <= 0 {
		bad("Profile %+v must hold 0 < lease <= heartbeat <= election and an RPC timeout", p)
	}
	if c.EntryBytesMax <= 0 || c.EntryBytesMax >= entryBytesCeiling {
		bad("EntryBytesMax %d must be between 1 and %d: larger entries delay heartbeats", c.EntryBytesMax, entryBytesCeiling-1)
	}
	if c.CommandBytesMax <= 0 || c.CommandBytesMax > c.EntryBytesMax {
		bad("CommandBytesMax %d must be between 1 and EntryBytesMax, %d", c.CommandBytesMax, c.EntryBytesMax)
	}
	for _, v := range []struct {
		name  string
		value int64
	}{
		{"EntryCommandsMax", int64(c.EntryCommandsMax)}, {"EntriesInFlightMax", int64(c.EntriesInFlightMax)},
		{"QueueCallsMax", int64(c.QueueCallsMax)}, {"QueueBytesMax", int64(c.QueueBytesMax)},
		{"StoreOperationMax", int64(c.StoreOperationMax)}, {"TransferMax", int64(c.TransferMax)},
		{"TransferRefusalMax", int64(c.TransferRefusalMax)}, {"HandshakeMax", int64(c.HandshakeMax)},
		{"ConnectionsMax", int64(c.ConnectionsMax)}, {"SnapshotEntries", int64(c.SnapshotEntries)},
		{"SnapshotBytes", c.SnapshotBytes}, {"TrailingBytes", c.TrailingBytes}, {"SnapshotInterval", int64(c.SnapshotInterval)}, {"SnapshotsKept", int64(c.SnapshotsKept)},
	} {
		if v.value <= 0 {
			bad("%s is %d and must be positive", v.name, v.value)
		}
	}
	if c.Dial == nil || c.Clock == nil || c.Wall == nil || c.Applied == nil || c.Logger == nil {
		bad("Dial, Clock, Wall, Applied and Logger must be set: begin with DefaultConfig()")
	}
	return errors.Join(errs...)
}

// exit is the default of Config.Fatal.
func exit(logger *slog.Logger) func(error) {
	return func(err error) {
		logger.Error("the node stops itself", "error", err)
		os.Exit(1)
	}
}
