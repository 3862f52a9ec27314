package branchbank

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/message"
)

// Sending asks a bank to take money from an account in a local transaction of its
// own and to tell another bank of it by a message.
type Sending struct {
	// GID of the message; empty: the bank makes one.
	GID     string `json:"gid,omitempty"`
	Key     string `json:"key"`
	Account int    `json:"account"`
	Amount  int64  `json:"amount"`
	// To are the receivers: each gets the amount's part of Shares.
	To []Receiver `json:"to"`
	// CallBack is this bank's own check-back, and After when it is first called.
	CallBack string        `json:"call_back"`
	After    time.Duration `json:"after"`
	// Forget is where the bank forgets to go on: after the message was begun, or after
	// the local transaction. The check-back decides then.
	Forget Forgetting `json:"forget,omitempty"`
}

// Receiver is where a part of the money goes.
type Receiver struct {
	URL     string `json:"url"`
	Account int    `json:"account"`
	Amount  int64  `json:"amount"`
}

// Forgetting is a step of a sender after which it does nothing more.
type Forgetting string

// The steps.
const (
	ForgetNothing Forgetting = ""
	ForgetBegun   Forgetting = "begun" // the local transaction is not run
	ForgetDone    Forgetting = "done"  // it is done, the message not submitted
)

// Headers of an answer that says what became of a message.
const (
	statusSent    = http.StatusOK
	statusDropped = http.StatusPaymentRequired
	statusUnknown = http.StatusAccepted // the check-back will decide
)

// send is the sender's program.
func (b *Bank) send(w http.ResponseWriter, r *http.Request) {
	var s Sending
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&s); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	err := b.sendMessage(r.Context(), s)
	var rolledBack *participant.RolledBackError
	switch {
	case err == nil:
		w.WriteHeader(statusSent)
	case errors.As(err, &rolledBack), isFunds(err):
		http.Error(w, err.Error(), statusDropped)
	default:
		http.Error(w, err.Error(), statusUnknown)
	}
}

// errForgot is what a bank that was asked to forget says.
var errForgot = errors.New("the sender went away")

func (b *Bank) sendMessage(ctx context.Context, s Sending) error {
	m := message.New(b.client, s.CallBack, message.Key(s.Key), message.CheckBackAfter(s.After), message.GID(participant.GID(s.GID)))
	for _, to := range s.To {
		m.Add(to.URL, Move{Key: s.Key, Account: to.Account, Delta: to.Amount})
	}
	return b.Send(ctx, m, Move{Key: s.Key, Account: s.Account, Delta: -s.Amount}, s.Forget)
}

// Send begins a message, makes a move in a local transaction of the bank's, and
// submits the message, as far as it does not forget to.
func (b *Bank) Send(ctx context.Context, m *message.Message, local Move, forget Forgetting) error {
	fresh, err := m.Begin(ctx)
	if err != nil {
		return err
	}
	if !fresh || forget == ForgetBegun {
		return errForgot
	}
	call := Call{GID: string(m.GID()), Key: local.Key, Branch: BranchLocal, Operation: opLocal, Mode: "message"}
	err = b.store.sent(ctx, string(m.GID()), func(tx *sql.Tx) error { return b.store.work(ctx, tx, call, local) })
	if isFunds(err) {
		return errors.Join(err, m.Drop(ctx, "lack of funds"))
	}
	if err != nil {
		return err // it may have committed: the check-back tells
	}
	if forget == ForgetDone {
		return errForgot
	}
	return m.Submit(ctx)
}
