package handlers

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/quorate/quorate/participant/fence"
)

// PayloadBytesMax bounds a body that is read. A branch's payload is at most 64 KiB;
// a try's, which the initiator sends itself, may be larger.
const PayloadBytesMax = 1 << 20

// Func serves calls; [fence.FromContext] tells which one. What it returns is sent back,
// and read by nobody but a TCC initiator.
type Func func(ctx context.Context, payload []byte) ([]byte, error)

// JSON is a Func of a function that takes its payload as JSON. A payload that does not
// fit is no refusal: a program that is mended may still take it.
func JSON[T any](f func(ctx context.Context, in T) error) Func {
	return func(ctx context.Context, payload []byte) ([]byte, error) {
		in, err := decode[T](payload)
		if err != nil {
			return nil, err
		}
		return nil, f(ctx, in)
	}
}

func decode[T any](payload []byte) (in T, err error) {
	if len(payload) == 0 {
		return in, nil
	}
	if err := json.Unmarshal(payload, &in); err != nil {
		return in, fmt.Errorf("handlers: payload as %T: %w", in, err)
	}
	return in, nil
}

// ServeHTTP serves one call.
func (f Func) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call, err := fence.FromHTTP(r)
	if err == nil && call == (fence.Call{}) {
		err = fmt.Errorf("handlers: %w: no Quorate-Operation", fence.ErrCall)
	}
	ctx := fence.NewContext(r.Context(), call)
	if err != nil {
		fence.Answer(ctx, w, err)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, PayloadBytesMax))
	if err != nil {
		fence.Answer(ctx, w, fmt.Errorf("handlers: %w: read the payload: %w", fence.ErrCall, err))
		return
	}
	said, err := f(ctx, body)
	if err != nil {
		fence.Answer(ctx, w, err)
		return
	}
	_, _ = w.Write(said) // a caller that has gone asks again
}
