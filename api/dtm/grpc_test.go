package dtm_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/quorate/quorate/api/dtm/dtmpb"
)

// request is a saga's or a message's whose actions are at /bank.Bank/NAME.
func (w *world) request(gid, transType string, names ...string) *dtmpb.DtmRequest {
	r := &dtmpb.DtmRequest{Gid: gid, TransType: transType, TransOptions: &dtmpb.DtmTransOptions{WaitResult: true, RetryInterval: 1}}
	var steps []map[string]string
	for _, name := range names {
		url := w.bank.grpc + "/bank.Bank/" + name
		if strings.HasPrefix(name, "http") {
			url = name
		}
		step := map[string]string{"action": url}
		if transType == "saga" {
			step["compensate"] = url
		}
		steps = append(steps, step)
		payload, _ := proto.Marshal(wrapperspb.String("to " + name))
		r.BinPayloads = append(r.BinPayloads, payload)
	}
	text, _ := json.Marshal(steps)
	r.Steps = string(text)
	return r
}

func wantCode(t *testing.T, what string, err error, code codes.Code, part string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), part) {
		t.Errorf("%s: %v, want %v with %q", what, err, code, part)
	}
}

// TestGRPCSaga: raw messages, DTM's metadata, and a step over HTTP among them.
func TestGRPCSaga(t *testing.T) {
	w := newWorld(t)
	c, ctx := w.dtm(), t.Context()
	reply, err := c.NewGid(ctx, &emptypb.Empty{})
	if err != nil || len(reply.GetGid()) != 22 {
		t.Fatalf("NewGid: %v %v", reply, err)
	}
	gid := reply.GetGid()
	r := w.request(gid, "saga", "Out", w.bank.http+"/in", "Third")
	r.TransOptions.BranchHeaders = map[string]string{"x-tenant": "blue"}
	if _, err := c.Submit(ctx, r); err != nil {
		t.Fatal(err)
	}
	equal(t, "calls", w.bank.of(gid), []string{"01 action /bank.Bank/Out", "02 action /in", "03 action /bank.Bank/Third"})
	first := w.bank.all(gid)[0]
	if first.body != "to Out" || first.transType != "saga" || strings.Join(first.md.Get("x-tenant"), ",") != "blue" || len(first.md.Get("dtm-dtm")) != 1 {
		t.Errorf("call %+v", first)
	}
	s := w.becomes(gid, "succeed")
	if s.Transaction.Protocol != "grpc" || s.Branches[1].URL != w.bank.grpc+"/bank.Bank/Out" {
		t.Errorf("shown as %+v", s)
	}
	w.bank.answer("/bank.Bank/In action", no)
	_, err = c.Submit(ctx, w.request("refused", "saga", "Out", "In"))
	wantCode(t, "refused", err, codes.Aborted, "not enough FAILURE")
	equal(t, "calls", w.bank.of("refused"), []string{
		"01 action /bank.Bank/Out", "02 action /bank.Bank/In", "02 compensate /bank.Bank/In", "01 compensate /bank.Bank/Out",
	})
	w.bank.answer("/bank.Bank/In action", working)
	running := w.request("running", "saga", "In")
	running.TransOptions.RequestTimeout = 1
	_, err = c.Submit(ctx, running)
	wantCode(t, "running", err, codes.FailedPrecondition, "ONGOING")
}

// TestGRPCTCCAndXA, with their errors.
func TestGRPCTCCAndXA(t *testing.T) {
	w := newWorld(t)
	c, ctx := w.dtm(), t.Context()
	for _, transType := range []string{"tcc", "xa"} {
		r := &dtmpb.DtmRequest{Gid: transType, TransType: transType}
		if _, err := c.Prepare(ctx, r); err != nil {
			t.Fatal(err)
		}
		url := w.bank.grpc + "/bank.Bank/A"
		payload, _ := proto.Marshal(wrapperspb.String("thirty"))
		branch := &dtmpb.DtmBranchRequest{
			Gid: transType, TransType: transType, BranchID: "01", BusiPayload: payload, Data: map[string]string{"confirm": url, "cancel": url, "url": url},
		}
		if _, err := c.RegisterBranch(ctx, branch); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Submit(ctx, r); err != nil {
			t.Fatal(err)
		}
		w.becomes(transType, "succeed")
		_, err := c.RegisterBranch(ctx, branch)
		wantCode(t, "late", err, codes.Aborted, "status: prepared found FAILURE")
		_, err = c.Abort(ctx, r)
		wantCode(t, "late abort", err, codes.Aborted, "cannot abort. FAILURE")
		_, err = c.Abort(ctx, &dtmpb.DtmRequest{Gid: "nobody", TransType: transType})
		wantCode(t, "unknown", err, codes.Internal, "no TransGlobal with gid: nobody found")
	}
	equal(t, "calls", append(w.bank.of("tcc"), w.bank.of("xa")...), []string{"01 confirm /bank.Bank/A", "01 commit /bank.Bank/A"})
	if body := w.bank.all("tcc")[0].body; body != "thirty" {
		t.Errorf("confirm's message is %q", body)
	}
}

// TestGRPCMessageAndTopics.
func TestGRPCMessageAndTopics(t *testing.T) {
	w := newWorld(t)
	c, ctx := w.dtm(), t.Context()
	r := w.request("asked", "msg", "A")
	r.QueryPrepared, r.TransOptions.TimeoutToFail = w.bank.grpc+"/bank.Bank/Asked", 20
	if _, err := c.Prepare(ctx, r); err != nil {
		t.Fatal(err)
	}
	w.later(21 * time.Second)
	w.becomes("asked", "succeed")
	equal(t, "calls", w.bank.of("asked"), []string{"00 msg /bank.Bank/Asked", "01 action /bank.Bank/A"})

	url := w.bank.grpc + "/bank.Bank/Heard"
	topic := &dtmpb.DtmTopicRequest{Topic: "news", URL: url, Remark: "x"}
	if _, err := c.Subscribe(ctx, topic); err != nil {
		t.Fatal(err)
	}
	w.get("queryKV", 200, `[{\"url\":\"`+url+`\",\"remark\":\"x\"}]`, "cat", "topics", "key", "news")
	r = w.request("told", "msg", "x")
	r.Steps = `[{"action":"topic://news"}]`
	if _, err := c.Submit(ctx, r); err != nil {
		t.Fatal(err)
	}
	equal(t, "calls", w.bank.of("told"), []string{"01 action /bank.Bank/Heard"})
	if _, err := c.Unsubscribe(ctx, topic); err != nil {
		t.Fatal(err)
	}
	_, err := c.Unsubscribe(ctx, topic)
	wantCode(t, "unsubscribed twice", err, codes.Internal, "this topic is empty")
	if _, err := c.DeleteTopic(ctx, topic); err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteTopic(ctx, topic)
	wantCode(t, "deleted twice", err, codes.Internal, "storage: NotFound")
}

// TestGRPCWorkflow: its result comes back, which DTM's server forgets over gRPC.
func TestGRPCWorkflow(t *testing.T) {
	w := newWorld(t)
	c, ctx := w.dtm(), t.Context()
	r := &dtmpb.DtmRequest{
		Gid: "g", TransType: "workflow", QueryPrepared: w.bank.grpc + "/workflow.Workflow/Execute", CustomedData: `{"name":"move","data":"MzA="}`,
		TransOptions: &dtmpb.DtmTransOptions{RetryInterval: 5},
	}
	if reply, err := c.PrepareWorkflow(ctx, r); err != nil || reply.GetTransaction().GetStatus() != "prepared" {
		t.Fatalf("%v %v", reply, err)
	}
	w.later(6 * time.Second)
	w.saw("g", "00 move /workflow.Workflow/Execute")
	if body := w.bank.all("g")[0].body; body != "30" { // WorkflowData's one field is where StringValue's is
		t.Errorf("resumed with %q", body)
	}
	if _, err := c.RegisterBranch(ctx, &dtmpb.DtmBranchRequest{
		Gid: "g", TransType: "workflow", BranchID: "01", BusiPayload: []byte{0, 1, 255}, Data: map[string]string{"op": "action", "status": "succeed"},
	}); err != nil {
		t.Fatal(err)
	}
	reply, err := c.PrepareWorkflow(ctx, r)
	if p := reply.GetProgresses(); err != nil || len(p) != 1 || string(p[0].GetBinData()) != "\x00\x01\xff" || p[0].GetOp() != "action" || p[0].GetStatus() != "succeed" || p[0].GetBranchID() != "01" {
		t.Errorf("%v %v", reply, err)
	}
	end := &dtmpb.DtmRequest{Gid: "g", TransType: "workflow", ReqExtra: map[string]string{"status": "succeed", "result": "ZG9uZQ=="}}
	if _, err := c.Submit(ctx, end); err != nil {
		t.Fatal(err)
	}
	if reply, err := c.PrepareWorkflow(ctx, r); err != nil || reply.GetTransaction().GetStatus() != "succeed" || reply.GetTransaction().GetResult() != "ZG9uZQ==" {
		t.Errorf("%v %v", reply, err)
	}
}
