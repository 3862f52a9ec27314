package api

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/api/tlsconfig"
	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/internal/testkit"
)

// secured serves with mutual TLS and stops with the test.
func secured(t *testing.T, files tlsconfig.Files, c Coordinator) (grpcAddress, httpAddress string) {
	t.Helper()
	source, err := tlsconfig.Load(files, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := source.Server()
	if err != nil {
		t.Fatal(err)
	}
	server, err := NewServer(Config{TLS: config, ForwardTLS: source.Client("h2"), LeaderWait: patience}, c, newFakeCluster())
	if err != nil {
		t.Fatal(err)
	}
	listeners := Listeners{GRPC: testkit.Listen(t), HTTP: testkit.Listen(t)}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listeners) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		server.Stop(ctx)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return listeners.GRPC.Addr().String(), listeners.HTTP.Addr().String()
}

// TestMutualTLS: both listeners refuse whoever has no certificate of the
// authority; a node with one forwards to another.
func TestMutualTLS(t *testing.T) {
	authority := testkit.NewAuthority(t)
	cert, key, ca := authority.Issue(t, t.TempDir(), "node")
	files := tlsconfig.Files{Cert: cert, Key: key, CA: ca}
	leaderGRPC, _ := secured(t, files, newFake())
	follower := newFake()
	follower.fail = &coordinator.NotLeaderError{Leader: coordinator.LeaderInfo{ID: "n2", GRPCAddress: leaderGRPC}}
	followerGRPC, followerHTTP := secured(t, files, follower)

	strangerCert, strangerKey, _ := testkit.NewAuthority(t).Issue(t, t.TempDir(), "stranger")
	source := func(f tlsconfig.Files) *tls.Config {
		s, err := tlsconfig.Load(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s.Client("h2")
	}
	for _, tt := range []struct {
		name  string
		creds credentials.TransportCredentials
		ok    bool
	}{
		{"a certificate of ours", credentials.NewTLS(source(files)), true},
		{"no certificate", credentials.NewTLS(source(tlsconfig.Files{CA: ca})), false},
		{"a stranger's", credentials.NewTLS(source(tlsconfig.Files{Cert: strangerCert, Key: strangerKey, CA: ca})), false},
		{"in the clear", insecure.NewCredentials(), false},
	} {
		conn, err := grpc.NewClient(followerGRPC, grpc.WithTransportCredentials(tt.creds))
		if err != nil {
			t.Fatal(err)
		}
		_, err = quoratev1.NewClusterServiceClient(conn).Status(within(t), &quoratev1.StatusRequest{})
		if ok := err == nil; ok != tt.ok || !ok && status.Code(err) != codes.Unavailable {
			t.Errorf("gRPC with %s: %v", tt.name, err)
		}
		_ = conn.Close()
	}

	post := func(config *tls.Config, http2 bool) (int, string, error) {
		config.NextProtos = nil // net/http's own to set
		transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: http2}
		defer transport.CloseIdleConnections()
		req, _ := http.NewRequestWithContext(within(t), http.MethodPost, "https://"+followerHTTP+"/v1/transactions", strings.NewReader("{}"))
		res, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			return 0, "", err
		}
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		return res.StatusCode, string(body), err
	}
	for _, http2 := range []bool{false, true} {
		if code, body, err := post(source(files), http2); err != nil || code != http.StatusOK {
			t.Errorf("HTTP with a certificate of ours, forwarded, HTTP/2 %v: %d %s %v", http2, code, body, err)
		}
	}
	if code, _, err := post(source(tlsconfig.Files{CA: ca}), true); err == nil {
		t.Errorf("HTTP without a certificate: %d", code)
	}
}
