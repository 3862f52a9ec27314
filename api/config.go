package api

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/quorate/quorate/internal/frames"
)

// Limits of the listeners. They bound what one connection can cost.
const (
	// MessageBytesMax is the largest gRPC message or HTTP body taken in.
	MessageBytesMax = 1 << 20
	// HeaderListBytesMax is the largest header list of a request.
	HeaderListBytesMax = 16 << 10
	// StreamsPerConnectionMax bounds concurrent calls on one HTTP/2
	// connection. A participant multiplexes all its work on one stream.
	StreamsPerConnectionMax = 100
	// HandshakeTimeout bounds TLS and HTTP/2 handshakes and the reading of
	// HTTP request headers.
	HandshakeTimeout = 5 * time.Second
	// KeepaliveInterval is the least time between a client's pings.
	KeepaliveInterval = 5 * time.Second
	// ConnectionsMax bounds the open connections of one listener.
	ConnectionsMax = 16384
	// AnswerBytesMax is the size beyond which a page of a list is made shorter:
	// most gRPC clients take 4 MiB.
	AnswerBytesMax = 3 << 20
	// SessionWindowMax bounds the deliveries and answers that wait for one
	// participant session.
	SessionWindowMax = frames.SessionWindowMax
	// PageSizeDefault and PageSizeMax bound a page of a list.
	PageSizeDefault = 50
	PageSizeMax     = 1000
)

// Config says how a node serves its API.
type Config struct {
	// NodeID is the UUID of this node's data directory.
	NodeID string
	// Version and Commit are this build's, for /version and metrics.
	Version, Commit string

	// LeaderWait is how long a call is held while no leader is known, before it
	// is answered NO_LEADER (default 3 s).
	LeaderWait time.Duration
	// CallTimeout bounds a call whose caller set no deadline of its own, waiting
	// for a finish included (default 60 s).
	CallTimeout time.Duration
	// ReadyLagMax is the number of entries a node may lag behind the commit
	// index and still be ready (default 10000).
	ReadyLagMax uint64

	// TLS is used on both listeners; nil serves in the clear.
	TLS *tls.Config
	// ForwardTLS is used to reach the other nodes' gRPC; nil dials in the clear.
	ForwardTLS *tls.Config

	// Dial makes the connections to the other nodes' gRPC; nil dials TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)

	// Endpoints says which branch endpoints may be named; nil refuses all.
	// *branchcall.Allow implements it.
	Endpoints EndpointChecker
	// Checks are further conditions of /readyz, such as a writable disk.
	Checks []Check
	// Metrics is what /metrics serves and the API's own series are added to;
	// nil makes a registry of its own.
	Metrics *Metrics
	// Logger gets what people should see; nil discards.
	Logger *slog.Logger
}

// EndpointChecker says whether a branch's endpoint may be called. Its error is
// shown to the caller and must name the flag that would allow it.
type EndpointChecker interface {
	Check(endpoint string) error
}

// Check is one named condition of readiness. Run must return within the
// context's deadline.
type Check struct {
	Name string
	Run  func(ctx context.Context) error
}

// withDefaults returns c with every unset field set.
func (c Config) withDefaults() Config {
	setDefault(&c.LeaderWait, 3*time.Second)
	setDefault(&c.CallTimeout, time.Minute)
	setDefault(&c.ReadyLagMax, 10_000)
	setDefault(&c.Version, "dev")
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Endpoints == nil {
		c.Endpoints = noEndpoints{}
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(c.Version, c.Commit)
	}
	return c
}

// Validate says what is wrong with c, whose unset fields stand for defaults.
func (c Config) Validate() error {
	if c.LeaderWait < 0 || c.CallTimeout < 0 {
		return errors.New("api: the leader wait and the call timeout must not be negative")
	}
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var unset T
	if *field == unset {
		*field = value
	}
}

type noEndpoints struct{}

func (noEndpoints) Check(string) error {
	return errors.New("this node calls no endpoints; allow them with --endpoint-allow HOST|CIDR, or let the participant attach a session")
}
