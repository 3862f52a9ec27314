package dtm_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// tcc registers a branch whose confirm and cancel are at /NAME.
func (w *world) register(gid, id, name string) object {
	return object{
		"gid": gid, "trans_type": "tcc", "branch_id": id, "data": `{"to":"` + name + `"}`,
		"confirm": w.bank.http + "/" + name, "cancel": w.bank.http + "/" + name,
	}
}

// TestTCCConfirm: register, submit, confirm; then query shows cancel and confirm
// of each, in the order of registering.
func TestTCCConfirm(t *testing.T) {
	w := newWorld(t)
	w.post("prepare", object{"gid": "g", "trans_type": "tcc"}, 200, success)
	w.post("prepare", object{"gid": "g", "trans_type": "tcc"}, 200, success) // again: the same
	w.post("registerBranch", w.register("g", "02", "b"), 200, success)
	w.post("registerTccBranch", w.register("g", "0201", "nested"), 200, success)
	w.post("registerBranch", w.register("g", "01", "a"), 200, success)
	w.post("registerBranch", w.register("g", "01", "a"), 200, success) // again: the same
	w.post("registerBranch", w.register("g", "01", "other"), 500, "UniqueKeyConflict")
	equal(t, "rows", w.query("g").rows(), []string{
		"02 cancel prepared", "02 confirm prepared", "0201 cancel prepared", "0201 confirm prepared", "01 cancel prepared", "01 confirm prepared",
	})
	w.post("submit", object{"gid": "g", "trans_type": "tcc", "wait_result": true}, 200, success)
	calls := w.bank.of("g")
	slices.Sort(calls)
	equal(t, "calls", calls, []string{"01 confirm /a", "02 confirm /b", "0201 confirm /nested"})
	if s := w.query("g"); s.Transaction.Status != "succeed" || s.rows()[1] != "02 confirm succeed" || s.rows()[0] != "02 cancel prepared" {
		t.Errorf("shown as %+v", s)
	}
	for _, c := range w.bank.all("g") {
		if c.method != "POST" || c.transType != "tcc" || !strings.HasPrefix(c.body, `{"to":"`) {
			t.Errorf("call %+v", c)
		}
	}
	w.post("submit", object{"gid": "g", "trans_type": "tcc"}, 200, success)
	w.post("registerBranch", w.register("g", "03", "late"), 409, "no trans with gid: g status: prepared found FAILURE")
	w.post("registerBranch", w.register("nobody", "01", "a"), 409, "no trans with gid: nobody status: prepared found FAILURE")
	w.post("abort", object{"gid": "g", "trans_type": "tcc"}, 409, "trans type: 'tcc' current status 'succeed', cannot abort. FAILURE")
	w.post("prepare", object{"gid": "g", "trans_type": "tcc"}, 409, "current status 'succeed', cannot prepare. FAILURE")
	w.post("abort", object{"gid": "nobody", "trans_type": "tcc"}, 500, "no TransGlobal with gid: nobody found")
	w.post("submit", object{"gid": "nobody", "trans_type": "tcc"}, 500, "no TransGlobal with gid: nobody found")
	w.post("registerBranch", object{"gid": "g", "trans_type": "saga", "branch_id": "01"}, 500, "unknow trans type: saga")
	w.post("submit", w.saga("g", nil, "a"), 500, "of type tcc, not saga")
}

// TestTCCCancel: an abort, with its reason; a cancel that fails is repeated, and
// what it says is no failure of anything.
func TestTCCCancel(t *testing.T) {
	w := newWorld(t)
	w.bank.answer("/a cancel", no, working, yes)
	w.post("prepare", object{"gid": "g", "trans_type": "tcc", "retry_interval": 1}, 200, success)
	w.post("registerBranch", w.register("g", "01", "a"), 200, success)
	w.post("abort", object{"gid": "g", "trans_type": "tcc", "rollback_reason": "changed my mind"}, 200, success)
	s := w.becomes("g", "failed")
	equal(t, "calls", w.bank.of("g"), []string{"01 cancel /a", "01 cancel /a", "01 cancel /a"})
	equal(t, "rows", s.rows(), []string{"01 cancel succeed", "01 confirm prepared"})
	if s.Transaction.RollbackReason != "changed my mind" {
		t.Errorf("reason %q", s.Transaction.RollbackReason)
	}
	w.post("abort", object{"gid": "g", "trans_type": "tcc"}, 200, success)
	w.post("submit", object{"gid": "g", "trans_type": "tcc"}, 409, "current status 'failed', cannot sumbmit. FAILURE")
}

// TestTCCTimeout: prepared for longer than 35 s, or than its own time.
func TestTCCTimeout(t *testing.T) {
	w := newWorld(t)
	w.post("prepare", object{"gid": "g", "trans_type": "tcc"}, 200, success)
	w.post("prepare", object{"gid": "h", "trans_type": "tcc", "timeout_to_fail": 100}, 200, success)
	w.post("registerBranch", w.register("g", "01", "a"), 200, success)
	w.later(30 * time.Second)
	if s := w.query("g"); s.Transaction.Status != "prepared" {
		t.Fatalf("%+v", s.Transaction)
	}
	w.later(6 * time.Second)
	w.becomes("g", "failed")
	w.saw("g", "01 cancel /a")
	if s := w.query("h"); s.Transaction.Status != "prepared" {
		t.Fatalf("%+v", s.Transaction)
	}
}

// TestXA: the URL of a branch is told its end by POST, in DTM's words.
func TestXA(t *testing.T) {
	w := newWorld(t)
	for gid, end := range map[string]string{"c": "commit", "r": "rollback"} {
		w.post("prepare", object{"gid": gid, "trans_type": "xa"}, 200, success)
		for _, id := range []string{"02", "01"} {
			w.post("registerXaBranch", object{"gid": gid, "trans_type": "xa", "branch_id": id, "url": w.bank.http + "/xa" + id}, 200, success)
		}
		call := "submit"
		if end == "rollback" {
			call = "abort"
		}
		w.post(call, object{"gid": gid, "trans_type": "xa"}, 200, success)
		w.saw(gid, "01 "+end+" /xa01")
		w.saw(gid, "02 "+end+" /xa02")
		status := map[string]string{"commit": "succeed", "rollback": "failed"}[end]
		rows := []string{"02 rollback prepared", "02 commit succeed", "01 rollback prepared", "01 commit succeed"}
		if end == "rollback" {
			rows = []string{"02 rollback succeed", "02 commit prepared", "01 rollback succeed", "01 commit prepared"}
		}
		equal(t, "rows", w.becomes(gid, status).rows(), rows)
		for _, c := range w.bank.all(gid) {
			if c.method != "POST" || c.body != "" || c.transType != "xa" {
				t.Errorf("call %+v", c)
			}
		}
	}
}

// TestXARoom: DTM's SDKs make the xid gid-branch, in 64 bytes.
func TestXARoom(t *testing.T) {
	w := newWorld(t)
	w.post("prepare", object{"gid": strings.Repeat("g", 62), "trans_type": "xa"}, 500, "64 bytes")
	long := strings.Repeat("g", 61)
	w.post("prepare", object{"gid": long, "trans_type": "xa"}, 200, success)
	w.post("registerBranch", object{"gid": long, "trans_type": "xa", "branch_id": "01", "url": w.bank.http + "/xa"}, 200, success)
	w.post("registerBranch", object{"gid": long, "trans_type": "xa", "branch_id": "0101", "url": w.bank.http + "/xa"}, 500, "no room")
}

// workflowOf is a prepareWorkflow's body.
func (w *world) workflowOf(gid, name, data string) object {
	custom, _ := json.Marshal(object{"name": name, "data": []byte(data)})
	return object{"gid": gid, "trans_type": "workflow", "query_prepared": w.bank.http + "/resume", "custom_data": string(custom), "retry_interval": 5}
}

func (w *world) prepareWorkflow(body object) (s shown) {
	w.t.Helper()
	if err := json.Unmarshal([]byte(w.post("prepareWorkflow", body, 200, `"progresses":`)), &s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// TestWorkflow: progress is kept, shown again, and ends with a result.
func TestWorkflow(t *testing.T) {
	w := newWorld(t)
	body := w.workflowOf("g", "transfer", "30 euros")
	if s := w.prepareWorkflow(body); s.Transaction.Status != "prepared" || len(s.Progresses) != 0 || s.Transaction.CustomData != body["custom_data"] {
		t.Errorf("begun as %+v", s.Transaction)
	}
	step := func(id, op, status, data string) object {
		return object{"gid": "g", "trans_type": "workflow", "branch_id": id, "op": op, "status": status, "data": data}
	}
	w.post("registerBranch", step("01", "action", "succeed", "made 01"), 200, success)
	w.post("registerBranch", step("01", "action", "succeed", "made 01"), 200, success)
	w.post("registerBranch", step("01", "action", "succeed", "made otherwise"), 500, "UniqueKeyConflict")
	w.post("registerBranch", step("02", "action", "failed", "no FAILURE"), 200, success)
	w.post("registerBranch", step("01", "rollback", "succeed", ""), 200, success)
	w.post("registerBranch", step("03", "action", "maybe", ""), 500, "succeed or failed")
	// The code runs elsewhere now.
	body["query_prepared"] = w.bank.http + "/elsewhere"
	s := w.prepareWorkflow(body)
	var progress []string
	for _, p := range s.Progresses {
		progress = append(progress, p.BranchID+" "+p.Op+" "+p.Status+" "+string(p.BinData))
	}
	equal(t, "progress", progress, []string{"01 action succeed made 01", "02 action failed no FAILURE", "01 rollback succeed "})
	end := object{"gid": "g", "trans_type": "workflow", "req_extra": object{"status": "succeed", "result": "ZG9uZQ==", "rollback_reason": ""}}
	w.post("submit", end, 200, success)
	w.post("submit", end, 200, success)
	if s := w.prepareWorkflow(body); s.Transaction.Status != "succeed" || s.Transaction.Result != "ZG9uZQ==" {
		t.Errorf("ended as %+v", s.Transaction)
	}
	w.post("registerBranch", step("04", "action", "succeed", ""), 409, "no trans with gid")
}

// TestWorkflowFails: the reason is kept.
func TestWorkflowFails(t *testing.T) {
	w := newWorld(t)
	w.prepareWorkflow(w.workflowOf("g", "transfer", ""))
	w.post("submit", object{"gid": "g", "trans_type": "workflow", "req_extra": object{"status": "failed", "rollback_reason": "no money FAILURE"}}, 200, success)
	if s := w.prepareWorkflow(w.workflowOf("g", "transfer", "")); s.Transaction.Status != "failed" || s.Transaction.RollbackReason != "no money FAILURE" {
		t.Errorf("ended as %+v", s.Transaction)
	}
	w.post("submit", object{"gid": "g", "trans_type": "workflow", "req_extra": object{"status": "succeed"}}, 409, "cannot sumbmit. FAILURE")
	w.post("submit", object{"gid": "nobody", "trans_type": "workflow", "req_extra": object{"status": "succeed"}}, 500, "no TransGlobal")
	w.post("prepareWorkflow", object{"gid": "g", "trans_type": "tcc"}, 500, "unknow trans type: tcc")
	// DTM's Go client takes any object for a transaction: an error must be none.
	w.post("prepareWorkflow", object{"gid": "", "trans_type": "workflow"}, 500, `"transaction":"none"`)
}

// TestWorkflowResumes: when its code is silent, it is called, and again while the
// transaction has not ended.
func TestWorkflowResumes(t *testing.T) {
	w := newWorld(t)
	w.bank.answer("/resume transfer", broken, yes)
	w.prepareWorkflow(w.workflowOf("g", "transfer", "30 euros"))
	w.later(4 * time.Second)
	if calls := w.bank.of("g"); len(calls) != 0 {
		t.Fatalf("called too early: %v", calls)
	}
	w.later(2 * time.Second)
	w.saw("g", "00 transfer /resume")
	c := w.bank.all("g")[0]
	if c.method != "POST" || c.body != "30 euros" || c.transType != "workflow" {
		t.Errorf("call %+v", c)
	}
	w.post("resetNextCronTime", object{"gid": "g"}, 200, success)
	w.post("submit", object{"gid": "g", "trans_type": "workflow", "req_extra": object{"status": "succeed"}}, 200, success)
	w.becomes("g", "succeed")
}
