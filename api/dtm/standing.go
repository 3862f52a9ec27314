package dtm

import (
	"context"
	"encoding/json"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// standing is a transaction as it stands, read as DTM's callers see it.
type standing struct{ *quoratev1.Transaction }

// find reads a transaction by its gid, which is a key.
func (g *Gateway) find(ctx context.Context, gid string) (*standing, error) {
	answer, err := call(ctx, g, func(ctx context.Context, r *quoratev1.GetRequest) (*quoratev1.GetResponse, error) {
		return g.native.Get(ctx, r)
	}, &quoratev1.GetRequest{Transaction: keyRef(gid)})
	if err != nil {
		return nil, err
	}
	return &standing{answer.GetTransaction()}, nil
}

// transType is DTM's word for the mode, "" for a transaction that was not made
// over this wire.
func (s *standing) transType() string { return s.GetPlan().GetDialectMode() }

// mustBe refuses to take a transaction for another one: a gid names one
// transaction, of one type.
func (s *standing) mustBe(t *trans) error {
	if err := s.mustBeDTMs(); err != nil {
		return err
	}
	if s.transType() != t.TransType {
		return bad("gid %s names a transaction of type %s, not %s", t.Gid, s.transType(), t.TransType)
	}
	return nil
}

// mustBeDTMs refuses what native callers began: it is not for DTM's to end.
func (s *standing) mustBeDTMs() error {
	if s.transType() == "" {
		return bad("gid %s names a transaction that was not begun over DTM's protocol", s.GetKey())
	}
	return nil
}

// status is DTM's word for the state. What an operator ended before its branches had
// done their part has failed, whatever had been decided.
func (s *standing) status() string {
	if s.GetStopped() {
		return statusFailed
	}
	switch s.GetState() {
	case quoratev1.State_STATE_ACTIVE:
		return statusPrepared
	case quoratev1.State_STATE_SEALED, quoratev1.State_STATE_COMMITTING:
		return statusSubmitted
	case quoratev1.State_STATE_COMMITTED:
		return statusSucceed
	case quoratev1.State_STATE_ROLLING_BACK:
		return statusAborting
	default:
		return statusFailed
	}
}

func (s *standing) finished() bool {
	return s.GetState() == quoratev1.State_STATE_COMMITTED || s.GetState() == quoratev1.State_STATE_ROLLED_BACK
}

// submittable answers a submit of a transaction that is not prepared. One that
// runs or has succeeded is a success: the caller asked for it, maybe twice.
func (s *standing) submittable() error {
	switch status := s.status(); status {
	case statusSubmitted, statusSucceed:
		return nil
	default:
		return failed("current status '%s', cannot sumbmit.", status) // DTM's spelling
	}
}

func (s *standing) cannotAbort(transType string) error {
	return failed("trans type: '%s' current status '%s', cannot abort.", transType, s.status())
}

// protocol is how the branches are called.
func (s *standing) protocol() string {
	switch s.GetPlan().GetDialect() {
	case "dtm-grpc":
		return protocolGRPC
	case "dtm-json-rpc":
		return protocolJSONRPC
	default:
		return protocolHTTP
	}
}

// kept is what the caller sent and reads back.
func (s *standing) kept() kept {
	var k kept
	_ = json.Unmarshal(s.GetPlan().GetDialectData(), &k) // of ours; an old node's may lack fields
	return k
}

// rollbackReason is the stored reason.
func (s *standing) rollbackReason() string {
	if s.GetStopped() {
		return "stopped by " + s.GetOperator()
	}
	if s.GetDecision() != quoratev1.Decision_DECISION_ROLLBACK {
		return ""
	}
	return s.GetDetail()
}
