// Package wire sets gRPC up, at both ends, for what is said here: messages of a few
// hundred bytes, many at once.
package wire

import "google.golang.org/grpc"

const (
	// StreamWindowBytes is what one call may send before it is read, and bounds what an
	// unread one holds in memory. A message that is longer is let in when it is waited for.
	StreamWindowBytes = 256 << 10
	// ConnectionWindowBytes is what all calls of a connection may have on the wire.
	ConnectionWindowBytes = 1 << 20
	// streamWorkers are goroutines that serve one call after another. A call that finds all
	// of them busy, with sessions or with calls that wait, is served by one of its own: it is
	// no bound.
	streamWorkers = 256
)

// ServerOptions are a node's.
//
// The windows are fixed. *Because* gRPC otherwise measures how large they should be, with
// a ping and its answer for every few messages, for as long as messages come; and opens them
// up to 16 MiB a call for whoever sends a lot.
//
// Workers stand ready. *Because* the stack of a new goroutine grows anew for each call, up
// to where handlers are, and is copied each time.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.StaticStreamWindowSize(StreamWindowBytes), grpc.StaticConnWindowSize(ConnectionWindowBytes),
		grpc.NumStreamWorkers(streamWorkers), grpc.ForceServerCodecV2(Codec{}),
	}
}

// DialOptions are those of whoever calls a node.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithStaticStreamWindowSize(StreamWindowBytes), grpc.WithStaticConnWindowSize(ConnectionWindowBytes),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(Codec{})),
	}
}
