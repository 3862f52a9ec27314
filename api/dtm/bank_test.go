package dtm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/quorate/quorate/api/dtm/dtmpb"
	"github.com/quorate/quorate/internal/realcluster"
	"github.com/quorate/quorate/internal/testkit"
)

// patience bounds each wait.
const patience = 20 * time.Second

// called is one call of a branch, as DTM's SDKs read it.
type called struct {
	path, method, gid, transType, branch, op, body string
	header                                         http.Header
	md                                             metadata.MD
}

func (c called) String() string { return c.branch + " " + c.op + " " + c.path }

// answer is a branch's: a status over HTTP or gRPC, and a body or message.
type answer struct {
	http int
	grpc codes.Code
	text string
}

var (
	yes     = answer{200, codes.OK, `{"dtm_result":"SUCCESS"}`}
	no      = answer{409, codes.Aborted, "not enough FAILURE"}
	working = answer{425, codes.FailedPrecondition, "ONGOING"}
	broken  = answer{500, codes.Internal, "out of order"}
)

// bank is the branches, over HTTP and gRPC.
type bank struct {
	http, grpc string

	mu      sync.Mutex
	calls   []called
	answers map[string][]answer // by path and op, the last of which stays
}

func newBank(t *testing.T) *bank {
	t.Helper()
	b := &bank{answers: make(map[string][]answer)}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		q := req.URL.Query()
		a := b.call(called{
			path: req.URL.Path, method: req.Method, gid: q.Get("gid"), transType: q.Get("trans_type"), branch: q.Get("branch_id"), op: q.Get("op"),
			body: string(body), header: req.Header,
		})
		w.WriteHeader(a.http)
		_, _ = io.WriteString(w, a.text)
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rpc := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		var in wrapperspb.StringValue
		if err := stream.RecvMsg(&in); err != nil {
			return err
		}
		method, _ := grpc.MethodFromServerStream(stream)
		md, _ := metadata.FromIncomingContext(stream.Context())
		get := func(name string) string { return strings.Join(md.Get("dtm-"+name), ",") }
		a := b.call(called{
			path: method, method: "gRPC", gid: get("gid"), transType: get("trans_type"), branch: get("branch_id"), op: get("op"), body: in.GetValue(), md: md,
		})
		if a.grpc != codes.OK {
			return status.Error(a.grpc, a.text)
		}
		return stream.SendMsg(&emptypb.Empty{})
	}))
	go func() { _ = rpc.Serve(l) }()
	b.http, b.grpc = web.URL, l.Addr().String()
	t.Cleanup(func() {
		web.Close()
		rpc.Stop()
	})
	return b
}

// answer sets what a path's operation answers, one after the other.
func (b *bank) answer(key string, answers ...answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers[key] = answers
}

func (b *bank) call(c called) answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, c)
	key := c.path + " " + c.op
	list := b.answers[key]
	if len(list) == 0 {
		return yes
	}
	if len(list) > 1 {
		b.answers[key] = list[1:]
	}
	return list[0]
}

// of are the calls for a gid, as text.
func (b *bank) of(gid string) (list []string) {
	for _, c := range b.all(gid) {
		list = append(list, c.String())
	}
	return list
}

func (b *bank) all(gid string) (list []called) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.calls {
		if c.gid == gid {
			list = append(list, c)
		}
	}
	return list
}

// world is a cluster of three, of which the first leads, that is asked over HTTP
// and gRPC through the second.
type world struct {
	t       *testing.T
	cluster *realcluster.Cluster
	bank    *bank
	through int
	web     *http.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel() // they wait more than they work
	w := &world{t: t, bank: newBank(t), through: 1, web: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(w.web.CloseIdleConnections)
	w.cluster = realcluster.New(t)
	return w
}

func (w *world) dtm() dtmpb.DtmClient {
	w.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+w.cluster.Addresses()[w.through], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return dtmpb.NewDtmClient(conn)
}

// later lets the cluster's clock go on, and a new term look at what is due then.
func (w *world) later(d time.Duration) {
	w.cluster.Advance(d)
	w.cluster.Lead(0)
}

type object = map[string]any

// do makes a call; it may be called from any goroutine.
func (w *world) do(method, at string, body any) (code int, text string, err error) {
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, "", err
		}
		sent = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+w.cluster.HTTP(w.through)+at, sent)
	if err != nil {
		return 0, "", err
	}
	reply, err := w.web.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer reply.Body.Close()
	b, err := io.ReadAll(reply.Body)
	return reply.StatusCode, strings.TrimSpace(string(b)), err
}

// post makes a call that must answer code, and hold the text.
func (w *world) post(name string, body any, code int, part string) string {
	w.t.Helper()
	return w.want("POST", "/api/dtmsvr/"+name, body, code, part)
}

func (w *world) get(name string, code int, part string, pairs ...string) string {
	w.t.Helper()
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return w.want("GET", "/api/dtmsvr/"+name+"?"+q.Encode(), nil, code, part)
}

func (w *world) want(method, at string, body any, code int, part string) string {
	w.t.Helper()
	got, text, err := w.do(method, at, body)
	if err != nil || got != code || !strings.Contains(text, part) {
		w.t.Fatalf("%s %s %v answered %d %s (%v), want %d with %q", method, at, body, got, text, err, code, part)
	}
	return text
}

const success = `{"dtm_result":"SUCCESS"}`

// shown is what query answers.
type shown struct {
	Transaction *struct {
		Gid, Status, Protocol, Result, Options string
		TransType                              string `json:"trans_type"`
		RollbackReason                         string `json:"rollback_reason"`
		CustomData                             string `json:"custom_data"`
		QueryPrepared                          string `json:"query_prepared"`
		CreateTime                             string `json:"create_time"`
		FinishTime                             string `json:"finish_time"`
		RollbackTime                           string `json:"rollback_time"`
		NextCronTime                           string `json:"next_cron_time"`
	}
	Branches []struct {
		URL, Op, Status string
		BranchID        string `json:"branch_id"`
		BinData         []byte `json:"bin_data"`
	}
	Progresses []struct {
		Op, Status string
		BranchID   string `json:"branch_id"`
		BinData    []byte `json:"bin_data"`
	}
}

// query shows a transaction; it must stand.
func (w *world) query(gid string) (s shown) {
	w.t.Helper()
	text := w.get("query", 200, `"transaction":{`, "gid", gid)
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		w.t.Fatalf("%v: %s", err, text)
	}
	return s
}

// rows are the branches as "id op status".
func (s shown) rows() (rows []string) {
	for _, b := range s.Branches {
		rows = append(rows, fmt.Sprintf("%s %s %s", b.BranchID, b.Op, b.Status))
	}
	return rows
}

// becomes waits until a transaction has a status.
func (w *world) becomes(gid, status string) shown {
	w.t.Helper()
	var s shown
	testkit.EventuallyNoError(w.t, patience, func() error {
		if s = w.query(gid); s.Transaction.Status != status {
			return fmt.Errorf("%s is %s; calls: %s", gid, s.Transaction.Status, strings.Join(w.bank.of(gid), ", "))
		}
		return nil
	}, "%s did not become %s", gid, status)
	return s
}

// saw waits until a gid's calls hold one.
func (w *world) saw(gid, call string) {
	w.t.Helper()
	testkit.Eventually(w.t, patience, func() bool { return slices.Contains(w.bank.of(gid), call) }, "%s: no call %s", gid, call)
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got  %s\n want %s", what, strings.Join(got, " | "), strings.Join(want, " | "))
	}
}

// saga is a submit's body: each step's action is at /NAME, its compensation too.
func (w *world) saga(gid string, more object, names ...string) object {
	steps, payloads := []object{}, []string{}
	for _, name := range names {
		steps = append(steps, object{"action": w.bank.http + "/" + name, "compensate": w.bank.http + "/" + name})
		payloads = append(payloads, `{"to":"`+name+`"}`)
	}
	body := object{"gid": gid, "trans_type": "saga", "steps": steps, "payloads": payloads, "protocol": ""}
	for k, v := range more {
		body[k] = v
	}
	return body
}
