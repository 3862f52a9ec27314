package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/quorate/quorate/api/tlsconfig"
)

// clientFlags are the flags of every command that asks a cluster.
type clientFlags struct {
	endpoints  []string
	timeout    time.Duration
	tls        tlsconfig.Files
	serverName string
	output     string
}

// defaultEndpoint is where a node listens that was told nothing.
const defaultEndpoint = "localhost:36790"

// add declares the flags for cmd and everything below it.
func (f *clientFlags) add(cmd *cobra.Command, getenv func(string) string) {
	endpoints := []string{defaultEndpoint}
	if env := getenv("QUORATE_ENDPOINTS"); env != "" {
		endpoints = strings.Split(env, ",")
	}
	flags := cmd.PersistentFlags()
	flags.StringSliceVar(&f.endpoints, "endpoints", endpoints, "gRPC addresses of nodes, any of them (env QUORATE_ENDPOINTS)")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Second, "give up after this long without an answer")
	f.addTLS(flags, getenv)
	flags.StringVarP(&f.output, "output", "o", "table", "what is printed: "+strings.Join(outputs, ", "))
}

// addTLS declares the flags about the connections' security.
func (f *clientFlags) addTLS(flags *pflag.FlagSet, getenv func(string) string) {
	flags.StringVar(&f.tls.CA, "tls-ca-file", getenv("QUORATE_TLS_CA_FILE"), "CA certificates that the nodes' certificates must be of; turns TLS on (env QUORATE_TLS_CA_FILE)")
	flags.StringVar(&f.tls.Cert, "tls-cert-file", getenv("QUORATE_TLS_CERT_FILE"), "certificate to show to the nodes (env QUORATE_TLS_CERT_FILE)")
	flags.StringVar(&f.tls.Key, "tls-key-file", getenv("QUORATE_TLS_KEY_FILE"), "private key of that certificate (env QUORATE_TLS_KEY_FILE)")
	flags.StringVar(&f.serverName, "tls-server-name", getenv("QUORATE_TLS_SERVER_NAME"), "name that the nodes' certificates must hold, instead of the address (env QUORATE_TLS_SERVER_NAME)")
}

// check finds what is wrong with the flags.
func (f *clientFlags) check(cmd *cobra.Command) error {
	if !slices.Contains(outputs, f.output) {
		return usageError(cmd, "-o %s: allowed are %s", f.output, strings.Join(outputs, ", "))
	}
	if f.timeout <= 0 {
		return usageError(cmd, "--timeout must be greater than zero")
	}
	return nil
}

// client asks a cluster; it follows the leader. It is for one command: one
// goroutine, one call at a time.
type client struct {
	seeds   []string
	timeout time.Duration
	creds   credentials.TransportCredentials
	options []grpc.DialOption // of every connection
	conns   map[string]*grpc.ClientConn
	leader  string // address that a node named as the leader's, or ""
	// attempt bounds one node's answer; a command that asks to wait raises it.
	attempt time.Duration
}

// dial makes a client of the flags. Nothing is connected before the first call.
func (f *clientFlags) dial() (*client, error) {
	c := &client{seeds: f.endpoints, timeout: f.timeout, attempt: attemptTimeout, conns: make(map[string]*grpc.ClientConn)}
	if len(c.seeds) == 0 {
		return nil, errors.New("no endpoints: give --endpoints HOST:PORT,...")
	}
	var err error
	if c.creds, err = f.credentials(); err != nil {
		return nil, err
	}
	return c, nil
}

// credentials are the connections' security, plain text where no flag asks for TLS.
func (f *clientFlags) credentials() (credentials.TransportCredentials, error) {
	if f.tls == (tlsconfig.Files{}) {
		return insecure.NewCredentials(), nil
	}
	source, err := tlsconfig.Load(f.tls, nil)
	if err != nil {
		return nil, err
	}
	tlsConfig := source.Client("h2")
	tlsConfig.ServerName = f.serverName
	return credentials.NewTLS(tlsConfig), nil
}

// Close closes every connection.
func (c *client) Close() {
	for _, conn := range c.conns {
		conn.Close()
	}
}

// callError says what a failed call was for.
type callError struct {
	what string
	err  error
}

func (e *callError) Error() string { return e.what + ": " + e.err.Error() }
func (e *callError) Unwrap() error { return e.err }

const (
	// retryPause lets an election go on between two rounds over the nodes.
	retryPause = 100 * time.Millisecond
	// attemptTimeout bounds one node's answer where others may be asked: one that
	// was stopped in its tracks never answers.
	attemptTimeout = 3 * time.Second
)

// call makes a request of the leader: it follows NOT_LEADER, goes on to the next
// node where one does not answer, and waits for an election, all within the
// timeout. Requests are idempotent, so repeating one is safe. what names the
// request in errors.
func (c *client) call(ctx context.Context, what string, request func(ctx context.Context, conn *grpc.ClientConn) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var last error
	for {
		for _, address := range c.targets() {
			err := c.try(ctx, address, request)
			if err == nil {
				return nil
			}
			// When our own time is over, what was heard before tells more.
			if ctx.Err() == nil || last == nil {
				last = err
			}
			if !c.another(address, err) {
				return &callError{what, last}
			}
			if c.leader != "" && c.leader != address {
				break // go there at once
			}
		}
		select {
		case <-ctx.Done():
			return withCode(exitUnreachable, c.giveUp(what, last))
		case <-time.After(retryPause):
		}
	}
}

// giveUp is the error of a call that no node answered in time.
func (c *client) giveUp(what string, last error) error {
	text := last.Error()
	if s, ok := grpcStatus(last); ok {
		text = s.Message()
	}
	if reason, _ := reasonOf(last); reason == "NO_LEADER" {
		return fmt.Errorf("%s: the nodes at %s answer, and have no leader: %s\nA majority must run and reach each other: quorate cluster status", what, strings.Join(c.seeds, ", "), text)
	}
	return fmt.Errorf("%s: no answer from %s within %v: %s\nIs a cluster running there? Name others with --endpoints, or start one: quorate dev", what, strings.Join(c.seeds, ", "), c.timeout, text)
}

// targets returns whom to ask, in order.
func (c *client) targets() []string {
	if c.leader == "" {
		return c.seeds
	}
	return append([]string{c.leader}, c.seeds...)
}

// try asks one node.
func (c *client) try(ctx context.Context, address string, request func(context.Context, *grpc.ClientConn) error) error {
	conn, err := c.conn(address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.attempt)
	defer cancel()
	return request(ctx, conn)
}

// conn returns the connection to an address.
func (c *client) conn(address string) (*grpc.ClientConn, error) {
	if conn := c.conns[address]; conn != nil {
		return conn, nil
	}
	conn, err := grpc.NewClient(address, slices.Concat(c.options, []grpc.DialOption{grpc.WithTransportCredentials(c.creds)})...)
	if err != nil {
		return nil, withCode(exitUsage, fmt.Errorf("endpoint %q: %w", address, err))
	}
	c.conns[address] = conn
	return conn, nil
}

// another says whether the error of a node is a reason to ask another one, and
// notes who leads where the error tells.
func (c *client) another(address string, err error) bool {
	s, ok := grpcStatus(err)
	if !ok {
		return false
	}
	reason, metadata := reasonOf(err)
	switch {
	case reason == "NOT_LEADER":
		c.leader = metadata["leader_grpc"]
		return true
	case s.Code() == codes.Unavailable, reason == "" && s.Code() == codes.DeadlineExceeded:
		if c.leader == address {
			c.leader = ""
		}
		return true
	}
	return false
}
