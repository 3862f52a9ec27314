package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/quorate/quorate/participant"
)

// PayloadBytesMax bounds a body that is read. A branch's payload is at most 64 KiB;
// a try's, which the initiator sends itself, may be larger.
const PayloadBytesMax = 1 << 20

// Func serves calls. The context carries the [Call]; what is returned is sent back and
// read by nobody but a TCC initiator.
type Func func(ctx context.Context, payload []byte) ([]byte, error)

// JSON is a Func of a function that takes its payload as JSON. A payload that does not
// fit is no refusal: a program that is mended may still take it.
func JSON[T any](f func(ctx context.Context, in T) error) Func {
	return func(ctx context.Context, payload []byte) ([]byte, error) {
		var in T
		if len(payload) > 0 {
			if err := json.Unmarshal(payload, &in); err != nil {
				return nil, fmt.Errorf("handlers: payload as %T: %w", in, err)
			}
		}
		return nil, f(ctx, in)
	}
}

// ServeHTTP serves one call.
func (f Func) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call, err := Parse(r.Header.Get)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, PayloadBytesMax))
	if err != nil {
		http.Error(w, "handlers: read the payload: "+err.Error(), http.StatusBadRequest)
		return
	}
	said, err := f(WithCall(r.Context(), call), body)
	if err != nil {
		http.Error(w, err.Error(), Status(err))
		return
	}
	_, _ = w.Write(said) // a caller that has gone asks again
}

// Status is the HTTP status that tells the coordinator what an error means.
func Status(err error) int {
	switch {
	case err == nil:
		return http.StatusOK
	case errors.Is(err, participant.ErrOngoing):
		return http.StatusTooEarly
	case errors.Is(err, participant.ErrRefused):
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}
