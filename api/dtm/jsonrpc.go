package dtm

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
)

// JSON-RPC's own codes.
const (
	codeParse   = -32700
	codeRequest = -32600
	codeMethod  = -32601
)

type rpcRequest struct {
	Version string          `json:"jsonrpc"`
	ID      any             `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// serveJSONRPC serves the calls that change something, and newGid.
func (g *Gateway) serveJSONRPC(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	var r rpcRequest
	if err == nil {
		err = json.Unmarshal(body, &r)
	}
	if err != nil {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, sealText(kindError, "parse json error: "+err.Error()))
		return
	}
	answer := object{"jsonrpc": "2.0", "id": r.ID, "result": nil, "error": nil}
	if id, ok := r.ID.(string); !ok || id == "" || r.Version != "2.0" {
		answer["error"] = rpcError{codeRequest, `bad request: jsonrpc must be "2.0", and id a text`}
		write(w, http.StatusOK, answer)
		return
	}
	method, ok := g.rpcMethods()[r.Method]
	if !ok {
		answer["error"] = rpcError{codeMethod, "method not found: " + r.Method}
		write(w, http.StatusOK, answer)
		return
	}
	result, err := protected(g, func() (any, error) { return method(fromHTTP(req), r.Params) })
	if err != nil {
		reply := asReply(err)
		answer["error"] = rpcError{kinds[reply.kind].jrpc, reply.text}
		writeAs(w, http.StatusOK, reply.kind, answer)
		return
	}
	answer["result"] = result
	write(w, http.StatusOK, answer)
}

type rpcMethod func(ctx context.Context, params []byte) (any, error)

func (g *Gateway) rpcMethods() map[string]rpcMethod {
	success := object{"dtm_result": wordSuccess}
	onTrans := func(f func(context.Context, *trans) error) rpcMethod {
		return func(ctx context.Context, params []byte) (any, error) {
			t, err := readTrans(params)
			if err == nil {
				err = f(ctx, t)
			}
			return success, err
		}
	}
	return map[string]rpcMethod{
		"newGid": func(context.Context, []byte) (any, error) {
			return object{"dtm_result": wordSuccess, "gid": newGid()}, nil
		},
		"prepare": onTrans(g.prepare),
		"submit":  onTrans(g.submit),
		"abort":   onTrans(g.abort),
		"registerBranch": func(ctx context.Context, params []byte) (any, error) {
			b, err := readBranch(params)
			if err == nil {
				err = g.registerBranch(ctx, b)
			}
			return success, err
		},
	}
}
