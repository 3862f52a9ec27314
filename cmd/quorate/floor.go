package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/bench"
	"github.com/quorate/quorate/internal/bench/floor"
	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/headroom"
	"github.com/quorate/quorate/raftnode"
)

// newFloorCommand is `quorate floor`, which bench starts: a node without the protocol.
func newFloorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:    bench.CommandFloor,
		Short:  "Run a node of the benchmark's floor: it decides commit for whoever asks",
		Hidden: true,
		Args:   noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := config.Load(cmd.Flags(), os.Environ())
			if err == nil {
				err = config.Validate(&loaded.Config)
			}
			if err == nil && loaded.Config.BeyondLoopback() {
				err = errors.New("the floor keeps no promise: it listens on loopback only")
			}
			if err != nil {
				return withCode(exitUsage, err)
			}
			return serveFloor(cmd.Context(), &loaded.Config, newLogger(&loaded.Config, cmd.ErrOrStderr()))
		},
	}
	config.AddFlags(cmd.Flags())
	return cmd
}

// serveFloor runs a node as it always is, but for two things: its machine passes by
// what the floor proposes, and its gRPC listener belongs to the floor, which hands on
// to the node's own what is about the cluster.
func serveFloor(ctx context.Context, cfg *config.Config, logger *slog.Logger) (err error) {
	defer headroom.Keep(logger)()
	stopProfile, err := profileCPU(cfg, logger)
	if err != nil {
		return withCode(exitUsage, err)
	}
	defer func() { err = errors.Join(err, stopProfile()) }()
	var machine *floor.Machine
	seams := defaultSeams()
	seams.machine = func(state *fsm.State) raftnode.Machine {
		machine = floor.Over(raftnode.State(state))
		return machine
	}
	seams.hears = func() bool { return machine.Changed() }
	n, err := openNode(cfg, logger, seams)
	if err != nil {
		return err
	}
	public := n.listeners.GRPC
	if n.listeners.GRPC, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return errors.Join(err, public.Close(), n.close())
	}
	rest, err := grpc.NewClient(n.listeners.GRPC.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return errors.Join(err, public.Close(), n.close())
	}
	service := floor.New(floorLog{n.raft})
	server := service.Register(rest)
	served := make(chan error, 1)
	go func() { served <- server.Serve(public) }()
	runErr := n.run(ctx)
	server.Stop()
	service.Close()
	return errors.Join(runErr, <-served, rest.Close(), n.close())
}

// floorLog is the Raft node as the floor sees it.
type floorLog struct{ node *raftnode.Node }

var _ floor.Log = floorLog{}

func (l floorLog) Propose(ctx context.Context, commands ...[]byte) error {
	_, err := l.node.Propose(ctx, commands...)
	return err
}

func (l floorLog) ReadIndex(ctx context.Context) (uint64, error) { return l.node.ReadIndex(ctx) }
