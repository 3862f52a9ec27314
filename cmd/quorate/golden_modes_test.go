package main

import (
	"io"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

const (
	voteDone    = quoratev1.Vote_VOTE_PREPARED
	voteRefused = quoratev1.Vote_VOTE_REFUSED
)

// due is a delivery that has failed for a while.
func due(attempts uint32, lastError string, next time.Duration, stuck bool) *quoratev1.Delivery {
	return &quoratev1.Delivery{
		Attempts: attempts, LastError: lastError, DueFor: durationpb.New(14 * time.Minute), Stuck: stuck,
		LastAttempt: timestamppb.New(moment.Add(818 * time.Second)), NextAttempt: timestamppb.New(moment.Add(next)),
	}
}

// compensatingSaga failed at its third step; the second one's compensation hangs.
func compensatingSaga() *quoratev1.Transaction {
	step := func(id string, after []string, vote quoratev1.Vote, voted *quoratev1.Stamp) *quoratev1.Branch {
		return &quoratev1.Branch{
			Spec: &quoratev1.BranchSpec{Id: id, Endpoint: "http://shop/" + id, Undo: "http://shop/" + id + "/undo", After: after},
			Vote: vote, Enlisted: stamp(38, 2, 0), Voted: voted, Operation: quoratev1.Operation_OPERATION_ACTION,
		}
	}
	one, two := step("1", nil, voteDone, stamp(39, 2, 10*time.Millisecond)), step("2", []string{"1"}, voteDone, stamp(41, 3, 500*time.Millisecond))
	three, four := step("3", []string{"2"}, voteRefused, stamp(43, 3, 700*time.Millisecond)), step("4", []string{"3"}, 0, nil)
	three.Detail, three.Terminal, four.Terminal, four.Operation = `POST http://shop/3 → 409 Conflict "no funds"`, true, true, 0
	two.Operation, two.Delivery = quoratev1.Operation_OPERATION_COMPENSATE, due(9, `POST http://shop/2/undo → 503 "pool exhausted"`, 939*time.Second, true)
	return &quoratev1.Transaction{
		Gid: "01JD9S7KQ0ABCDEFGHJKMNPQRS", Key: "order-4711", Mode: quoratev1.Mode_MODE_SAGA, State: quoratev1.State_STATE_ROLLING_BACK,
		Decision: quoratev1.Decision_DECISION_ROLLBACK, Reason: quoratev1.RollbackReason_ROLLBACK_REASON_REFUSED, Detail: "branch 3 refused",
		Timeout: durationpb.New(0), Began: stamp(38, 2, 0), Sealed: stamp(38, 2, 0), Decided: stamp(43, 3, 700*time.Millisecond),
		Plan:     &quoratev1.Plan{ConcurrencyMax: 2, Delay: durationpb.New(time.Second)},
		Branches: []*quoratev1.Branch{one, two, three, four},
	}
}

// runningSaga is a DAG under way, with a deadline.
func runningSaga() *quoratev1.Transaction {
	step := func(id string, after ...string) *quoratev1.Branch {
		return &quoratev1.Branch{Spec: &quoratev1.BranchSpec{Id: id, Endpoint: "grpc://shop:9000/shop.v1.Shop/Do", After: after}, Enlisted: stamp(38, 2, 0)}
	}
	tx := &quoratev1.Transaction{
		Gid: "01JD9S8TM0ABCDEFGHJKMNPQRS", Mode: quoratev1.Mode_MODE_SAGA, State: quoratev1.State_STATE_SEALED, DeadlineMs: 5000 + 900_000,
		Timeout: durationpb.New(15 * time.Minute), Began: stamp(38, 2, 0), Sealed: stamp(38, 2, 0),
		Branches: []*quoratev1.Branch{step("1"), step("2", "1"), step("3", "1"), step("4", "2", "3"), step("5", "1")},
	}
	done, failing := tx.Branches[0], tx.Branches[1]
	done.Vote, done.Voted, done.Operation = voteDone, stamp(40, 2, 20*time.Millisecond), quoratev1.Operation_OPERATION_ACTION
	failing.Operation, failing.Delivery = quoratev1.Operation_OPERATION_ACTION, due(3, "grpc://shop:9000/shop.v1.Shop/Do → Unavailable", 0, true)
	return tx
}

// triedTCC waits for its initiator.
func triedTCC() *quoratev1.Transaction {
	return &quoratev1.Transaction{
		Gid: "01JD9S9XX0ABCDEFGHJKMNPQRS", Mode: quoratev1.Mode_MODE_TCC, State: quoratev1.State_STATE_ACTIVE, DeadlineMs: 5000 + 851_000,
		Timeout: durationpb.New(30 * time.Second), Began: stamp(38, 2, 0), Initiator: "checkout",
		Branches: []*quoratev1.Branch{{
			Spec:     &quoratev1.BranchSpec{Id: "1.1", Endpoint: "http://bank-a/confirm", Undo: "http://bank-a/cancel"},
			Enlisted: stamp(39, 2, time.Millisecond),
		}},
	}
}

// confirmedTCC has ended, with a leader lost on the way.
func confirmedTCC() *quoratev1.Transaction {
	tx := triedTCC()
	tx.State, tx.Decision, tx.Decided, tx.Finished = quoratev1.State_STATE_COMMITTED, quoratev1.Decision_DECISION_COMMIT, stamp(40, 2, 5*time.Millisecond), stamp(45, 3, time.Second)
	b := tx.Branches[0]
	b.Outcome, b.Reported, b.Terminal, b.Operation = quoratev1.Outcome_OUTCOME_COMMITTED, stamp(45, 3, time.Second), true, quoratev1.Operation_OPERATION_CONFIRM
	return tx
}

// askedMessage was prepared and never submitted.
func askedMessage() *quoratev1.Transaction {
	return &quoratev1.Transaction{
		Gid: "01JD9SAAA0ABCDEFGHJKMNPQRS", Mode: quoratev1.Mode_MODE_MESSAGE, State: quoratev1.State_STATE_ACTIVE, Timeout: durationpb.New(0), Began: stamp(38, 2, 0),
		Plan:     &quoratev1.Plan{Callback: "http://orders/check", CallbackAfter: durationpb.New(10 * time.Second)},
		Callback: due(4, "POST http://orders/check → 500 Internal Server Error", 840*time.Second, false),
		Branches: []*quoratev1.Branch{{Spec: &quoratev1.BranchSpec{Id: "01-01", Endpoint: "http://cache/drop", Topic: "orders"}, Enlisted: stamp(38, 2, 0)}},
	}
}

// unevenNotification reached one, and gave the other up.
func unevenNotification() *quoratev1.Transaction {
	return &quoratev1.Transaction{
		Gid: "01JD9SBBB0ABCDEFGHJKMNPQRS", Mode: quoratev1.Mode_MODE_NOTIFY, State: quoratev1.State_STATE_COMMITTED, Decision: quoratev1.Decision_DECISION_COMMIT,
		Timeout: durationpb.New(0), Began: stamp(38, 2, 0), Decided: stamp(38, 2, 0), Finished: stamp(44, 2, 3*time.Second),
		Branches: []*quoratev1.Branch{
			{Spec: &quoratev1.BranchSpec{Id: "1", Endpoint: "http://mail/send"}, Enlisted: stamp(38, 2, 0), Reported: stamp(40, 2, time.Second), Outcome: quoratev1.Outcome_OUTCOME_COMMITTED, Terminal: true},
			{Spec: &quoratev1.BranchSpec{Id: "2", Endpoint: "http://sms/send"}, Enlisted: stamp(38, 2, 0), Reported: stamp(44, 2, 3*time.Second), Outcome: quoratev1.Outcome_OUTCOME_GAVE_UP, Detail: "503", Terminal: true},
		},
	}
}

// resumedWorkflow lost its initiator after two steps.
func resumedWorkflow() *quoratev1.Transaction {
	step := func(id, word string, vote quoratev1.Vote, at *quoratev1.Stamp) *quoratev1.Branch {
		return &quoratev1.Branch{Spec: &quoratev1.BranchSpec{Id: id}, Recorded: word, Vote: vote, Enlisted: at, Voted: at, Terminal: true}
	}
	return &quoratev1.Transaction{
		Gid: "01JD9SCCC0ABCDEFGHJKMNPQRS", Mode: quoratev1.Mode_MODE_WORKFLOW, State: quoratev1.State_STATE_ACTIVE, Timeout: durationpb.New(0), Began: stamp(38, 2, 0),
		Plan:     &quoratev1.Plan{Callback: "http://orders/resume", Workflow: "order flow"},
		Callback: due(1, "", 830*time.Second, false),
		Branches: []*quoratev1.Branch{step("01", "reserve", voteDone, stamp(39, 2, time.Second)), step("02", "charge", voteRefused, stamp(41, 2, 2*time.Second))},
	}
}

// forgottenWorkflow came over DTM's protocol without a URL to call back.
func forgottenWorkflow() *quoratev1.Transaction {
	return &quoratev1.Transaction{
		Gid: "01JD9SDDD0ABCDEFGHJKMNPQRS", Key: "w1", Mode: quoratev1.Mode_MODE_WORKFLOW, State: quoratev1.State_STATE_ACTIVE, Timeout: durationpb.New(0), Began: stamp(38, 2, 0),
		Plan: &quoratev1.Plan{Workflow: "order flow", Dialect: "dtm-http", DialectMode: "workflow"},
	}
}

// stoppedTransaction was ended by hand.
func stoppedTransaction() *quoratev1.Transaction {
	tx := compensatingSaga()
	tx.State, tx.Stopped, tx.Operator, tx.Detail, tx.Finished = quoratev1.State_STATE_ROLLED_BACK, true, "jane", "stopped: refunded by hand", stamp(60, 3, 15*time.Minute)
	for _, b := range tx.Branches {
		b.Terminal, b.Delivery = true, nil
	}
	// The second one reported before, in words of its own.
	two := tx.Branches[1]
	two.Outcome, two.Reported, two.Detail = quoratev1.Outcome_OUTCOME_MIXED, stamp(59, 3, 14*time.Minute), "half of it"
	return tx
}

func modeTransactions() []*quoratev1.Transaction {
	return []*quoratev1.Transaction{
		compensatingSaga(), runningSaga(), triedTCC(), confirmedTCC(), askedMessage(), unevenNotification(), resumedWorkflow(), stoppedTransaction(), forgottenWorkflow(),
	}
}

func TestGoldenModes(t *testing.T) {
	utc(t)
	now := moment.Add(821 * time.Second)
	for i, name := range []string{
		"show_saga_compensating.txt", "show_saga_running.txt", "show_tcc_tried.txt", "show_tcc_confirmed.txt", "show_message_asked.txt",
		"show_notify_uneven.txt", "show_workflow_resumed.txt", "show_stopped.txt", "show_workflow_forgotten.txt",
	} {
		golden(t, name, func(w io.Writer) error {
			return writeStory(w, modeTransactions()[i], header(3, 821*time.Second), now, false)
		})
	}
	golden(t, "list_modes.txt", func(w io.Writer) error {
		if err := writeList(w, modeTransactions(), 5000+821_000, now, false); err != nil {
			return err
		}
		_, err := io.WriteString(w, listSummary(modeTransactions(), false)+"\n")
		return err
	})
	golden(t, "show_saga.json", func(w io.Writer) error { return printMessage(w, "json", compensatingSaga()) })
	topics := []*quoratev1.Topic{
		{Name: "orders", Version: 3, Created: stamp(5, 1, 0), Updated: stamp(9, 2, time.Second), Subscribers: []*quoratev1.Subscriber{
			{Endpoint: "http://stock/ordered", Remark: "team blue"}, {Endpoint: "grpc://mail:9000/mail.v1.Mail/Ordered"},
		}},
		{Name: "quiet", Version: 2, Created: stamp(6, 1, 0), Updated: stamp(8, 1, 0)},
	}
	golden(t, "topics.txt", func(w io.Writer) error { return writeTopics(w, topics) })
	golden(t, "topics.json", func(w io.Writer) error { return printMessages(w, "json", topics) })
}
