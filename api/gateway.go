package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// jsonMarshaler writes the protos' own field names, and every scalar, so that a
// script finds what it looks for. A field it does not know is refused: a typing
// error must not pass for "not set".
var jsonMarshaler = &runtime.JSONPb{
	MarshalOptions:   protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true},
	UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: false},
}

// setQueryParser is an option that the library keeps for all muxes of the
// process: it is set once, since tests make servers beside each other.
var setQueryParser = sync.OnceFunc(func() { runtime.SetQueryParameterParser(&strictQuery{})(nil) })

// newGateway serves the services as JSON under /v1.
func (s *Server) newGateway() (http.Handler, error) {
	setQueryParser()
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, jsonMarshaler),
		runtime.WithErrorHandler(writeError),
		runtime.WithRoutingErrorHandler(writeRoutingError),
		runtime.WithStreamErrorHandler(func(_ context.Context, err error) *status.Status { return typedStatus(err) }),
		runtime.WithIncomingHeaderMatcher(incomingHeader),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithMetadata(func(_ context.Context, req *http.Request) metadata.MD {
			return metadata.Pairs(initiatorHeader, req.RemoteAddr)
		}),
		runtime.WithUnescapingMode(runtime.UnescapingModeAllExceptSlash),
		runtime.WithMiddlewares(unescapeParams),
		runtime.WithDisablePathLengthFallback(),
	)
	register := errors.Join(
		quoratev1.RegisterTransactionServiceHandlerClient(context.Background(), mux, quoratev1.NewTransactionServiceClient(s.forward)),
		quoratev1.RegisterParticipantServiceHandlerClient(context.Background(), mux, quoratev1.NewParticipantServiceClient(s.forward)),
		quoratev1.RegisterClusterServiceHandlerClient(context.Background(), mux, quoratev1.NewClusterServiceClient(s.forward)),
	)
	return escapePercent(mux), register
}

// A key may hold any printable character, in a path escaped. The gateway
// unescapes path parameters, but for slashes, where it would split, and at times
// twice. escapePercent and unescapeParams make it once: percent signs are
// escaped once more before the gateway looks at the path, and what is left is
// unescaped behind it.
func escapePercent(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		escaped := *req.URL
		escaped.RawPath = strings.ReplaceAll(req.URL.EscapedPath(), "%25", "%2525")
		inner := req.WithContext(req.Context())
		inner.URL = &escaped
		next.ServeHTTP(w, inner)
	})
}

func unescapeParams(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request, params map[string]string) {
		for name, value := range params {
			if plain, err := url.PathUnescape(value); err == nil {
				params[name] = plain
			}
		}
		next(w, req, params)
	}
}

// incomingHeader lets through the few HTTP headers that mean something here.
// In particular nothing that a caller sends may pass for metadata of ours.
func incomingHeader(name string) (string, bool) {
	switch strings.ToLower(name) {
	case "traceparent", "tracestate", hopHeader:
		return strings.ToLower(name), true
	default:
		return "", false
	}
}

// writeError answers an error as google.rpc.Status in JSON.
func writeError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error) {
	writeStatus(w, typedStatus(err))
}

// writeRoutingError answers a path or a method that nothing serves.
func writeRoutingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, req *http.Request, httpStatus int) {
	switch httpStatus {
	case http.StatusMethodNotAllowed, http.StatusNotFound:
		e := Errorf(ReasonUnimplemented, "%s %s is not served", req.Method, req.URL.Path)
		e.Next = "see /openapi.json"
		writeStatusAs(w, e.GRPCStatus(), httpStatus)
	default:
		writeStatus(w, invalidField("", "%s %s cannot be read", req.Method, req.URL.Path).GRPCStatus())
	}
}

// typedStatus gives the gateway's own errors a type: what has none of ours is a
// request that could not be read, or an answer that was lost.
func typedStatus(err error) *status.Status {
	st := status.Convert(err)
	if ReasonOf(err) != "" {
		return st
	}
	switch st.Code() {
	case codes.InvalidArgument:
		return invalidField("", "%s", st.Message()).GRPCStatus()
	case codes.Unimplemented, codes.NotFound:
		return Errorf(ReasonUnimplemented, "%s", st.Message()).GRPCStatus()
	case codes.ResourceExhausted:
		return invalidField("", "%s", st.Message()).GRPCStatus() // a message beyond the limit
	default:
		return unknownOutcome(gidOf(nil), errors.New(st.Message())).GRPCStatus()
	}
}

func writeStatus(w http.ResponseWriter, st *status.Status) {
	code := runtime.HTTPStatusFromCode(st.Code())
	if known, ok := table[ReasonOf(st.Err())]; ok {
		code = known.http
	}
	writeStatusAs(w, st, code)
}

func writeStatusAs(w http.ResponseWriter, st *status.Status, code int) {
	body, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(st.Proto())
	if err != nil {
		body, _ = json.Marshal(map[string]any{"code": st.Code(), "message": st.Message()})
	}
	for _, detail := range st.Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			seconds := int64((retry.GetRetryDelay().AsDuration() + 999_999_999) / 1_000_000_000)
			w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n'))
}
