package fence

import (
	"context"
	"errors"
	"net/http"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// HTTPStatus is the status that tells the coordinator what an error means. 409 says that
// nothing was done and nothing will be; 425 that the work goes on; what is above says
// nothing, and the call comes again.
func HTTPStatus(err error) int {
	switch {
	case err == nil:
		return http.StatusOK
	case errors.Is(err, ErrOngoing):
		return http.StatusTooEarly
	case errors.Is(err, ErrRefused), errors.Is(err, ErrLate):
		return http.StatusConflict
	case errors.Is(err, ErrStale):
		return http.StatusPreconditionFailed
	case errors.Is(err, ErrSwept):
		return http.StatusGone
	case errors.Is(err, ErrCall):
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

// dtmFailed is all that a DTM client may read of an error that decides nothing: it
// searches bodies for the words FAILURE and ONGOING, whatever the status.
const dtmFailed = `{"dtm_result":"ERROR"}`

// Answer writes an error as the answer to the call that ctx carries.
func Answer(ctx context.Context, w http.ResponseWriter, err error) {
	code := HTTPStatus(err)
	if FromContext(ctx).Dialect != DTM {
		http.Error(w, err.Error(), code)
		return
	}
	body := dtmFailed
	switch code {
	case http.StatusConflict:
		body = `{"dtm_result":"FAILURE"}`
	case http.StatusTooEarly:
		body = `{"dtm_result":"ONGOING"}`
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(body))
}

// Middleware gives handlers a context that carries the call. A request that is no branch
// call passes; one that is a bad one is answered 400.
func Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := FromHTTP(r)
		if err != nil {
			if isDTM(r) {
				c.Dialect = DTM
			}
			Answer(NewContext(r.Context(), c), w, err)
			return
		}
		if c != (Call{}) {
			r = r.WithContext(NewContext(r.Context(), c))
		}
		next.ServeHTTP(w, r)
	})
}

// Handler is a handler that answers with what h returns: nil is 200 without a body,
// unless h has written one.
func Handler(h func(http.ResponseWriter, *http.Request) error) http.Handler {
	return Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			Answer(r.Context(), w, err)
		}
	}))
}

// GRPCError is the status that tells the coordinator what an error means, in the dialect
// of the call that ctx carries. Statuses stay as they are.
func GRPCError(ctx context.Context, err error) error {
	if _, isStatus := status.FromError(err); err == nil || isStatus && !known(err) {
		return err
	}
	dtm := FromContext(ctx).Dialect == DTM
	switch HTTPStatus(err) {
	case http.StatusTooEarly:
		if dtm {
			return status.Error(codes.FailedPrecondition, "ONGOING")
		}
		s := status.New(codes.Unavailable, err.Error())
		if detailed, detailErr := s.WithDetails(&errdetails.ErrorInfo{Reason: "ONGOING", Domain: "quorate"}); detailErr == nil {
			s = detailed
		}
		return s.Err()
	case http.StatusConflict:
		if dtm {
			return status.Error(codes.Aborted, "FAILURE")
		}
		return status.Error(codes.Aborted, err.Error())
	case http.StatusPreconditionFailed, http.StatusGone:
		if !dtm { // DTM reads FailedPrecondition as ongoing
			return status.Error(codes.FailedPrecondition, err.Error())
		}
	case http.StatusBadRequest:
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return status.Error(codes.Unknown, err.Error())
}

// known reports whether the error is one of this package's.
func known(err error) bool { return HTTPStatus(err) != http.StatusInternalServerError }

// UnaryServerInterceptor gives handlers a context that carries the call, and turns what
// they return into the answer.
func UnaryServerInterceptor() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		c, err := FromGRPC(ctx)
		if err != nil {
			return nil, GRPCError(ctx, err)
		}
		if c != (Call{}) {
			ctx = NewContext(ctx, c)
		}
		resp, err := handler(ctx, req)
		return resp, GRPCError(ctx, err)
	}
}
