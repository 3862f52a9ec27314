package fsm

import (
	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm/logpb"
)

// A node that starts reads each transaction in retention, and whoever asks for a
// finished one has it read. So records, too, are read by hand, by decode.go's rules:
// what is out of the ordinary is left to the library, and FuzzParseTransaction
// holds the two together.

// recordParser reads records. Its memory is used again after reset, and a record that is to
// last longer is read by one that is never reset.
type recordParser struct {
	decoder  decoder
	records  slab[transaction]
	branches slab[branch]
	branchAt slab[*branch]
	specs    slab[logpb.BranchSpec]
	stamps   slab[stamp]
	// last are the stamps that were read last: most are of the same few entries.
	last [2]*stamp
}

// parseTransaction reads the bytes of a record, which it does not alias.
func parseTransaction(b []byte) (*transaction, error) { return new(recordParser).parse(b) }

// parse is parseTransaction, for a record that is good until reset.
func (p *recordParser) parse(b []byte) (*transaction, error) {
	if t := p.record(b); t != nil {
		return t, nil
	}
	m := new(logpb.Transaction)
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, err
	}
	return fromProto(m)
}

// reset takes back all memory of the records that were read.
func (p *recordParser) reset() {
	p.decoder.reset()
	p.records.reset()
	p.branches.reset()
	p.branchAt.reset()
	p.specs.reset()
	p.stamps.reset()
	p.last = [2]*stamp{}
}

// record reads a record by hand. It is nil where it cannot.
func (p *recordParser) record(raw []byte) *transaction {
	n := countField(raw, 14)
	t, branches := p.records.one(0), p.branches.some(n, 0)
	if n <= len(t.room) {
		t.branches = t.room[:0]
	} else {
		t.branches = p.branchAt.some(n, 0)[:0]
	}
	var content, result []byte
	for f := (fields{message: raw, names: p.decoder.names}); f.next() || f.bad; {
		switch f.number {
		case 1:
			begin, written := p.begin(f.bytes())
			if begin == nil || t.begin != nil {
				return nil
			}
			t.begin, t.gid, t.written = begin, GID(begin.GetGid()), written
		case 2:
			t.state = logpb.State(f.varint())
		case 3:
			t.tombstone = f.varint() != 0
		case 4:
			t.quarantined = f.varint() != 0
		case 5:
			t.sealed = f.varint() != 0
		case 6:
			t.submitted = f.varint() != 0
		case 7:
			t.decision = logpb.Decision(f.varint())
		case 8:
			t.reason = logpb.Reason(f.varint())
		case 9:
			t.detail = f.ownText()
		case 10:
			t.origin = logpb.Origin(f.varint())
		case 11:
			t.operator = f.ownText()
		case 12:
			t.deadlineMS = f.varint()
		case 13:
			t.withheld = f.varint() != 0
		case 14:
			v := f.bytes()
			if f.bad {
				return nil // and it was not counted
			}
			b := &branches[len(t.branches)]
			if !p.branch(v, b) {
				return nil
			}
			t.branches = append(t.branches, b)
		case 15:
			f.bad = !p.stamp(f.bytes(), &t.began) || f.bad
		case 16:
			f.bad = !p.stamp(f.bytes(), &t.sealedAt) || f.bad
		case 17:
			f.bad = !p.stamp(f.bytes(), &t.decided) || f.bad
		case 18:
			f.bad = !p.stamp(f.bytes(), &t.finished) || f.bad
		case 19:
			t.filedMS = f.varint()
		case 20:
			content = f.blob()
		case 21:
			result = f.blob()
		case 22:
			t.stopped = f.varint() != 0
		default:
			return nil
		}
		if f.bad {
			return nil
		}
	}
	if t.begin == nil {
		return nil
	}
	if len(content) > 0 || len(result) > 0 {
		t.more = &txMore{content: content, result: result}
	}
	if t.decision != DecisionNone {
		t.markIdle()
	}
	return t
}

// begin reads a begin that has a GID, and its bytes if that is how it is written. It is
// nil where it cannot.
func (p *recordParser) begin(raw []byte) (m *logpb.Begin, written string) {
	d := &p.decoder
	d.begins = d.begins[:0]
	if m = d.begin(raw); m == nil || len(m.GetGid()) == 0 {
		return nil, ""
	}
	if len(d.begins) > 0 {
		written = d.begins[0].written
	}
	return m, written
}

func (p *recordParser) branch(raw []byte, b *branch) bool {
	var operation string
	var result, payloadHash []byte
	for f := (fields{message: raw, names: p.decoder.names}); f.next() || f.bad; {
		switch f.number {
		case 1:
			if b.spec != nil {
				return false
			}
			b.spec = p.specs.one(0)
			if !p.decoder.spec(f.bytes(), b.spec) {
				return false
			}
		case 2:
			b.hint = f.varint() != 0
		case 3:
			b.vote = logpb.VoteKind(f.varint())
		case 4:
			b.maybePrepared = f.varint() != 0
		case 5:
			b.own = logpb.Own(f.varint())
		case 6:
			b.resolved = logpb.Outcome(f.varint())
		case 7:
			b.resolvedBy = f.ownText()
		case 8:
			b.resolvedReason = f.ownText()
		case 9:
			f.bad = !p.stamp(f.bytes(), &b.enlisted) || f.bad
		case 10:
			f.bad = !p.stamp(f.bytes(), &b.voted) || f.bad
		case 11:
			f.bad = !p.stamp(f.bytes(), &b.reported) || f.bad
		case 12:
			f.bad = !p.stamp(f.bytes(), &b.resolvedAt) || f.bad
		case 13:
			b.detail = f.ownText()
		case 14:
			b.attempts = uint32(f.varint())
		case 15:
			b.outcome = logpb.Outcome(f.varint())
		case 16:
			operation = f.ownText()
		case 17:
			result = f.blob()
		case 18:
			payloadHash = f.blob()
		default:
			return false
		}
		if f.bad {
			return false
		}
	}
	if b.spec == nil {
		b.spec = p.specs.one(0)
	}
	if operation != "" || len(result) > 0 || len(payloadHash) > 0 {
		b.more = &branchMore{operation: operation, result: result, payloadHash: payloadHash}
	}
	return true
}

// stamp reads a stamp to a place that has none yet: nil for one of zeros, which did not
// happen.
func (p *recordParser) stamp(raw []byte, at **stamp) bool {
	var s stamp
	for f := (fields{message: raw}); f.next() || f.bad; {
		switch f.number {
		case 1:
			s.index = f.varint()
		case 2:
			s.term = f.varint()
		case 3:
			s.clockMS = f.varint()
		case 4:
			s.wallMS = f.varint()
		default:
			return false
		}
		if f.bad {
			return false
		}
	}
	if *at != nil {
		return false // of two, the library merges the fields
	}
	if s == (stamp{}) {
		return len(raw) == 0
	}
	for _, known := range p.last {
		if known != nil && *known == s {
			*at = known
			return true
		}
	}
	*at = p.stamps.one(0)
	**at = s
	p.last[1], p.last[0] = p.last[0], *at
	return true
}
