// Package plan builds the parts of a request that the modes share.
package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Settings are those of one transaction. Zero means the cluster's default.
type Settings struct {
	GID, Key, Name   string
	Timeout          time.Duration
	Retry            Retry
	CallbackAfter    time.Duration
	CallbackPayload  []byte
	Delay            time.Duration
	Concurrency      uint32
	Headers, Labels  map[string]string
	WaitsForTheEnd   bool
	Callback, Script string
}

// Retry says how a call that was not answered is repeated.
type Retry struct {
	Interval, IntervalMax, CallTimeout time.Duration
	Attempts                           uint32
}

// SetHeader keeps one more header.
func (s *Settings) SetHeader(name, value string) {
	if s.Headers == nil {
		s.Headers = make(map[string]string)
	}
	s.Headers[name] = value
}

// Begin is the request that creates the transaction.
func (s *Settings) Begin(mode quoratev1.Mode) *quoratev1.BeginRequest {
	return &quoratev1.BeginRequest{
		Gid: s.GID, Key: s.Key, Mode: mode, Entry: quoratev1.Entry_ENTRY_EXPLICIT,
		Timeout: Duration(s.Timeout), Labels: s.labels(), Plan: s.plan(),
	}
}

func (s *Settings) plan() *quoratev1.Plan {
	return &quoratev1.Plan{
		Retry: s.Retry.message(), Callback: s.Callback, CallbackPayload: s.CallbackPayload,
		CallbackAfter: Duration(s.CallbackAfter), ConcurrencyMax: s.Concurrency,
		Delay: Duration(s.Delay), Headers: s.Headers, Workflow: s.Script,
	}
}

// labels hold the name, by which people find the transaction.
func (s *Settings) labels() map[string]string {
	if s.Name == "" {
		return s.Labels
	}
	all := maps.Clone(s.Labels)
	if all == nil {
		all = make(map[string]string)
	}
	all["name"] = s.Name
	return all
}

func (r Retry) message() *quoratev1.Retry {
	if r == (Retry{}) {
		return nil
	}
	return &quoratev1.Retry{
		Interval: Duration(r.Interval), IntervalMax: Duration(r.IntervalMax),
		AttemptsMax: r.Attempts, CallTimeout: Duration(r.CallTimeout),
	}
}

// Duration is d, or nothing where d is zero.
func Duration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// Payload is the body of a call: bytes as they are, a protobuf message in its binary
// form, nil as nothing, and everything else as JSON.
func Payload(v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []byte:
		return v, nil
	case json.RawMessage:
		return v, nil
	case proto.Message:
		return proto.Marshal(v)
	}
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("payload of type %T: %w", v, err)
	}
	return body, nil
}
