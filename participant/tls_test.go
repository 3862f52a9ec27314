package participant_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/quorate/quorate/internal/realcluster"
	"github.com/quorate/quorate/participant"
)

// certificate makes a certificate for the loopback address that vouches for itself.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// With mutual TLS a client needs a certificate; with it everything works, session
// included.
func TestMutualTLS(t *testing.T) {
	cert, pool := certificate(t)
	cl := realcluster.NewTLS(t, &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	})
	client := dialReal(t, cl,
		participant.WithTLS(&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}),
		participant.WithName("tls-test"), participant.WithProcess("tls-test-1"),
		participant.WithDialOptions(grpc.WithUserAgent("tls-test")))
	a := bank(t, client, "bank-a")
	if err := client.Run(t.Context(), func(ctx context.Context) error { return put(ctx, a, "k", "1") }); err != nil {
		t.Fatal(err)
	}
	eventually(t, a, "k", "1")

	for name, o := range map[string]participant.Option{
		"no certificate": participant.WithTLS(&tls.Config{RootCAs: pool}),
		"no trust":       participant.WithTLS(&tls.Config{Certificates: []tls.Certificate{cert}}),
		"plain text":     participant.WithName("plain"),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if _, err := participant.Dial(ctx, cl.Addresses(), o); err == nil {
			t.Errorf("%s: connected", name)
		}
		cancel()
	}
}

// A restart under the name of a process proves the death of the one before: its
// held branch is lost at once, though it said no goodbye.
func TestRestartUnderAProcessName(t *testing.T) {
	cl := realcluster.NewWith(t, func(cl *realcluster.Cluster) { cl.Grace = time.Minute })
	initiator := dialReal(t, cl)
	victim := dialReal(t, cl, participant.WithProcess("pod-1"))
	serve(t, victim, "r")
	tx := begin(t, initiator)
	votes(t, start(t, victim, tx, "r", participant.Held()), participant.VotePrepared)
	victim.Kill()
	serve(t, dialReal(t, cl, participant.WithProcess("pod-1")), "r")
	began := time.Now()
	if err := tx.Commit(t.Context()); err == nil {
		t.Error("committed without the holder of a held branch")
	}
	if waited := time.Since(began); waited > cl.Grace/4 {
		t.Errorf("the loss took %v; it needs no grace of %v", waited, cl.Grace)
	}
	cl.Settled()
}
