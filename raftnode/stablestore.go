package raftnode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// The keys that the library uses, and ours for the vote as one value.
const (
	keyVoteTerm      = "LastVoteTerm"
	keyVoteCandidate = "LastVoteCand"
	keyVote          = "QuorateVote"
	keyTerm          = "CurrentTerm"
)

// errNotFound has the text by which the library knows a missing value.
var errNotFound = errors.New("not found")

// stableStore stands between the library and the store of term and vote. Each
// value carries a checksum, and any error or stall ends the node.
//
// The library stores a vote as two values in two transactions, term first. A
// crash between them leaves the new term beside the old candidate: a vote that
// was never given (hashicorp/raft #661). Here the term waits in memory until
// its candidate comes, and both go to disk as one value.
type stableStore struct {
	inner raft.StableStore
	path  string // for messages
	fail  *failStop
	max   time.Duration
	high  *highwater

	mu          sync.Mutex
	pendingTerm uint64 // written with the next candidate
}

var _ raft.StableStore = (*stableStore)(nil)

func (s *stableStore) Set(key, value []byte) error {
	if string(key) != keyVoteCandidate {
		return s.put(string(key), value)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(keyVote, append(binary.BigEndian.AppendUint64(nil, s.pendingTerm), value...))
}

func (s *stableStore) SetUint64(key []byte, value uint64) error {
	if string(key) != keyVoteTerm {
		return s.put(string(key), binary.BigEndian.AppendUint64(nil, value))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pendingTerm = value
	return nil
}

func (s *stableStore) Get(key []byte) ([]byte, error) {
	if string(key) != keyVoteCandidate {
		return s.get(string(key))
	}
	_, candidate, err := s.vote()
	return candidate, err
}

func (s *stableStore) GetUint64(key []byte) (uint64, error) {
	if string(key) == keyVoteTerm {
		term, _, err := s.vote()
		return term, err
	}
	value, err := s.get(string(key))
	if err != nil {
		return 0, err
	}
	return s.number(string(key), value)
}

// verify reads what the node will rely on.
func (s *stableStore) verify() error {
	return faultsArePanics("verify term and vote in "+s.path, func() error {
		term, err := s.GetUint64([]byte(keyTerm))
		if err != nil && err != errNotFound { //nolint:errorlint // get returns it bare
			return err
		}
		voteTerm, candidate, err := s.vote()
		if err != nil && err != errNotFound { //nolint:errorlint // get returns it bare
			return err
		}
		return withRemedy(s.high.verifyVote(term, voteTerm, crc32.Checksum(candidate, castagnoli)))
	})
}

// vote returns the last vote that is on disk.
func (s *stableStore) vote() (term uint64, candidate []byte, err error) {
	value, err := s.get(keyVote)
	if err != nil {
		return 0, nil, err
	}
	if len(value) < 8 {
		_, err := s.number(keyVote, value)
		return 0, nil, err
	}
	return binary.BigEndian.Uint64(value), value[8:], nil
}

func (s *stableStore) number(key string, value []byte) (uint64, error) {
	if len(value) != 8 {
		err := withRemedy(fmt.Errorf("read %s in %s: %w: it has %d bytes", key, s.path, ErrDamaged, len(value)))
		s.fail.halt(err)
		return 0, err
	}
	return binary.BigEndian.Uint64(value), nil
}

func (s *stableStore) put(key string, value []byte) error {
	return s.do("write "+key, func() error {
		if err := s.inner.Set([]byte(key), seal(key, value)); err != nil {
			return err
		}
		return s.high.set(false, func(m *mark) {
			switch {
			case key == keyTerm && len(value) == 8:
				m.term = binary.BigEndian.Uint64(value)
			case key == keyVote:
				m.voteTerm, m.vote = binary.BigEndian.Uint64(value), crc32.Checksum(value[8:], castagnoli)
			}
		})
	})
}

func (s *stableStore) get(key string) (value []byte, err error) {
	missing := false
	err = s.do("read "+key, func() error {
		sealed, err := s.inner.Get([]byte(key))
		// bbolt's store says "not found", raft-wal's returns nothing.
		if err != nil && err.Error() != errNotFound.Error() {
			return err
		}
		if len(sealed) == 0 {
			missing = true
			return nil
		}
		value, err = unseal(key, sealed)
		return err
	})
	if err == nil && missing {
		return nil, errNotFound
	}
	return value, err
}

// do runs one operation, and ends the node when it fails.
func (s *stableStore) do(what string, operation func() error) error {
	err := s.fail.guard(what+" in "+s.path, s.max, operation)
	if err != nil {
		err = withRemedy(err)
		s.fail.halt(err)
	}
	return err
}

// seal appends a checksum of key and value.
func seal(key string, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum([]byte(key), castagnoli), castagnoli, value)
	return binary.LittleEndian.AppendUint32(bytes.Clone(value), sum)
}

func unseal(key string, sealed []byte) ([]byte, error) {
	if len(sealed) >= 4 {
		if value := sealed[:len(sealed)-4]; bytes.Equal(seal(key, value), sealed) {
			return bytes.Clone(value), nil
		}
	}
	return nil, fmt.Errorf("%w: the checksum of %s does not match", ErrDamaged, key)
}
