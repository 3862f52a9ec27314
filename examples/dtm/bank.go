package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/dtm-labs/client/dtmgrpc"
	"github.com/dtm-labs/client/workflow"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// bank is the participants, over HTTP and gRPC, as DTM's documentation writes
// them: the business within a barrier, the answer by DTM's words. An account
// whose name begins with "refuse" refuses its action or try.
type bank struct {
	books *books
	web   *http.Server
	rpc   *grpc.Server
	http  string // http://host:port
	grpc  string // host:port

	mu      sync.Mutex
	trigger string
	fire    func()
	crashed map[string]bool // workflows that have had their crash
}

func startBank(books *books) (*bank, error) {
	b := &bank{books: books, crashed: make(map[string]bool)}
	mux := http.NewServeMux()
	mux.HandleFunc("/account/{name}", b.account)
	mux.HandleFunc("/xa/{name}", b.xa)
	mux.HandleFunc("/query-prepared", b.queryPrepared)
	mux.HandleFunc("/workflow", func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err == nil {
			err = workflow.ExecuteByQS(req.URL.Query(), body)
		}
		answer(w, err)
	})
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	rpc, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b.http, b.web = "http://"+web.Addr().String(), &http.Server{Handler: mux}
	go func() { _ = b.web.Serve(web) }()
	b.grpc, b.rpc = rpc.Addr().String(), grpc.NewServer()
	b.rpc.RegisterService(b.service(), b)
	workflow.InitGrpc("", b.grpc, b.rpc) // where DTM is, each scene says anew
	b.registerWorkflows()
	go func() { _ = b.rpc.Serve(rpc) }()
	return b, nil
}

func (b *bank) stop() {
	_ = b.web.Close()
	b.rpc.Stop()
}

// before calls fire once, before the effect of that name.
func (b *bank) before(name string, fire func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trigger, b.fire = name, fire
}

// reach is called before each effect.
func (b *bank) reach(name string) {
	b.mu.Lock()
	fire := b.fire
	if b.trigger != name {
		fire = nil
	} else {
		b.fire = nil
	}
	b.mu.Unlock()
	if fire != nil {
		fire()
	}
}

// refuses tells of an operation that says no.
func refuses(name, op string) bool {
	return strings.HasPrefix(name, "refuse") && (op == "action" || op == "try")
}

// account serves a saga's, TCC's, message's or workflow's operation.
func (b *bank) account(w http.ResponseWriter, req *http.Request) {
	bb, err := dtmcli.BarrierFromQuery(req.URL.Query())
	if err == nil {
		err = b.operate(bb, req.PathValue("name"))
	}
	answer(w, err)
}

func (b *bank) operate(bb *dtmcli.BranchBarrier, name string) error {
	b.reach(name + "." + bb.Op)
	if refuses(name, bb.Op) {
		return fmt.Errorf("account %s says no: %w", name, dtmcli.ErrFailure)
	}
	return bb.CallWithDB(b.books.db, func(tx *sql.Tx) error { return effect(tx, bb.Gid, name+"."+bb.Op) })
}

// xa serves a branch in its database's own transaction, and its second phase.
func (b *bank) xa(w http.ResponseWriter, req *http.Request) {
	q, name := req.URL.Query(), req.PathValue("name")
	b.reach(name + "." + q.Get("op"))
	answer(w, dtmcli.XaLocalTransaction(q, b.books.conf, func(db *sql.DB, xa *dtmcli.Xa) error {
		return b.transfer(db, xa.Gid, name)
	}))
}

func (b *bank) transfer(db *sql.DB, gid, name string) error {
	if refuses(name, "action") {
		return fmt.Errorf("account %s says no: %w", name, dtmcli.ErrFailure)
	}
	return effect(db, gid, name)
}

// queryPrepared tells whether a message's local transaction committed.
func (b *bank) queryPrepared(w http.ResponseWriter, req *http.Request) {
	b.reach("query-prepared")
	bb, err := dtmcli.BarrierFromQuery(req.URL.Query())
	if err == nil {
		err = bb.QueryPrepared(b.books.db)
	}
	answer(w, err)
}

// answer is DTM's: 200, or 409 and FAILURE, or 425 and ONGOING, or 500.
func answer(w http.ResponseWriter, err error) {
	code, result := dtmcli.Result2HttpJSON(err)
	if err == nil {
		result = dtmcli.MapSuccess
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(result)
}

// service is the same over gRPC, without generated code: any account, named by
// the message.
func (b *bank) service() *grpc.ServiceDesc {
	method := func(name string, f func(ctx context.Context, account string) error) grpc.MethodDesc {
		return grpc.MethodDesc{MethodName: name, Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var in wrapperspb.StringValue
			if err := decode(&in); err != nil {
				return nil, err
			}
			return &emptypb.Empty{}, dtmgrpc.DtmError2GrpcError(f(ctx, in.GetValue()))
		}}
	}
	return &grpc.ServiceDesc{ServiceName: "bank.Bank", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{
		method("Account", func(ctx context.Context, name string) error {
			bb, err := dtmgrpc.BarrierFromGrpc(ctx)
			if err != nil {
				return err
			}
			return b.operate(bb, name)
		}),
		// In DTM, one of an XA's two phases has no message: the account is a method.
		method("XaOut", func(ctx context.Context, _ string) error { return b.xaGRPC(ctx, "out") }),
		method("XaIn", func(ctx context.Context, _ string) error { return b.xaGRPC(ctx, "in") }),
		method("XaRefuse", func(ctx context.Context, _ string) error { return b.xaGRPC(ctx, "refuse") }),
		method("QueryPrepared", func(ctx context.Context, _ string) error {
			b.reach("query-prepared")
			bb, err := dtmgrpc.BarrierFromGrpc(ctx)
			if err != nil {
				return err
			}
			return bb.QueryPrepared(b.books.db)
		}),
	}}
}

func (b *bank) xaGRPC(ctx context.Context, name string) error {
	xa, err := dtmgrpc.XaGrpcFromRequest(ctx)
	if err != nil {
		return err
	}
	b.reach(name + "." + xa.Op)
	return dtmgrpc.XaLocalTransaction(ctx, b.books.conf, func(db *sql.DB, xa *dtmgrpc.XaGrpc) error {
		return b.transfer(db, xa.Gid, name)
	})
}
