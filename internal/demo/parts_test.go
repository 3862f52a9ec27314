package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestBankConfigSurvivesItsCommandLine(t *testing.T) {
	c := BankConfig{
		Side: BankB, Listen: "127.0.0.1:1234", Seeds: []string{"127.0.0.1:1", "127.0.0.1:2"},
		Store: StoreSpec{Kind: Postgres, DSN: "postgres://u:secret@h/db"}, Dir: "/tmp/quorate-demo-123", Opening: 1234,
	}
	args, env := c.command()
	if strings.Contains(strings.Join(args, " "), "secret") {
		t.Fatalf("the password is in the arguments: %q", args)
	}
	getenv := func(name string) string {
		for _, e := range env {
			if value, ok := strings.CutPrefix(e, name+"="); ok {
				return value
			}
		}
		return ""
	}
	got, err := ParseBankConfig(args[1:], getenv)
	if err != nil || !reflect.DeepEqual(got, c) {
		t.Fatalf("got %+v, %v; want %+v", got, err, c)
	}
	for _, bad := range [][]string{nil, {"2", "", "", "", "", "1"}, {"x", "", "", "", "", "1"}, {"0", "", "", "", "", "much"}} {
		if _, err := ParseBankConfig(bad, getenv); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestTablesOfTwoRunsAndBanksDiffer(t *testing.T) {
	names := map[string]bool{}
	for _, dir := range []string{"/tmp/quorate-demo-1111111111", "/tmp/quorate-demo-2222222222", "/data/Run 7; DROP"} {
		for _, side := range []Side{BankA, BankB} {
			name := BankConfig{Dir: dir, Side: side}.tables()
			if strings.ContainsFunc(name, func(r rune) bool { return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') }) || len(name) > 40 {
				t.Errorf("%q is no prefix for a table", name)
			}
			names[name] = true
		}
	}
	if len(names) != 6 {
		t.Fatalf("prefixes %v, want 6", names)
	}
}

func TestMarkSaysWhoDiedWhen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kill-1")
	if err := os.WriteFile(path, []byte("at-decision pid=42 at=2026-11-21T05:00:00.5Z key=transfer-0100\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := readMark(path)
	if want := time.Date(2026, 11, 21, 5, 0, 0, 5e8, time.UTC); err != nil || m.pid != 42 || m.key != "transfer-0100" || !m.at.Equal(want) {
		t.Fatalf("%+v, %v", m, err)
	}
	if err := os.WriteFile(path, []byte("at-decision pid=many"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readMark(path); err == nil {
		t.Fatal("a damaged mark was read")
	}
}

// TestCandidatesWaitForTheKillBefore: a kill hits a whole cluster.
func TestCandidatesWaitForTheKillBefore(t *testing.T) {
	dir := t.TempDir()
	first := Aim{Candidates: []string{"transfer-0010"}, Mark: filepath.Join(dir, "1")}
	second := Aim{Candidates: []string{"transfer-0020"}, Mark: filepath.Join(dir, "2")}
	p := newReaper(t.Context(), &run{aims: Aims{Leader: []Aim{first, second}}})
	returned := func(ctx context.Context, key string) <-chan struct{} {
		done := make(chan struct{})
		go func() { p.await(ctx, key); close(done) }()
		return done
	}
	<-returned(t.Context(), "transfer-0020") // nothing has been killed
	if err := os.WriteFile(first.Mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	<-returned(t.Context(), "transfer-0015") // no candidate
	<-returned(t.Context(), "transfer-0010") // of the first kill itself
	waiting := returned(t.Context(), "transfer-0020")
	select {
	case <-waiting:
		t.Fatal("the second kill was let go while the first one's node was down")
	case <-time.After(5 * awaitInterval): // it must still wait: there is no event to wait for
	}
	p.mend(first)
	<-waiting
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.mended = map[string]bool{}
	<-returned(ctx, "transfer-0020")
}

func TestOnlyACallThatNeverLeftIsRepeated(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = c.Read(make([]byte, 1))
			_ = c.Close()
		}
	}()
	post := func() error {
		resp, err := http.Post("http://"+address+"/move", "application/json", bytes.NewReader([]byte("{}")))
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	if err := post(); err == nil || neverSent(err) {
		t.Fatalf("a call that was cut off: %v", err)
	}
	_ = l.Close()
	if err := post(); !neverSent(err) {
		t.Fatalf("a refused connection: %v", err)
	}
}

func TestAnswersOfABankAreTold(t *testing.T) {
	answer := func(code int, body string) error {
		return readMove(&http.Response{StatusCode: code, Status: http.StatusText(code), Body: io.NopCloser(strings.NewReader(body))})
	}
	if err := answer(http.StatusOK, ""); err != nil {
		t.Error(err)
	}
	if err := answer(http.StatusPaymentRequired, "lack of funds"); !errors.Is(err, ErrFunds) || reasonOf(err) != "lack of funds" {
		t.Error(err)
	}
	if err := answer(http.StatusServiceUnavailable, "deadlock\n"); err == nil || !strings.HasSuffix(reasonOf(err), "deadlock") {
		t.Error(err)
	}
	if got := reasonOf(&GoneError{Err: io.EOF}); got != "the bank's process went away" {
		t.Error(got)
	}
}

func TestADirectoryThatHoldsSomethingIsRefused(t *testing.T) {
	dir := t.TempDir()
	if got, err := makeDir(filepath.Join(dir, "new")); err != nil || !filepath.IsAbs(got) {
		t.Fatal(got, err)
	}
	if _, err := makeDir(dir); err == nil {
		t.Fatal("a directory with content was taken")
	}
}
