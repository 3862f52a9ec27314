// Package dtm speaks the protocol of DTM's SDKs, over HTTP, gRPC and JSON-RPC,
// so that they work against Quorate unchanged.
//
// It is a translation, as the HTTP gateway is, and a client of this node's own
// services: what it can do, any native caller can do. A DTM gid is a key. Old
// SDKs know one URL and nothing of leaders, so every node answers every call:
// the connection that it is given forwards to the leader.
package dtm

import (
	"log/slog"
	"net/http"
	"path"
	"time"

	"google.golang.org/grpc"

	"github.com/quorate/quorate/api/dtm/dtmpb"
	quoratev1 "github.com/quorate/quorate/api/v1"
)

// The times of this surface.
const (
	// HoldMax is how long a call is repeated while there is no leader, or none
	// that answers: several of a node's own waits. DTM's SDKs do not repeat.
	HoldMax = 10 * time.Second
	// WaitResultMax is how long a call with wait_result waits for the end.
	WaitResultMax = 15 * time.Second
	// TimeoutToFailDefault is DTM's: how long a prepared transaction stays so.
	TimeoutToFailDefault = 35 * time.Second
	// RetryIntervalDefault is DTM's: when a silent workflow is first called back.
	RetryIntervalDefault = 10 * time.Second
)

// Config says what a Gateway stands on.
type Config struct {
	// Conn reaches this node's services, and through them the leader.
	Conn grpc.ClientConnInterface
	// Version is this build's, for /api/dtmsvr/version.
	Version string
	// Logger gets what people should see; nil discards.
	Logger *slog.Logger
	// HoldMax and WaitResultMax replace the constants of these names; 0 leaves them.
	HoldMax, WaitResultMax time.Duration
}

// Gateway serves DTM's protocol.
type Gateway struct {
	dtmpb.UnimplementedDtmServer
	native  quoratev1.TransactionServiceClient
	version string
	hold    time.Duration
	wait    time.Duration
	log     *slog.Logger
	mux     *http.ServeMux
	served  []string // method and name of each HTTP call
}

// New returns a gateway. It holds nothing that must be closed.
func New(cfg Config) *Gateway {
	g := &Gateway{
		native: quoratev1.NewTransactionServiceClient(cfg.Conn), version: cfg.Version,
		log:  cfg.Logger,
		hold: cfg.HoldMax, wait: cfg.WaitResultMax,
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.hold == 0 {
		g.hold = HoldMax
	}
	if g.wait == 0 {
		g.wait = WaitResultMax
	}
	g.mux = http.NewServeMux()
	g.route()
	return g
}

// Register serves the gRPC side.
func (g *Gateway) Register(r grpc.ServiceRegistrar) { dtmpb.RegisterDtmServer(r, g) }

// ServeHTTP serves everything below /api/. A path that a mux would clean by a
// redirect is none of ours: the redirect's text would be that of the caller.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if escaped := req.URL.EscapedPath(); path.Clean(escaped) != escaped {
		g.serveUnknown(w, req)
		return
	}
	g.mux.ServeHTTP(w, req)
}
