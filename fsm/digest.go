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
	return s.records.plus(hashRecord(g))
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

// digestsKept is how many entries' digests are remembered.
const digestsKept = 4096

// indexedDigest is the digest after one entry.
type indexedDigest struct {
	index  uint64
	digest Digest
}

// remember keeps the current digest as that of the entry at index.
func (s *State) remember(index uint64) {
	if s.digests == nil {
		s.digests = make([]indexedDigest, digestsKept)
	}
	s.digests[index%digestsKept] = indexedDigest{index, s.Digest()}
}

// DigestAt is the digest right after the entry at index. The latest few
// thousand entries' are remembered, since the last restore or start.
func (s *State) DigestAt(index uint64) (Digest, bool) {
	if s.digests == nil {
		return Digest{}, false
	}
	d := s.digests[index%digestsKept]
	return d.digest, d.index == index && index != 0
}
