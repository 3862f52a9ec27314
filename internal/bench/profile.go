package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"syscall"
)

// ProfileVariable names the directory into which a node writes its CPU profiles: of
// what it does between one SIGUSR1 and the next.
const ProfileVariable = "QUORATE_CPU_PROFILE"

// profile has every node of the system begin a CPU profile, and this process, which makes
// the load, one of its own. end ends them. Nothing is done where none are wanted.
func (r *runner) profile(s *system) (end func() error, err error) {
	if s == nil || !s.profile {
		return func() error { return nil }, nil
	}
	s.profiles++
	name := fmt.Sprintf("load.%d.cpu.pprof", s.profiles)
	if s.profiles == 1 {
		name = "load.cpu.pprof"
	}
	file, err := os.Create(filepath.Join(r.o.ProfileDir, s.name, name))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.toggleProfiles(), pprof.StartCPUProfile(file)); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return errors.Join(s.toggleProfiles(), file.Close())
	}, nil
}

// toggleProfiles has every node begin a CPU profile, or end it.
func (s *system) toggleProfiles() error {
	var errs []error
	for _, n := range s.cluster.Nodes() {
		if pid := n.Pid(); pid > 0 {
			errs = append(errs, syscall.Kill(pid, syscall.SIGUSR1))
		}
	}
	return errors.Join(errs...)
}
