package handlers_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	_ "modernc.org/sqlite"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/handlers"
)

const gid = "01JD9S7KQ0000000000000000A"

// post makes one branch call.
func post(t *testing.T, h http.Handler, body string, headers ...string) (int, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func action(branch string) []string {
	return []string{
		"Quorate-Gid", gid, "Quorate-Branch", branch, "Quorate-Operation", "action", "Quorate-Mode", "saga",
		"Quorate-Attempt", "3", "Quorate-Epoch", "1.7", "Quorate-Key", "order-1",
	}
}

// what a Func returns is the answer, in both tongues.
var answers = []struct {
	name string
	err  error
	http int
	grpc codes.Code
}{
	{"done", nil, http.StatusOK, codes.OK},
	{"refused", fmt.Errorf("%w: no lamps", participant.ErrRefused), http.StatusConflict, codes.Aborted},
	{"at work", fmt.Errorf("%w: patience", participant.ErrOngoing), http.StatusTooEarly, codes.Unavailable},
	{"failed", errors.New("the disk is full"), http.StatusInternalServerError, codes.Unknown},
	{"a transaction of its own rolled back", &participant.RolledBackError{GID: gid, Reason: "TIMEOUT"}, http.StatusConflict, codes.Aborted},
	{"one of its own is unknown", &participant.OutcomeUnknownError{GID: gid, Err: io.EOF}, http.StatusInternalServerError, codes.Unknown},
}

func TestHTTP_AnswersAreWhatTheFunctionReturns(t *testing.T) {
	for _, tt := range answers {
		f := handlers.Func(func(ctx context.Context, body []byte) ([]byte, error) {
			c := fence.FromContext(ctx)
			if c.GID != gid || c.Branch != "01" || c.Operation != fence.Action || c.Attempt != 3 || c.Epoch.Term != 7 || c.Key != "order-1" {
				t.Errorf("the context carries %+v", c)
			}
			return append([]byte("heard "), body...), tt.err
		})
		code, said := post(t, f, "lamps", action("01")...)
		if code != tt.http || tt.err == nil && said != "heard lamps" || tt.err != nil && !strings.Contains(said, tt.err.Error()) {
			t.Errorf("%s: %d %q, want %d", tt.name, code, said, tt.http)
		}
	}
}

func TestHTTP_WhatIsNoCallIsRefused(t *testing.T) {
	f := handlers.Func(func(context.Context, []byte) ([]byte, error) {
		t.Error("called")
		return nil, nil
	})
	for name, headers := range map[string][]string{
		"nothing":      nil,
		"a bad gid":    {"Quorate-Gid", "order-1", "Quorate-Branch", "1", "Quorate-Operation", "action"},
		"no operation": {"Quorate-Gid", gid, "Quorate-Branch", "1"},
		"a bad epoch":  {"Quorate-Gid", gid, "Quorate-Branch", "1", "Quorate-Operation", "action", "Quorate-Epoch", "first"},
	} {
		if code, _ := post(t, f, "", headers...); code != http.StatusBadRequest {
			t.Errorf("%s: %d", name, code)
		}
	}
	if code, _ := post(t, f, strings.Repeat("x", handlers.PayloadBytesMax+1), action("01")...); code != http.StatusBadRequest {
		t.Errorf("a body that is too long: %d", code)
	}
}

func TestJSON_APayloadThatDoesNotFitIsAskedAgain(t *testing.T) {
	var got []int
	f := handlers.JSON(func(_ context.Context, in []int) error { got = in; return nil })
	if code, said := post(t, f, `{"not": "a list"}`, action("01")...); code != http.StatusInternalServerError || !strings.Contains(said, "[]int") {
		t.Errorf("%d %q", code, said)
	}
	if code, _ := post(t, f, "[1,2]", action("01")...); code != http.StatusOK || len(got) != 2 {
		t.Errorf("%d, %v", code, got)
	}
	if code, _ := post(t, f, "", action("01")...); code != http.StatusOK || got != nil {
		t.Errorf("an empty payload: %d, %v", code, got)
	}
}

// Middleware for two-phase transactions lets branch calls pass: they join none.
func TestHTTP_BehindTheMiddlewareOfTwoPhaseTransactions(t *testing.T) {
	f := handlers.Func(func(ctx context.Context, _ []byte) ([]byte, error) {
		if _, joined := participant.FromContext(ctx); joined {
			t.Error("the call joined a two-phase transaction")
		}
		return nil, nil
	})
	if code, said := post(t, participant.Middleware(f), "", action("01")...); code != http.StatusOK {
		t.Errorf("%d %q", code, said)
	}
}

func TestFenced_RunsOnce(t *testing.T) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "n.db")+"?_txlock=immediate&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	guard, err := fence.New(fence.SQLite)
	if err == nil {
		err = guard.Init(t.Context(), db)
	}
	if err == nil {
		_, err = db.Exec("CREATE TABLE counter (n INT); INSERT INTO counter VALUES (0)")
	}
	if err != nil {
		t.Fatal(err)
	}
	add := handlers.Fenced(guard, db, func(ctx context.Context, tx *sql.Tx, by int) error {
		_, err := tx.ExecContext(ctx, "UPDATE counter SET n = n + ?", by)
		return err
	})
	for range 3 {
		if code, said := post(t, add, "5", action("01")...); code != http.StatusOK {
			t.Fatalf("%d %q", code, said)
		}
	}
	var n int
	if err := db.QueryRow("SELECT n FROM counter").Scan(&n); err != nil || n != 5 {
		t.Errorf("the counter is %d after three calls of one branch, %v", n, err)
	}
	ask := []string{"Quorate-Gid", gid, "Quorate-Operation", "check-back", "Quorate-Mode", "message"}
	if code, _ := post(t, handlers.CheckBack(guard, db), "", ask...); code != http.StatusConflict {
		t.Errorf("a check-back of a local transaction that never was: %d", code)
	}
}

func TestGRPC_MethodsBesideServices(t *testing.T) {
	for _, tt := range answers {
		m := handlers.NewMethods()
		m.Handle("/shop.Stock/Take", func(ctx context.Context, body []byte) ([]byte, error) {
			if c := fence.FromContext(ctx); c.Branch != "01" || c.Operation != fence.Action {
				t.Errorf("the context carries %+v", c)
			}
			return append([]byte("heard "), body...), tt.err
		})
		conn := serve(t, m)
		ctx := metadata.AppendToOutgoingContext(t.Context(), lower(action("01"))...)
		in, out := handlers.Raw("\xff not protobuf"), handlers.Raw(nil)
		err := conn.Invoke(ctx, "/shop.Stock/Take", &in, &out, grpc.ForceCodecV2(handlers.Codec()))
		if status.Code(err) != tt.grpc || err == nil && !bytes.Equal(out, append([]byte("heard "), in...)) {
			t.Errorf("%s: %v %q, want %v", tt.name, err, out, tt.grpc)
		}
		if err := conn.Invoke(t.Context(), "/shop.Stock/Take", &in, &out, grpc.ForceCodecV2(handlers.Codec())); status.Code(err) != codes.InvalidArgument {
			t.Errorf("no branch call: %v", err)
		}
		if err := conn.Invoke(ctx, "/shop.Stock/Give", &in, &out, grpc.ForceCodecV2(handlers.Codec())); status.Code(err) != codes.Unimplemented {
			t.Errorf("no such method: %v", err)
		}
		// A service of generated code on the same server.
		if _, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
			t.Errorf("health: %v", err)
		}
	}
}

// What a service that the function has called says of itself is no word of this branch: its
// ABORTED would be taken for "nothing was done".
func TestGRPC_AnotherServicesStatusDecidesNothing(t *testing.T) {
	for name, err := range map[string]error{
		"as it is":            status.Error(codes.Aborted, "a deadlock over there"),
		"wrapped":             fmt.Errorf("reserve: %w", status.Error(codes.Aborted, "a deadlock over there")),
		"DTM's word for wait": status.Error(codes.FailedPrecondition, "closed"),
	} {
		m := handlers.NewMethods()
		m.Handle("/shop.Stock/Take", func(context.Context, []byte) ([]byte, error) { return nil, err })
		conn := serve(t, m)
		in, out := handlers.Raw(nil), handlers.Raw(nil)
		ctx := metadata.AppendToOutgoingContext(t.Context(), lower(action("01"))...)
		got := conn.Invoke(ctx, "/shop.Stock/Take", &in, &out, grpc.ForceCodecV2(handlers.Codec()))
		if status.Code(got) != codes.Unknown || !strings.Contains(got.Error(), status.Convert(err).Message()) {
			t.Errorf("%s: %v, want UNKNOWN with its words", name, got)
		}
	}
}

func serve(t *testing.T, m *handlers.Methods) *grpc.ClientConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(m.Options()...)
	healthv1.RegisterHealthServer(server, health.NewServer())
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		<-done
	})
	return conn
}

func lower(headers []string) []string {
	out := append([]string(nil), headers...)
	for i := 0; i < len(out); i += 2 {
		out[i] = strings.ToLower(out[i])
	}
	return out
}
