package tcc

import (
	"net/http"
	"time"

	"google.golang.org/grpc"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/internal/plan"
)

// settings are those of one run.
type settings struct {
	plan.Settings
	http *http.Client
	dial func(target string) (*grpc.ClientConn, error)
}

// Option is a setting of [Run] and [Join].
type Option func(*settings)

// Name is shown to people, by `quorate tx ls`.
func Name(name string) Option { return func(s *settings) { s.Name = name } }

// Key gives the transaction the caller's own id. The function of a second Run with it
// is not run: Run tells what became of the first.
func Key(key string) Option { return func(s *settings) { s.Key = key } }

// GID sets the transaction's id, made by [participant.Client.NewGID].
func GID(gid participant.GID) Option { return func(s *settings) { s.Settings.GID = string(gid) } }

// Timeout is the time, by the cluster's clock, after which an undecided transaction is
// cancelled (default 30 s, at most 10 min).
func Timeout(d time.Duration) Option { return func(s *settings) { s.Timeout = d } }

// Retry sets the first delay between the attempts at a confirm or cancel, which
// doubles up to the longest.
func Retry(first, longest time.Duration) Option {
	return func(s *settings) { s.Settings.Retry.Interval, s.Settings.Retry.IntervalMax = first, longest }
}

// CallTimeout bounds one call: a try of ours (default: the transaction's timeout), a
// confirm or cancel of the coordinator's.
func CallTimeout(d time.Duration) Option {
	return func(s *settings) { s.Settings.Retry.CallTimeout = d }
}

// Header is carried to every confirm and cancel, and to every try.
func Header(name, value string) Option { return func(s *settings) { s.SetHeader(name, value) } }

// WaitFinish makes Run wait until every branch is confirmed, or cancelled.
func WaitFinish() Option { return func(s *settings) { s.WaitsForTheEnd = true } }

// HTTP sets the client by which tries are called; the default is http.DefaultClient.
func HTTP(c *http.Client) Option { return func(s *settings) { s.http = c } }

// GRPC sets how the server of a try is dialled, by `host:port`, instead of a plain-text
// connection (TLS for grpcs://) for each call. The connection stays the caller's.
func GRPC(dial func(target string) (*grpc.ClientConn, error)) Option {
	return func(s *settings) { s.dial = dial }
}
