package branchcall

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// target is an endpoint taken apart.
type target struct {
	scheme string
	// host without brackets; address is host:port.
	host, address string
	url           *url.URL
	// method is `/package.Service/Method` of a gRPC endpoint that names one.
	method string
	// server is scheme and address: what a connection is kept by.
	server string
}

// overGRPC tells which of the two protocols reaches it.
func (t target) overGRPC() bool { return t.scheme == "grpc" || t.scheme == "grpcs" }

func (a *Allow) parse(endpoint string) (target, error) {
	if strings.ContainsFunc(endpoint, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
		return target{}, fmt.Errorf("%w: %q holds control characters or spaces", ErrNotAllowed, endpoint)
	}
	parsed, err := url.Parse(endpoint)
	if err != nil {
		return target{}, fmt.Errorf("%w: %q is no URL", ErrNotAllowed, endpoint)
	}
	t := target{scheme: parsed.Scheme, host: strings.ToLower(strings.TrimSuffix(parsed.Hostname(), ".")), url: parsed}
	switch {
	case !slices.Contains([]string{"http", "https", "grpc", "grpcs"}, t.scheme) && strings.Contains(endpoint, "://"):
		return target{}, fmt.Errorf("%w: scheme %q: http, https, grpc and grpcs are called, and no service discovery is asked; name a host, or a load balancer",
			ErrNotAllowed, t.scheme)
	case parsed.User != nil:
		return target{}, fmt.Errorf("%w: credentials do not belong into an endpoint", ErrNotAllowed)
	case parsed.Fragment != "" || parsed.Opaque != "":
		return target{}, fmt.Errorf("%w: %q is not of the form scheme://host:port/path", ErrNotAllowed, endpoint)
	case t.host == "":
		return target{}, fmt.Errorf("%w: %q names no host", ErrNotAllowed, endpoint)
	}
	port := parsed.Port()
	switch t.scheme {
	case "http":
		port = defaultTo(port, "80")
	case "https":
		port = defaultTo(port, "443")
	case "grpc", "grpcs":
		method, ok := methodOf(parsed)
		if port == "" || !ok {
			return target{}, fmt.Errorf("%w: %q is not of the form %s://host:port or %s://host:port/package.Service/Method", ErrNotAllowed, endpoint, t.scheme, t.scheme)
		}
		t.method = method
	default:
		return target{}, fmt.Errorf("%w: scheme %q; http, https, grpc and grpcs are called", ErrNotAllowed, t.scheme)
	}
	if number, err := strconv.Atoi(port); err != nil || number < 1 || number > 65535 {
		return target{}, fmt.Errorf("%w: %q has no valid port", ErrNotAllowed, endpoint)
	}
	t.address = net.JoinHostPort(t.host, port)
	t.server = t.scheme + "://" + t.address
	if err := a.checkHost(t.host); err != nil {
		return target{}, err
	}
	return t, nil
}

// methodOf reads the path of a gRPC endpoint: none, or a full method's name.
func methodOf(u *url.URL) (method string, ok bool) {
	if u.RawQuery != "" || u.ForceQuery || u.RawPath != "" {
		return "", false
	}
	if u.Path == "" || u.Path == "/" {
		return "", true
	}
	service, name, ok := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if !ok || !isName(service, true) || !isName(name, false) {
		return "", false
	}
	return u.Path, true
}

// isName tells of a name as protobuf has them, with dots where packages may be.
func isName(name string, dots bool) bool {
	if name == "" || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, "..") {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && (r != '.' || !dots)
	})
}
