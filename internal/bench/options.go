package bench

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/raftnode"
)

// Options say what is measured, and how.
type Options struct {
	// Scenarios by name, in order.
	Scenarios []string
	// Callers are the numbers of callers, one measurement each.
	Callers []int
	// Duration of one slice, and WarmUp before it, which is not counted.
	Duration, WarmUp time.Duration
	// Runs is how many slices there are of each side; the result is their median.
	Runs int
	// Rate makes the loop an open one: so many operations a second, callers at most at once.
	Rate float64
	// Stream has transactions that are submitted whole go over a stream, not a call each.
	Stream bool
	// LogStore of the nodes: boltdb or wal.
	LogStore string
	// Nodes of the cluster, and their timing Profile.
	Nodes   int
	Profile string
	// NoFloor leaves the floor out.
	NoFloor bool
	// Peer is another system to measure beside: etcd, or empty.
	Peer string
	// Endpoints are the gRPC addresses of a running cluster, used in place of one of our
	// own; there is no floor then. Creds secure the connections; nil: plain text.
	Endpoints []string
	Creds     credentials.TransportCredentials
	// Stores are where the scenario transfer keeps its money, and Opener links their drivers.
	Stores [2]bankstore.Spec
	Opener bankstore.Opener
	// Dir holds data and logs; it stays. Empty: a temporary one.
	Dir string
	// ProfileDir gets a CPU profile of each node for each slice, without its warm-up and the
	// comparison after it, in a directory for each side; empty: none.
	ProfileDir string
	// Binary is the quorate program of the nodes; empty: the running one.
	Binary string
	// Progress hears what is being done; nil: nobody.
	Progress io.Writer
}

// NewOptions are the defaults.
func NewOptions() Options {
	return Options{
		Callers: []int{1, 64, 256}, Duration: 5 * time.Second, WarmUp: time.Second, Runs: 3, LogStore: raftnode.LogStoreDefault, Nodes: 3, Profile: "default",
		Stores: [2]bankstore.Spec{{Kind: bankstore.Embedded}, {Kind: bankstore.Embedded}},
	}
}

// callersMax bounds the callers of one measurement.
const callersMax = 1 << 16

// Validate reports every option that cannot be used.
func (o *Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(o.Scenarios) == 0 {
		bad("name a scenario: %s", strings.Join(Names(), ", "))
	}
	for _, name := range o.Scenarios {
		if !slices.Contains(Names(), name) {
			bad("no scenario is named %q: there are %s", name, strings.Join(Names(), ", "))
		}
	}
	if len(o.Callers) == 0 {
		bad("--callers is empty: name at least one number of callers")
	}
	for _, n := range o.Callers {
		if n < 1 || n > callersMax {
			bad("--callers %d: want 1 to %d", n, callersMax)
		}
	}
	if o.Duration < 100*time.Millisecond {
		bad("--duration %v: want at least 100ms", o.Duration)
	}
	if o.WarmUp < 0 {
		bad("--warm-up %v is negative", o.WarmUp)
	}
	if o.Runs < 1 {
		bad("--runs %d: want at least 1", o.Runs)
	}
	if o.Rate < 0 {
		bad("--rate %v is negative", o.Rate)
	}
	if o.LogStore != raftnode.LogStoreBolt && o.LogStore != raftnode.LogStoreWAL {
		bad("--log-store %s: want boltdb or wal", o.LogStore)
	}
	if o.Nodes != 1 && o.Nodes != 3 && o.Nodes != 5 {
		bad("--nodes %d: a cluster here has 1, 3 or 5", o.Nodes)
	}
	if o.Creds != nil && o.Creds.Info().SecurityProtocol == "tls" && slices.Contains(o.Scenarios, transferName) {
		bad("%s reaches its cluster in plain text: leave it out, or the TLS flags", transferName)
	}
	if needsFloor := slices.Contains(o.Scenarios, proposeName); needsFloor && (o.NoFloor || len(o.Endpoints) > 0) {
		bad("%s runs on the floor's nodes, and there are none", proposeName)
	}
	if o.Peer != "" && o.Peer != peerEtcd {
		bad("--peer %s: etcd is the one that is known", o.Peer)
	}
	return errors.Join(errs...)
}
