package dtm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"google.golang.org/grpc/metadata"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// Prefix is where DTM's HTTP calls are.
const Prefix = "/api/dtmsvr/"

// object is a JSON object that a call answers.
type object = map[string]any

// route registers the HTTP calls.
func (g *Gateway) route() {
	mux := g.mux
	handle := func(method, name string, f func(ctx context.Context, req *http.Request) (any, error)) {
		g.served = append(g.served, method+" "+name)
		mux.HandleFunc(method+" "+Prefix+name, func(w http.ResponseWriter, req *http.Request) {
			answer, err := protected(g, func() (any, error) { return f(fromHTTP(req), req) })
			if err != nil {
				writeError(w, asReply(err))
				return
			}
			write(w, http.StatusOK, answer)
		})
	}
	success := object{"dtm_result": wordSuccess}
	// onTrans and onBranch are the calls whose body is such an object.
	onTrans := func(name string, f func(context.Context, *trans) error) {
		handle("POST", name, func(ctx context.Context, req *http.Request) (any, error) {
			t, err := bodyOf(req, readTrans)
			if err == nil {
				err = f(ctx, t)
			}
			return success, err
		})
	}
	onTrans("prepare", g.prepare)
	onTrans("submit", g.submit)
	onTrans("abort", g.abort)
	for _, name := range []string{"registerBranch", "registerXaBranch", "registerTccBranch"} {
		handle("POST", name, func(ctx context.Context, req *http.Request) (any, error) {
			b, err := bodyOf(req, readBranch)
			if err == nil {
				err = g.registerBranch(ctx, b)
			}
			return success, err
		})
	}
	handle("GET", "newGid", func(context.Context, *http.Request) (any, error) {
		return object{"dtm_result": wordSuccess, "gid": newGid()}, nil
	})
	g.served = append(g.served, "POST prepareWorkflow")
	mux.HandleFunc("POST "+Prefix+"prepareWorkflow", g.servePrepareWorkflow)
	handle("GET", "query", g.serveQuery)
	handle("GET", "all", g.serveAll)
	handle("GET", "resetCronTime", g.serveResetCronTime)
	onTrans("resetNextCronTime", func(ctx context.Context, t *trans) error { return g.resetNextCronTime(ctx, t.Gid) })
	handle("POST", "forceStop", func(ctx context.Context, req *http.Request) (any, error) {
		t, err := bodyOf(req, readTrans)
		if err == nil {
			err = g.forceStop(ctx, t.Gid, callerOf(req))
		}
		return success, err
	})
	handle("GET", "subscribe", func(ctx context.Context, req *http.Request) (any, error) {
		q := req.URL.Query()
		return success, g.subscribe(ctx, q.Get("topic"), q.Get("url"), q.Get("remark"))
	})
	handle("GET", "unsubscribe", func(ctx context.Context, req *http.Request) (any, error) {
		q := req.URL.Query()
		return success, g.unsubscribe(ctx, q.Get("topic"), q.Get("url"))
	})
	handle("DELETE", "topic/{topic}", func(ctx context.Context, req *http.Request) (any, error) {
		return success, g.deleteTopic(ctx, req.PathValue("topic"))
	})
	handle("GET", "scanKV", g.serveScanKV)
	handle("GET", "queryKV", g.serveQueryKV)
	handle("GET", "version", func(context.Context, *http.Request) (any, error) {
		return object{"version": "v" + g.version}, nil
	})
	mux.HandleFunc("/api/ping", func(w http.ResponseWriter, _ *http.Request) { write(w, http.StatusOK, object{"msg": "pong"}) })
	mux.HandleFunc("POST /api/json-rpc", g.serveJSONRPC)
	mux.HandleFunc("/", g.serveUnknown)
}

func (g *Gateway) serveUnknown(w http.ResponseWriter, req *http.Request) {
	write(w, http.StatusNotFound, object{"message": fmt.Sprintf("%s %s is not served", req.Method, req.URL.Path)})
}

// servePrepareWorkflow has an error reply of its own: DTM's Go client takes any
// JSON object for a transaction, and panics where it holds none; a transaction
// that is no object is an error to it, and to every other reader the message is
// where it always is.
func (g *Gateway) servePrepareWorkflow(w http.ResponseWriter, req *http.Request) {
	stands, err := protected(g, func() (*standing, error) {
		t, err := bodyOf(req, readTrans)
		if err != nil {
			return nil, err
		}
		return g.prepareWorkflow(fromHTTP(req), t)
	})
	if err != nil {
		reply := asReply(err)
		writeAs(w, kinds[reply.kind].http, reply.kind, object{"message": reply.text, "transaction": "none"})
		return
	}
	write(w, http.StatusOK, object{"transaction": stands.row(), "progresses": stands.rows()})
}

func (g *Gateway) serveQuery(ctx context.Context, req *http.Request) (any, error) {
	gid := req.URL.Query().Get("gid")
	if err := checkGid(gid); err != nil {
		return nil, err
	}
	stands, err := g.find(ctx, gid)
	switch {
	case reasonOf(err) == reasonNotFound, err == nil && stands.transType() == "":
		return object{"transaction": nil, "branches": []branchRow{}}, nil
	case err != nil:
		return nil, err
	default:
		return object{"transaction": stands.row(), "branches": stands.rows()}, nil
	}
}

func (g *Gateway) serveAll(ctx context.Context, req *http.Request) (any, error) {
	q := req.URL.Query()
	if gid := q.Get("gid"); gid != "" {
		stands, err := g.find(ctx, gid)
		switch {
		case reasonOf(err) == reasonNotFound, err == nil && stands.transType() == "":
			return object{"transactions": nil, "next_position": ""}, nil
		case err != nil:
			return nil, err
		default:
			return object{"transactions": []*transactionRow{stands.row()}, "next_position": ""}, nil
		}
	}
	ask, err := readListing(q.Get)
	if err != nil {
		return nil, err
	}
	page, next, err := g.list(ctx, ask)
	if err != nil {
		return nil, err
	}
	rows := []*transactionRow{}
	for _, s := range page {
		rows = append(rows, s.row())
	}
	return object{"transactions": rows, "next_position": next}, nil
}

func (g *Gateway) serveResetCronTime(ctx context.Context, req *http.Request) (any, error) {
	q := req.URL.Query()
	timeout := 3 * TimeoutToFailDefault
	if text := q.Get("timeout"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || n > secondsMax {
			return nil, bad("timeout %q is no number of seconds", text)
		}
		timeout = time.Duration(n) * time.Second
	}
	limit, err := readLimit(q.Get("limit"))
	if err != nil {
		return nil, err
	}
	count, remaining, err := g.resetCronTime(ctx, timeout, limit)
	return object{"has_remaining": remaining, "succeed_count": count}, err
}

func (g *Gateway) serveScanKV(ctx context.Context, req *http.Request) (any, error) {
	q := req.URL.Query()
	limit, err := readLimit(q.Get("limit"))
	if err != nil {
		return nil, err
	}
	rows, next := []kvRow{}, ""
	if cat := q.Get("cat"); cat == topicCategory || cat == "" {
		page, err := g.topics(ctx, &quoratev1.ListTopicsRequest{PageSize: uint32(limit), PageToken: q.Get("position")})
		if err != nil {
			return nil, err
		}
		for _, t := range page.GetTopics() {
			rows = append(rows, topicRow(t))
		}
		next = page.GetNextPageToken()
	}
	return object{"kv": rows, "next_position": next}, nil
}

func (g *Gateway) serveQueryKV(ctx context.Context, req *http.Request) (any, error) {
	q := req.URL.Query()
	rows := []kvRow{}
	if q.Get("cat") == topicCategory && q.Get("key") != "" {
		t, err := g.topic(ctx, q.Get("key"))
		if err != nil {
			return nil, err
		}
		if t != nil {
			rows = append(rows, topicRow(t))
		}
	}
	return object{"kv": rows}, nil
}

// bodyOf reads a request's body, which its listener has bounded.
func bodyOf[T any](req *http.Request, read func([]byte) (*T, error)) (*T, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, bad("the body could not be read: %v", err)
	}
	return read(body)
}

// protected turns a panic into an error, and tells the log what it was.
func protected[T any](g *Gateway, f func() (T, error)) (answer T, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			g.log.Error("a handler of DTM's protocol panicked", "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
			err = bad("the node failed at the call; see its log")
		}
	}()
	return f()
}

// fromHTTP is the context of the native calls made for a request: who asks, and
// the trace that it belongs to.
func fromHTTP(req *http.Request) context.Context {
	pairs := []string{initiatorHeader, callerOf(req)}
	for _, name := range []string{"traceparent", "tracestate"} {
		if value := req.Header.Get(name); value != "" {
			pairs = append(pairs, name, value)
		}
	}
	return metadata.NewOutgoingContext(req.Context(), metadata.Pairs(pairs...))
}

// initiatorHeader is metadata by which a caller says who it is, for people.
const initiatorHeader = "quorate-initiator"

func callerOf(req *http.Request) string {
	host, _, err := net.SplitHostPort(req.RemoteAddr)
	if err != nil {
		host = req.RemoteAddr
	}
	return "dtm@" + host
}

// write answers an object that means neither a failure nor a running
// transaction; the words are taken out of whatever it holds.
func write(w http.ResponseWriter, status int, v any) { writeAs(w, status, kindError, v) }

func writeError(w http.ResponseWriter, e *replyError) {
	body := object{"message": e.text}
	if result := kinds[e.kind].result; result != "" {
		body["dtm_result"] = result
	}
	writeAs(w, kinds[e.kind].http, e.kind, body)
}

func writeAs(w http.ResponseWriter, status int, k kind, v any) {
	var text bytes.Buffer
	if err := json.NewEncoder(&text).Encode(v); err != nil {
		status = http.StatusInternalServerError
		text.Reset()
		text.WriteString(`{"message":"the answer could not be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(sealJSON(k, text.Bytes()))
}
