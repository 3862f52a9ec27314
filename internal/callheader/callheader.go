// Package callheader names what a call to a branch carries beside its body: HTTP
// headers, and in lower case gRPC metadata. Both ends share it.
package callheader

import (
	"fmt"
	"net/url"
	"strings"
)

// The names. Key, Branch, Topic and Workflow are escaped: see Escape.
const (
	Prefix    = "Quorate-"
	GID       = Prefix + "Gid"
	Key       = Prefix + "Key"
	Branch    = Prefix + "Branch"
	Operation = Prefix + "Operation" // action, compensate, confirm, cancel, check-back, resume
	Mode      = Prefix + "Mode"
	Attempt   = Prefix + "Attempt" // from 1 under one leader
	Epoch     = Prefix + "Epoch"   // incarnation.term
	Floor     = Prefix + "Floor"   // milliseconds
	Clock     = Prefix + "Clock"   // milliseconds
	Cluster   = Prefix + "Cluster" // whose floor and clock these are: clusters share none
	Topic     = Prefix + "Topic"
	Workflow  = Prefix + "Workflow"
	Trace     = "Traceparent"
)

// Reserved tells of a header that a transaction's plan cannot carry: ours, and
// those that belong to the connection or to the framing of the message.
func Reserved(name string) bool {
	name = strings.ToLower(name)
	switch name {
	case "connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
		"traceparent", "tracestate":
		return true
	}
	for _, prefix := range []string{"quorate-", "proxy-", "grpc-", ":"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// Escape writes what a header cannot hold unchanged, such as é or a space at the
// end, as a URL's path does: every byte beyond visible ASCII, and the percent sign.
func Escape(text string) string {
	plain := true
	for i := range len(text) {
		plain = plain && visible(text[i])
	}
	if plain {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		if visible(text[i]) {
			b.WriteByte(text[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", text[i])
		}
	}
	return b.String()
}

// Unescape reads what Escape wrote.
func Unescape(text string) (string, error) { return url.PathUnescape(text) }

func visible(c byte) bool { return c > ' ' && c < 0x7F && c != '%' }
