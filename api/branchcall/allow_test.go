package branchcall

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/testkit"
)

func allowed(t testing.TB, entries ...string) *Allow {
	t.Helper()
	a, err := ParseAllow(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestCheck is the table of what may be named when it is registered.
func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		allow    string
		endpoint string
		ok       bool
	}{
		{"", "http://stock:8081/branch", false},
		{"stock", "http://stock:8081/branch", true},
		{"stock", "HTTP://STOCK.:8081/branch", true},
		{"stock", "https://stock/branch?x=1", true},
		{"stock", "http://stock:/branch", true},
		{"stock", "grpc://stock:9000", true},
		{"stock", "grpcs://stock:9000/", true},
		{"stock", "grpc://stock", false},
		{"stock", "grpc://stock:9000/path", false},
		{"stock", "grpc://stock:9000/pkg.Stock/Reserve", true},
		{"stock", "grpcs://stock:9000/pkg.v1.Stock/Reserve_1", true},
		{"stock", "grpc://stock:9000/pkg.Stock/Reserve/", false},
		{"stock", "grpc://stock:9000/pkg.Stock/", false},
		{"stock", "grpc://stock:9000//Reserve", false},
		{"stock", "grpc://stock:9000/.Stock/Reserve", false},
		{"stock", "grpc://stock:9000/pkg..Stock/Reserve", false},
		{"stock", "grpc://stock:9000/pkg.Stock/pkg.Reserve", false},
		{"stock", "grpc://stock:9000/pkg.Stock/Re%73erve", false},
		{"stock", "grpc://stock:9000/pkg.Stock/Reserve?x=1", false},
		{"stock", "grpc://stock:9000/pkg.Stock/Reserve#x", false},
		{"stock", "grpc://stock/pkg.Stock/Reserve", false},
		{"stock", "topic://orders", false},
		{"stock", "http://other:8081/branch", false},
		{"stock", "http://stock.evil.example/", false},
		{"stock", "http://stock@evil.example/", false},
		{"stock", "http://user:secret@stock/", false},
		{"stock", "http://evil.example#@stock/", false},
		{"stock", "http://stock/#frag", false},
		{"stock", "gopher://stock/", false},
		{"stock", "file:///etc/passwd", false},
		{"stock", "stock:8081", false},
		{"stock", "http:stock", false},
		{"stock", "http://", false},
		{"stock", "http:///path", false},
		{"stock", "http://stock:0/", false},
		{"stock", "http://stock:65536/", false},
		{"stock", "http://stock/a\r\nHost: x", false},
		{"stock", "http://stock/a b", false},
		{"stock", "http://[::1", false},
		{"stock", "http://127.0.0.1/", false},
		{"localhost", "http://127.0.0.1:1/", true},
		{"localhost", "http://127.9.9.9:1/", true},
		{"localhost", "http://[::1]:1/", true},
		{"localhost", "http://localhost:1/", true},
		{"localhost", "http://10.0.0.1/", false},
		{"localhost", "http://2130706433/", false},
		{"localhost", "http://0x7f.1/", false},
		{"localhost", "http://0177.0.0.1/", false},
		{"localhost", "http://[::ffff:127.0.0.1]/", true}, // the same address, mapped
		{"10.1.0.0/16", "http://10.1.2.3/", true},
		{"10.1.0.0/16", "http://10.2.2.3/", false},
		{"10.1.0.0/16", "http://[::ffff:10.1.2.3]/", true},
		{"10.1.0.0/16", "http://[64:ff9b::a01:203]/", false},
		{"10.1.0.0/16", "http://[2002:a01:203::]/", false},
		{"10.1.0.0/16", "http://some.name/", true}, // judged by its address, when dialed
		{"10.1.2.3", "http://10.1.2.3/", true},
		{"10.1.2.3", "http://10.1.2.4/", false},
		{"[fd00::1]", "http://[fd00::1]/", true},
		{"fd00::1", "http://[fd00::1%25eth0]/", true},
		{"169.254.169.254", "http://169.254.169.254/", true}, // explicitly
	} {
		var entries []string
		if tt.allow != "" {
			entries = []string{tt.allow}
		}
		err := allowed(t, entries...).Check(tt.endpoint)
		if (err == nil) != tt.ok {
			t.Errorf("%q with %q: %v", tt.endpoint, tt.allow, err)
		}
		if err != nil && !errors.Is(err, ErrNotAllowed) {
			t.Errorf("%q: %v is not ErrNotAllowed", tt.endpoint, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("a secret is in the error: %v", err)
		}
	}
	err := allowed(t, "stock").Check("http://other/")
	if err == nil || !strings.Contains(err.Error(), "--endpoint-allow other") {
		t.Errorf("the refusal does not name what to type: %v", err)
	}
}

func TestParseAllowRefuses(t *testing.T) {
	for _, entry := range []string{"", "http://stock", "a b", "10.0.0.0/99", "-x", "stock:80", "1.2.3", "a..b", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a"} {
		if _, err := ParseAllow(entry); err == nil {
			t.Errorf("%q was taken", entry)
		}
	}
}

// TestAddresses: what a name may resolve to. A name never opens loopback, cloud
// metadata, or an address that hides another one.
func TestAddresses(t *testing.T) {
	for _, tt := range []struct {
		allow, host, address string
		ok                   bool
	}{
		{"stock", "stock", "10.1.2.3", true},
		{"stock", "stock", "93.184.216.34", true},
		{"stock", "stock", "fd12::1", true},
		{"stock", "stock", "127.0.0.1", false},
		{"stock", "stock", "::1", false},
		{"stock", "stock", "::ffff:127.0.0.1", false},
		{"stock", "stock", "169.254.169.254", false},
		{"stock", "stock", "fe80::1%eth0", false},
		{"stock", "stock", "fd00:ec2::254", false},
		{"stock", "stock", "0.0.0.0", false},
		{"stock", "stock", "0.1.2.3", false},
		{"stock", "stock", "::", false},
		{"stock", "stock", "224.0.0.1", false},
		{"stock", "stock", "255.255.255.255", false},
		{"stock", "stock", "64:ff9b::7f00:1", false},
		{"stock", "stock", "2002:7f00:1::", false},
		{"stock", "stock", "2001:0:1::1", false},
		{"stock", "stock", "::7f00:1", false},
		{"stock", "other", "10.1.2.3", false},
		{"10.0.0.0/8", "any", "10.1.2.3", true},
		{"10.0.0.0/8", "any", "11.1.2.3", false},
		{"0.0.0.0/0", "any", "169.254.169.254", true}, // explicitly everything
	} {
		err := allowed(t, tt.allow).checkAddress(tt.host, netip.MustParseAddr(tt.address))
		if (err == nil) != tt.ok {
			t.Errorf("%s resolved to %s with %q: %v", tt.host, tt.address, tt.allow, err)
		}
	}
}

// TestRebinding: the address is judged at the time of the connection. The name
// localhost stands for a name of an attacker's, allowed by a network entry at
// registration, which resolves to loopback when it is dialed.
func TestRebinding(t *testing.T) {
	l := testkit.Listen(t)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	a := allowed(t, "10.0.0.0/8")
	if err := a.Check("http://localhost:" + port + "/"); err != nil {
		t.Fatalf("the name alone cannot be judged: %v", err)
	}
	conn, err := a.dial(context.Background(), "tcp", "localhost:"+port)
	if err == nil {
		_ = conn.Close()
		t.Fatal("loopback was dialed by a name that the list does not open")
	}
	if !errors.Is(err, ErrNotAllowed) {
		t.Errorf("refused with %v", err)
	}
	if _, err := a.dial(context.Background(), "tcp", "127.0.0.1:"+port); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("by address: %v", err)
	}
	if _, err := a.dial(context.Background(), "tcp", "no port"); err == nil {
		t.Error("an address without a port was dialed")
	}
	conn, err = allowed(t, "localhost").dial(context.Background(), "tcp", "localhost:"+port)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

// FuzzCheck: whatever an endpoint is, checking it does not panic, and one that
// passes leads to the allowed host and nowhere else.
func FuzzCheck(f *testing.F) {
	for _, seed := range []string{"http://stock:1/x", "grpc://stock:1", "grpc://stock:1/pkg.Stock/Reserve", "grpcs://stock:1/a/b?c#d", "http://stock@evil/", "http://stock%2eevil/", "http://[::1]:1/", "http://stock\\@evil/", "//stock", "http:///stock"} {
		f.Add(seed)
	}
	a := allowed(f, "stock")
	f.Fuzz(func(t *testing.T, endpoint string) {
		got, err := a.parse(endpoint)
		if err != nil {
			return
		}
		host, _, err := net.SplitHostPort(got.address)
		if err != nil || host != "stock" || !strings.EqualFold(strings.TrimSuffix(got.url.Hostname(), "."), "stock") {
			t.Fatalf("%q leads to %q", endpoint, got.address)
		}
		if !got.overGRPC() {
			if got.method != "" {
				t.Fatalf("%q names the method %q", endpoint, got.method)
			}
			return
		}
		if got.method != "" && (strings.Count(got.method, "/") != 2 || strings.ContainsAny(got.method, "?#%\\ ")) {
			t.Fatalf("%q names the method %q", endpoint, got.method)
		}
	})
}
