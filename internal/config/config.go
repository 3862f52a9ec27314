// Package config holds the settings of a node: one struct, whose fields carry
// their own documentation; defaults in one function, validation in another; and
// a loader that knows where each value came from.
//
// A setting has one name in three spellings: `listen.grpc` in the YAML file,
// `--listen-grpc` on the command line, `QUORATE_LISTEN_GRPC` in the environment.
// The command line wins over the environment, the environment over the file, the
// file over the default. A name that is none is an error, never ignored.
package config

import (
	"os"
	"time"
)

// Config is everything that an operator can set on one node. Limits that the
// state machine reads are no settings: they are replicated (ClusterService,
// SetLimits), so that every node reads the same ones.
type Config struct {
	Node    Node
	Cluster Cluster
	Listen  Listen
	TLS     TLS
	Storage Storage
	Raft    Raft
	Tx      Tx
	Log     Log
}

// Node is who this node is.
type Node struct {
	Name    string `key:"node.name" flag:"name" unit:"text" help:"Label of this node for people; its identity is a UUID in the data directory."`
	DataDir string `key:"node.data_dir" flag:"data-dir" unit:"path" help:"Directory that holds everything this node must not forget."`
}

// Cluster is how a node without data gets into a cluster; one that is in
// ignores it.
type Cluster struct {
	Bootstrap bool     `key:"cluster.bootstrap" flag:"bootstrap" unit:"bool" help:"Found a new cluster with this node as its first."`
	Seeds     []string `key:"cluster.seeds" flag:"seeds" unit:"host:port list" help:"gRPC addresses of other nodes: bootstrap is refused when one answers as a formed cluster."`
	Join      []string `key:"cluster.join" flag:"join" unit:"host:port list" help:"gRPC addresses of nodes of the cluster to join; asked again and again until this node is in."`
	NonVoter  bool     `key:"cluster.non_voter" flag:"non-voter" unit:"bool" help:"Join without a vote and stay so until promoted by hand."`
}

// Listen is where a node listens and how the others find it.
type Listen struct {
	HTTP          string        `key:"listen.http" flag:"listen-http" unit:"host:port" help:"Address of the HTTP listener: /v1, /metrics, /livez, /readyz."`
	GRPC          string        `key:"listen.grpc" flag:"listen-grpc" unit:"host:port" help:"Address of the gRPC listener."`
	Raft          string        `key:"listen.raft" flag:"listen-raft" unit:"host:port" help:"Address of the listener for the other nodes."`
	AdvertiseHTTP string        `key:"listen.advertise_http" flag:"advertise-http" unit:"host:port" help:"HTTP address that clients are sent to; a DNS name is kept as a name. Empty: the listener's address."`
	AdvertiseGRPC string        `key:"listen.advertise_grpc" flag:"advertise-grpc" unit:"host:port" help:"gRPC address that clients are sent to. Empty: the listener's address."`
	AdvertiseRaft string        `key:"listen.advertise_raft" flag:"advertise-raft" unit:"host:port" help:"Address at which the other nodes find this one. Empty: the listener's address."`
	DTMJSONRPC    string        `key:"listen.dtm_jsonrpc" flag:"dtm-jsonrpc" unit:"host:port" help:"Further address of the HTTP listener, for DTM's JSON-RPC clients that know its port, 36791. Empty: none; /api/json-rpc is on listen.http anyway."`
	Insecure      bool          `key:"listen.insecure" flag:"insecure" unit:"bool" help:"Listen beyond loopback without mutual TLS: anybody who reaches the port may decide transactions."`
	DrainTimeout  time.Duration `key:"listen.drain_timeout" flag:"drain-timeout" unit:"duration" help:"How long calls that run may go on when the node is asked to stop."`
}

// TLS is the certificates, as PEM files. With a certificate every listener
// speaks TLS; with a CA, only to those whose certificate the CA signed.
type TLS struct {
	CertFile     string `key:"tls.cert_file" flag:"tls-cert-file" unit:"path" help:"Certificate of this node, with its chain."`
	KeyFile      string `key:"tls.key_file" flag:"tls-key-file" unit:"path" help:"Private key of the certificate."`
	CAFile       string `key:"tls.ca_file" flag:"tls-ca-file" unit:"path" help:"CA certificates that clients and nodes must show a certificate of (mutual TLS)."`
	RaftCertFile string `key:"tls.raft_cert_file" flag:"tls-raft-cert-file" unit:"path" help:"Certificate for the other nodes. Empty: tls.cert_file."`
	RaftKeyFile  string `key:"tls.raft_key_file" flag:"tls-raft-key-file" unit:"path" help:"Private key of that certificate. Empty: tls.key_file."`
	RaftCAFile   string `key:"tls.raft_ca_file" flag:"tls-raft-ca-file" unit:"path" help:"CA of the nodes alone, so that a client's certificate does not open the Raft port. Empty: tls.ca_file."`
}

// Storage is how the log is kept on disk.
type Storage struct {
	LogStore         string        `key:"storage.log_store" flag:"log-store" unit:"auto|boltdb|wal" help:"Kind of the Raft log's store. auto: the one that the data directory was made with, which it keeps; wal for a new one."`
	OperationTimeout time.Duration `key:"storage.operation_timeout" flag:"storage-operation-timeout" unit:"duration" help:"A store operation that takes longer ends the node: a stalled disk must not keep the leadership."`
}

// Raft is the replication's timing.
type Raft struct {
	Profile           string        `key:"raft.profile" flag:"profile" unit:"fast|default" help:"Timing: fast is heartbeat and election 300 ms (one machine, one rack), default is 1 s."`
	SnapshotThreshold uint64        `key:"raft.snapshot_threshold" flag:"raft-snapshot-threshold" unit:"entries" help:"Log entries after which a snapshot is taken; as many times more as the last one is larger than raft.snapshot_bytes."`
	SnapshotBytes     uint64        `key:"raft.snapshot_bytes" flag:"raft-snapshot-bytes" unit:"bytes" help:"Bytes of the log after which a snapshot is taken at once; as many as the last snapshot has, when that is more."`
	SnapshotInterval  time.Duration `key:"raft.snapshot_interval" flag:"raft-snapshot-interval" unit:"duration" help:"How often a node counts the log's entries for that; up to as much again is added."`
	TrailingLogs      uint64        `key:"raft.trailing_logs" flag:"raft-trailing-logs" unit:"entries" help:"Log entries kept behind a snapshot, so that a node that is a little behind needs no snapshot."`
	TrailingBytes     uint64        `key:"raft.trailing_bytes" flag:"raft-trailing-bytes" unit:"bytes" help:"Bytes of the log kept behind a snapshot at most; as many as the snapshot has, when that is more. A node verifies its whole log when it starts."`
}

// Tx is how transactions are driven by this node while it leads.
type Tx struct {
	EndpointAllow    []string      `key:"tx.endpoint_allow" flag:"endpoint-allow" unit:"host or CIDR list" help:"Hosts and networks that branch endpoints may lie in; checked after DNS. Empty: none."`
	StuckAfter       time.Duration `key:"tx.stuck_after" flag:"stuck-after" unit:"duration" help:"A branch that has been due for longer is called stuck."`
	CallTimeout      time.Duration `key:"tx.call_timeout" flag:"call-timeout" unit:"duration" help:"How long one delivery to a branch may take. 0s: the profile's."`
	RetryMax         time.Duration `key:"tx.retry_max" flag:"retry-max" unit:"duration" help:"Longest pause between two deliveries to one branch. 0s: the profile's."`
	InFlight         int           `key:"tx.in_flight" flag:"in-flight" unit:"deliveries" help:"Calls of branches under way at once; half of them are kept from what hangs or fails."`
	InFlightResource int           `key:"tx.in_flight_resource" flag:"in-flight-resource" unit:"deliveries" help:"Calls under way at once to one resource, or one path of a host. One that fails gets few, so that it starves no other."`
}

// Log is what the node says about itself, on standard error.
type Log struct {
	Level  string `key:"log.level" flag:"log-level" unit:"debug|info|warn|error" help:"Least level that is logged."`
	Format string `key:"log.format" flag:"log-format" unit:"text|json" help:"Form of a log line."`
}

// Default returns the settings of a node that was told nothing.
func Default() Config {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "node"
	}
	return Config{
		Node: Node{Name: name, DataDir: "quorate-data"},
		Listen: Listen{
			HTTP: "127.0.0.1:36789", GRPC: "127.0.0.1:36790", Raft: "127.0.0.1:36792",
			DrainTimeout: 5 * time.Second,
		},
		Storage: Storage{LogStore: "auto", OperationTimeout: 10 * time.Second},
		Raft:    Raft{Profile: "default", SnapshotThreshold: 16384, SnapshotBytes: 32 << 20, SnapshotInterval: 20 * time.Second, TrailingLogs: 10240, TrailingBytes: 64 << 20},
		Tx: Tx{
			StuckAfter: 5 * time.Minute, InFlight: 1024, InFlightResource: 256,
		},
		Log: Log{Level: "info", Format: "text"},
	}
}

// HTTPAddress returns the HTTP address that others are told.
func (c *Config) HTTPAddress() string { return orElse(c.Listen.AdvertiseHTTP, c.Listen.HTTP) }

// GRPCAddress returns the gRPC address that others are told.
func (c *Config) GRPCAddress() string { return orElse(c.Listen.AdvertiseGRPC, c.Listen.GRPC) }

// RaftAddress returns the Raft address that others are told.
func (c *Config) RaftAddress() string { return orElse(c.Listen.AdvertiseRaft, c.Listen.Raft) }

func orElse(value, otherwise string) string {
	if value != "" {
		return value
	}
	return otherwise
}
