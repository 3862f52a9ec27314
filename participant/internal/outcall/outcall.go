// Package outcall makes the calls that an initiator makes itself: TCC's tries.
package outcall

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/internal/callheader"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/handlers"
)

// answerBytesMax bounds an answer that is read, and saidBytesMax what of it is shown.
const (
	answerBytesMax = 1 << 20
	saidBytesMax   = 200
)

// Caller makes calls. Its zero value works.
type Caller struct {
	// HTTP is http.DefaultClient if nil.
	HTTP *http.Client
	// Dial connects to a gRPC server; if nil, each call makes a connection of its own.
	Dial func(target string) (*grpc.ClientConn, error)
}

// Do calls an endpoint once. A refusal is [participant.ErrRefused], "still at work" is
// [participant.ErrOngoing]; after any other error nobody knows what was done.
func (c Caller) Do(ctx context.Context, endpoint string, call fence.Call, headers map[string]string, payload []byte) ([]byte, error) {
	all := headersOf(call)
	for name, value := range headers {
		if name = strings.ToLower(name); all[name] == "" {
			all[name] = value
		}
	}
	scheme, rest, ok := strings.Cut(endpoint, "://")
	switch {
	case ok && (scheme == "http" || scheme == "https"):
		return c.post(ctx, endpoint, all, payload)
	case ok && (scheme == "grpc" || scheme == "grpcs"):
		return c.invoke(ctx, scheme == "grpcs", rest, all, payload)
	}
	return nil, fmt.Errorf("endpoint %q: want http(s)://host:port/path or grpc(s)://host:port/package.Service/Method", endpoint)
}

func (c Caller) post(ctx context.Context, endpoint string, headers map[string]string, payload []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	resp, err := c.client().Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	said, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("POST %s: read the answer: %w", endpoint, err)
	}
	var cause error
	switch {
	case resp.StatusCode == http.StatusAccepted || resp.StatusCode == http.StatusTooEarly:
		cause = participant.ErrOngoing
	case resp.StatusCode == http.StatusConflict:
		cause = participant.ErrRefused
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		cause = errors.New(show([]byte(resp.Status)))
	case len(said) > answerBytesMax:
		return nil, fmt.Errorf("POST %s: the answer is longer than %d bytes", endpoint, answerBytesMax)
	default:
		return said, nil
	}
	return nil, fmt.Errorf("POST %s: %w", endpoint, &answer{cause, show(said)})
}

// client is the caller's, but follows no redirect unless that is asked for: a POST would
// become a GET of something else, whose success says nothing of the try.
func (c Caller) client() *http.Client {
	client := http.DefaultClient
	if c.HTTP != nil {
		client = c.HTTP
	}
	if client.CheckRedirect != nil {
		return client
	}
	still := *client
	still.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &still
}

func (c Caller) invoke(ctx context.Context, secure bool, target string, headers map[string]string, payload []byte) ([]byte, error) {
	host, method, ok := strings.Cut(target, "/")
	if !ok {
		return nil, fmt.Errorf("endpoint grpc://%s names no method: want grpc://host:port/package.Service/Method", target)
	}
	conn, done, err := c.connect(host, secure)
	if err != nil {
		return nil, err
	}
	defer done()
	in, out := handlers.Raw(payload), handlers.Raw(nil)
	ctx = metadata.NewOutgoingContext(ctx, metadata.New(headers))
	err = conn.Invoke(ctx, "/"+method, &in, &out, grpc.ForceCodecV2(handlers.Codec()))
	if err != nil {
		return nil, fmt.Errorf("grpc://%s: %w", target, meaning(err))
	}
	return out, nil
}

func (c Caller) connect(host string, secure bool) (conn *grpc.ClientConn, done func(), err error) {
	if c.Dial != nil {
		conn, err = c.Dial(host)
		return conn, func() {}, err
	}
	creds := insecure.NewCredentials()
	if secure {
		creds = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	}
	conn, err = grpc.NewClient(host, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, nil, err
	}
	return conn, func() { _ = conn.Close() }, nil
}

// meaning is what a status says about the branch.
func meaning(err error) error {
	s := status.Convert(err)
	if s.Code() == codes.Aborted {
		return &answer{participant.ErrRefused, s.Message()}
	}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && s.Code() == codes.Unavailable && info.GetReason() == "ONGOING" {
			return &answer{participant.ErrOngoing, s.Message()}
		}
	}
	return err
}

// answer is what a callee said, in its own words.
type answer struct {
	means error
	words string
}

func (a *answer) Unwrap() error { return a.means }

func (a *answer) Error() string {
	if a.words == "" || !errors.Is(a.means, participant.ErrRefused) && !errors.Is(a.means, participant.ErrOngoing) {
		return strings.TrimSuffix(a.means.Error()+": "+a.words, ": ")
	}
	return a.words
}

// show is an answer for people, on one line.
func show(said []byte) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(said[:min(len(said), saidBytesMax)]), "?")))
}

// headersOf are the names and values that a callee reads the call from.
func headersOf(c fence.Call) map[string]string {
	h := map[string]string{
		"quorate-gid": c.GID, "quorate-branch": callheader.Escape(c.Branch),
		"quorate-operation": string(c.Operation), "quorate-mode": c.Mode,
		"quorate-attempt": strconv.FormatUint(c.Attempt, 10),
		"quorate-floor":   strconv.FormatUint(c.FloorMS, 10),
		"quorate-clock":   strconv.FormatUint(c.ClockMS, 10),
	}
	if c.Key != "" {
		h["quorate-key"] = callheader.Escape(c.Key)
	}
	if c.Cluster != "" {
		h["quorate-cluster"] = c.Cluster
	}
	if c.Epoch != (fence.Epoch{}) {
		h["quorate-epoch"] = c.Epoch.String()
	}
	return h
}
