package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// GID is a transaction's id: a ULID whose first 48 bits are the cluster clock,
// in milliseconds, that its maker had heard. The rest is random.
type GID [16]byte

// GIDTextBytes is the length of a GID's text form.
const GIDTextBytes = 26

// MaxBornMS is the largest clock that a GID can hold, in milliseconds.
const MaxBornMS = 1<<48 - 1

// ErrGID is returned, wrapped, for a text or a byte string that is no GID.
var ErrGID = errors.New("not a ULID of 26 characters")

// Crockford's base 32, upper case: no I, L, O, U.
const gidAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// gidDigits maps an ASCII byte to its digit; 0xFF is no digit. Lower case is
// read too, as the ULID specification asks.
var gidDigits = func() (digits [256]byte) {
	for i := range digits {
		digits[i] = 0xFF
	}
	for i := range len(gidAlphabet) {
		upper := gidAlphabet[i]
		digits[upper] = byte(i)
		if upper >= 'A' {
			digits[upper+'a'-'A'] = byte(i)
		}
	}
	return digits
}()

// NewGID makes a GID from the newest cluster clock that its maker has heard
// and 80 random bits. The clock is cut to 48 bits.
func NewGID(bornMS uint64, random [10]byte) GID {
	var g GID
	binary.BigEndian.PutUint64(g[:8], bornMS<<16)
	copy(g[6:], random[:])
	return g
}

// ParseGID reads the 26-character text form. Its error wraps ErrGID.
func ParseGID(text string) (GID, error) {
	var g GID
	if len(text) != GIDTextBytes {
		return GID{}, fmt.Errorf("gid %.40q: %w", text, ErrGID)
	}
	// 26 digits of 5 bits are 130 bits: the first digit holds only three.
	if gidDigits[text[0]] > 7 {
		return GID{}, fmt.Errorf("gid %q: %w", text, ErrGID)
	}
	var hi, lo uint64
	for i := range GIDTextBytes {
		digit := gidDigits[text[i]]
		if digit == 0xFF {
			return GID{}, fmt.Errorf("gid %q: %w", text, ErrGID)
		}
		hi = hi<<5 | lo>>59
		lo = lo<<5 | uint64(digit)
	}
	binary.BigEndian.PutUint64(g[:8], hi)
	binary.BigEndian.PutUint64(g[8:], lo)
	return g, nil
}

// GIDFromBytes reads the 16-byte form that the log uses. Its error wraps ErrGID.
func GIDFromBytes(b []byte) (GID, error) {
	if len(b) != len(GID{}) {
		return GID{}, fmt.Errorf("gid of %d bytes: %w", len(b), ErrGID)
	}
	return GID(b), nil
}

// String is the 26-character text form.
func (g GID) String() string {
	hi, lo := binary.BigEndian.Uint64(g[:8]), binary.BigEndian.Uint64(g[8:])
	var text [GIDTextBytes]byte
	for i := GIDTextBytes - 1; i >= 0; i-- {
		text[i] = gidAlphabet[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return string(text[:])
}

// BornMS is the GID's time part, in milliseconds of the cluster clock.
func (g GID) BornMS() uint64 { return binary.BigEndian.Uint64(g[:8]) >> 16 }

// Bytes is a copy of the 16-byte form that the log uses.
func (g GID) Bytes() []byte { return append([]byte(nil), g[:]...) }

// IsZero says that the GID was never set.
func (g GID) IsZero() bool { return g == GID{} }
