package participant

import (
	"crypto/rand"
	"fmt"

	"github.com/oklog/ulid/v2"
)

// GID names a transaction everywhere: a ULID of 26 upper-case characters whose
// time part is the cluster clock at which it was born.
type GID string

// ParseGID reads a GID in its 26-character form, in either case.
func ParseGID(s string) (GID, error) {
	id, err := ulid.ParseStrict(s)
	if err != nil {
		return "", fmt.Errorf("participant: %q is no GID (a ULID of 26 characters): %w", s, err)
	}
	return GID(id.String()), nil
}

// BornMS is the cluster clock, in milliseconds, that the GID's maker had heard;
// 0 for a malformed GID.
func (g GID) BornMS() uint64 {
	id, err := ulid.ParseStrict(string(g))
	if err != nil {
		return 0
	}
	return id.Time()
}

// newGID makes a GID born at clockMS. Two of one millisecond differ by 80
// random bits: no state is shared between makers.
func newGID(clockMS uint64) (GID, error) {
	id, err := ulid.New(clockMS, rand.Reader)
	if err != nil {
		return "", fmt.Errorf("participant: make a GID at cluster clock %d: %w", clockMS, err)
	}
	return GID(id.String()), nil
}
