package dtm_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testkit"
)

// scene is what an SDK and the coordinator said to each other, and what the
// coordinator called. examples/dtm/others keeps the recorded ones as they came; the
// others are written by hand from the protocol's facts, and no SDK has sent them.
type scene struct {
	SDK       string
	Recorded  bool
	Ends      string
	Exchanges []exchange
	Calls     []string
}

type exchange struct {
	Method, Path, Body string
	Header             map[string]string
	Status             int
	Answer             string
}

// TestOtherSDKs replays the scenes: each request as it was sent, byte for byte but
// for the gid and the branches' address, and each answer as the SDK liked it.
func TestOtherSDKs(t *testing.T) {
	files, err := filepath.Glob("testdata/sdk/*/*.json")
	if err != nil || len(files) < 12 {
		t.Fatalf("%d scenes: %v", len(files), err)
	}
	w := newWorld(t)
	for _, path := range []string{"/refuse action", "/refuse try"} {
		w.bank.answer(path, no)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(strings.TrimPrefix(file, "testdata/sdk/"), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var s scene
			if err := json.Unmarshal(text, &s); err != nil {
				t.Fatal(err)
			}
			if recorded := !strings.Contains(file, "/facts/"); s.Recorded != recorded || s.SDK == "" {
				t.Errorf("recorded %v of %q does not fit its directory", s.Recorded, s.SDK)
			}
			w.t = t
			w.replay(s, "scene "+filepath.Base(filepath.Dir(file))+" "+filepath.Base(file))
		})
	}
}

func (w *world) replay(s scene, gid string) {
	w.t.Helper()
	names := func() *strings.Replacer { return strings.NewReplacer("{{gid}}", gid, "{{bank}}", w.bank.http) }
	for i, x := range s.Exchanges {
		status, answer := w.send(x, names())
		if strings.HasSuffix(x.Path, "/newGid") {
			var made struct{ Gid string }
			if err := json.Unmarshal([]byte(answer), &made); err != nil || made.Gid == "" {
				w.t.Fatalf("newGid answered %s", answer)
			}
			gid = made.Gid
		}
		if want := names().Replace(x.Answer); status != x.Status || answer != want {
			w.t.Fatalf("exchange %d, %s %s answered\n %d %s, want\n %d %s", i, x.Method, x.Path, status, answer, x.Status, want)
		}
	}
	w.becomes(gid, s.Ends)
	got := func() (list []string) {
		for _, c := range w.bank.all(gid) {
			list = append(list, strings.Join([]string{c.branch, c.op, c.method, c.path, c.body}, " "))
		}
		slices.Sort(list)
		return list
	}
	slices.Sort(s.Calls)
	testkit.Eventually(w.t, patience, func() bool { return len(got()) >= len(s.Calls) }, "the calls are made")
	equal(w.t, "calls", got(), s.Calls)
}

// send makes a request as it was recorded.
func (w *world) send(x exchange, names *strings.Replacer) (status int, answer string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, x.Method, "http://"+w.cluster.HTTP(w.through)+x.Path, strings.NewReader(names.Replace(x.Body)))
	if err != nil {
		w.t.Fatal(err)
	}
	for name, value := range x.Header {
		req.Header.Set(name, value)
	}
	reply, err := w.web.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = reply.Body.Close() }()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply.StatusCode, strings.TrimSpace(string(text))
}
