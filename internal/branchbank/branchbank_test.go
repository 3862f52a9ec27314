package branchbank

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/bankstore/drivers"
)

const (
	gidOne = "01JD0000000000000000000001"
	gidTwo = "01JD0000000000000000000002"
)

// testBank is a bank in a file, served over HTTP.
type testBank struct {
	t      *testing.T
	config Config
	url    string
}

func newTestBank(t *testing.T, change func(*Config)) *testBank {
	t.Helper()
	c := Config{
		Resource: "bank-a", Spec: bankstore.Spec{Kind: bankstore.SQLite, DSN: SQLiteDSN(filepath.Join(t.TempDir(), "bank.sqlite"))},
		Prefix: "t_", Accounts: 3, Empty: 1, Opening: 100, Opener: drivers.Open,
	}
	if change != nil {
		change(&c)
	}
	b, err := Open(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(b.Handler())
	t.Cleanup(func() {
		server.Close()
		_ = b.Close()
	})
	return &testBank{t: t, config: c, url: server.URL}
}

// call makes a branch call; 0 is a connection that was cut.
func (b *testBank) call(path, gid, branch string, m Move) int {
	b.t.Helper()
	body, err := json.Marshal(m)
	if err != nil {
		b.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.url+path, bytes.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Quorate-Gid", gid)
	req.Header.Set("Quorate-Branch", branch)
	req.Header.Set("Quorate-Operation", strings.TrimPrefix(path, "/"))
	req.Header.Set("Quorate-Mode", "saga")
	req.Header.Set("Quorate-Epoch", "1.1")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

func (b *testBank) want(code int, path, gid, branch string, m Move) {
	b.t.Helper()
	if got := b.call(path, gid, branch, m); got != code {
		b.t.Errorf("%s of %s/%s: %d, want %d", path, gid, branch, got, code)
	}
}

// books reads the file, checks that it explains itself, and returns the effects as
// `operation branch n`.
func (b *testBank) books() (Books, []string) {
	b.t.Helper()
	books, err := ReadBooks(b.t.Context(), b.config)
	if err != nil {
		b.t.Fatal(err)
	}
	var effects []string
	for _, e := range books.Effects {
		effects = append(effects, e.Operation+" "+e.Branch+" "+string(rune('0'+e.N)))
	}
	return books, effects
}

// TestEachOperationMovesItsMoney: what a saga's and a TCC's operations do.
func TestEachOperationMovesItsMoney(t *testing.T) {
	b := newTestBank(t, nil)
	pay, get := Move{Key: "k", Account: 1, Delta: -30}, Move{Key: "k", Account: 2, Delta: 30}
	b.want(200, PathAction, gidOne, "01", pay)
	b.want(200, PathCompensate, gidOne, "01", pay)
	b.want(200, PathTry, gidOne, "1", pay)
	b.want(200, PathTry, gidOne, "2", get)
	if books, _ := b.books(); books.Accounts[1] != (Account{Balance: 70, Held: 30}) || books.Accounts[2] != (Account{Balance: 100, Pending: 30}) || books.Total() != 200 {
		t.Errorf("after the tries: %+v", books.Accounts)
	}
	b.want(200, PathConfirm, gidOne, "1", pay)
	b.want(200, PathConfirm, gidOne, "2", get)
	b.want(200, PathTry, gidTwo, "1", pay)
	b.want(200, PathCancel, gidTwo, "1", pay)
	b.want(409, PathAction, gidTwo, "01", Move{Account: 0, Delta: -1})
	b.want(409, PathTry, gidTwo, "2", Move{Account: 1, Delta: 1, Refuse: true})
	books, effects := b.books()
	if books.Accounts[1] != (Account{Balance: 70}) || books.Accounts[2] != (Account{Balance: 130}) {
		t.Errorf("at the end: %+v", books.Accounts)
	}
	want := []string{"action 01 1", "compensate 01 1", "try 1 1", "try 2 1", "confirm 1 1", "confirm 2 1", "try 1 1", "cancel 1 1"}
	if !slices.Equal(effects, want) {
		t.Errorf("effects %v, want %v", effects, want)
	}
	if m := books.Mistakes("bank-a", b.config); len(m) > 0 {
		t.Error(m)
	}
}

// TestAnswersAreDroppedOnce: the work is done, and a repeat hears of it. Behind the
// fence it is done once; without it, twice, and the books say so.
func TestAnswersAreDroppedOnce(t *testing.T) {
	for _, unfenced := range []bool{false, true} {
		b := newTestBank(t, func(c *Config) { c.DropAnswers, c.Unfenced = true, unfenced })
		pay := Move{Key: "k", Account: 1, Delta: -30}
		b.want(0, PathAction, gidOne, "01", pay)
		b.want(200, PathAction, gidOne, "01", pay)
		_, effects := b.books()
		want := "action 01 1"
		if unfenced {
			want = "action 01 2"
		}
		if !slices.Equal(effects, []string{want}) {
			t.Errorf("unfenced %t: effects %v, want %s", unfenced, effects, want)
		}
	}
}

// TestMistakesAreFound verifies the verifier.
func TestMistakesAreFound(t *testing.T) {
	b := newTestBank(t, nil)
	b.want(200, PathTry, gidOne, "1", Move{Account: 1, Delta: -30})
	books, _ := b.books()
	if m := books.Mistakes("bank-a", b.config); len(m) != 1 || !strings.Contains(m[0], "30 held") {
		t.Errorf("a try that did not end: %v", m)
	}
	b.want(200, PathConfirm, gidOne, "1", Move{Account: 1, Delta: -30})
	books, _ = b.books()
	books.Accounts[2] = Account{Balance: 101}
	books.Accounts[9] = Account{}
	if m := books.Mistakes("bank-a", b.config); len(m) != 2 {
		t.Errorf("a coin and an account too many: %v", m)
	}
}

// TestProcessConfigSurvivesItsCommandLine.
func TestProcessConfigSurvivesItsCommandLine(t *testing.T) {
	c := ProcessConfig{Listen: "127.0.0.1:1", Seeds: []string{"a:1", "b:2"}, Config: Config{
		Resource: "bank-b", Spec: bankstore.Spec{Kind: bankstore.Postgres, DSN: "postgres://u:secret@h/d"}, Prefix: "p_", Accounts: 9, Empty: 2, Opening: 7, DropAnswers: true,
	}}
	args, env, err := c.Arguments()
	if err != nil || args[0] != Command || strings.Contains(strings.Join(args, " "), "secret") {
		t.Fatalf("%v %v", args, err)
	}
	got, err := ParseProcess(args[1:], func(name string) string {
		value, _ := strings.CutPrefix(env[0], name+"=")
		return value
	})
	if err != nil || got.Spec != c.Spec || got.Total() != c.Total() || got.Listen != c.Listen || !slices.Equal(got.Seeds, c.Seeds) || !got.DropAnswers {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range [][]string{nil, {"{"}, {"{}", "x"}} {
		if _, err := ParseProcess(bad, func(string) string { return "" }); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// Seata's TCC had three faults until it got a fence, and its users still meet them where
// the fence is off: a cancel of what was never tried gave back what was never held, a try
// that came after it held for ever (a suspension), and a repeated confirm took twice.
func TestHistory_SeataTCC_EmptyRollbackSuspensionAndRepeat(t *testing.T) {
	pay := Move{Account: 1, Delta: -30}
	story := func(b *testBank) Books {
		b.call(PathCancel, gidOne, "1", pay) // empty
		b.call(PathTry, gidOne, "1", pay)    // late
		b.call(PathTry, gidTwo, "1", pay)
		b.call(PathConfirm, gidTwo, "1", pay)
		b.call(PathConfirm, gidTwo, "1", pay) // repeated
		books, _ := b.books()
		return books
	}
	if got := story(newTestBank(t, nil)).Accounts[1]; got != (Account{Balance: 70}) {
		t.Errorf("behind the fence: %+v, want one payment of 30", got)
	}
	if got := story(newTestBank(t, func(c *Config) { c.Unfenced = true })).Accounts[1]; got == (Account{Balance: 70}) {
		t.Error("without the fence it is right, too: the story shows nothing")
	}
}
