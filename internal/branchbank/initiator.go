package branchbank

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/quorate/quorate/linearizability"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/saga"
	"github.com/quorate/quorate/participant/tcc"
)

// Mode is how a transfer is made.
type Mode string

// The modes whose branches are called.
const (
	Saga     Mode = "saga"
	TCC      Mode = "tcc"
	Message  Mode = "message"
	Workflow Mode = "workflow"
)

// Modes are all of them.
var Modes = []Mode{Saga, TCC, Message, Workflow}

// Transfer is one transaction: money goes from an account of one bank to the account
// of the same number in another.
type Transfer struct {
	Key      string
	From, To string // the banks' base URLs
	Account  int
	Amount   int64
	// Refuse has the second bank refuse.
	Refuse bool
	// DepositFirst calls the receiving bank first, where the mode leaves the choice.
	DepositFirst bool
	// Timeout of the transaction; 0: none, or the cluster's default.
	Timeout time.Duration
	// CheckBackAfter and Forget concern messages.
	CheckBackAfter time.Duration
	Forget         Forgetting
}

// moves are the transfer's branches, in the order in which they are called.
func (t Transfer) moves() (banks [2]string, moves [2]Move) {
	banks = [2]string{t.From, t.To}
	moves = [2]Move{{Key: t.Key, Account: t.Account, Delta: -t.Amount}, {Key: t.Key, Account: t.Account, Delta: t.Amount}}
	if t.DepositFirst {
		banks[0], banks[1] = banks[1], banks[0]
		moves[0], moves[1] = moves[1], moves[0]
	}
	moves[1].Refuse = t.Refuse
	return banks, moves
}

// PlanOf is what the effects of a transfer are held against.
func PlanOf(m Mode) []linearizability.PlannedStep {
	switch m {
	case TCC:
		return []linearizability.PlannedStep{{ID: "1"}, {ID: "2"}}
	case Message:
		return []linearizability.PlannedStep{{ID: BranchLocal, Local: true}, {ID: "01", After: []string{BranchLocal}}}
	default:
		return []linearizability.PlannedStep{{ID: "01"}, {ID: "02", After: []string{"01"}}}
	}
}

// Initiator makes transfers. Its methods may be called from any goroutine.
type Initiator struct {
	// Called, when set before anything is made, hears of each resume that arrives.
	Called func(Call)
	client *participant.Client
	http   *http.Client
	flows  *flows
}

// NewInitiator makes one; the client stays its caller's.
func NewInitiator(client *participant.Client) (*Initiator, error) {
	i := &Initiator{client: client, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	var err error
	i.flows, err = newFlows(i)
	return i, err
}

// Close ends what it has open.
func (i *Initiator) Close() error {
	err := i.flows.close()
	i.http.CloseIdleConnections()
	return err
}

// Make makes one transfer and waits for its end. nil: committed. A refusal or
// *participant.RolledBackError: rolled back. Anything else is unknown.
func (i *Initiator) Make(ctx context.Context, m Mode, t Transfer) error {
	switch m {
	case Saga:
		return i.saga(ctx, t)
	case TCC:
		return i.tcc(ctx, t)
	case Message:
		return i.message(ctx, t)
	case Workflow:
		return i.workflow(ctx, t)
	}
	return fmt.Errorf("branchbank: no mode is named %q", m)
}

func (i *Initiator) saga(ctx context.Context, t Transfer) error {
	banks, moves := t.moves()
	s := saga.New(i.client, saga.Key(t.Key), saga.Timeout(t.Timeout))
	for n, bank := range banks {
		s.Step(bank+PathAction, bank+PathCompensate, moves[n])
	}
	return s.Run(ctx)
}

func (i *Initiator) tcc(ctx context.Context, t Transfer) error {
	banks, moves := t.moves()
	return tcc.Run(ctx, i.client, func(ctx context.Context, tx *tcc.Transaction) error {
		for n, bank := range banks {
			b := tcc.Branch{Try: bank + PathTry, Confirm: bank + PathConfirm, Cancel: bank + PathCancel}
			if _, err := tx.Call(ctx, b, moves[n]); err != nil {
				return err
			}
		}
		return nil
	}, tcc.Key(t.Key), tcc.Timeout(t.Timeout))
}

// message has the paying bank take the money and send word of it. A bank that does
// not listen is called again until the call's time is over: nothing was sent to it.
func (i *Initiator) message(ctx context.Context, t Transfer) error {
	return i.SendFrom(ctx, t.From, Sending{
		Key: t.Key, Account: t.Account, Amount: t.Amount, CallBack: t.From + PathCheckBack, After: t.CheckBackAfter, Forget: t.Forget,
		To: []Receiver{{URL: t.To + PathAction, Account: t.Account, Amount: t.Amount}},
	})
}

// SendFrom has a bank send a message; see [Sending].
func (i *Initiator) SendFrom(ctx context.Context, bank string, s Sending) error {
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	for {
		resp, err := i.post(ctx, bank+PathSend, body)
		if err == nil {
			return heard(resp)
		}
		if !neverSent(err) || pause(ctx, 50*time.Millisecond) != nil {
			return &participant.OutcomeUnknownError{Err: err}
		}
	}
}

func (i *Initiator) post(ctx context.Context, url string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return i.http.Do(req)
}

// neverSent says that no byte of the request can have arrived.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// heard is what the sender said of its message.
func heard(resp *http.Response) error {
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, bodyBytesMax))
	switch {
	case err == nil && resp.StatusCode == statusSent:
		return nil
	case err == nil && resp.StatusCode == statusDropped:
		return fmt.Errorf("%w: %s", ErrFunds, bytes.TrimSpace(text))
	}
	return &participant.OutcomeUnknownError{Err: fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
