package branchcall

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// ErrNotAllowed is wrapped by every refusal to call an endpoint.
var ErrNotAllowed = errors.New("endpoint not allowed")

// dialTimeout bounds one TCP connection attempt.
const dialTimeout = 5 * time.Second

// Allow is the list of hosts and networks that branch endpoints may name. The
// name is checked when the endpoint is registered; the address is checked again
// in the dialer, after DNS, for every connection. *Because* a name may resolve
// to another address each time it is asked (DNS rebinding).
//
// A host entry allows the addresses it resolves to, private ones too, but never
// loopback, link-local (cloud metadata), multicast or unspecified ones, nor
// addresses that embed another one (NAT64, 6to4): those need a network entry, or
// the address itself. "localhost" stands for the loopback networks.
type Allow struct {
	hosts    map[string]bool
	networks []netip.Prefix
	known    endpoints
}

// ParseAllow reads entries of --endpoint-allow: HOST, ADDRESS or CIDR. No
// entries allow nothing.
func ParseAllow(entries ...string) (*Allow, error) {
	allow := &Allow{hosts: make(map[string]bool)}
	for _, entry := range entries {
		text := strings.ToLower(strings.TrimSpace(entry))
		if prefix, err := netip.ParsePrefix(text); err == nil {
			allow.networks = append(allow.networks, prefix.Masked())
			continue
		}
		if address, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
			address = address.Unmap()
			allow.networks = append(allow.networks, netip.PrefixFrom(address, address.BitLen()))
			continue
		}
		host := strings.TrimSuffix(text, ".")
		if !validHost(host) {
			return nil, fmt.Errorf("--endpoint-allow %q is neither a host name, an address nor a network such as 10.1.0.0/16", entry)
		}
		if host == "localhost" {
			allow.networks = append(allow.networks, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
		}
		allow.hosts[host] = true
	}
	return allow, nil
}

// Check says whether an endpoint may be named. It asks no DNS: a host name that
// only its address could allow passes here and is judged when it is dialed.
func (a *Allow) Check(endpoint string) error {
	_, err := a.target(endpoint)
	return err
}

// checkHost judges what can be judged without DNS.
func (a *Allow) checkHost(host string) error {
	if len(a.hosts) == 0 && len(a.networks) == 0 {
		return fmt.Errorf("%w: this node calls no endpoints; allow them with --endpoint-allow HOST|CIDR, or let the participant attach a session", ErrNotAllowed)
	}
	if address, err := netip.ParseAddr(host); err == nil {
		return a.checkAddress(host, address)
	}
	if !validHost(host) {
		// 2130706433, 0x7f.1 and their like: other resolvers read them as addresses.
		return fmt.Errorf("%w: %q is no host name", ErrNotAllowed, host)
	}
	if a.hosts[host] || len(a.networks) > 0 {
		return nil
	}
	return fmt.Errorf("%w: host %s; allow it with --endpoint-allow %s", ErrNotAllowed, host, host)
}

// checkAddress judges an address that host resolved to.
func (a *Allow) checkAddress(host string, address netip.Addr) error {
	address = address.Unmap().WithZone("")
	for _, network := range a.networks {
		if network.Contains(address) {
			return nil
		}
	}
	if a.hosts[host] && !guarded(address) {
		return nil
	}
	return fmt.Errorf("%w: address %s of host %s; allow it with --endpoint-allow %s", ErrNotAllowed, address, host, address)
}

// embedding holds networks whose addresses carry another address inside.
var embedding = []netip.Prefix{
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), // NAT64
	netip.MustParsePrefix("2002::/16"), // 6to4
	netip.MustParsePrefix("2001::/32"), // Teredo
	netip.MustParsePrefix("::/96"),     // IPv4-compatible
}

// guarded tells of addresses that a name alone never opens.
func guarded(address netip.Addr) bool {
	if address.IsLoopback() || address.IsLinkLocalUnicast() || address.IsMulticast() || address.IsUnspecified() ||
		address == netip.MustParseAddr("fd00:ec2::254") || address == netip.MustParseAddr("255.255.255.255") ||
		netip.MustParsePrefix("0.0.0.0/8").Contains(address) {
		return true
	}
	for _, network := range embedding {
		if network.Contains(address) {
			return true
		}
	}
	return false
}

// dial connects to address (host:port) if the list allows where it leads.
func (a *Allow) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	host = strings.ToLower(host)
	if err := a.checkHost(host); err != nil {
		return nil, err
	}
	dialer := net.Dialer{
		Timeout: dialTimeout,
		Control: func(_, resolved string, _ syscall.RawConn) error {
			target, err := netip.ParseAddrPort(resolved)
			if err != nil {
				return fmt.Errorf("%w: %s", ErrNotAllowed, resolved)
			}
			return a.checkAddress(host, target.Addr())
		},
	}
	return dialer.DialContext(ctx, network, address)
}

// validHost tells of a DNS name whose last label is no number.
func validHost(host string) bool {
	if len(host) == 0 || len(host) > 253 {
		return false
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
		if strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
		}) {
			return false
		}
	}
	last := labels[len(labels)-1]
	return !strings.HasPrefix(last, "0x") && strings.ContainsFunc(last, func(r rune) bool { return r < '0' || r > '9' })
}

func defaultTo(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
