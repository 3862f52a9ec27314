package dtm

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// transactionRow is a transaction as query and all show it.
type transactionRow struct {
	ID               uint64     `json:"id"`
	CreateTime       time.Time  `json:"create_time"`
	UpdateTime       time.Time  `json:"update_time"`
	Gid              string     `json:"gid"`
	TransType        string     `json:"trans_type"`
	Status           string     `json:"status"`
	QueryPrepared    string     `json:"query_prepared,omitempty"`
	Protocol         string     `json:"protocol,omitempty"`
	FinishTime       *time.Time `json:"finish_time,omitempty"`
	RollbackTime     *time.Time `json:"rollback_time,omitempty"`
	Result           string     `json:"result,omitempty"`
	RollbackReason   string     `json:"rollback_reason,omitempty"`
	Options          string     `json:"options,omitempty"`
	CustomData       string     `json:"custom_data,omitempty"`
	NextCronInterval int64      `json:"next_cron_interval,omitempty"`
	NextCronTime     *time.Time `json:"next_cron_time,omitempty"`
	Owner            string     `json:"owner,omitempty"`
	options
}

// branchRow is one operation of a branch.
type branchRow struct {
	ID           uint64     `json:"id"`
	CreateTime   time.Time  `json:"create_time"`
	UpdateTime   time.Time  `json:"update_time"`
	Gid          string     `json:"gid"`
	URL          string     `json:"url,omitempty"`
	BinData      []byte     `json:"bin_data,omitempty"`
	BranchID     string     `json:"branch_id"`
	Op           string     `json:"op"`
	Status       string     `json:"status"`
	FinishTime   *time.Time `json:"finish_time,omitempty"`
	RollbackTime *time.Time `json:"rollback_time,omitempty"`
}

// row shows the transaction.
func (s *standing) row() *transactionRow {
	k := s.kept()
	row := &transactionRow{
		ID: s.GetBegan().GetIndex(), CreateTime: wall(s.GetBegan()), UpdateTime: wall(latest(s.Transaction)),
		Gid: s.GetKey(), TransType: s.transType(), Status: s.status(), QueryPrepared: k.QueryPrepared, Protocol: s.protocol(),
		Result: base64.StdEncoding.EncodeToString(s.GetResult()), RollbackReason: s.rollbackReason(),
		Options: string(k.Options), CustomData: k.CustomData, Owner: s.GetInitiator(),
	}
	_ = json.Unmarshal(k.Options, &row.options) // of ours
	if s.transType() == typeWorkflow {
		data, _ := json.Marshal(map[string]any{"name": s.GetPlan().GetWorkflow(), "data": s.GetPlan().GetCallbackPayload()})
		row.CustomData = string(data)
	}
	switch row.Status {
	case statusSucceed:
		row.FinishTime = wallOf(s.GetFinished())
	case statusFailed:
		row.RollbackTime = wallOf(s.GetFinished())
	default:
		row.next(s)
	}
	return row
}

// next shows the earliest time at which something is called again.
func (row *transactionRow) next(s *standing) {
	deliveries := []*quoratev1.Delivery{s.GetCallback()}
	for _, b := range s.GetBranches() {
		deliveries = append(deliveries, b.GetDelivery())
	}
	for _, d := range deliveries {
		if at := d.GetNextAttempt(); at != nil && (row.NextCronTime == nil || at.AsTime().Before(*row.NextCronTime)) {
			t := at.AsTime()
			row.NextCronTime = &t
			row.NextCronInterval = int64(max(t.Sub(d.GetLastAttempt().AsTime()), 0) / time.Second)
			if d.GetLastAttempt() == nil {
				row.NextCronInterval = 0
			}
		}
	}
}

// rows shows the branches, in DTM's orders: a saga's steps as compensate and
// action, a tcc's as cancel and confirm, an xa's as rollback and commit.
func (s *standing) rows() []branchRow {
	rows := []branchRow{}
	branches := slices.Clone(s.GetBranches())
	slices.SortStableFunc(branches, func(a, b *quoratev1.Branch) int { return s.compare(a, b) })
	for _, b := range branches {
		switch s.transType() {
		case typeSaga:
			rows = append(rows, s.branchRow(b, "compensate", b.GetSpec().GetUndo(), undone(b)),
				s.branchRow(b, "action", b.GetSpec().GetEndpoint(), acted(b)))
		case typeTCC:
			rows = append(rows, s.branchRow(b, "cancel", b.GetSpec().GetUndo(), undone(b)),
				s.branchRow(b, "confirm", b.GetSpec().GetEndpoint(), done(b)))
		case typeXA:
			rows = append(rows, s.branchRow(b, "rollback", b.GetSpec().GetUndo(), undone(b)),
				s.branchRow(b, "commit", b.GetSpec().GetEndpoint(), done(b)))
		case typeWorkflow:
			row := s.branchRow(b, b.GetRecorded(), "", recordedStatus(b))
			row.BinData = b.GetResult()
			rows = append(rows, row)
		default:
			rows = append(rows, s.branchRow(b, "action", b.GetSpec().GetEndpoint(), done(b)))
		}
	}
	return rows
}

// compare orders branches as they entered: steps by number, where ids of more
// digits are later, the others by the log.
func (s *standing) compare(a, b *quoratev1.Branch) int {
	if s.transType() != typeSaga && s.transType() != typeMessage {
		if x, y := a.GetEnlisted().GetIndex(), b.GetEnlisted().GetIndex(); x != y {
			if x < y {
				return -1
			}
			return 1
		}
	}
	x, restX, _ := strings.Cut(a.GetSpec().GetId(), "-")
	y, restY, _ := strings.Cut(b.GetSpec().GetId(), "-")
	for _, pair := range [][2]string{{x, y}, {restX, restY}} {
		if len(pair[0]) != len(pair[1]) {
			return len(pair[0]) - len(pair[1])
		}
		if c := strings.Compare(pair[0], pair[1]); c != 0 {
			return c
		}
	}
	return 0
}

func (s *standing) branchRow(b *quoratev1.Branch, op, url, status string) branchRow {
	enlisted := b.GetEnlisted()
	if enlisted == nil {
		enlisted = s.GetBegan()
	}
	last := enlisted
	for _, stamp := range []*quoratev1.Stamp{b.GetVoted(), b.GetReported(), b.GetResolvedAt()} {
		if stamp.GetIndex() > last.GetIndex() {
			last = stamp
		}
	}
	row := branchRow{
		ID: enlisted.GetIndex(), CreateTime: wall(enlisted), UpdateTime: wall(last), Gid: s.GetKey(), URL: asSent(url),
		BinData: b.GetSpec().GetPayload(), BranchID: b.GetSpec().GetId(), Op: op, Status: status,
	}
	if status == statusSucceed || status == statusFailed {
		row.FinishTime = wallOf(last)
	}
	return row
}

// acted is how a saga's action stands.
func acted(b *quoratev1.Branch) string {
	switch b.GetVote() {
	case quoratev1.Vote_VOTE_PREPARED, quoratev1.Vote_VOTE_READ_ONLY:
		return statusSucceed
	case quoratev1.Vote_VOTE_REFUSED:
		return statusFailed
	default:
		return statusPrepared
	}
}

// done is how a call forward after the commit stands, undone one back.
func done(b *quoratev1.Branch) string   { return reached(b, quoratev1.Outcome_OUTCOME_COMMITTED) }
func undone(b *quoratev1.Branch) string { return reached(b, quoratev1.Outcome_OUTCOME_ROLLED_BACK) }

func reached(b *quoratev1.Branch, outcome quoratev1.Outcome) string {
	if b.GetOutcome() == outcome || b.GetResolved() == outcome {
		return statusSucceed
	}
	return statusPrepared
}

// recordedStatus is how a workflow's step ended.
func recordedStatus(b *quoratev1.Branch) string {
	if b.GetVote() == quoratev1.Vote_VOTE_REFUSED {
		return statusFailed
	}
	return statusSucceed
}

// latest is the last stamp of a transaction.
func latest(t *quoratev1.Transaction) *quoratev1.Stamp {
	last := t.GetBegan()
	stamps := []*quoratev1.Stamp{t.GetSealed(), t.GetDecided(), t.GetFinished()}
	for _, b := range t.GetBranches() {
		stamps = append(stamps, b.GetEnlisted(), b.GetVoted(), b.GetReported())
	}
	for _, stamp := range stamps {
		if stamp.GetIndex() > last.GetIndex() {
			last = stamp
		}
	}
	return last
}

func wall(s *quoratev1.Stamp) time.Time { return s.GetWallTime().AsTime().Truncate(time.Second) }

func wallOf(s *quoratev1.Stamp) *time.Time {
	if s == nil {
		return nil
	}
	t := wall(s)
	return &t
}
