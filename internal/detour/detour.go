// Package detour lets a test put a proxy on every link between the processes of
// one machine, in the binary that users run: what a process means to dial at one
// address, it dials at another.
//
// Detours are armed once, at start, from the environment variable named by
// [Variable]; nothing else arms them, the API least of all. Both ends of every
// detour must be on loopback. An unarmed Dial costs one atomic load.
//
// The variable names a file with one detour a line, `MEANT INSTEAD`, both
// HOST:PORT; empty lines and lines that begin with # are nothing. The file is
// read again at each dial, so that a process learns of links to processes that
// are started after it. An address that the file does not name is dialed as it
// is.
package detour

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// Variable names the environment variable that arms detours.
const Variable = "QUORATE_DETOURS"

// armed is the file's path, nil while nothing is armed.
var armed atomic.Pointer[string]

// Arm arms the detours of the file in place of what was armed before; an empty
// path disarms. It must be called before the process dials anything.
func Arm(path string) error {
	if path == "" {
		armed.Store(nil)
		return nil
	}
	if _, err := Read(path); err != nil {
		return err
	}
	armed.Store(&path)
	return nil
}

// Armed reports whether any file is armed.
func Armed() bool { return armed.Load() != nil }

// Address returns the address to dial instead of the one that is meant. It fails
// when the file cannot be read any more: a link around its proxy would make the
// test that armed it say nothing.
func Address(meant string) (string, error) {
	path := armed.Load()
	if path == nil {
		return meant, nil
	}
	detours, err := Read(*path)
	if err != nil {
		return "", err
	}
	if instead, ok := detours[meant]; ok {
		return instead, nil
	}
	return meant, nil
}

// Dial dials the address that is meant, by its detour if it has one.
func Dial(ctx context.Context, network, meant string) (net.Conn, error) {
	address, err := Address(meant)
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// DialTCP is Dial in the form that gRPC wants.
func DialTCP(ctx context.Context, meant string) (net.Conn, error) { return Dial(ctx, "tcp", meant) }

// Read reads a file of detours.
func Read(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Variable, err)
	}
	detours := make(map[string]string)
	lines := bufio.NewScanner(bytes.NewReader(text))
	for number := 1; lines.Scan(); number++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if err := check(fields); err != nil {
			return nil, fmt.Errorf("%s: %s, line %d: %w", Variable, path, number, err)
		}
		detours[fields[0]] = fields[1]
	}
	return detours, lines.Err()
}

func check(fields []string) error {
	if len(fields) != 2 {
		return errors.New("want two addresses: what is meant, and what is dialed instead")
	}
	for _, field := range fields {
		if address, err := netip.ParseAddrPort(field); err != nil || !address.Addr().IsLoopback() {
			return fmt.Errorf("%q is no loopback address and port: detours are for tests on one machine", field)
		}
	}
	return nil
}

// Write writes a file of detours whole, so that who reads it at the same time
// sees the old or the new one.
func Write(path string, detours map[string]string) error {
	var text bytes.Buffer
	for meant, instead := range detours {
		fmt.Fprintf(&text, "%s %s\n", meant, instead)
	}
	draft, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = draft.Write(text.Bytes())
	if err := errors.Join(err, draft.Close()); err != nil {
		return errors.Join(err, os.Remove(draft.Name()))
	}
	return os.Rename(draft.Name(), path)
}
