package participant_test

import (
	"context"
	"errors"
	"log"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/quorate/quorate/participant"
)

// An initiator moves money between two services: both do their part or neither
// does.
func ExampleClient_Run() {
	ctx := context.Background()
	client, err := participant.Dial(ctx, []string{"localhost:36790", "localhost:36800", "localhost:36810"})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	services := &http.Client{Transport: participant.Transport(nil)} // carries the GID

	err = client.Run(ctx, func(ctx context.Context) error {
		for _, url := range []string{"http://bank-a/debit", "http://bank-b/credit"} {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"amount":30}`))
			if err != nil {
				return err
			}
			resp, err := services.Do(req)
			if err != nil {
				return err
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return errors.New(resp.Status) // rolls both back
			}
		}
		return nil // commits
	}, participant.WithKey("order-17"), participant.WithTimeout(10*time.Second))

	var rolledBack *participant.RolledBackError
	var unknown *participant.OutcomeUnknownError
	switch {
	case errors.As(err, &rolledBack):
		log.Print("nothing has happened: ", rolledBack.Reason)
	case errors.As(err, &unknown):
		log.Print("ask again, with the same key")
	}
}

// A service takes part: its handlers' contexts carry the caller's transaction.
func ExampleMiddleware() {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /debit", func(w http.ResponseWriter, r *http.Request) {
		// db.BeginTx(r.Context(), nil) is a branch of it, for a db of this package.
	})
	log.Fatal(http.ListenAndServe("localhost:8081", participant.Middleware(mux)))
}

// The same over gRPC, on both sides.
func ExampleUnaryServerInterceptor() {
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(participant.UnaryServerInterceptor()),
		grpc.ChainStreamInterceptor(participant.StreamServerInterceptor()))
	defer server.Stop()
	conn, err := grpc.NewClient("localhost:9000",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(participant.UnaryClientInterceptor()),
		grpc.WithChainStreamInterceptor(participant.StreamClientInterceptor()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
}

// A retry loop around one call keeps its call path, so that the callee's branch is
// the same one each time.
func ExampleCall() {
	call := func(ctx context.Context, services *http.Client, url string) error {
		ctx, err := participant.Call(ctx)
		if err != nil {
			return err
		}
		for range 3 {
			var req *http.Request
			if req, err = http.NewRequestWithContext(ctx, http.MethodPost, url, nil); err != nil {
				return err
			}
			var resp *http.Response
			if resp, err = services.Do(req); err == nil {
				return resp.Body.Close()
			}
		}
		return err
	}
	_ = call
}
