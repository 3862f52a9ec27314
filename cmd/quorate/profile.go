package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"syscall"

	"github.com/quorate/quorate/internal/bench"
	"github.com/quorate/quorate/internal/config"
)

// profileCPU has this node write CPU profiles into the directory that the environment
// names, on loopback only, like failpoints. The benchmark says with SIGUSR1 when one
// begins and when it ends, so that it holds the load and nothing beside it. stop ends
// the one that is under way.
func profileCPU(cfg *config.Config, logger *slog.Logger) (stop func() error, err error) {
	dir := os.Getenv(bench.ProfileVariable)
	if dir == "" {
		return func() error { return nil }, nil
	}
	if cfg.BeyondLoopback() {
		return nil, fmt.Errorf("%s is set, and this node listens beyond loopback: profiles are for benchmarks on one machine; unset it", bench.ProfileVariable)
	}
	signals, end, ended := make(chan os.Signal, 16), make(chan struct{}), make(chan error, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	p := &profiler{prefix: filepath.Join(dir, cfg.Node.Name)}
	go func() {
		for {
			select {
			case <-signals:
				if err := p.toggle(); err != nil {
					logger.Error("no CPU profile", "error", err)
				}
			case <-end:
				ended <- p.finish()
				return
			}
		}
	}()
	logger.Warn("THIS NODE IS PROFILED now and then: it is a little slower than it would be", "directory", dir)
	return func() error {
		signal.Stop(signals)
		close(end)
		return <-ended
	}, nil
}

// profiler writes one profile after another: PREFIX.cpu.pprof, PREFIX.2.cpu.pprof, and so on.
type profiler struct {
	prefix string
	made   int
	file   *os.File // nil: none is under way
}

// toggle begins a profile, or ends the one under way.
func (p *profiler) toggle() (err error) {
	if p.file != nil {
		return p.finish()
	}
	name := p.prefix + ".cpu.pprof"
	if p.made++; p.made > 1 {
		name = fmt.Sprintf("%s.%d.cpu.pprof", p.prefix, p.made)
	}
	if p.file, err = os.Create(name); err != nil {
		return err
	}
	if err = pprof.StartCPUProfile(p.file); err != nil {
		err = errors.Join(err, p.file.Close())
		p.file = nil
	}
	return err
}

func (p *profiler) finish() error {
	if p.file == nil {
		return nil
	}
	pprof.StopCPUProfile()
	err := p.file.Close()
	p.file = nil
	return err
}
