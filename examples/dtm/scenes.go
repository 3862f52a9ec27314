package main

import (
	"database/sql"
	"fmt"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/dtm-labs/client/dtmgrpc"
	"github.com/dtm-labs/client/workflow"
	"github.com/go-resty/resty/v2"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// scenes is everything that is played, in order.
func scenes() []scene {
	return []scene{
		{
			name: "saga over HTTP", killIn: "in.action", do: sagaHTTP("out", "in"),
			effects: []string{"out.action", "in.action"},
		},
		{
			name: "saga over gRPC", killIn: "in.action", do: sagaGRPC("out", "in"),
			effects: []string{"out.action", "in.action"},
		},
		{
			name: "saga over HTTP, refused", killIn: "out.compensate", do: sagaHTTP("out", "refuse"), fails: true,
			effects: []string{"out.action", "out.compensate"},
		},
		{
			name: "saga over gRPC, refused", killIn: "out.compensate", do: sagaGRPC("out", "refuse"), fails: true,
			effects: []string{"out.action", "out.compensate"},
		},
		{
			name: "TCC over HTTP", killIn: "in.try", do: tccHTTP("out", "in"),
			effects: []string{"out.try", "in.try", "out.confirm", "in.confirm"},
		},
		{
			name: "TCC over gRPC", killIn: "in.try", do: tccGRPC("out", "in"),
			effects: []string{"out.try", "in.try", "out.confirm", "in.confirm"},
		},
		{
			name: "TCC over HTTP, refused", killIn: "out.cancel", do: tccHTTP("out", "refuse"), fails: true,
			effects: []string{"out.try", "out.cancel"},
		},
		{
			name: "TCC over gRPC, refused", killIn: "out.cancel", do: tccGRPC("out", "refuse"), fails: true,
			effects: []string{"out.try", "out.cancel"},
		},
		{name: "XA over HTTP", killIn: "in.action", do: xaHTTP("out", "in"), effects: []string{"out", "in"}},
		{name: "XA over gRPC", killIn: "in.action", do: xaGRPC("Out", "In"), effects: []string{"out", "in"}},
		{name: "XA over HTTP, refused", killIn: "refuse.action", do: xaHTTP("out", "refuse"), fails: true},
		{name: "XA over gRPC, refused", killIn: "refuse.action", do: xaGRPC("Out", "Refuse"), fails: true},
		{
			name: "message over HTTP", killIn: "local", do: messageHTTP(false),
			effects: []string{"local", "in.action", "more.action"},
		},
		{
			name: "message over gRPC", killIn: "local", do: messageGRPC(false),
			effects: []string{"local", "in.action", "more.action"},
		},
		{
			name: "message over HTTP, never submitted", killIn: "query-prepared", do: messageHTTP(true),
			effects: []string{"local", "in.action", "more.action"},
		},
		{
			name: "message over gRPC, never submitted", killIn: "query-prepared", do: messageGRPC(true),
			effects: []string{"local", "in.action", "more.action"},
		},
		{
			name: "workflow over HTTP", killIn: "in.action", do: workflowHTTP("transfer"),
			effects: []string{"out.action", "in.action"},
		},
		{
			name: "workflow over gRPC", killIn: "in.action", do: workflowGRPC("transfer-grpc"),
			effects: []string{"out.action", "in.action"},
		},
		{
			name: "workflow over HTTP, crashed", killIn: "in.action", do: workflowHTTP("crash"),
			effects: []string{"out.action", "in.action"},
		},
		{
			name: "workflow over gRPC, crashed", killIn: "in.action", do: workflowGRPC("crash-grpc"),
			effects: []string{"out.action", "in.action"},
		},
		{
			name: "workflow over HTTP, refused", killIn: "out.rollback", do: workflowHTTP("refuse"), fails: true,
			effects: []string{"out.action", "out.rollback"},
		},
	}
}

func sagaHTTP(accounts ...string) func(*act) error {
	return func(a *act) error {
		saga := dtmcli.NewSaga(a.dtmHTTP, a.gid)
		for _, name := range accounts {
			saga.Add(a.bank.http+"/account/"+name, a.bank.http+"/account/"+name, map[string]int{"amount": 30})
		}
		saga.WaitResult = true
		return saga.Submit()
	}
}

func sagaGRPC(accounts ...string) func(*act) error {
	return func(a *act) error {
		saga := dtmgrpc.NewSagaGrpc(a.dtmGRPC, a.gid)
		for _, name := range accounts {
			saga.Add(a.bank.grpc+"/bank.Bank/Account", a.bank.grpc+"/bank.Bank/Account", wrapperspb.String(name))
		}
		saga.WaitResult = true
		return failureOf(saga.Submit())
	}
}

// failureOf gives a gRPC error DTM's meaning, as its users do.
func failureOf(err error) error { return dtmgrpc.GrpcError2DtmError(err) }

func tccHTTP(accounts ...string) func(*act) error {
	return func(a *act) error {
		return dtmcli.TccGlobalTransaction(a.dtmHTTP, a.gid, func(tcc *dtmcli.Tcc) (*resty.Response, error) {
			for _, name := range accounts {
				url := a.bank.http + "/account/" + name
				if answer, err := tcc.CallBranch(map[string]int{"amount": 30}, url, url, url); err != nil {
					return answer, err
				}
			}
			return nil, nil
		})
	}
}

func tccGRPC(accounts ...string) func(*act) error {
	return func(a *act) error {
		return dtmgrpc.TccGlobalTransaction(a.dtmGRPC, a.gid, func(tcc *dtmgrpc.TccGrpc) error {
			for _, name := range accounts {
				url := a.bank.grpc + "/bank.Bank/Account"
				if err := failureOf(tcc.CallBranch(wrapperspb.String(name), url, url, url, &emptypb.Empty{})); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func xaHTTP(accounts ...string) func(*act) error {
	return func(a *act) error {
		return dtmcli.XaGlobalTransaction(a.dtmHTTP, a.gid, func(xa *dtmcli.Xa) (*resty.Response, error) {
			for _, name := range accounts {
				if answer, err := xa.CallBranch(map[string]int{"amount": 30}, a.bank.http+"/xa/"+name); err != nil {
					return answer, err
				}
			}
			return nil, nil
		})
	}
}

func xaGRPC(methods ...string) func(*act) error {
	return func(a *act) error {
		return dtmgrpc.XaGlobalTransaction(a.dtmGRPC, a.gid, func(xa *dtmgrpc.XaGrpc) error {
			for _, name := range methods {
				err := xa.CallBranch(wrapperspb.String(""), a.bank.grpc+"/bank.Bank/Xa"+name, &emptypb.Empty{})
				if err = failureOf(err); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// local is the initiator's own transaction of a message.
func (a *act) local(tx *sql.Tx) error {
	a.bank.reach("local")
	return effect(tx, a.gid, "local")
}

// messageHTTP submits a message with its local transaction; or dies, as far as
// the coordinator can see, between the two.
func messageHTTP(dies bool) func(*act) error {
	return func(a *act) error {
		msg := dtmcli.NewMsg(a.dtmHTTP, a.gid).
			Add(a.bank.http+"/account/in", map[string]int{"amount": 30}).
			Add(a.bank.http+"/account/more", map[string]int{"amount": 1})
		msg.WaitResult = true
		if !dies {
			return msg.DoAndSubmitDB(a.bank.http+"/query-prepared", a.bank.books.db, a.local)
		}
		msg.TimeoutToFail = 1
		if err := msg.Prepare(a.bank.http + "/query-prepared"); err != nil {
			return err
		}
		return a.commitLocal()
	}
}

func messageGRPC(dies bool) func(*act) error {
	return func(a *act) error {
		msg := dtmgrpc.NewMsgGrpc(a.dtmGRPC, a.gid).
			Add(a.bank.grpc+"/bank.Bank/Account", wrapperspb.String("in")).
			Add(a.bank.grpc+"/bank.Bank/Account", wrapperspb.String("more"))
		msg.WaitResult = true
		if !dies {
			return failureOf(msg.DoAndSubmitDB(a.bank.grpc+"/bank.Bank/QueryPrepared", a.bank.books.db, a.local))
		}
		msg.TimeoutToFail = 1
		if err := msg.Prepare(a.bank.grpc + "/bank.Bank/QueryPrepared"); err != nil {
			return err
		}
		return a.commitLocal()
	}
}

func (a *act) commitLocal() error {
	bb, err := dtmcli.BarrierFrom("msg", a.gid, "00", "msg")
	if err != nil {
		return err
	}
	return bb.CallWithDB(a.bank.books.db, a.local)
}

func workflowHTTP(name string) func(*act) error {
	return func(a *act) error {
		workflow.InitHTTP(a.dtmHTTP, a.bank.http+"/workflow")
		return a.execute(name)
	}
}

func workflowGRPC(name string) func(*act) error {
	return func(a *act) error {
		initWorkflowGRPC(a.dtmGRPC, a.bank.grpc)
		return a.execute(name)
	}
}

func (a *act) execute(name string) error {
	result, err := workflow.Execute2(name, a.gid, []byte(a.gid))
	if err == nil && string(result) != "moved by "+a.gid {
		return fmt.Errorf("the workflow's result is %q", result)
	}
	return err
}
