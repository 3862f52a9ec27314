package raftnode

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/testkit"
)

// authority is a certificate authority made for one test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{t, cert, key, pool}
}

// mutual returns the two sides of mutual TLS with a new certificate.
func (a *authority) mutual() (server, client *tls.Config) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	must(a.t, err)
	pair := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	server = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool}
	client = &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: a.pool}
	return server, client
}

// Three nodes over mutual TLS.
func TestTLS_Cluster(t *testing.T) {
	ca := newAuthority(t)
	c := newCluster(t, 3, func(_ int, cfg *Config) { cfg.ServerTLS, cfg.ClientTLS = ca.mutual() })
	c.set("x", "1")
	c.converge("x", "1")
}

// "Connect with a client certificate: refused", and without one, and in plain.
func TestTLS_Strangers(t *testing.T) {
	ca := newAuthority(t)
	c := newCluster(t, 1, func(_ int, cfg *Config) { cfg.ServerTLS, cfg.ClientTLS = ca.mutual() })
	m := c.members[0]
	_, foreign := newAuthority(t).mutual()
	foreign.RootCAs = ca.pool
	for name, client := range map[string]*tls.Config{
		"another authority's certificate": foreign,
		"no certificate":                  {RootCAs: ca.pool},
		"no TLS":                          nil,
	} {
		cfg := testConfig(t)
		must(t, makeDir(cfg.DataDir))
		id, err := openIdentity(cfg.DataDir, "")
		must(t, err)
		must(t, id.adopt(m.Identity().ClusterID))
		cfg.ClientTLS, cfg.ServerTLS = client, client
		layer, err := newStream(&cfg, id, func(string) {})
		must(t, err)
		conn, err := layer.Dial(raft.ServerAddress(string(m.self)+"@"+m.cfg.Address), 2*time.Second)
		if err == nil {
			conn.Close()
			t.Errorf("%s: let in", name)
		}
		must(t, layer.Close())
	}
	c.set("x", "1")
}

// Who is called must prove who he is as well: by a certificate of the same authority,
// and for the very host that was called.
func TestTLS_WhoIsCalled(t *testing.T) {
	ours, foreign := newAuthority(t), newAuthority(t)
	_, client := ours.mutual()
	for _, test := range []struct {
		name, host string
		by         *authority
		ok         bool
	}{{"ours", "127.0.0.1", ours, true}, {"of another host", "localhost", ours, false}, {"another authority's", "127.0.0.1", foreign, false}} {
		cfg := testConfig(t)
		must(t, makeDir(cfg.DataDir))
		id, err := openIdentity(cfg.DataDir, "")
		must(t, err)
		must(t, id.adopt(testCluster))
		cfg.ServerTLS, _ = test.by.mutual()
		cfg.ServerTLS.ClientCAs = ours.pool
		cfg.ClientTLS = client
		layer, err := newStream(&cfg, id, func(string) {})
		must(t, err)
		us, _ := id.get()
		_, port, _ := net.SplitHostPort(cfg.Address)
		conn, err := layer.Dial(raft.ServerAddress(us.NodeID+"@"+net.JoinHostPort(test.host, port)), within)
		if err == nil {
			conn.Close()
		}
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
		must(t, layer.Close())
	}
}

// Neither is a node of no cluster a friend of another one: they have nothing to say to
// each other. One that has a cluster takes the other in, once.
func TestGreeting_OfNoCluster(t *testing.T) {
	new := Identity{NodeID: newUUID()}
	to, err := parseUUID(new.NodeID)
	must(t, err)
	id := &identity{path: filepath.Join(t.TempDir(), "identity.json"), now: new}
	s := &stream{id: id}
	for _, test := range []struct {
		from fsm.GID
		want byte
	}{{fsm.GID{}, greetingOtherCluster}, {testCluster, greetingWelcome}, {newClusterID(2), greetingOtherCluster}, {testCluster, greetingWelcome}, {fsm.GID{}, greetingOtherCluster}} {
		ids := append(append(append([]byte{}, test.from[:]...), to[:]...), to[:]...)
		if answer, _, _ := s.judge(ids); answer != test.want {
			t.Errorf("a node of %s is answered %d", test.from, answer)
		}
	}
	if id.now.ClusterID != testCluster || id.now.NodeID != new.NodeID {
		t.Errorf("it is %+v now", id.now)
	}
}

// The greeting keeps out whoever means another node or belongs elsewhere.
func TestGreeting(t *testing.T) {
	ours, _ := bareTransport(t)
	id, _ := ours.layer.id.get()
	theirs, _ := bareTransport(t)
	theirs.layer.id.now.ClusterID = newClusterID(2)
	nobody, _ := bareTransport(t)
	nobody.layer.id.now.ClusterID = [16]byte{}
	right := id.NodeID + "@" + string(ours.LocalAddr())
	for _, test := range []struct {
		name   string
		from   *transport
		target string
		says   string
	}{
		{"another cluster's node", theirs, right, "another cluster"},
		{"a node of no cluster", nobody, right, "another cluster"},
		{"for another node", ours, newUUID() + "@" + string(ours.LocalAddr()), "quorate cluster remove"},
		{"no id", ours, string(ours.LocalAddr()), "no node id"},
		{"a bad id", ours, "n1@" + string(ours.LocalAddr()), "is no UUID"},
		{"nobody there", ours, id.NodeID + "@127.0.0.1:1", "connect"},
	} {
		conn, err := test.from.layer.Dial(raft.ServerAddress(test.target), time.Second)
		if err == nil {
			conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	conn, err := ours.layer.Dial(raft.ServerAddress(right), time.Second)
	must(t, err)
	conn.Close()
}

// Connections that say nothing, or nonsense, are closed, are bounded, and keep
// nobody else out.
func TestFlood(t *testing.T) {
	c := newCluster(t, 1, func(_ int, cfg *Config) {
		steady(cfg)
		cfg.HandshakeMax = 500 * time.Millisecond
		cfg.ConnectionsMax = 20
	})
	m := c.members[0]
	before, own := runtime.NumGoroutine(), len(m.trans.layer.conns)
	var silent []net.Conn
	for range 200 {
		conn, err := net.Dial("tcp", m.cfg.Address)
		must(t, err)
		silent = append(silent, conn)
	}
	for _, conn := range silent[:20] {
		_, _ = conn.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	}
	if n := runtime.NumGoroutine() - before; n > 20+handshakesMax {
		t.Errorf("%d goroutines serve connections that said nothing", n)
	}
	for _, conn := range silent {
		must(t, conn.SetReadDeadline(time.Now().Add(within)))
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a stranger was answered")
		} else if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
			t.Fatal("a silent connection was kept")
		}
		conn.Close()
	}
	testkit.Eventually(t, within, func() bool { return len(m.trans.layer.conns) == own && len(m.trans.layer.handshakes) == 0 },
		"all tokens are back")
	c.join(c.add())
	c.set("x", "1")
	c.converge("x", "1")
}

// What follows a good greeting may still be nonsense.
func TestNonsenseAfterTheGreeting(t *testing.T) {
	c := newCluster(t, 1, nil)
	m := c.members[0]
	friend, _ := bareTransport(t)
	friend.layer.id.now.ClusterID = m.Identity().ClusterID
	for _, nonsense := range []string{"\x00\xff\xff\xff\xff", "\x09", "\x02\x81\xa4Size\xcf\x7f\xff\xff\xff\xff\xff\xff\xff", strings.Repeat("\xdf", 1000)} {
		conn, err := friend.layer.Dial(raft.ServerAddress(string(m.self)+"@"+m.cfg.Address), time.Second)
		must(t, err)
		_, err = conn.Write([]byte(nonsense))
		must(t, err)
		_ = conn.(*net.TCPConn).CloseWrite()
		must(t, conn.SetReadDeadline(time.Now().Add(within)))
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
	}
	c.set("x", "1")
}

func TestConfig_Validation(t *testing.T) {
	for says, change := range map[string]func(*Config){
		"DataDir is empty":       func(c *Config) { c.DataDir = "" },
		"is no host:port":        func(c *Config) { c.Address = "n1" },
		"has no port":            func(c *Config) { c.Address = "n1:0" },
		"no address that other":  func(c *Config) { c.Address = "0.0.0.0:7000" },
		`LogStore "x"`:           func(c *Config) { c.LogStore = "x" },
		"ServerTLS and":          func(c *Config) { c.ServerTLS = &tls.Config{} },
		"Profile":                func(c *Config) { c.Profile.LeaseTimeout = c.Profile.HeartbeatTimeout + 1 },
		"EntryBytesMax 524288":   func(c *Config) { c.EntryBytesMax = 512 << 10 },
		"CommandBytesMax 0":      func(c *Config) { c.CommandBytesMax = 0 },
		"QueueCallsMax is 0":     func(c *Config) { c.QueueCallsMax = 0 },
		"begin with DefaultConf": func(c *Config) { c.Clock = nil },
	} {
		cfg := testConfig(t)
		change(&cfg)
		if _, err := Open(cfg, newRegisters()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	cfg := testConfig(t)
	taken := listenOn(t, cfg.Address)
	defer taken.Close()
	if _, err := Open(cfg, newRegisters()); err == nil || !strings.Contains(err.Error(), cfg.Address) {
		t.Errorf("a taken address: %v", err)
	}
	if fast, normal := Fast(), Default(); normal.HeartbeatTimeout < time.Second || fast.HeartbeatTimeout >= normal.HeartbeatTimeout {
		t.Errorf("the profiles are %+v and %+v", fast, normal)
	}
}

// A listener that is handed over is used, and closed with the node.
func TestConfig_Listener(t *testing.T) {
	cfg := testConfig(t)
	cfg.Listener = listenOn(t, "127.0.0.1:0")
	cfg.Address = cfg.Listener.Addr().String()
	cfg.Fatal = func(err error) { t.Error(err) }
	n, err := Open(cfg, newRegisters())
	must(t, err)
	must(t, n.Close())
	if _, err := cfg.Listener.Accept(); err == nil {
		t.Error("the listener is still open")
	}
	cfg.Listener, cfg.Bind = nil, cfg.Address
	cfg.Address = "localhost:" + cfg.Address[strings.LastIndex(cfg.Address, ":")+1:]
	n, err = Open(cfg, newRegisters())
	must(t, err)
	if got := n.trans.LocalAddr(); string(got) != cfg.Address {
		t.Errorf("the name %s was stored as %s", cfg.Address, got)
	}
	must(t, n.Close())
	must(t, n.Close()) // again
}
