package main

import (
	"errors"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/dtm-labs/client/workflow"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// registerWorkflows registers the code by its names, once a process, as every
// process that may be called back does.
func (b *bank) registerWorkflows() {
	code := func(second string, crashes, rpc bool) workflow.WfFunc2 {
		return func(wf *workflow.Workflow, data []byte) ([]byte, error) {
			for _, account := range []string{"out", second} {
				wf.NewBranch().OnRollback(func(bb *dtmcli.BranchBarrier) error { return b.operate(bb, account) })
				if err := b.step(wf, account, rpc); err != nil {
					return nil, err
				}
				if crashes && b.crash(wf.Gid) {
					return nil, errors.New("this process has died, as far as anybody can see")
				}
			}
			return []byte("moved by " + string(data)), nil
		}
	}
	soon := func(wf *workflow.Workflow) { wf.RetryInterval = 1 }
	for name, f := range map[string]workflow.WfFunc2{
		"transfer": code("in", false, false), "transfer-grpc": code("in", false, true),
		"crash": code("in", true, false), "crash-grpc": code("in", true, true),
		"refuse": code("refuse", false, false),
	} {
		if err := workflow.Register2(name, f, soon); err != nil {
			panic(err)
		}
	}
}

// step calls an account; what it answers is recorded by DTM's client.
func (b *bank) step(wf *workflow.Workflow, account string, rpc bool) error {
	if !rpc {
		_, err := wf.NewRequest().SetBody(map[string]int{"amount": 30}).Post(b.http + "/account/" + account)
		return err
	}
	conn, err := grpc.Dial(b.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUnaryInterceptor(workflow.Interceptor))
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Invoke(wf.Context, "/bank.Bank/Account", wrapperspb.String(account), &emptypb.Empty{})
}

// crash is true once for each workflow.
func (b *bank) crash(gid string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := !b.crashed[gid]
	b.crashed[gid] = true
	return first
}

// initWorkflowGRPC says where DTM is. DTM's client registers its service each
// time, so it is given a server that nobody calls; the bank's has it already.
func initWorkflowGRPC(dtm, callback string) { workflow.InitGrpc(dtm, callback, grpc.NewServer()) }
