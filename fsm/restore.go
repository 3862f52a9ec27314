package fsm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm/logpb"
)

// ErrSnapshot is what every refusal of Restore wraps: the bytes are no
// snapshot, are damaged, or hold what no log can lead to.
var ErrSnapshot = errors.New("snapshot is malformed")

// Restore replaces the whole state with a snapshot's. Nothing is believed: each
// frame has its checksum, each record is checked as Apply checks it, and the
// digest of what was read must be the one that was written. After an error the
// state is as before.
func (s *State) Restore(r io.Reader) error {
	in := newRecordReader(r)
	start := make([]byte, len(snapshotMagic)+1)
	if _, err := io.ReadFull(in.r, start); err != nil {
		return fmt.Errorf("%w: no header: %w", ErrSnapshot, err)
	}
	if string(start[:len(snapshotMagic)]) != snapshotMagic {
		return fmt.Errorf("%w: it does not begin with %q", ErrSnapshot, snapshotMagic)
	}
	if v := start[len(snapshotMagic)]; v != snapshotVersion {
		return fmt.Errorf("%w: version %d, this one reads %d", ErrSnapshot, v, snapshotVersion)
	}
	payload, err := in.frame()
	if err != nil {
		return err
	}
	h := new(logpb.SnapshotHeader)
	if err := proto.Unmarshal(payload, h); err != nil {
		return fmt.Errorf("%w: header: %w", ErrSnapshot, err)
	}
	fresh, err := restoreHeader(h)
	if err != nil {
		return err
	}
	if err := fresh.restoreRecords(in, h); err != nil {
		return err
	}
	if digest := fresh.Digest(); !bytes.Equal(digest[:], h.GetDigest()) {
		return fmt.Errorf("%w: its digest is %s, written as %x", ErrSnapshot, digest, h.GetDigest())
	}
	fresh.findOldest()
	fresh.remember(h.GetIndex())
	fresh.events.gone = h.GetIndex()
	*s = *fresh
	return nil
}

// restoreHeader makes a state without records.
func restoreHeader(h *logpb.SnapshotHeader) (*State, error) {
	s := New()
	id, err := GIDFromBytes(h.GetClusterId())
	if err != nil {
		return nil, fmt.Errorf("%w: cluster id: %w", ErrSnapshot, err)
	}
	if h.GetFeatureLevel() > FeatureLevel {
		return nil, fmt.Errorf("%w: %w: feature level %d", ErrSnapshot, ErrFeatureLevel, h.GetFeatureLevel())
	}
	if h.GetLimits() == nil {
		return nil, fmt.Errorf("%w: no limits", ErrSnapshot)
	}
	limits := limitsOf(h.GetLimits())
	if problem := checkLimits(limits); problem != "" {
		return nil, fmt.Errorf("%w: %s", ErrSnapshot, problem)
	}
	if h.GetClockMs() > MaxBornMS || h.GetHorizonMs() > h.GetClockMs() {
		return nil, fmt.Errorf("%w: clock %d, horizon %d", ErrSnapshot, h.GetClockMs(), h.GetHorizonMs())
	}
	for i, n := range h.GetNodes() {
		if i > 0 && h.GetNodes()[i-1].GetId() >= n.GetId() {
			return nil, fmt.Errorf("%w: nodes are not sorted", ErrSnapshot)
		}
	}
	for i, t := range h.GetTopics() {
		if i > 0 && compareTopics(h.GetTopics()[i-1], t) >= 0 {
			return nil, fmt.Errorf("%w: topics are not sorted", ErrSnapshot)
		}
	}
	s.topics = h.GetTopics()
	s.clusterID, s.limits, s.nodes, s.featureLevel = id, limits, h.GetNodes(), h.GetFeatureLevel()
	s.appliedIndex, s.appliedTerm = h.GetIndex(), h.GetTerm()
	s.clockMS, s.horizonMS = h.GetClockMs(), h.GetHorizonMs()
	s.incarnation, s.holdBeforeMS, s.holdHorizonMS = h.GetIncarnation(), h.GetHoldBeforeMs(), h.GetHoldHorizonMs()
	s.settings = s.hashSettings()
	return s, nil
}

// restoreRecords reads as many records as the header says, and the end.
func (s *State) restoreRecords(in *recordReader, h *logpb.SnapshotHeader) error {
	for i := range h.GetActiveCount() {
		if err := s.restoreRecord(in, &in.live, false); err != nil {
			return fmt.Errorf("live record %d of %d: %w", i+1, h.GetActiveCount(), err)
		}
	}
	for i := range h.GetFinishedCount() {
		if err := s.restoreRecord(in, &in.filed, true); err != nil {
			return fmt.Errorf("filed record %d of %d: %w", i+1, h.GetFinishedCount(), err)
		}
		in.filed.reset() // its bytes are kept, and nothing of what was read
	}
	if uint64(s.counts.Tombstones) != h.GetTombstones() {
		return fmt.Errorf("%w: %d tombstones, written as %d", ErrSnapshot, s.counts.Tombstones, h.GetTombstones())
	}
	if _, err := in.r.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: more follows its last record", ErrSnapshot)
	}
	return nil
}

func (s *State) restoreRecord(in *recordReader, p *recordParser, filed bool) error {
	payload, err := in.frame()
	if err != nil {
		return err
	}
	t, err := p.parse(payload)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	// What this version would not write the same, it does not understand whole.
	s.scratch = appendTransaction(s.scratch[:0], t)
	if !bytes.Equal(s.scratch, payload) {
		return fmt.Errorf("%w: %s holds what this version does not know", ErrSnapshot, t.gid)
	}
	if problem := s.checkRestored(t, filed); problem != "" {
		return fmt.Errorf("%w: %s: %s", ErrSnapshot, t.gid, problem)
	}
	if filed {
		t.hash = hashRecord(payload)
		if t.filedMS < in.filedMS {
			return fmt.Errorf("%w: %s is filed before its predecessor", ErrSnapshot, t.gid)
		}
		in.filedMS = t.filedMS
		s.stubs.file(t.gid, t.filedMS, func(b []byte) []byte { return append(b, payload...) })
		s.counts.Finished++
	} else {
		s.live[t.gid] = t
	}
	t.survey()
	s.link(nil, t, filed)
	return nil
}

// checkRestored says what is wrong with a record of a snapshot, "" for nothing.
func (s *State) checkRestored(t *transaction, filed bool) string {
	if _, ok := rulesOf(t.begin.GetMode()); ok == t.tombstone {
		return "its mode is unknown"
	}
	if t.state < StateActive || t.state > StateRolledBack {
		return "its state is unknown"
	}
	if t.decision < DecisionNone || t.decision > DecisionRollback {
		return "its decision is unknown"
	}
	if breach := t.check(); breach != "" && !t.quarantined {
		return breach
	}
	if filed != t.droppable() || filed != (t.filedMS != 0) || t.filedMS > s.clockMS {
		return "it is filed wrongly"
	}
	if t.began == nil || t.began.index == 0 || t.began.index > s.appliedIndex {
		return "it began at no index"
	}
	if s.live[t.gid] != nil {
		return "it stands twice"
	}
	if _, ok := s.stubs.get(t.gid); ok {
		return "it stands twice"
	}
	if text := t.begin.GetKey(); text != "" {
		if _, taken := s.keys[key{t.begin.GetNamespace(), text}]; taken {
			return "its key stands for another"
		}
	}
	return ""
}

// recordReader reads a snapshot.
type recordReader struct {
	frameReader
	live, filed recordParser
	// filedMS is the filing clock of the last filed record read.
	filedMS uint64
}

func newRecordReader(r io.Reader) *recordReader {
	in := &recordReader{frameReader: frameReader{r: bufio.NewReaderSize(r, 1<<16)}}
	in.live.decoder.names = new(names)
	in.filed.decoder.names = in.live.decoder.names
	return in
}

// frameReader reads frames and checks their sums.
type frameReader struct {
	r   *bufio.Reader
	buf bytes.Buffer
}

// bytes reads so many: where they are, if they have room there.
func (f *frameReader) bytes(n int) ([]byte, error) {
	if n <= f.r.Size() {
		b, err := f.r.Peek(n)
		if err != nil {
			return nil, err
		}
		_, err = f.r.Discard(n)
		return b, err
	}
	f.buf.Reset()
	_, err := io.CopyN(&f.buf, f.r, int64(n))
	return f.buf.Bytes(), err
}

// frame reads the next payload, which is good until the next call. What a
// damaged length asks for is read bit by bit, never allocated ahead.
func (f *frameReader) frame() ([]byte, error) {
	var head [frameHeadBytes]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return nil, fmt.Errorf("%w: it ends too early: %w", ErrSnapshot, err)
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > frameBytesMax {
		return nil, fmt.Errorf("%w: a record of %d bytes", ErrSnapshot, n)
	}
	payload, err := f.bytes(int(n))
	if err != nil {
		return nil, fmt.Errorf("%w: it ends too early: %w", ErrSnapshot, err)
	}
	if got, want := crc32.Checksum(payload, castagnoli), binary.LittleEndian.Uint32(head[4:]); got != want {
		return nil, fmt.Errorf("%w: a checksum is %08x, computed %08x", ErrSnapshot, want, got)
	}
	return payload, nil
}
