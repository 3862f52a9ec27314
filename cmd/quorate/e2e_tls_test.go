package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/cluster"
)

// authority is a CA of a test's own.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// file is its certificate.
	file string
}

// certificate names the files of a certificate and its key.
type certificate struct{ cert, key string }

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = filepath.Join(a.dir, "ca.pem")
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

// issue makes a certificate for this machine, for servers and clients.
func (a *authority) issue(t *testing.T, name string) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := certificate{filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+"-key.pem")}
	writePEM(t, c.cert, "CERTIFICATE", der)
	writePEM(t, c.key, "EC PRIVATE KEY", keyDER)
	return c
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// client is a TLS configuration that trusts a and shows c, if that is given.
func (a *authority) client(t *testing.T, c *certificate) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	config := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if c != nil {
		pair, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

// A cluster with mutual TLS on every listener, and a CA of its own for the
// nodes: whoever lacks the right certificate gets nothing, on any port.
func TestMutualTLSOnEveryListener(t *testing.T) {
	api, nodes, stranger := newAuthority(t, "api"), newAuthority(t, "nodes"), newAuthority(t, "stranger")
	server, raft, client, strange := api.issue(t, "server"), nodes.issue(t, "raft"), api.issue(t, "client"), stranger.issue(t, "client")
	c := startCluster(t, cluster.Config{
		Nodes: 3, TLS: api.client(t, &client),
		Args: []string{
			"--tls-cert-file", server.cert, "--tls-key-file", server.key, "--tls-ca-file", api.file,
			"--tls-raft-cert-file", raft.cert, "--tls-raft-key-file", raft.key, "--tls-raft-ca-file", nodes.file,
		},
	})
	leader, err := c.WaitLeader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	follower := c.Nodes()[0]
	if follower == leader {
		follower = c.Nodes()[1]
	}
	// To a follower, so that the way to the leader is under TLS too.
	at := []string{"--endpoints", follower.GRPC, "--timeout", "30s"}
	with := func(args []string, ca string, c certificate) []string {
		return append(append(args, at...), "--tls-ca-file", ca, "--tls-cert-file", c.cert, "--tls-key-file", c.key)
	}
	quorate(t, with([]string{"cluster", "status"}, api.file, client)...).want(t, exitOK, "quorum 3/3")
	quorate(t, with([]string{"tx", "ls"}, api.file, client)...).want(t, exitOK, "0 transactions")
	at[3] = "1s" // what is refused is asked again until then
	t.Run("gRPC without a certificate", func(t *testing.T) {
		// The refusal may be lost: the server closes as it sends it.
		quorate(t, append([]string{"tx", "ls", "--tls-ca-file", api.file}, at...)...).want(t, exitUnreachable)
	})
	t.Run("gRPC with a stranger's certificate", func(t *testing.T) {
		quorate(t, with([]string{"tx", "ls"}, api.file, strange)...).want(t, exitUnreachable)
	})
	t.Run("gRPC in the clear", func(t *testing.T) {
		quorate(t, append([]string{"tx", "ls"}, at...)...).want(t, exitUnreachable)
	})
	t.Run("a server that is not trusted", func(t *testing.T) {
		quorate(t, with([]string{"tx", "ls"}, stranger.file, client)...).want(t, exitUnreachable, "certificate")
	})
	t.Run("HTTP", func(t *testing.T) {
		get := func(config *tls.Config) error {
			transport := &http.Transport{TLSClientConfig: config}
			defer transport.CloseIdleConnections()
			response, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get("https://" + follower.HTTP + "/v1/transactions")
			if err != nil {
				return err
			}
			if response.StatusCode != http.StatusOK {
				t.Errorf("answered %s", response.Status)
			}
			return response.Body.Close()
		}
		if err := get(api.client(t, &client)); err != nil {
			t.Errorf("with a certificate: %v", err)
		}
		if err := get(api.client(t, nil)); err == nil {
			t.Error("without a certificate: no error")
		}
	})
	t.Run("the nodes' port with a client's certificate", func(t *testing.T) {
		for _, c := range []*certificate{nil, &client, &strange} {
			if err := handshake(t, leader.Raft, nodes.client(t, c)); err == nil {
				t.Errorf("a handshake with %v was accepted", c)
			}
		}
		if err := handshake(t, leader.Raft, nodes.client(t, &raft)); err != nil {
			t.Errorf("a node's own: %v", err)
		}
	})
	// Still whole, also after a change of leader.
	if err := leader.Kill(); err != nil {
		t.Fatal(err)
	}
	at[3] = "30s"
	quorate(t, with([]string{"tx", "ls"}, api.file, client)...).want(t, exitOK, "0 transactions")
}

// handshake does a TLS handshake; with TLS 1.3 a refusal of the client's
// certificate is only seen at the first read.
func handshake(t *testing.T, address string, config *tls.Config) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		return err
	}
	// The port waits for a greeting: silence is acceptance.
	_, err = conn.Read(make([]byte, 1))
	if err != nil && strings.Contains(err.Error(), "timeout") {
		return nil
	}
	return err
}

// Listening beyond loopback is allowed with mutual TLS, without --insecure.
func TestMutualTLSMayListenBeyondLoopback(t *testing.T) {
	api := newAuthority(t, "api")
	server := api.issue(t, "server")
	quorate(t, "config", "check", "--listen-grpc", "0.0.0.0:36790", "--advertise-grpc", "localhost:36790",
		"--tls-cert-file", server.cert, "--tls-key-file", server.key, "--tls-ca-file", api.file).want(t, exitOK)
	quorate(t, "config", "check", "--listen-grpc", "0.0.0.0:36790", "--advertise-grpc", "localhost:36790",
		"--tls-cert-file", server.cert, "--tls-key-file", server.key).want(t, exitUsage, "no mutual TLS")
	quorate(t, "config", "check", "--tls-cert-file", server.key, "--tls-key-file", server.cert).want(t, exitUsage, server.key)
}
