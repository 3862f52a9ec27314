package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/pprof"

	"github.com/quorate/quorate/internal/bench"
	"github.com/quorate/quorate/internal/config"
)

// profileCPU profiles this node from now on into the directory that the environment
// names, on loopback only, like failpoints; stop writes the file.
func profileCPU(cfg *config.Config, logger *slog.Logger) (stop func() error, err error) {
	dir := os.Getenv(bench.ProfileVariable)
	if dir == "" {
		return func() error { return nil }, nil
	}
	if cfg.BeyondLoopback() {
		return nil, fmt.Errorf("%s is set, and this node listens beyond loopback: profiles are for benchmarks on one machine; unset it", bench.ProfileVariable)
	}
	file, err := os.Create(filepath.Join(dir, cfg.Node.Name+".cpu.pprof"))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	logger.Warn("THIS NODE IS PROFILED: it is a little slower than it would be", "file", file.Name())
	return func() error {
		pprof.StopCPUProfile()
		return file.Close()
	}, nil
}
