package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

var update = flag.Bool("update", false, "write testdata/golden anew")

// golden compares what write writes with testdata/golden/NAME: the diff of that
// file is the review of a change of output, which scripts rely on.
func golden(t *testing.T, name string, write func(io.Writer) error) {
	t.Helper()
	var got bytes.Buffer
	if err := write(&got); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s differs; if that is meant: go test ./cmd/quorate -run Golden -update\ngot:\n%s\nwant:\n%s", path, got.String(), want)
	}
}

// moment is the wall clock of all goldens; their times are shown in UTC.
var moment = time.Date(2026, 11, 21, 9, 14, 2, 300e6, time.UTC)

func stamp(index, term uint64, after time.Duration) *quoratev1.Stamp {
	return &quoratev1.Stamp{Index: index, Term: term, ClockMs: 5000 + uint64(after.Milliseconds()), WallTime: timestamppb.New(moment.Add(after))}
}

func header(term uint64, after time.Duration) *quoratev1.ResponseHeader {
	return &quoratev1.ResponseHeader{
		AppliedIndex: 60, ClockMs: 5000 + uint64(after.Milliseconds()),
		Epoch: &quoratev1.Epoch{Incarnation: 1, Term: term}, ClusterId: "01M7YB4TFM5KE69V19DNVG89G9",
	}
}

// stuck committed, lost its leader, and waits for one participant.
func stuckTransaction() *quoratev1.Transaction {
	return &quoratev1.Transaction{
		Gid: "01JD9S7KQ0ABCDEFGHJKMNPQRS", Namespace: "default", Key: "order-4711",
		Mode: quoratev1.Mode_MODE_TWO_PHASE, Entry: quoratev1.Entry_ENTRY_EXPLICIT,
		State: quoratev1.State_STATE_COMMITTING, Decision: quoratev1.Decision_DECISION_COMMIT,
		Timeout: durationpb.New(30 * time.Second), Labels: map[string]string{"shop": "eu", "channel": "web"},
		Initiator: "checkout@10.0.4.7", Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		Began: stamp(38, 2, 0), Sealed: stamp(43, 2, 31*time.Millisecond), Decided: stamp(43, 2, 31*time.Millisecond),
		Branches: []*quoratev1.Branch{
			{
				Spec: &quoratev1.BranchSpec{Id: "1", Resource: "bank-a"}, Vote: quoratev1.Vote_VOTE_PREPARED,
				Outcome: quoratev1.Outcome_OUTCOME_COMMITTED, Terminal: true,
				Enlisted: stamp(39, 2, 12*time.Millisecond), Voted: stamp(41, 2, 20*time.Millisecond), Reported: stamp(52, 3, 470*time.Millisecond),
			},
			{
				Spec: &quoratev1.BranchSpec{Id: "2", Resource: "bank-b", Endpoint: "http://bank-b:8081/tx"}, Vote: quoratev1.Vote_VOTE_PREPARED,
				Enlisted: stamp(40, 2, 15*time.Millisecond), Voted: stamp(42, 2, 24*time.Millisecond),
				Delivery: &quoratev1.Delivery{
					Attempts: 9, LastAttempt: timestamppb.New(moment.Add(818 * time.Second)), NextAttempt: timestamppb.New(moment.Add(939 * time.Second)),
					LastError: "POST http://bank-b:8081/tx: 503 pool exhausted", DueFor: durationpb.New(14 * time.Minute), Stuck: true,
				},
			},
		},
	}
}

// rolledBack ran out of time with a vote missing; a branch had refused before.
func rolledBackTransaction() *quoratev1.Transaction {
	return &quoratev1.Transaction{
		Gid: "01JD9S8TM0ABCDEFGHJKMNPQRS", Mode: quoratev1.Mode_MODE_TWO_PHASE,
		State: quoratev1.State_STATE_ROLLED_BACK, Decision: quoratev1.Decision_DECISION_ROLLBACK,
		Reason:  quoratev1.RollbackReason_ROLLBACK_REASON_REFUSED,
		Timeout: durationpb.New(30 * time.Second), Began: stamp(70, 3, time.Second), Decided: stamp(72, 3, 1200*time.Millisecond), Finished: stamp(75, 5, 9*time.Second),
		Branches: []*quoratev1.Branch{
			{
				Spec: &quoratev1.BranchSpec{Id: "1", Resource: "bank-a"}, Vote: quoratev1.Vote_VOTE_REFUSED, MaybePrepared: true, Detail: "insufficient funds",
				Enlisted: stamp(71, 3, 1100*time.Millisecond), Voted: stamp(72, 3, 1200*time.Millisecond),
				Outcome: quoratev1.Outcome_OUTCOME_ROLLED_BACK, Reported: stamp(74, 5, 8*time.Second), Terminal: true,
			},
			{
				Spec: &quoratev1.BranchSpec{Id: "2", Resource: "sqlite", Held: true}, Vote: quoratev1.Vote_VOTE_UNSPECIFIED,
				Enlisted: stamp(71, 3, 1100*time.Millisecond), Resolved: quoratev1.Outcome_OUTCOME_ROLLED_BACK, ResolvedBy: "jane",
				ResolvedReason: "host is gone", ResolvedAt: stamp(75, 5, 9*time.Second), Heuristic: quoratev1.Heuristic_HEURISTIC_UNSPECIFIED, Terminal: true,
			},
		},
	}
}

// activeTransaction waits for a vote.
func activeTransaction() *quoratev1.Transaction {
	return &quoratev1.Transaction{
		Gid: "01JD9S9XX0ABCDEFGHJKMNPQRS", State: quoratev1.State_STATE_SEALED, Began: stamp(80, 3, 2*time.Second), Sealed: stamp(83, 3, 3*time.Second),
		Timeout: durationpb.New(time.Minute), DeadlineMs: 5000 + 62_000,
		Branches: []*quoratev1.Branch{
			{Spec: &quoratev1.BranchSpec{Id: "1", Resource: "bank-a"}, Vote: quoratev1.Vote_VOTE_READ_ONLY, Enlisted: stamp(81, 3, 2*time.Second), Voted: stamp(82, 3, 2500*time.Millisecond), Terminal: true},
			{Spec: &quoratev1.BranchSpec{Id: "2"}, Hint: true, Enlisted: stamp(83, 3, 3*time.Second)},
		},
	}
}

// heuristicTransaction has a branch that did the contrary of the decision.
func heuristicTransaction() *quoratev1.Transaction {
	return &quoratev1.Transaction{
		Gid: "01JD9SAAA0ABCDEFGHJKMNPQRS", State: quoratev1.State_STATE_COMMITTED, Decision: quoratev1.Decision_DECISION_COMMIT,
		Timeout: durationpb.New(time.Minute), Began: stamp(90, 3, 0), Sealed: stamp(90, 3, 0), Decided: stamp(90, 3, 0), Finished: stamp(91, 3, time.Second),
		Branches: []*quoratev1.Branch{{
			Spec: &quoratev1.BranchSpec{Id: "1", Resource: "sqlite", Held: true}, Vote: quoratev1.Vote_VOTE_PREPARED,
			Enlisted: stamp(90, 3, 0), Voted: stamp(90, 3, 0), Reported: stamp(91, 3, time.Second),
			Outcome: quoratev1.Outcome_OUTCOME_ROLLED_BACK, Heuristic: quoratev1.Heuristic_HEURISTIC_ROLLBACK, Detail: "the process died before its local commit", Terminal: true,
		}},
	}
}

// utc shows the goldens' wall clocks in one zone.
func utc(t *testing.T) {
	t.Helper()
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
}

func TestGoldenShow(t *testing.T) {
	utc(t)
	now := moment.Add(821 * time.Second)
	for _, c := range []struct {
		name   string
		tx     *quoratev1.Transaction
		header *quoratev1.ResponseHeader
		wide   bool
	}{
		{"show_stuck.txt", stuckTransaction(), header(3, 821*time.Second), false},
		{"show_rolled_back.txt", rolledBackTransaction(), header(5, 821*time.Second), false},
		{"show_waiting.txt", activeTransaction(), header(3, 4*time.Second), true},
		{"show_waiting_new_leader.txt", activeTransaction(), header(4, 70*time.Second), false},
		{"show_heuristic.txt", heuristicTransaction(), header(3, 4*time.Second), false},
		{"show_withheld.txt", &quoratev1.Transaction{Gid: "01JD9SBBB0ABCDEFGHJKMNPQRS", State: quoratev1.State_STATE_ACTIVE, Withheld: true, Began: stamp(5, 1, 0)}, header(9, 0), false},
		{"show_quarantined.txt", &quoratev1.Transaction{Gid: "01JD9SCCC0ABCDEFGHJKMNPQRS", State: quoratev1.State_STATE_ACTIVE, Quarantined: true, Began: stamp(5, 1, 0)}, header(1, 0), false},
		{"show_tombstone.txt", &quoratev1.Transaction{
			Gid: "01JD9SDDD0ABCDEFGHJKMNPQRS", State: quoratev1.State_STATE_ROLLED_BACK, Decision: quoratev1.Decision_DECISION_ROLLBACK, Tombstone: true,
			Reason: quoratev1.RollbackReason_ROLLBACK_REASON_PRESUMED, Decided: stamp(5, 1, 0), Finished: stamp(5, 1, 0),
		}, header(1, 0), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			golden(t, c.name, func(w io.Writer) error { return writeStory(w, c.tx, c.header, now, c.wide) })
		})
	}
}

func TestGoldenList(t *testing.T) {
	utc(t)
	transactions := []*quoratev1.Transaction{stuckTransaction(), rolledBackTransaction(), activeTransaction(), heuristicTransaction()}
	now := moment.Add(821 * time.Second)
	for _, wide := range []bool{false, true} {
		name := map[bool]string{false: "list.txt", true: "list_wide.txt"}[wide]
		golden(t, name, func(w io.Writer) error {
			if err := writeList(w, transactions, 5000+821_000, now, wide); err != nil {
				return err
			}
			_, err := io.WriteString(w, listSummary(transactions, true)+"\n")
			return err
		})
	}
	for _, output := range []string{"json", "jsonl", "yaml"} {
		golden(t, "list."+output, func(w io.Writer) error { return printMessages(w, output, transactions[:2]) })
		golden(t, "show."+output, func(w io.Writer) error { return printMessage(w, output, transactions[0]) })
	}
	golden(t, "list_empty.json", func(w io.Writer) error {
		return printMessages(w, "json", []*quoratev1.Transaction{})
	})
}

// clusterOf is a status in which the first up of three voters answer.
func clusterOf(up int) *clusterStatus {
	view := &quoratev1.StatusResponse{
		Header: header(3, 0), Role: quoratev1.Role_ROLE_LEADER, LeaderId: "id-3", Term: 3, CommitIndex: 10412,
		ActiveTransactions: 7, FinishedTransactions: 1200, InDoubtBranches: 2, Digest: "5032cfb8",
	}
	s := &clusterStatus{view: view, own: make(map[string]*quoratev1.StatusResponse)}
	for i, name := range []string{"n3", "n2", "n1"} {
		id := "id-" + name[1:]
		node := &quoratev1.Node{Id: id, Name: name, GrpcAddress: "10.0.4." + name[1:] + ":36790", RaftAddress: "10.0.4." + name[1:] + ":36792", Version: "0.1.0", Voter: true, Leader: i == 0}
		if i > 0 {
			node.LastContact = durationpb.New(time.Duration(i*i*i*i*i*12) * 100 * time.Millisecond)
		}
		view.Nodes = append(view.Nodes, node)
		if i < up {
			role := quoratev1.Role_ROLE_FOLLOWER
			if i == 0 {
				role = quoratev1.Role_ROLE_LEADER
			}
			s.own[id] = &quoratev1.StatusResponse{
				Header: &quoratev1.ResponseHeader{AppliedIndex: 10412 - uint64(i)*24}, Role: role, Term: 3, Version: "0.1.0",
				FsyncP99: durationpb.New(time.Duration(2100-i*1900) * time.Microsecond), LogStore: "boltdb", SnapshotIndex: 8192, DataDir: "/var/lib/quorate",
			}
		}
	}
	view.Nodes = append(view.Nodes, &quoratev1.Node{Id: "id-4", Name: "n4", GrpcAddress: "10.0.4.4:36790"})
	return s
}

func TestGoldenClusterStatus(t *testing.T) {
	for _, c := range []struct {
		name string
		up   int
		wide bool
		code int
	}{
		{"status_healthy.txt", 3, false, exitOK},
		{"status_one_down.txt", 2, true, exitOK},
		{"status_no_quorum.txt", 1, false, exitUnhealthy},
	} {
		t.Run(c.name, func(t *testing.T) {
			golden(t, c.name, func(w io.Writer) error {
				s := clusterOf(c.up)
				if err := writeClusterStatus(w, s, c.wide); err != nil {
					return err
				}
				err := s.health(w)
				if code := exitCode(err); code != c.code {
					t.Errorf("exit code %d, want %d", code, c.code)
				}
				if err != nil {
					_, err = io.WriteString(w, describe(err)+"\n")
				}
				return err
			})
		})
	}
	noLeader := clusterOf(3)
	noLeader.view.Role = quoratev1.Role_ROLE_FOLLOWER
	if code := exitCode(noLeader.health(io.Discard)); code != exitUnhealthy {
		t.Errorf("without a leader: exit code %d, want %d", code, exitUnhealthy)
	}
	if code := exitCode((&clusterStatus{view: &quoratev1.StatusResponse{}}).health(io.Discard)); code != exitUnhealthy {
		t.Errorf("in no cluster: exit code %d, want %d", code, exitUnhealthy)
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0ms", 850 * time.Millisecond: "850ms", 3 * time.Second: "3s", 14*time.Minute + 9*time.Second: "14m",
		47 * time.Hour: "47h", 5 * 24 * time.Hour: "5d",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%v) = %s, want %s", d, got, want)
		}
	}
}

// TestAgeOf: the cluster's clock stands still while nothing is written, and a branch that
// was due for seconds is not of a transaction that is milliseconds old.
func TestAgeOf(t *testing.T) {
	tx := &quoratev1.Transaction{
		Began:    &quoratev1.Stamp{ClockMs: 1000},
		Branches: []*quoratev1.Branch{{}, {Delivery: &quoratev1.Delivery{DueFor: durationpb.New(4 * time.Second)}}},
	}
	for clock, want := range map[uint64]string{1132: "4s", 8000: "7s", 900: "0ms"} {
		if got := ageOf(tx, clock); got != want {
			t.Errorf("at %d: %s, want %s", clock, got, want)
		}
	}
	tx.Branches, tx.Callback = nil, &quoratev1.Delivery{DueFor: durationpb.New(2 * time.Second)}
	if got := ageOf(tx, 1100); got != "2s" {
		t.Errorf("asked back for 2s: %s", got)
	}
}
