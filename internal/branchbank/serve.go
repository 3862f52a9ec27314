package branchbank

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
)

// Bank serves a store. Its methods may be called from any goroutine.
type Bank struct {
	store    *store
	client   *participant.Client
	arrivals *os.File // nil: not noted

	mu      sync.Mutex
	dropped map[string]bool // operations on branches whose first answer was dropped
}

// Open opens the tables, new ones where there are none. The client is needed by a
// bank that sends messages.
func Open(ctx context.Context, c Config, client *participant.Client) (*Bank, error) {
	s, err := connect(c)
	if err != nil {
		return nil, err
	}
	if err := s.create(ctx); err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	if !c.Unfenced {
		if s.fence, err = openFence(ctx, s); err != nil {
			return nil, errors.Join(err, s.db.Close())
		}
	}
	b := &Bank{store: s, client: client, dropped: map[string]bool{}}
	if c.ArrivalsPath != "" {
		if b.arrivals, err = os.OpenFile(c.ArrivalsPath, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			return nil, errors.Join(err, s.db.Close())
		}
	}
	return b, nil
}

// Close closes the connections.
func (b *Bank) Close() error {
	err := b.store.db.Close()
	if b.arrivals != nil {
		err = errors.Join(err, b.arrivals.Close())
	}
	return err
}

// Handler serves the branch calls, the sending of messages, and the books.
func (b *Bank) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{PathAction, PathCompensate, PathTry, PathConfirm, PathCancel} {
		mux.HandleFunc("POST "+path, b.branch)
	}
	mux.HandleFunc("POST "+PathCheckBack, b.checkBack)
	mux.HandleFunc("POST "+PathSend, b.send)
	mux.HandleFunc("GET "+PathBooks, b.books)
	mux.HandleFunc("GET "+PathReady, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return mux
}

// branch does one operation on one branch.
func (b *Bank) branch(w http.ResponseWriter, r *http.Request) {
	call, m, err := readCall(r)
	if err == nil {
		err = b.arrived(call)
	}
	if err == nil {
		err = b.store.once(r.Context(), call, func(tx *sql.Tx) error { return b.store.work(r.Context(), tx, call, m) })
	}
	if err != nil {
		http.Error(w, err.Error(), fence.HTTPStatus(err))
		return
	}
	if witness := b.store.config.Witness; witness != nil {
		witness(call, m.Key)
	}
	if b.store.config.DropAnswers && call.Operation != fence.Try && b.first(call) {
		panic(http.ErrAbortHandler) // done, and nobody hears of it
	}
	w.WriteHeader(http.StatusOK)
}

func readCall(r *http.Request) (Call, Move, error) {
	var m Move
	call, err := fence.FromHTTP(r)
	if err == nil && call.Operation == "" {
		err = errors.New("branchbank: this is no branch call")
	}
	if err == nil {
		err = json.NewDecoder(io.LimitReader(r.Body, bodyBytesMax)).Decode(&m)
	}
	return call, m, err
}

// bodyBytesMax bounds a request's body.
const bodyBytesMax = 64 << 10

// first says, once, that an operation on a branch has not been heard of yet.
func (b *Bank) first(call Call) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := !b.dropped[call.String()]
	b.dropped[call.String()] = true
	return first
}

// checkBack says whether the sender's local transaction has committed.
func (b *Bank) checkBack(w http.ResponseWriter, r *http.Request) {
	call, err := fence.FromHTTP(r)
	if err == nil {
		err = b.arrived(call)
	}
	if err != nil {
		http.Error(w, err.Error(), fence.HTTPStatus(err))
		return
	}
	committed, err := b.store.committed(r.Context(), call.GID)
	if err == nil && !committed {
		err = fmt.Errorf("%w: the local transaction has not committed, and never will", fence.ErrRefused)
	}
	if err != nil {
		http.Error(w, err.Error(), fence.HTTPStatus(err))
		return
	}
	w.WriteHeader(http.StatusOK)
}

// books answers all that the bank holds.
func (b *Bank) books(w http.ResponseWriter, r *http.Request) {
	books, err := b.store.books(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(books)
}

// isFunds tells a lack of funds from other refusals.
func isFunds(err error) bool { return errors.Is(err, bankstore.ErrFunds) }
