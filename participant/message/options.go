package message

import (
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/internal/plan"
)

// Option is a setting of a whole message.
type Option func(*plan.Settings)

// Name is shown to people, by `quorate tx ls`.
func Name(name string) Option { return func(s *plan.Settings) { s.Name = name } }

// Key gives the message the caller's own id, at most 128 bytes of printable text. The
// first message with a key is the only one: the function of a second Do is not run. One
// with other receivers, or another callback, is refused (GID_CONFLICT).
func Key(key string) Option { return func(s *plan.Settings) { s.Key = key } }

// GID sets the transaction's id, made by [participant.Client.NewGID].
func GID(gid participant.GID) Option { return func(s *plan.Settings) { s.GID = string(gid) } }

// Delay is the time from the begin to the first delivery.
func Delay(d time.Duration) Option { return func(s *plan.Settings) { s.Delay = d } }

// CheckBackAfter is the time from the begin to the first check-back. It should be longer
// than the local transaction takes: one that is checked while it runs can no longer commit.
func CheckBackAfter(d time.Duration) Option { return func(s *plan.Settings) { s.CallbackAfter = d } }

// Retry sets the first delay between the attempts at a delivery or a check-back, which
// doubles up to the longest. Deliveries are never given up.
func Retry(first, longest time.Duration) Option {
	return func(s *plan.Settings) { s.Retry.Interval, s.Retry.IntervalMax = first, longest }
}

// CallTimeout bounds one call.
func CallTimeout(d time.Duration) Option { return func(s *plan.Settings) { s.Retry.CallTimeout = d } }

// Concurrency bounds the deliveries of the message that are called at once.
func Concurrency(n uint32) Option { return func(s *plan.Settings) { s.Concurrency = n } }

// Header is carried to every receiver, as an HTTP header or gRPC metadata.
func Header(name, value string) Option { return func(s *plan.Settings) { s.SetHeader(name, value) } }

// WaitFinish makes Do and Send wait until every receiver has taken the message.
func WaitFinish() Option { return func(s *plan.Settings) { s.WaitsForTheEnd = true } }

// ReceiverOption is a setting of one receiver.
type ReceiverOption func(*quoratev1.BranchSpec)

// ID names the receiver, for After and for people; the default is its number, `01`.
func ID(id string) ReceiverOption { return func(b *quoratev1.BranchSpec) { b.Id = id } }

// After names receivers that must have taken the message before this one gets it.
// Without it, all get it at once.
func After(ids ...string) ReceiverOption {
	return func(b *quoratev1.BranchSpec) { b.After = append([]string{}, ids...) }
}
