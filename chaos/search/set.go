package search

import (
	"encoding/binary"
	"math/bits"
)

// stateKey is a state's hash. At 128 bits two of ten million states have the
// same one with a probability below 10^-24; such a pair would hide a state.
type stateKey [2]uint64

// keySet is a compact set of keys: open addressing in one slice without
// pointers, at most three quarters full.
type keySet struct {
	slots []stateKey
	count int
}

func newKeySet() *keySet { return &keySet{slots: make([]stateKey, 1<<16)} }

func (s *keySet) len() int { return s.count }

// add takes a key in, and says whether it is new.
func (s *keySet) add(k stateKey) bool {
	if k == (stateKey{}) {
		k[0] = 1 // zero marks an empty slot
	}
	if 4*s.count >= 3*len(s.slots) {
		s.grow()
	}
	if !s.insert(k) {
		return false
	}
	s.count++
	return true
}

func (s *keySet) insert(k stateKey) bool {
	mask := uint64(len(s.slots) - 1)
	for i := k[0] & mask; ; i = (i + 1) & mask {
		switch s.slots[i] {
		case k:
			return false
		case stateKey{}:
			s.slots[i] = k
			return true
		}
	}
}

func (s *keySet) grow() {
	old := s.slots
	s.slots = make([]stateKey, 2*len(old))
	for _, k := range old {
		if k != (stateKey{}) {
			s.insert(k)
		}
	}
}

// hash mixes bytes, a multiple of eight of them, into a key: two lanes of
// 64 x 64 -> 128 bit multiplications with odd constants.
func hash(b []byte) stateKey {
	const (
		k0 = 0x9e3779b97f4a7c15
		k1 = 0xd1b54a32d192ed03
		k2 = 0x8bb84b93962eacc9
		k3 = 0x2d358dccaa6c78a5
	)
	x, y := uint64(k0), uint64(k1)
	for ; len(b) >= 8; b = b[8:] {
		v := binary.LittleEndian.Uint64(b)
		x = mix(x^v, k2)
		y = mix(y^bits.RotateLeft64(v, 29), k3) + x
	}
	return stateKey{mix(x^k1, k3), mix(y^k0, k2)}
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo ^ a
}
