package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/quorate/quorate/internal/freeport"
)

// memory is the content of cluster.json. Nodes know each other by address, so
// a cluster that is started again must get the ports it had.
type memory struct {
	Nodes []Ports `json:"nodes"`
}

// rememberedPorts returns the ports that the directory's cluster had, or
// chooses them for a new one and writes them down.
func rememberedPorts(set *freeport.Set, cfg Config) ([]Ports, error) {
	path := filepath.Join(cfg.Dir, "cluster.json")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return choosePortsAndRemember(set, cfg, path)
	}
	if err != nil {
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	var m memory
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("start cluster: read %s: %w", path, err)
	}
	if len(m.Nodes) != cfg.Nodes {
		return nil, fmt.Errorf("start cluster: %s holds a cluster of %d nodes, not %d: give --nodes %d, or another directory", cfg.Dir, len(m.Nodes), cfg.Nodes, len(m.Nodes))
	}
	if port := takenPort(cfg.Host, m.Nodes); port != 0 {
		return nil, fmt.Errorf("start cluster: port %d of the cluster in %s is taken by another process: end that one (is this cluster running already?), or use another directory", port, cfg.Dir)
	}
	return m.Nodes, nil
}

func choosePortsAndRemember(set *freeport.Set, cfg Config, path string) ([]Ports, error) {
	ports, err := choosePorts(set, cfg.Host, cfg.BasePort, cfg.Nodes)
	if err != nil {
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	text, err := json.Marshal(memory{Nodes: ports})
	if err != nil {
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	return ports, nil
}
