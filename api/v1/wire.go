package quoratev1

import "google.golang.org/protobuf/proto"

// The messages that every transaction is made of have, beside protobuf's own way, methods
// that write and read the same bytes without reflection. protoc-gen-quorate-wire generates
// them (*.wire.pb.go, and wire.pb.go for what they share). internal/wire uses them for gRPC.
//
// They do what is ordinary, and say so when it is not: with a text that is not UTF-8, a
// field that is unknown, or a message that is damaged, protobuf itself must be asked, whose
// word on it stands.

// WireMessage is a message that has them.
type WireMessage interface {
	proto.Message
	// WireSize is how many bytes the message takes.
	WireSize() int
	// WireWrite fills b, whose length must be the message's size. False: ask protobuf.
	WireWrite(b []byte) bool
	// WireRead makes the message what b says; it keeps nothing of b. False: ask protobuf,
	// the message is in no state of use.
	WireRead(b []byte) bool
}
