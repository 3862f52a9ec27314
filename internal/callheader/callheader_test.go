package callheader

import (
	"strings"
	"testing"
)

// FuzzEscape: whatever a key holds, it arrives as it was, and in between it is
// visible ASCII.
func FuzzEscape(f *testing.F) {
	for _, seed := range []string{"order-1", "a/b+c d%20", "é\r\nX: y", "\x00\xff", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		escaped := Escape(text)
		if strings.ContainsFunc(escaped, func(r rune) bool { return r <= ' ' || r >= 0x7F }) {
			t.Fatalf("%q is not visible ASCII", escaped)
		}
		if back, err := Unescape(escaped); err != nil || back != text {
			t.Fatalf("%q came back as %q, %v", text, back, err)
		}
	})
}

func TestReserved(t *testing.T) {
	for name, want := range map[string]bool{
		"Quorate-Gid": true, "QUORATE-X": true, "Host": true, "content-length": true, "Grpc-Timeout": true, ":path": true, "Proxy-Authorization": true,
		"Authorization": false, "Content-Type": false, "X-Tenant": false, "quorate": false,
	} {
		if Reserved(name) != want {
			t.Errorf("%s: want %v", name, want)
		}
	}
}
