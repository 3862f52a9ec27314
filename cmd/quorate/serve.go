package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/detour"
	"github.com/quorate/quorate/internal/failpoint"
	"github.com/quorate/quorate/internal/headroom"
)

// newServeCommand is `quorate serve`.
func newServeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node",
		Long: `serve runs one node of a cluster. The first node of a new cluster takes --bootstrap, every other one --join; a node
that is in ignores both, so the same command line starts it for ever.

On SIGTERM or SIGINT it hands its leadership over, finishes the calls that run, and ends with 0; a second signal ends it
at once. A failed or stalled disk, damaged data and a broken invariant end it with 1: another node takes over.`,
		Example: `  quorate serve --name n1 --data-dir /var/lib/quorate --bootstrap --seeds n2.example:36790,n3.example:36790
  quorate serve --name n2 --data-dir /var/lib/quorate --join n1.example:36790,n3.example:36790`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := config.Load(cmd.Flags(), os.Environ())
			if err == nil {
				err = config.Validate(&loaded.Config)
			}
			if err != nil {
				return withCode(exitUsage, err)
			}
			logger := newLogger(&loaded.Config, cmd.ErrOrStderr())
			if err := armFailpoints(&loaded.Config, os.Getenv(failpoint.Variable), logger); err != nil {
				return withCode(exitUsage, err)
			}
			if err := armDetours(&loaded.Config, os.Getenv(detour.Variable), logger); err != nil {
				return withCode(exitUsage, err)
			}
			return serve(cmd.Context(), &loaded.Config, logger)
		},
	}
	config.AddFlags(cmd.Flags())
	return cmd
}

// newLogger logs to w as the settings want it.
func newLogger(cfg *config.Config, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Log.Level)) // validated
	options := &slog.HandlerOptions{Level: level}
	if cfg.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// armFailpoints arms what the environment asks for, on loopback only: whoever
// could reach such a node could not rely on it.
func armFailpoints(cfg *config.Config, spec string, logger *slog.Logger) error {
	if spec == "" {
		return nil
	}
	if cfg.BeyondLoopback() {
		return fmt.Errorf("%s is set, and this node listens beyond loopback: failpoints are for tests on one machine; unset it", failpoint.Variable)
	}
	if err := failpoint.Arm(spec); err != nil {
		return err
	}
	logger.Warn("FAILPOINTS ARE ARMED: this node will fail on purpose", "failpoints", spec)
	return nil
}

// armDetours arms what the environment asks for, on loopback only, like
// failpoints.
func armDetours(cfg *config.Config, path string, logger *slog.Logger) error {
	if path == "" {
		return nil
	}
	if cfg.BeyondLoopback() {
		return fmt.Errorf("%s is set, and this node listens beyond loopback: detours are for tests on one machine; unset it", detour.Variable)
	}
	if err := detour.Arm(path); err != nil {
		return err
	}
	logger.Warn("DETOURS ARE ARMED: this node dials proxies instead of the other processes", "detours", path)
	return nil
}

// serve runs a node until ctx ends, or until it must not go on.
func serve(ctx context.Context, cfg *config.Config, logger *slog.Logger) error {
	if cfg.Listen.Insecure && cfg.BeyondLoopback() && !cfg.MutualTLS() {
		logger.Warn("INSECURE: this node listens beyond loopback without mutual TLS; anybody who reaches its ports may decide transactions",
			"http", cfg.Listen.HTTP, "grpc", cfg.Listen.GRPC, "raft", cfg.Listen.Raft)
	}
	defer headroom.Keep(logger)()
	stopProfile, err := profileCPU(cfg, logger)
	if err != nil {
		return withCode(exitUsage, err)
	}
	n, err := openNode(cfg, logger, defaultSeams())
	if err != nil {
		return errors.Join(err, stopProfile())
	}
	runErr := n.run(ctx)
	return errors.Join(runErr, n.close(), stopProfile())
}

// logStart says what was started, in one line.
func (n *servingNode) logStart() {
	id := n.raft.Identity()
	cluster := none
	if !id.ClusterID.IsZero() {
		cluster = id.ClusterID.String()
	}
	tls := "off"
	switch {
	case n.cfg.MutualTLS():
		tls = "mutual"
	case n.cfg.TLS.CertFile != "":
		tls = "server"
	}
	n.logger.Info("quorate "+version, "node", n.cfg.Node.Name, "id", id.NodeID, "cluster", cluster,
		"data_dir", n.cfg.Node.DataDir, "log_store", n.raft.Status().LogStore, "profile", n.cfg.Raft.Profile,
		"http", n.cfg.Listen.HTTP, "grpc", n.cfg.Listen.GRPC, "raft", n.cfg.Listen.Raft, "tls", tls,
		"advertised", strings.Join([]string{n.cfg.HTTPAddress(), n.cfg.GRPCAddress(), n.cfg.RaftAddress()}, " "))
}
