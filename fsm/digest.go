package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/quorate/quorate/fsm/logpb"
)

// Digest is equal on nodes whose states are equal. It is a sum, modulo 2^128,
// of the hashes of all records and of the rest of the state, so that a command
// pays for the record that it changes and for no other. It guards against
// bugs and rot, not against an adversary who may choose records.
type Digest [16]byte

// String is the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// plus is the sum of two digests.
func (d Digest) plus(e Digest) Digest {
	lo, carry := bits.Add64(d.lo(), e.lo(), 0)
	hi, _ := bits.Add64(d.hi(), e.hi(), carry)
	return makeDigest(hi, lo)
}

// minus is the difference of two digests.
func (d Digest) minus(e Digest) Digest {
	lo, borrow := bits.Sub64(d.lo(), e.lo(), 0)
	hi, _ := bits.Sub64(d.hi(), e.hi(), borrow)
	return makeDigest(hi, lo)
}

func (d Digest) hi() uint64 { return binary.BigEndian.Uint64(d[:8]) }
func (d Digest) lo() uint64 { return binary.BigEndian.Uint64(d[8:]) }

func makeDigest(hi, lo uint64) (d Digest) {
	binary.BigEndian.PutUint64(d[:8], hi)
	binary.BigEndian.PutUint64(d[8:], lo)
	return d
}

// hashRecord is the part of a digest that one record's bytes make.
func hashRecord(record []byte) Digest {
	sum := sha256.Sum256(record)
	return Digest(sum[:16])
}

// Digest of the whole state. The place in Raft's log is no part of it: nodes
// compare digests at one index.
func (s *State) Digest() Digest {
	var room [len(Digest{}) + 5*8]byte
	g := append(room[:0], s.settings[:]...)
	for _, v := range []uint64{
		s.clockMS, s.horizonMS, s.incarnation, s.holdBeforeMS, s.holdHorizonMS,
	} {
		g = binary.BigEndian.AppendUint64(g, v)
	}
	return s.allRecords().plus(hashRecord(g))
}

// What is put now is often put again a moment later: on the fast path each record but
// the filed one, which is encoded anyway. So live records are hashed late: when the
// digest of an entry is to be remembered, or when there are too many of them, some then.

// unhashedMax bounds what is hashed at once, and what a reader of Digest hashes. On the fast
// path a record lives for a tenth of a second: so much must find room.
const unhashedMax = 4096

// rememberEvery, rememberEachMS, fewCommands and fewLive choose the entries whose digest is
// remembered, alike on all nodes: all of them while little happens, every so many under
// load. A small entry among large ones finds their records unhashed, which will be over in
// a moment; that of a new second is remembered all the same. *Because* what waits for a
// participant that is gone is live for long, and because a node that has too much of it
// could not be told by a digest which for that very reason it does not have.
const (
	rememberEvery  = 512
	rememberEachMS = 1000
	fewCommands    = 4
	fewLive        = 64
)

// worthRemembering says that the digest after an entry is kept, before which the clock
// was beforeMS.
func (s *State) worthRemembering(index uint64, commands int, beforeMS uint64) bool {
	few := len(s.live) <= fewLive || s.clockMS/rememberEachMS != beforeMS/rememberEachMS
	return commands <= fewCommands && few || index%rememberEvery == 0
}

// hashLater takes in a live record whose hash the sum lacks.
func (s *State) hashLater(t *transaction) {
	s.unhashed = append(s.unhashed, t)
	t.unhashedAt = int32(len(s.unhashed))
}

// unhash takes a record out of the sum, or out of those that it lacks.
func (s *State) unhash(t *transaction) {
	if t.unhashedAt == 0 {
		s.records = s.records.minus(t.hash)
		return
	}
	last := len(s.unhashed) - 1
	moved := s.unhashed[last]
	s.unhashed[t.unhashedAt-1], moved.unhashedAt = moved, t.unhashedAt
	s.unhashed[last], t.unhashedAt = nil, 0
	s.unhashed = s.unhashed[:last]
}

// hashNow takes the hash of a record into the sum, which lacks it.
func (s *State) hashNow(t *transaction) {
	s.scratch = appendTransaction(s.scratch[:0], t)
	t.hash, t.unhashedAt = hashRecord(s.scratch), 0
	s.records = s.records.plus(t.hash)
}

// hashAll brings the sum up to date.
func (s *State) hashAll() {
	for i, t := range s.unhashed {
		s.hashNow(t)
		s.unhashed[i] = nil
	}
	s.unhashed = s.unhashed[:0]
}

// boundUnhashed hashes what is too much, here and there in turn: so what has been put a
// moment ago mostly stays, and no entry waits for thousands.
func (s *State) boundUnhashed() {
	for len(s.unhashed) > unhashedMax {
		last := len(s.unhashed) - 1
		s.hashHand = (s.hashHand + 1) % last
		t, moved := s.unhashed[s.hashHand], s.unhashed[last]
		s.unhashed[s.hashHand], moved.unhashedAt = moved, t.unhashedAt
		s.unhashed[last] = nil
		s.unhashed = s.unhashed[:last]
		s.hashNow(t)
	}
}

// allRecords is the sum of all records' hashes. It changes nothing, for readers share
// the state.
func (s *State) allRecords() Digest {
	sum := s.records
	var record []byte
	for _, t := range s.unhashed {
		record = appendTransaction(record[:0], t)
		sum = sum.plus(hashRecord(record))
	}
	return sum
}

// hashSettings is the hash of what seldom changes: identity, limits, nodes,
// topics.
func (s *State) hashSettings() Digest {
	b := append([]byte("quorate"), s.clusterID[:]...)
	b = appendMessage(b, 1, func(d []byte) []byte { return appendLimits(d, s.limits) })
	for _, n := range s.nodes {
		b = appendMessage(b, 2, func(d []byte) []byte { return appendNode(d, n, hashesLevels(s.featureLevel)) })
	}
	for _, t := range s.topics {
		b = appendMessage(b, 3, func(d []byte) []byte { return appendTopic(d, t) })
	}
	return hashRecord(b)
}

func appendLimits(dst []byte, l *logpb.Limits) []byte {
	defaults := limitValues(DefaultLimits())
	for i, v := range limitValues(l) {
		if i >= limitCountV1 && v == defaults[i] {
			continue // as the first version, which did not know it, hashes it
		}
		dst = appendUint(dst, protowire.Number(i+1), v)
	}
	return dst
}

func appendNode(dst []byte, n *logpb.Node, level bool) []byte {
	for i, v := range []string{
		n.GetId(), n.GetName(), n.GetRaftAddress(), n.GetGrpcAddress(), n.GetHttpAddress(), n.GetVersion(),
	} {
		dst = appendText(dst, protowire.Number(i+1), v)
	}
	if level {
		dst = appendUint(dst, 7, uint64(n.GetFeatureLevel()))
	}
	return dst
}

func appendTopic(dst []byte, t *logpb.Topic) []byte {
	dst = appendText(dst, 1, t.GetNamespace())
	dst = appendText(dst, 2, t.GetName())
	for _, m := range t.GetSubscribers() {
		dst = appendMessage(dst, 3, func(d []byte) []byte {
			d = appendText(d, 1, m.GetEndpoint())
			return appendText(d, 2, m.GetRemark())
		})
	}
	dst = appendUint(dst, 4, t.GetVersion())
	dst = appendStamp(dst, 5, fromStamp(t.GetCreated()))
	return appendStamp(dst, 6, fromStamp(t.GetUpdated()))
}

// digestsKept is how many places there are for entries' digests: each entry has one,
// and the latest that is remembered has it.
const digestsKept = 4096

// indexedDigest is the digest after one entry.
type indexedDigest struct {
	index  uint64
	digest Digest
}

// remember keeps the current digest as that of the entry at index.
func (s *State) remember(index uint64) {
	s.hashAll()
	if s.digests == nil {
		s.digests = make([]indexedDigest, digestsKept)
	}
	s.digests[index%digestsKept] = indexedDigest{index, s.Digest()}
	s.remembered = index
}

// DigestAt is the digest right after the entry at index. Those of the latest few
// thousand entries are remembered, since the last restore or start: of entries with
// many commands only some.
func (s *State) DigestAt(index uint64) (Digest, bool) {
	if s.digests == nil || index == 0 {
		return Digest{}, false
	}
	if d := s.digests[index%digestsKept]; d.index == index {
		return d.digest, true
	}
	if index == s.appliedIndex {
		return s.Digest(), true
	}
	return Digest{}, false
}

// LastDigest is the newest digest that is remembered, as every node that has applied
// as much does, and the entry that it was taken after. ok is false where nothing was
// applied since the start.
func (s *State) LastDigest() (index uint64, d Digest, ok bool) {
	d, ok = s.DigestAt(s.remembered)
	return s.remembered, d, ok
}
