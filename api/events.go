package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

const (
	// eventsPath serves Watch over HTTP.
	eventsPath = "/v1/events"
	// eventsKeepalive is the longest silence of a stream of server-sent events.
	eventsKeepalive = 15 * time.Second
)

// events serves Watch as server-sent events to whom asks for them, and through
// the gateway, as lines of JSON, to others. An event's id is its index: a
// browser that connects again sends it as Last-Event-ID and misses nothing.
func (s *Server) events(gateway http.Handler) http.Handler {
	client := quoratev1.NewTransactionServiceClient(s.forward)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !strings.Contains(req.Header.Get("Accept"), "text/event-stream") {
			gateway.ServeHTTP(w, req)
			return
		}
		ask, err := readEvents(req)
		if err != nil {
			writeStatus(w, err.GRPCStatus())
			return
		}
		stream, failure := client.Watch(req.Context(), ask)
		if failure != nil {
			writeStatus(w, typedStatus(failure))
			return
		}
		s.sendEvents(req.Context(), w, stream)
	})
}

func readEvents(req *http.Request) (*quoratev1.WatchRequest, *Error) {
	ask := &quoratev1.WatchRequest{Transaction: req.URL.Query().Get("transaction")}
	after := req.URL.Query().Get("after_index")
	if last := req.Header.Get("Last-Event-ID"); last != "" {
		after = last
	}
	if after == "" {
		return ask, nil
	}
	index, err := strconv.ParseUint(after, 10, 64)
	if err != nil {
		return nil, invalidField("after_index", "%.40q is no index of the log", after)
	}
	ask.AfterIndex = index
	return ask, nil
}

// sendEvents writes entries as they come, and a comment when none does, so that
// both sides notice a connection that is gone.
func (s *Server) sendEvents(ctx context.Context, w http.ResponseWriter, stream quoratev1.TransactionService_WatchClient) {
	type received struct {
		entry *quoratev1.WatchResponse
		err   error
	}
	entries := make(chan received)
	go func() {
		for {
			entry, err := stream.Recv()
			// Not the stream's own context: that ends with its last error, which must
			// still be told.
			select {
			case entries <- received{entry, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	text := ": watching\n\n"
	for {
		// A reader that takes nothing for so long is gone.
		_ = control.SetWriteDeadline(time.Now().Add(2 * eventsKeepalive))
		if _, err := fmt.Fprint(w, text); err != nil || control.Flush() != nil {
			return // net/http ends ctx behind this, and so the goroutine above
		}
		select {
		case got := <-entries:
			if got.err != nil {
				body, _ := jsonMarshaler.Marshal(typedStatus(got.err).Proto())
				_, _ = fmt.Fprintf(w, "event: error\ndata: %s\n\n", body)
				_ = control.Flush()
				return
			}
			body, err := jsonMarshaler.Marshal(got.entry)
			if err != nil {
				return
			}
			text = fmt.Sprintf("id: %d\ndata: %s\n\n", got.entry.GetIndex(), body)
		case <-ctx.Done():
			return // nobody reads any more, and the goroutine above may have gone
		case <-time.After(eventsKeepalive):
			text = ": still here\n\n"
		}
	}
}
