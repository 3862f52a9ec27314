package tlsconfig

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testkit"
)

func newAuthority(t *testing.T) *testkit.Authority { return testkit.NewAuthority(t) }

func issue(t *testing.T, a *testkit.Authority, dir, name string) Files {
	t.Helper()
	cert, key, ca := a.Issue(t, dir, name)
	return Files{Cert: cert, Key: key, CA: ca}
}

func write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, files Files) *Source {
	t.Helper()
	source, err := Load(files, testkit.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// handshake connects a client to a server and returns the name that the server
// presented, and both sides' errors.
func handshake(t *testing.T, server *Source, client *tls.Config) (name string, err error) {
	t.Helper()
	config, err := server.Server()
	if err != nil {
		t.Fatal(err)
	}
	l := testkit.Listen(t)
	served := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			served <- err
			return
		}
		defer func() { _ = conn.Close() }()
		secure := tls.Server(conn, config)
		if err := secure.Handshake(); err != nil {
			served <- err
			return
		}
		_, err = secure.Write([]byte("hello"))
		served <- err
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), client)
	if err != nil {
		return "", errors.Join(err, <-served)
	}
	defer func() { _ = conn.Close() }()
	_, err = io.ReadFull(conn, make([]byte, 5))
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName, errors.Join(err, <-served)
}

func TestMutual(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	files := issue(t, ours, t.TempDir(), "node")
	server := load(t, files)
	if !server.Mutual() {
		t.Error("a source with authorities is not mutual")
	}
	if name, err := handshake(t, server, load(t, files).Client()); err != nil || name != "node" {
		t.Errorf("a node's own certificate: %q %v", name, err)
	}
	// Without a certificate, and with another authority's.
	bare := load(t, Files{CA: files.CA})
	if _, err := handshake(t, server, bare.Client()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a client without a certificate: %v", err)
	}
	foreign := issue(t, theirs, t.TempDir(), "stranger")
	stranger := load(t, Files{Cert: foreign.Cert, Key: foreign.Key, CA: files.CA})
	if _, err := handshake(t, server, stranger.Client()); err == nil {
		t.Error("another authority's client was let in")
	}
	// And a server of another authority is not believed.
	if _, err := handshake(t, load(t, foreign), load(t, files).Client()); err == nil {
		t.Error("another authority's server was believed")
	}
}

func TestServerOnly(t *testing.T) {
	ca := newAuthority(t)
	files := issue(t, ca, t.TempDir(), "node")
	server := load(t, Files{Cert: files.Cert, Key: files.Key})
	if server.Mutual() {
		t.Error("a source without authorities is mutual")
	}
	if name, err := handshake(t, server, load(t, Files{CA: files.CA}).Client()); err != nil || name != "node" {
		t.Errorf("%q %v", name, err)
	}
	config, err := server.Server("h2")
	if err != nil || config.NextProtos[0] != "h2" || config.MinVersion != tls.VersionTLS12 {
		t.Errorf("%v %v", config, err)
	}
	if _, err := load(t, Files{CA: files.CA}).Server(); err == nil || !strings.Contains(err.Error(), "--tls-cert") {
		t.Errorf("a listener without a certificate: %v", err)
	}
}

// TestRotation: new files are used from the next handshake on, half-written ones
// are not.
func TestRotation(t *testing.T) {
	ca := newAuthority(t)
	dir := t.TempDir()
	files := issue(t, ca, dir, "node")
	server := load(t, files)
	now := time.Now()
	server.now = func() time.Time { return now }
	client := func() *tls.Config { return load(t, files).Client() }

	write(t, files.Cert, []byte("-----BEGIN CERT"))
	now = now.Add(2 * checkInterval)
	good := load(t, issue(t, ca, t.TempDir(), "client"))
	if name, err := handshake(t, server, good.Client()); err != nil || name != "node" {
		t.Errorf("with half-written files: %q %v", name, err)
	}
	next := issue(t, ca, t.TempDir(), "node-2")
	for from, to := range map[string]string{next.Cert: files.Cert, next.Key: files.Key} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		write(t, to, content)
	}
	if name, err := handshake(t, server, client()); err != nil || name != "node" {
		t.Errorf("files are looked at more than once a second: %q %v", name, err)
	}
	now = now.Add(2 * checkInterval)
	if name, err := handshake(t, server, client()); err != nil || name != "node-2" {
		t.Errorf("after the rotation: %q %v", name, err)
	}
	// Another authority: yesterday's clients are out.
	other := newAuthority(t)
	write(t, files.CA, other.PEM)
	now = now.Add(2 * checkInterval)
	if _, err := handshake(t, server, good.Client()); err == nil {
		t.Error("a client of the old authority was let in")
	}
}

func TestLoadRefuses(t *testing.T) {
	files := issue(t, newAuthority(t), t.TempDir(), "node")
	empty := filepath.Join(t.TempDir(), "empty")
	write(t, empty, nil)
	for _, tt := range []struct {
		name  string
		files Files
		want  string
	}{
		{"nothing", Files{}, "--tls-cert"},
		{"a certificate without its key", Files{Cert: files.Cert}, "--tls-key"},
		{"a key without its certificate", Files{Key: files.Key, CA: files.CA}, "--tls-cert"},
		{"a file that is not there", Files{Cert: "/nowhere.crt", Key: files.Key}, "/nowhere.crt"},
		{"a key of another certificate", Files{Cert: files.Cert, Key: issue(t, newAuthority(t), t.TempDir(), "x").Key}, files.Cert},
		{"authorities that are none", Files{CA: empty}, "holds no PEM certificate"},
		{"authorities that are not there", Files{CA: "/nowhere.crt"}, "/nowhere.crt"},
	} {
		if _, err := Load(tt.files, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}
