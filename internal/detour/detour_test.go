package detour

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func arm(t *testing.T, detours map[string]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "detours")
	if err := Write(path, detours); err != nil {
		t.Fatal(err)
	}
	if err := Arm(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Arm("") })
	return path
}

// reached dials an address and returns the one that answered.
func reached(t *testing.T, meant string) string {
	t.Helper()
	conn, err := Dial(context.Background(), "tcp", meant)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.RemoteAddr().String()
}

func TestDialGoesByTheDetour(t *testing.T) {
	meant, instead, other := listen(t).Addr().String(), listen(t).Addr().String(), listen(t).Addr().String()
	if got := reached(t, meant); got != meant || Armed() {
		t.Fatalf("unarmed: dialed %s and reached %s", meant, got)
	}
	path := arm(t, map[string]string{meant: instead})
	if got := reached(t, meant); got != instead {
		t.Errorf("dialed %s and reached %s, not %s", meant, got, instead)
	}
	if got := reached(t, other); got != other {
		t.Errorf("an address that has no detour: dialed %s and reached %s", other, got)
	}
	if err := Write(path, map[string]string{meant: other}); err != nil {
		t.Fatal(err)
	}
	if got := reached(t, meant); got != other {
		t.Errorf("the file was not read again: reached %s, not %s", got, other)
	}
}

// A link around its proxy would make the test that armed it say nothing.
func TestDialFailsWithoutItsFile(t *testing.T) {
	meant := listen(t).Addr().String()
	path := arm(t, map[string]string{meant: meant})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if conn, err := Dial(context.Background(), "tcp", meant); err == nil {
		conn.Close()
		t.Error("dialed without the file of detours")
	}
}

func TestArmRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"one address":        "127.0.0.1:1",
		"beyond loopback":    "127.0.0.1:1 192.0.2.1:1",
		"from beyond":        "192.0.2.1:1 127.0.0.1:1",
		"a name":             "localhost:1 127.0.0.1:1",
		"no port":            "127.0.0.1 127.0.0.1:1",
		"three addresses":    "127.0.0.1:1 127.0.0.1:2 127.0.0.1:3",
		"an unspecified one": "127.0.0.1:1 0.0.0.0:2",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "detours")
			if err := os.WriteFile(path, []byte("# first\n\n"+text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := Arm(path); err == nil || !strings.Contains(err.Error(), "line 3") {
				t.Errorf("%q: armed, or the line is not named: %v", text, err)
			}
			if Armed() {
				t.Error("armed all the same")
			}
		})
	}
	if err := Arm(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that does not exist is armed")
	}
}
