package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/internal/cluster"
)

// devFlags are the flags of `quorate dev`.
type devFlags struct {
	nodes    int
	dataDir  string
	port     int
	profile  string
	logLevel string
	allow    []string
}

// newDevCommand is `quorate dev`.
func newDevCommand() *cobra.Command {
	f := &devFlags{}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a real cluster on this machine, for development",
		Long: `dev starts a cluster of real processes on this machine, prints its addresses, and stops it on Ctrl-C. A node that
ends is started again, and dev says so: try "kill -9" on one. Data lives in a temporary directory and is removed at the
end, unless --data-dir names one to keep.`,
		Example: `  quorate dev
  quorate dev --nodes 5 --data-dir ./data`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDev(cmd, f) },
	}
	flags := cmd.Flags()
	flags.IntVar(&f.nodes, "nodes", 3, "how many nodes: 1, 3 or 5")
	flags.StringVar(&f.dataDir, "data-dir", "", "keep everything in this directory (default: a temporary one, removed at the end)")
	flags.IntVar(&f.port, "port", cluster.PortHTTP, "HTTP port of the first node; node k adds 10(k-1); free ports are taken where these are not free")
	flags.StringVar(&f.profile, "profile", "fast", "timing profile of the nodes: fast or default")
	flags.StringVar(&f.logLevel, "log-level", "info", "least level that the nodes log")
	flags.StringSliceVar(&f.allow, "endpoint-allow", []string{"127.0.0.0/8", "::1", "localhost"}, "hosts and networks that branch endpoints may lie in")
	return cmd
}

func runDev(cmd *cobra.Command, f *devFlags) error {
	if f.nodes != 1 && f.nodes != 3 && f.nodes != 5 {
		return usageError(cmd, "--nodes %d: a development cluster has 1, 3 or 5", f.nodes)
	}
	if f.port < 1 || f.port > 65000 {
		return usageError(cmd, "--port %d: want 1 to 65000", f.port)
	}
	dir, temporary := f.dataDir, f.dataDir == ""
	if temporary {
		made, err := os.MkdirTemp("", "quorate-dev-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(made)
		dir = made
	}
	restarts := make(chan *cluster.Node, 16)
	started := time.Now()
	c, err := cluster.Start(cmd.Context(), cluster.Config{
		Nodes: f.nodes, Dir: dir, BasePort: f.port, Profile: f.profile,
		Args: []string{"--log-level", f.logLevel, "--endpoint-allow", strings.Join(f.allow, ",")},
		OnExit: func(n *cluster.Node, err error) {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s  %s ended (%v)\n", time.Now().Format(time.TimeOnly), n.Name, endOf(err))
			restarts <- n
		},
	})
	if err != nil {
		return err
	}
	err = writeBanner(cmd.Context(), cmd.OutOrStdout(), c, f, dir, temporary, time.Since(started))
	if err == nil {
		keepRunning(cmd.Context(), cmd.ErrOrStderr(), restarts)
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "stopping the cluster")
	if stopErr := c.Stop(); stopErr != nil {
		return stopErr
	}
	return err
}

// endOf says how a process ended.
func endOf(err error) string {
	if err == nil {
		return "exit code 0"
	}
	return err.Error()
}

const (
	// restartPause keeps a node that cannot start from being started all the time.
	restartPause = time.Second
	// restartsMax is how often a node is started again before dev leaves it down.
	restartsMax = 20
)

// keepRunning starts nodes again that have ended, until ctx ends.
func keepRunning(ctx context.Context, w io.Writer, ended <-chan *cluster.Node) {
	count := make(map[string]int)
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-ended:
			if count[n.Name]++; count[n.Name] > restartsMax {
				fmt.Fprintf(w, "%s  %s ended %d times and stays down; its log: %s\n", time.Now().Format(time.TimeOnly), n.Name, restartsMax, n.LogPath)
				continue
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(restartPause):
			}
			if err := n.Restart(ctx); err != nil {
				if ctx.Err() == nil {
					fmt.Fprintf(w, "%s  %s was started again, and does not serve: %v\n", time.Now().Format(time.TimeOnly), n.Name, err)
				}
				continue
			}
			fmt.Fprintf(w, "%s  %s runs again, as pid %d\n", time.Now().Format(time.TimeOnly), n.Name, n.Pid())
		}
	}
}

// writeBanner prints what was started, as measured.
func writeBanner(ctx context.Context, w io.Writer, c *cluster.Cluster, f *devFlags, dir string, temporary bool, took time.Duration) error {
	leader, err := c.WaitLeader(ctx)
	if err != nil {
		return err
	}
	status, err := leader.Status(ctx)
	if err != nil {
		return err
	}
	var names, pids []string
	for _, n := range c.Nodes() {
		name := n.Name
		if n == leader {
			name += "*"
		}
		names = append(names, name)
		pids = append(pids, fmt.Sprintf("%s %d", n.Name, n.Pid()))
	}
	first := c.Nodes()[0]
	line := func(name, format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, "  %-9s %s\n", name, fmt.Sprintf(format, args...))
		}
	}
	_, err = fmt.Fprintf(w, "quorate %s  development cluster, no TLS, not for production\n", version)
	line("Nodes", "%s   leader %s, term %d, quorum %d/%d, up in %s", strings.Join(names, " "), leader.Name, status.GetTerm(), f.nodes/2+1, f.nodes, figure(took))
	line("Pids", "%s", strings.Join(pids, ", "))
	line("HTTP", "http://%s", friendly(first.HTTP))
	line("gRPC", "%s", friendly(first.GRPC))
	line("DTM SDKs", "http://%s/api/dtmsvr, gRPC %s", friendly(first.HTTP), friendly(first.GRPC))
	line("Metrics", "http://%s/metrics", friendly(first.HTTP))
	if first.GRPC != fmt.Sprintf("127.0.0.1:%d", cluster.PortGRPC) {
		line("", "not the default ports; for quorate tx and cluster: export QUORATE_ENDPOINTS=%s", strings.Join(c.Endpoints(), ","))
	}
	if temporary {
		line("Data", "temporary (%s), lost on exit; to keep it: --data-dir ./data", dir)
	} else {
		line("Data", "%s, kept on exit", dir)
	}
	line("Logs", "%s", filepath.Join(dir, "n*.log"))
	line("Stop", "Ctrl-C")
	return err
}

// friendly is an address as people type it.
func friendly(address string) string { return strings.Replace(address, "127.0.0.1", "localhost", 1) }
