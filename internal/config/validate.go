package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Validate finds everything that is wrong with c at once. It looks at nothing
// but c: not at files, not at the network.
func Validate(c *Config) error {
	return errors.Join(
		validateNode(c),
		validateListeners(c),
		validateTLS(c),
		validateTiming(c),
		oneOf("storage.log_store", c.Storage.LogStore, "auto", "boltdb", "wal"),
		oneOf("raft.profile", c.Raft.Profile, "fast", "default"),
		oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error"),
		oneOf("log.format", c.Log.Format, "text", "json"),
	)
}

// nodeNameMax is the longest name of a node, in bytes.
const nodeNameMax = 64

func validateNode(c *Config) error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case c.Node.Name == "":
		fail("node.name is empty: give --name")
	case len(c.Node.Name) > nodeNameMax:
		fail("node.name is %d bytes long, at most %d are allowed", len(c.Node.Name), nodeNameMax)
	case strings.ContainsFunc(c.Node.Name, func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) }):
		fail("node.name %q holds a space or a control character", c.Node.Name)
	}
	if c.Node.DataDir == "" {
		fail("node.data_dir is empty: give --data-dir")
	}
	if c.Cluster.Bootstrap && len(c.Cluster.Join) > 0 {
		fail("--bootstrap and --join are both given: the first node of a new cluster takes --bootstrap, every other one --join")
	}
	if c.Cluster.Bootstrap && c.Cluster.NonVoter {
		fail("--bootstrap and --non-voter are both given: the first node of a cluster must vote")
	}
	for _, address := range slices.Concat(c.Cluster.Seeds, c.Cluster.Join) {
		if err := checkAddress(address); err != nil {
			fail("cluster.seeds or cluster.join: %w", err)
		}
	}
	return errors.Join(errs...)
}

func validateListeners(c *Config) error {
	var errs []error
	beyond := ""
	for _, l := range []struct{ key, listen, advertise string }{
		{"listen.http", c.Listen.HTTP, c.Listen.AdvertiseHTTP},
		{"listen.grpc", c.Listen.GRPC, c.Listen.AdvertiseGRPC},
		{"listen.raft", c.Listen.Raft, c.Listen.AdvertiseRaft},
	} {
		if err := checkAddress(l.listen); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", l.key, err))
			continue
		}
		if !IsLoopback(l.listen) {
			beyond = l.key + " " + l.listen
		}
		flag := "--" + strings.Replace(l.key, "listen.", "advertise-", 1)
		switch {
		case l.advertise == "" && isWildcard(l.listen):
			errs = append(errs, fmt.Errorf("%s %s listens everywhere, which is no address that others could use: give %s HOST:PORT", l.key, l.listen, flag))
		case l.advertise != "":
			if err := checkAddress(l.advertise); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", flag, err))
			} else if isWildcard(l.advertise) {
				errs = append(errs, fmt.Errorf("%s %s is no address that others could use", flag, l.advertise))
			}
		}
	}
	if l := c.Listen.DTMJSONRPC; l != "" {
		if err := checkAddress(l); err != nil {
			errs = append(errs, fmt.Errorf("listen.dtm_jsonrpc: %w", err))
		} else if !IsLoopback(l) {
			beyond = "listen.dtm_jsonrpc " + l
		}
	}
	if beyond != "" && !c.MutualTLS() && !c.Listen.Insecure {
		errs = append(errs, fmt.Errorf("%s is beyond loopback and there is no mutual TLS: whoever reaches the port could decide transactions. Give --tls-cert-file, --tls-key-file and --tls-ca-file, or --insecure if the network itself is trusted", beyond))
	}
	return errors.Join(errs...)
}

func validateTLS(c *Config) error {
	var errs []error
	t := c.TLS
	if (t.CertFile == "") != (t.KeyFile == "") {
		errs = append(errs, errors.New("tls.cert_file and tls.key_file belong together: give both or none"))
	}
	if t.CAFile != "" && t.CertFile == "" {
		errs = append(errs, errors.New("tls.ca_file is given without tls.cert_file: a node that asks for certificates must have one"))
	}
	if (t.RaftCertFile == "") != (t.RaftKeyFile == "") {
		errs = append(errs, errors.New("tls.raft_cert_file and tls.raft_key_file belong together: give both or none"))
	}
	if (t.RaftCertFile != "" || t.RaftCAFile != "") && t.CertFile == "" {
		errs = append(errs, errors.New("tls.raft_cert_file or tls.raft_ca_file is given without tls.cert_file: either every listener speaks TLS or none"))
	}
	if t.RaftCAFile != "" && t.CAFile == "" {
		errs = append(errs, errors.New("tls.raft_ca_file is given without tls.ca_file: clients would need no certificate, nodes would"))
	}
	return errors.Join(errs...)
}

func validateTiming(c *Config) error {
	var errs []error
	for _, s := range []struct {
		key      string
		positive bool
	}{
		{"storage.operation_timeout", c.Storage.OperationTimeout > 0},
		{"listen.drain_timeout", c.Listen.DrainTimeout >= 0},
		{"tx.stuck_after", c.Tx.StuckAfter > 0},
		{"tx.call_timeout", c.Tx.CallTimeout >= 0},
		{"tx.retry_max", c.Tx.RetryMax >= 0},
		{"tx.in_flight", c.Tx.InFlight > 0},
		{"tx.in_flight_resource", c.Tx.InFlightResource > 0},
		{"raft.snapshot_threshold", c.Raft.SnapshotThreshold > 0},
		{"raft.snapshot_bytes", c.Raft.SnapshotBytes > 0 && c.Raft.SnapshotBytes <= math.MaxInt64},
		{"raft.snapshot_interval", c.Raft.SnapshotInterval > 0},
	} {
		if !s.positive {
			errs = append(errs, fmt.Errorf("%s is too small or negative", s.key))
		}
	}
	return errors.Join(errs...)
}

// MutualTLS says whether every listener asks for certificates.
func (c *Config) MutualTLS() bool { return c.TLS.CertFile != "" && c.TLS.CAFile != "" }

// BeyondLoopback says whether any listener can be reached from other machines.
func (c *Config) BeyondLoopback() bool {
	return !IsLoopback(c.Listen.HTTP) || !IsLoopback(c.Listen.GRPC) || !IsLoopback(c.Listen.Raft) ||
		c.Listen.DTMJSONRPC != "" && !IsLoopback(c.Listen.DTMJSONRPC)
}

// IsLoopback says whether an address is of this machine only. A name other
// than localhost is not: what it resolves to may change.
func IsLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func isWildcard(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "" || (ip != nil && ip.IsUnspecified())
}

// checkAddress wants host:port with a port that can be found again.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not of the form host:port: %w", address, err)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("%q: port %q is not between 1 and 65535", address, port)
	}
	if strings.ContainsFunc(host, func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) }) {
		return fmt.Errorf("%q: the host holds a space or a control character", address)
	}
	return nil
}

func oneOf(key, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	hint := ""
	if near := Closest(value, allowed); near != "" {
		hint = fmt.Sprintf("; did you mean %s?", near)
	}
	return fmt.Errorf("%s is %q, allowed are %s%s", key, value, strings.Join(allowed, ", "), hint)
}
