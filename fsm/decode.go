package fsm

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm/logpb"
)

// Every node decodes every command, and most commands are of a few kinds. Those are
// read here by hand, because the library takes several times as long and as many
// allocations for them. Whatever is out of the ordinary (an unknown field, one of
// another type, a message twice, text that is not UTF-8) is left to the library, so
// that its word on it is the only one; FuzzDecodeBatch holds the two together.

// decodeBatch reads a batch, which does not alias body.
func decodeBatch(body []byte) (*logpb.Batch, error) { return new(decoder).decode(body) }

// decode reads a batch, which does not alias body. It is good until reset.
func (d *decoder) decode(body []byte) (*logpb.Batch, error) {
	if b := d.batches.one(0); d.batch(body, b) {
		return b, nil
	}
	b := new(logpb.Batch)
	err := proto.Unmarshal(body, b)
	return b, err
}

// reset takes all memory back that a batch shares: what records keep is none of it.
func (d *decoder) reset() {
	d.batches.reset()
	d.commands.reset()
	d.commandAt.reset()
	d.submits.reset()
	d.reports.reset()
	d.packs.reset()
	d.answerPacks.reset()
	d.answers.reset()
	d.votes.reset()
	d.enlists.reset()
	d.decides.reset()
	d.ballots.reset()
	d.ballotAt.reset()
	d.specAt.reset()
	d.words.reset()
	d.wordAt.reset()
	d.saids.reset()
	d.saidAt.reset()
	d.gids.reset()
	clear(d.begins)
	d.begins, d.asked = d.begins[:0], 0
	clear(d.raws[:cap(d.raws)])
}

// batch reads a batch by hand. After false, b is to be thrown away.
func (d *decoder) batch(body []byte, b *logpb.Batch) bool {
	n := countField(body, 4)
	commands := d.commands.some(n, 0)
	b.Commands = d.commandAt.some(n, 0)[:0]
	d.left = n
	for f := (fields{message: body}); f.next() || f.bad; {
		switch f.number {
		case 1:
			b.ClockMs = f.varint()
		case 2:
			b.WallMs = f.varint()
		case 3:
			b.FeatureLevel = uint32(f.varint())
		case 4:
			raw := f.bytes()
			if f.bad {
				return false // and it was not counted
			}
			c := &commands[len(b.Commands)]
			if !d.command(raw, c) && proto.Unmarshal(raw, c) != nil {
				return false
			}
			b.Commands = append(b.Commands, c)
		default:
			return false
		}
		if f.bad {
			return false
		}
	}
	return true
}

// decoder holds what only the batch needs: Apply lets go of it, so commands share
// its memory, and so do batches, one after the other. What a record keeps (a begin, a branch's spec) is allocated
// for its transaction alone, for one that lives long must not keep others' alive; or is small, and of what many
// transactions say (names.go).
type decoder struct {
	names *names // nil: none are kept
	left  int    // commands that may still come

	batches   slab[logpb.Batch]
	commands  slab[logpb.Command]
	commandAt slab[*logpb.Command]

	submits     slab[submitCommand]
	reports     slab[reportCommand]
	packs       slab[reportsCommand]
	answerPacks slab[answersCommand]
	answers     slab[answerCommand]
	votes       slab[voteCommand]
	enlists     slab[enlistCommand]
	decides     slab[decideCommand]
	ballots     slab[logpb.Ballot]
	ballotAt    slab[*logpb.Ballot]
	specAt      slab[*logpb.BranchSpec]
	words       slab[logpb.Report]
	wordAt      slab[*logpb.Report]
	saids       slab[logpb.Answer]
	saidAt      slab[*logpb.Answer]
	gids        slab[[len(GID{})]byte]
	raws        [][]byte
	begins      []*keptBegin // of the batch, that are written as they were read
	asked       int          // of them were asked for, or passed by (written.go)
}

// A command's message with its wrapper.
type (
	submitCommand struct {
		kind logpb.Command_Submit
		m    logpb.Submit
	}
	reportCommand struct {
		kind logpb.Command_Report
		m    logpb.Report
	}
	reportsCommand struct {
		kind logpb.Command_Reports
		m    logpb.Reports
	}
	answerCommand struct {
		kind logpb.Command_Answer
		m    logpb.Answer
	}
	answersCommand struct {
		kind logpb.Command_Answers
		m    logpb.Answers
	}
	voteCommand struct {
		kind   logpb.Command_Vote
		m      logpb.Vote
		ballot logpb.Ballot
	}
	enlistCommand struct {
		kind logpb.Command_Enlist
		m    logpb.Enlist
	}
	decideCommand struct {
		kind logpb.Command_Decide
		m    logpb.Decide
	}
	// keptBegin is a begin with its GID, and its bytes if that is how it is written,
	// which live as long as each other.
	keptBegin struct {
		begin   logpb.Begin
		gid     GID
		written string
	}
	// labelledBegin is one with a label, in one piece.
	labelledBegin struct {
		kept   keptBegin
		labels [1]logpb.Label
		at     [1]*logpb.Label
	}
)

// command reads one command. After false it is as if nothing had been read.
func (d *decoder) command(raw []byte, c *logpb.Command) bool {
	d.left--
	f := fields{message: raw}
	if !f.next() {
		return false
	}
	body := f.bytes()
	if f.bad || f.at < len(f.message) {
		return false // of several kinds the last one counts
	}
	switch f.number {
	case 1:
		begin := d.begin(body)
		if begin == nil {
			return false
		}
		c.Kind = &logpb.Command_Begin{Begin: begin}
	case 2:
		k := d.enlists.one(d.left)
		if !d.enlist(body, &k.m) {
			return false
		}
		k.kind.Enlist = &k.m
		c.Kind = &k.kind
	case 3:
		k := d.votes.one(d.left)
		if !d.vote(body, k) {
			return false
		}
		k.kind.Vote = &k.m
		c.Kind = &k.kind
	case 4:
		k := d.decides.one(d.left)
		if !d.decide(body, &k.m) {
			return false
		}
		k.kind.Decide = &k.m
		c.Kind = &k.kind
	case 5:
		k := d.submits.one(d.left)
		if !d.submit(body, &k.m) {
			return false
		}
		k.kind.Submit = &k.m
		c.Kind = &k.kind
	case 6:
		k := d.reports.one(d.left)
		if !d.report(body, &k.m) {
			return false
		}
		k.kind.Report = &k.m
		c.Kind = &k.kind
	case 15:
		k := d.answers.one(d.left)
		if !d.answer(body, &k.m) {
			return false
		}
		k.kind.Answer = &k.m
		c.Kind = &k.kind
	case 8:
		if len(body) > 0 {
			return false
		}
		c.Kind = &logpb.Command_Tick{Tick: new(logpb.Tick)}
	case 19:
		k := d.packs.one(d.left)
		if !d.packed(body, &k.m) {
			return false
		}
		k.kind.Reports = &k.m
		c.Kind = &k.kind
	case 20:
		k := d.answerPacks.one(d.left)
		if !d.packedAnswers(body, &k.m) {
			return false
		}
		k.kind.Answers = &k.m
		c.Kind = &k.kind
	default:
		return false
	}
	return true
}

// begin reads a begin. It is nil where it cannot.
func (d *decoder) begin(raw []byte) *logpb.Begin {
	n, plans := countFields(raw, 7, 10)
	kept, labels := newBegin(n)
	if !d.beginInto(raw, kept, labels, plans > 0) {
		return nil
	}
	return &kept.begin
}

// newBegin is memory for a begin and its labels.
func newBegin(labels int) (*keptBegin, []logpb.Label) {
	if labels == 1 {
		k := new(labelledBegin)
		k.kept.begin.Labels = k.at[:0]
		return &k.kept, k.labels[:]
	}
	kept := new(keptBegin)
	if labels > 0 {
		kept.begin.Labels = make([]*logpb.Label, 0, labels)
	}
	return kept, make([]logpb.Label, labels)
}

func (d *decoder) beginInto(raw []byte, kept *keptBegin, labels []logpb.Label, plans bool) bool {
	m := &kept.begin
	whole, last, sorted := "", protowire.Number(0), true
	if len(raw) >= writtenBytesMin && !plans { // whose payload is let go of before the texts
		whole = string(raw)
	}
	for f := (fields{message: raw, names: d.names, whole: whole}); f.next() || f.bad; {
		sorted = sorted && (f.number > last || f.number == 7 && last == 7)
		last = f.number
		switch f.number {
		case 1:
			v := f.bytes()
			if len(v) != len(kept.gid) {
				return false
			}
			copy(kept.gid[:], v)
			m.Gid = kept.gid[:]
		case 2:
			m.Namespace = f.text()
		case 3:
			m.Key = f.ownText()
		case 4:
			m.Mode = logpb.Mode(f.varint())
		case 5:
			m.Entry = logpb.Entry(f.varint())
		case 6:
			m.TimeoutMs = f.varint()
		case 7:
			v := f.bytes()
			if f.bad {
				return false
			}
			l := &labels[len(m.Labels)]
			ok, inOrder := d.label(v, f.part(len(v)), l)
			if !ok {
				return false
			}
			sorted = sorted && inOrder
			m.Labels = append(m.Labels, l)
		case 8:
			m.Traceparent = f.sharedText()
		case 9:
			m.Initiator = f.sharedText()
		case 10:
			if m.Plan != nil {
				return false
			}
			m.Plan = new(logpb.Plan)
			if proto.Unmarshal(f.bytes(), m.Plan) != nil {
				return false
			}
		case 12:
			m.Holder = f.blob()
		default:
			return false // a prepared message's branches, too
		}
		if f.bad {
			return false
		}
	}
	if whole != "" && sorted && asWritten(m, len(raw)) {
		kept.written = whole
		d.begins = append(d.begins, kept)
	}
	return true
}

// label reads a label, whose texts are parts of whole, and says whether its fields
// were in order.
func (d *decoder) label(raw []byte, whole string, m *logpb.Label) (ok, sorted bool) {
	last := protowire.Number(0)
	sorted = true
	for f := (fields{message: raw, names: d.names, whole: whole}); f.next() || f.bad; {
		sorted = sorted && f.number > last
		last = f.number
		switch f.number {
		case 1:
			m.Name = f.sharedText()
		case 2:
			m.Value = f.sharedText()
		default:
			return false, false
		}
		if f.bad {
			return false, false
		}
	}
	return true, sorted
}

// branch reads a branch, which may be one that was read from the same bytes before: nobody
// edits one. It is nil where it cannot. One of its own is made in room, which gets memory
// for more of them where it has none left.
func (d *decoder) branch(raw []byte, room *[]logpb.BranchSpec, more int) *logpb.BranchSpec {
	again := false
	if d.names != nil && len(raw) <= nameSpecBytesMax {
		var known *logpb.BranchSpec
		if known, again = d.names.spec(raw); known != nil {
			return known
		}
	}
	if len(*room) == 0 {
		*room = make([]logpb.BranchSpec, more)
	}
	m := &(*room)[0]
	*room = (*room)[1:]
	if !d.spec(raw, m) {
		return nil
	}
	if again && len(m.Payload) == 0 { // which ended transactions let go of
		d.names.keepSpec(raw, withoutPayload(m))
	}
	return m
}

func (d *decoder) spec(raw []byte, m *logpb.BranchSpec) bool {
	for f := (fields{message: raw, names: d.names}); f.next() || f.bad; {
		switch f.number {
		case 1:
			m.Id = f.text()
		case 2:
			m.Resource = f.text()
		case 3:
			m.Endpoint = f.text()
		case 4:
			m.Held = f.varint() != 0
		case 5:
			m.Holder = f.blob()
		case 6:
			m.Undo = f.text()
		case 7:
			m.Payload = f.blob()
		case 8:
			m.After = append(m.After, f.text())
		case 9:
			m.AttemptsMax = uint32(f.varint())
		case 10:
			m.CallTimeoutMs = f.varint()
		case 11:
			m.Topic = f.text()
		default:
			return false
		}
		if f.bad {
			return false
		}
	}
	return true
}

func (d *decoder) enlist(raw []byte, m *logpb.Enlist) bool {
	for f := (fields{message: raw, names: d.names}); f.next() || f.bad; {
		switch f.number {
		case 1:
			m.Gid = d.gid(f.bytes())
		case 2:
			if m.Branch != nil {
				return false
			}
			var room []logpb.BranchSpec
			if m.Branch = d.branch(f.bytes(), &room, 1); m.Branch == nil {
				return false
			}
		default:
			return false
		}
		if f.bad {
			return false
		}
	}
	return true
}

func (d *decoder) vote(raw []byte, k *voteCommand) bool {
	for f := (fields{message: raw, names: d.names}); f.next() || f.bad; {
		switch f.number {
		case 1:
			k.m.Gid = d.gid(f.bytes())
		case 2:
			if k.m.Ballot != nil {
				return false
			}
			k.m.Ballot = &k.ballot
			if !d.ballot(f.bytes(), &k.ballot, nil, nil) {
				return false
			}
		default:
			return false
		}
		if f.bad {
			return false
		}
	}
	return true
}

// ballot reads a ballot. Its branch is mostly written as one of the set's: then
// it is that one.
func (d *decoder) ballot(raw []byte, m *logpb.Ballot, set []*logpb.BranchSpec, raws [][]byte) bool {
	for f := (fields{message: raw, names: d.names}); f.next() || f.bad; {
		switch f.number {
		case 1:
			if m.Branch != nil {
				return false
			}
			v := f.bytes()
			for i, same := range raws {
				if bytes.Equal(v, same) {
					m.Branch = set[i]
					break
				}
			}
			if m.Branch != nil {
				break
			}
			var room []logpb.BranchSpec
			if m.Branch = d.branch(v, &room, 1); m.Branch == nil {
				return false
			}
		case 2:
			m.Kind = logpb.VoteKind(f.varint())
		case 3:
			m.MaybePrepared = f.varint() != 0
		case 4:
			m.Detail = f.ownText()
		default:
			return false
		}
		if f.bad {
			return false
		}
	}
	return true
}

func (d *decoder) decide(raw []byte, m *logpb.Decide) bool {
	for f := (fields{message: raw, names: d.names}); f.next() || f.bad; {
		switch f.number {
		case 1:
			m.Gid = d.gid(f.bytes())
		case 2:
			m.Decision = logpb.Decision(f.varint())
		case 3:
			if m.Set != nil {
				return false
			}
			m.Set = new(logpb.BranchSet)
			for g := (fields{message: f.bytes(), names: d.names}); g.next() || g.bad; {
				if g.number != 1 {
					return false
				}
				if m.Set.Ids = append(m.Set.Ids, g.text()); g.bad {
					return false
				}
			}
		case 5:
			m.Origin = logpb.Origin(f.varint())
		case 6:
			if m.Epoch != nil {
				return false
			}
			m.Epoch = new(logpb.Epoch)
			for g := (fields{message: f.bytes(), names: d.names}); g.next() || g.bad; {
				switch g.number {
				case 1:
					m.Epoch.Incarnation = g.varint()
				case 2:
					m.Epoch.Term = g.varint()
				default:
					return false
				}
				if g.bad {
					return false
				}
			}
		case 7:
			m.Reason = logpb.Reason(f.varint())
		case 8:
			m.Detail = f.ownText()
		case 11:
			m.DelayMs = f.varint()
		default:
			return false
		}
		if f.bad {
			return false
		}
	}
	return true
}

func (d *decoder) submit(raw []byte, m *logpb.Submit) bool {
	n, k := countFields(raw, 2, 3)
	var room []logpb.BranchSpec // they belong to one transaction
	m.Set = d.specAt.some(n, d.left)[:0]
	ballots := d.ballots.some(k, d.left)
	m.Votes = d.ballotAt.some(k, d.left)[:0]
	d.raws = d.raws[:0]
	for f := (fields{message: raw, names: d.names}); f.next() || f.bad; {
		switch f.number {
		case 1:
			if m.Begin != nil {
				return false
			}
			if m.Begin = d.begin(f.bytes()); m.Begin == nil {
				return false
			}
		case 2:
			v := f.bytes()
			if f.bad {
				return false
			}
			spec := d.branch(v, &room, n-len(m.Set))
			if spec == nil {
				return false
			}
			m.Set, d.raws = append(m.Set, spec), append(d.raws, v)
		case 3:
			v := f.bytes()
			if f.bad {
				return false
			}
			ballot := &ballots[len(m.Votes)]
			if !d.ballot(v, ballot, m.Set, d.raws) {
				return false
			}
			m.Votes = append(m.Votes, ballot)
		default:
			return false
		}
		if f.bad {
			return false
		}
	}
	return true
}

func (d *decoder) report(raw []byte, m *logpb.Report) bool {
	for f := (fields{message: raw, names: d.names}); f.next() || f.bad; {
		switch f.number {
		case 1:
			m.Gid = d.gid(f.bytes())
		case 2:
			m.Branch = f.text()
		case 3:
			m.Outcome = logpb.Outcome(f.varint())
		case 4:
			m.Detail = f.ownText()
		case 5:
			m.Attempts = uint32(f.varint())
		case 6:
			m.Holder = d.gid(f.bytes())
		default:
			return false
		}
		if f.bad {
			return false
		}
	}
	return true
}

func (d *decoder) packed(raw []byte, m *logpb.Reports) bool {
	n := countField(raw, 2)
	reports := d.words.some(n, d.left)
	m.Reports = d.wordAt.some(n, d.left)[:0]
	for f := (fields{message: raw, names: d.names}); f.next() || f.bad; {
		switch f.number {
		case 1:
			m.Gid = d.gid(f.bytes())
		case 2:
			v := f.bytes()
			if f.bad {
				return false
			}
			r := &reports[len(m.Reports)]
			if !d.report(v, r) {
				return false
			}
			m.Reports = append(m.Reports, r)
		default:
			return false
		}
		if f.bad {
			return false
		}
	}
	return true
}

func (d *decoder) packedAnswers(raw []byte, m *logpb.Answers) bool {
	n := countField(raw, 2)
	answers := d.saids.some(n, d.left)
	m.Answers = d.saidAt.some(n, d.left)[:0]
	for f := (fields{message: raw, names: d.names}); f.next() || f.bad; {
		switch f.number {
		case 1:
			m.Gid = d.gid(f.bytes())
		case 2:
			v := f.bytes()
			if f.bad {
				return false
			}
			a := &answers[len(m.Answers)]
			if !d.answer(v, a) {
				return false
			}
			m.Answers = append(m.Answers, a)
		default:
			return false
		}
		if f.bad {
			return false
		}
	}
	return true
}

func (d *decoder) answer(raw []byte, m *logpb.Answer) bool {
	for f := (fields{message: raw, names: d.names}); f.next() || f.bad; {
		switch f.number {
		case 1:
			m.Gid = d.gid(f.bytes())
		case 2:
			m.Branch = f.text()
		case 3:
			m.Kind = logpb.Answer_Kind(f.varint())
		case 4:
			m.MaybeDone = f.varint() != 0
		case 5:
			m.Detail = f.ownText()
		case 6:
			m.Attempts = uint32(f.varint())
		default:
			return false
		}
		if f.bad {
			return false
		}
	}
	return true
}

// gid copies the GID, or the instance id, that a command names and Apply copies.
func (d *decoder) gid(v []byte) []byte {
	if len(v) != len(GID{}) {
		return bytes.Clone(v)
	}
	kept := d.gids.one(2 * d.left)
	copy(kept[:], v)
	return kept[:]
}
