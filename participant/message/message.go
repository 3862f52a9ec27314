package message

import (
	"context"
	"fmt"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/internal/plan"
)

// Message is one message, in the hands of its sender. It must not be used by several
// goroutines at once.
type Message struct {
	client    *participant.Client
	settings  plan.Settings
	receivers []*quoratev1.BranchSpec
	err       error // the first mistake made while building
}

// New makes a message for nobody yet. The callback is asked whether the local
// transaction committed, where nobody said so: see [handlers.CheckBack]. It may be empty for a
// message that is only ever sent by [Message.Send].
func New(client *participant.Client, callback string, opts ...Option) *Message {
	m := &Message{client: client}
	m.settings.Callback = callback
	for _, set := range opts {
		set(&m.settings)
	}
	return m
}

// Add adds a receiver: http(s)://host:port/path or
// grpc(s)://host:port/package.Service/Method. A payload is JSON, unless it is []byte or a
// protobuf message.
func (m *Message) Add(endpoint string, payload any, opts ...ReceiverOption) *Message {
	body, err := plan.Payload(payload)
	r := &quoratev1.BranchSpec{Id: fmt.Sprintf("%02d", len(m.receivers)+1), Endpoint: endpoint, Payload: body}
	for _, set := range opts {
		set(r)
	}
	if err != nil && m.err == nil {
		m.err = fmt.Errorf("message: receiver %s: %w", r.GetId(), err)
	}
	m.receivers = append(m.receivers, r)
	return m
}

// Topic adds whoever has subscribed to a topic by the time the message is begun.
func (m *Message) Topic(name string, payload any, opts ...ReceiverOption) *Message {
	return m.Add("topic://"+name, payload, opts...)
}

// GID names the transaction; empty before the message is begun, unless it was set.
func (m *Message) GID() participant.GID { return participant.GID(m.settings.GID) }

// Begin makes the message known. From here on it will be delivered or dropped, by
// [Message.Submit], by [Message.Drop] or by the check-back's answer. It reports false when
// the key stands for another message, or when this one is decided already: the local
// transaction must not be run then.
func (m *Message) Begin(ctx context.Context) (fresh bool, err error) {
	if err := m.name(ctx); err != nil {
		return false, err
	}
	if err := m.client.Present(ctx); err != nil {
		return false, err
	}
	req := m.begin()
	req.Holder = m.client.Holder()
	got, err := m.client.Service().Begin(ctx, req)
	if err != nil {
		return false, participant.Decided(m.GID(), err)
	}
	// A repeated Begin of ours is answered created=false too: the GID tells.
	fresh = got.GetGid() == m.settings.GID && got.GetDecision() == quoratev1.Decision_DECISION_UNSPECIFIED
	m.settings.GID = got.GetGid()
	return fresh, nil
}

// Submit says that the local transaction has committed: the message will be delivered.
// It may be called again after any error; if it never arrives, the check-back tells.
func (m *Message) Submit(ctx context.Context) error {
	got, err := m.client.Service().Commit(ctx, &quoratev1.CommitRequest{
		Transaction: m.settings.GID, Wait: quoratev1.Wait_WAIT_DECISION,
	})
	if err != nil {
		return participant.Decided(m.GID(), err)
	}
	if got.GetDecision() == quoratev1.Decision_DECISION_ROLLBACK {
		return participant.RolledBack(m.GID(), got.GetReason(), got.GetDetail())
	}
	return m.await(ctx)
}

// Drop says that the local transaction has not committed and never will.
func (m *Message) Drop(ctx context.Context, why string) error {
	_, err := m.client.Service().Rollback(ctx, &quoratev1.RollbackRequest{
		Transaction: m.settings.GID, Detail: participant.Clip(why), Wait: quoratev1.Wait_WAIT_DECISION,
	})
	return participant.Decided(m.GID(), err)
}

// Send sends a message that hangs on no local transaction: nil means that it stands in
// the log and will be delivered. It may be called again after any error.
func (m *Message) Send(ctx context.Context) error {
	if err := m.name(ctx); err != nil {
		return err
	}
	req := &quoratev1.SubmitRequest{Begin: m.begin(), Wait: quoratev1.Wait_WAIT_DECISION}
	req.Begin.Branches, req.Set = nil, m.receivers
	got, err := m.client.Service().Submit(ctx, req)
	if err != nil {
		return participant.Decided(m.GID(), err)
	}
	m.settings.GID = got.GetGid()
	return m.await(ctx)
}

// name gives the message its GID, once.
func (m *Message) name(ctx context.Context) error {
	if m.err != nil || m.settings.GID != "" {
		return m.err
	}
	gid, err := m.client.NewGID(ctx)
	m.settings.GID = string(gid)
	return err
}

func (m *Message) begin() *quoratev1.BeginRequest {
	req := m.settings.Begin(quoratev1.Mode_MODE_MESSAGE)
	req.Branches = m.receivers
	return req
}

func (m *Message) await(ctx context.Context) error {
	if !m.settings.WaitsForTheEnd {
		return nil
	}
	return m.client.AwaitFinish(ctx, m.GID())
}
